package launch

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// Process is a running billproxy.
type Process struct {
	cmd *exec.Cmd

	// Log is its standard error.
	Log *Log

	// Exited is closed at its end.
	Exited chan struct{}
}

// Mutant is the environment variable that chooses a planted bug, in a binary that was
// built with the tag mutant.
const Mutant = "MUTANT"

// Start runs a subcommand of the binary. The environment has billproxy's variables
// without their prefix.
func Start(ctx context.Context, binary, subcommand string, environment map[string]string) (*Process, error) {
	p := &Process{
		cmd:    exec.CommandContext(context.WithoutCancel(ctx), binary, subcommand),
		Log:    new(Log),
		Exited: make(chan struct{}),
	}
	// The race detector lingers for a second at exit, in case it has more to say.
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=100", Mutant + "=" + os.Getenv(Mutant)}
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		p.cmd.Env = append(p.cmd.Env, "BILLPROXY_"+name+"="+environment[name])
	}
	p.cmd.Stderr = p.Log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // the state tells
		close(p.Exited)
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.Exited
}

// Signal sends a signal.
func (p *Process) Signal(signal os.Signal) error { return p.cmd.Process.Signal(signal) }

// Wait waits for the end of the process.
func (p *Process) Wait(patience time.Duration) (*os.ProcessState, error) {
	select {
	case <-p.Exited:
		return p.cmd.ProcessState, nil
	case <-time.After(patience):
		_ = p.Signal(syscall.SIGQUIT) // prints the stacks
		<-p.Exited
		return nil, fmt.Errorf("billproxy has not exited within %v", patience)
	}
}

// Stop ends the process as an operator does.
func (p *Process) Stop(patience time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	state, err := p.Wait(patience)
	if err == nil && state.ExitCode() != 0 {
		err = fmt.Errorf("billproxy ended with %v", state)
	}
	return err
}

// Listening waits for the address in the record of that message and service.
func (p *Process) Listening(message, service string) (string, error) {
	for {
		records, grown := p.Log.next(message)
		for _, record := range records {
			if record.Text("service") == service {
				return record.Text("address"), nil
			}
		}
		select {
		case <-grown:
		case <-p.Exited:
			return "", fmt.Errorf("billproxy exited: %v\n%s", p.cmd.ProcessState, p.Log)
		}
	}
}

// Proxy is a running `billproxy proxy`.
type Proxy struct {
	*Process
	Address string // of clients
}

// StartProxy runs a proxy in front of the cluster, with changes to Environment.
func StartProxy(ctx context.Context, binary string, cluster *devpg.Cluster, changes map[string]string) (*Proxy, error) {
	p, err := Start(ctx, binary, "proxy", Environment(cluster, changes))
	if err != nil {
		return nil, err
	}
	address, err := p.Listening("proxy listening", "")
	if err != nil {
		return nil, err
	}
	return &Proxy{Process: p, Address: address}, nil
}

// Environment is that of a proxy in front of the cluster: a busy machine is no reason
// to refuse anybody.
func Environment(cluster *devpg.Cluster, changes map[string]string) map[string]string {
	environment := map[string]string{
		"UPSTREAM_URL":           cluster.URL(devpg.Superuser, "postgres"),
		"LISTEN":                 "127.0.0.1:0",
		"ADMIN_LISTEN":           "127.0.0.1:0",
		"LOG_FORMAT":             "json",
		"LOG_LEVEL":              "debug",
		"QUERY_WAIT_TIMEOUT":     "120s",
		"SERVER_CONNECT_TIMEOUT": "60s",
		"SHUTDOWN_TIMEOUT":       "60s",
	}
	maps.Copy(environment, changes)
	return environment
}
