package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a process gets between SIGTERM and SIGKILL. Its clients have
// gone by then.
const stopGrace = 3 * time.Second

// Command says which program to run and how.
type Command struct {
	Name       string // for messages and the name of the log
	Path       string
	Args       []string
	Env        []string            // besides the environment every child gets
	Credential *syscall.Credential // nil: the user we are
}

// process is a program that runs until it is stopped.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the program has exited
}

// startProcess starts the program with its output in a log in dir. It must be called
// by the goroutine of main.
func startProcess(ctx context.Context, dir string, c Command) (*process, error) {
	p := &process{name: c.Name, log: filepath.Join(dir, c.Name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), c.Path, c.Args...)
	p.cmd.Dir = dir
	p.cmd.Env = ChildEnvironment(c.Env)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A session of its own, out of reach of the terminal's Ctrl-C: it ends after its
	// clients.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.Credential}
	EndWithParent(p.cmd.SysProcAttr)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the log tells why
		close(p.done)
	}()
	return p, nil
}

// ChildEnvironment is ours without what would change the programs' behaviour.
func ChildEnvironment(more []string) []string {
	env := []string{}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "BILLPROXY_") || strings.HasPrefix(name, "LC_") ||
			name == "DATABASE_URL" || name == "LANG" || name == "LANGUAGE" {
			continue
		}
		env = append(env, entry)
	}
	return append(append(env, "LC_ALL=C"), more...)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) hasExited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the process and returns when it has exited.
func (p *process) stop() {
	// Signals fail only if the process has exited.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// lastWords is the last line of the log.
func (p *process) lastWords() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return lines[len(lines)-1]
}
