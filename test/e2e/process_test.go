package e2e

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// settings are environment variables of billproxy without their prefix.
type settings map[string]string

// process is a running billproxy.
type process struct {
	cmd    *exec.Cmd
	log    *processLog
	exited chan struct{}
}

// startProcess runs a subcommand of the binary. The test checks its log at the end,
// and kills it if it still runs.
func startProcess(t testing.TB, binary, subcommand string, env settings) *process {
	t.Helper()
	if err := openSources(); err != nil {
		t.Fatal(err)
	}
	p := &process{
		cmd:    exec.CommandContext(context.WithoutCancel(t.Context()), binary, subcommand),
		log:    new(processLog),
		exited: make(chan struct{}),
	}
	// The race detector lingers for a second at exit, in case it has more to say.
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=100"}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, "BILLPROXY_"+name+"="+value)
	}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the state tells
		close(p.exited)
	}()
	t.Cleanup(func() {
		if !p.hasExited() {
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		if t.Failed() {
			t.Logf("log of billproxy %s:\n%s", subcommand, p.log)
		}
	})
	return p
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Errorf("signal billproxy: %v", err)
	}
}

// expectExit waits for the end of the process.
func (p *process) expectExit(t testing.TB, code int) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // prints the stacks
		t.Fatalf("billproxy has not exited within %v", patience)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("billproxy ended with %v, want exit code %d", p.cmd.ProcessState, code)
	}
}

// stop ends the process as an operator does.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	p.expectExit(t, 0)
}

// waitListening returns the address in the record of that message and service.
func (p *process) waitListening(t testing.TB, message, service string) string {
	t.Helper()
	address := ""
	eventually(t, message, func() bool {
		for _, record := range p.log.find(message) {
			if record.text("service") == service && address == "" {
				address = record.text("address")
			}
		}
		return address != "" || p.hasExited()
	})
	if address == "" {
		t.Fatalf("billproxy exited: %v", p.cmd.ProcessState)
	}
	return address
}

// proxyProcess is a running `billproxy proxy` or `billproxy serve`.
type proxyProcess struct {
	*process
	address string // of clients
	admin   string // of the admin server
}

// startProxy runs a proxy in front of the cluster until the test ends, when it must
// stop cleanly.
func startProxy(t testing.TB, cluster *devpg.Cluster, changes settings) *proxyProcess {
	t.Helper()
	return startProxyBinary(t, shared.raceBinary, "proxy", cluster, changes)
}

func startProxyBinary(t testing.TB, binary, subcommand string, cluster *devpg.Cluster, changes settings) *proxyProcess {
	t.Helper()
	env := settings{
		"UPSTREAM_URL": cluster.URL(devpg.Superuser, "postgres"),
		"LISTEN":       "127.0.0.1:0",
		"ADMIN_LISTEN": "127.0.0.1:0",
		"LOG_FORMAT":   "json",
		"LOG_LEVEL":    "debug",
		// A busy machine is no reason to refuse anybody.
		"QUERY_WAIT_TIMEOUT":     "120s",
		"SERVER_CONNECT_TIMEOUT": "60s",
		"SHUTDOWN_TIMEOUT":       "60s",
	}
	for name, value := range changes {
		env[name] = value
	}
	p := &proxyProcess{process: startProcess(t, binary, subcommand, env)}
	p.address = p.waitListening(t, "proxy listening", "")
	p.admin = p.waitListening(t, "http listening", "admin")
	t.Cleanup(func() {
		if !p.hasExited() {
			p.stop(t)
		}
		p.log.check(t)
		p.log.checkQuiet(t)
	})
	return p
}

// url leads to the database through the proxy. The parameters are pairs of name and
// value.
func (p *proxyProcess) url(d *database, parameters ...string) string {
	return databaseURL(p.address, d.role, d.name, parameters...)
}

func databaseURL(address, role, name string, parameters ...string) string {
	query := url.Values{"sslmode": {"disable"}}
	for i := 0; i < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: address, Path: "/" + name, RawQuery: query.Encode()}
	return u.String()
}

// connect opens a connection through the proxy until the test ends.
func (p *proxyProcess) connect(t testing.TB, d *database, parameters ...string) *pgx.Conn {
	t.Helper()
	return connect(t, p.url(d, parameters...))
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(patient(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// refusesConnections reports whether nothing listens at the address.
func refusesConnections(t testing.TB, network, address string) bool {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(patient(t), network, address)
	if err == nil {
		_ = conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}
