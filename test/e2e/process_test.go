package e2e

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/test/launch"
)

// settings are environment variables of billproxy without their prefix.
type settings map[string]string

// process is a running billproxy.
type process struct {
	*launch.Process
	log processLog
}

// startProcess runs a subcommand of the binary. It is killed at the end of the test
// if it still runs.
func startProcess(t testing.TB, binary, subcommand string, env settings) *process {
	t.Helper()
	if err := launch.OpenSources(); err != nil {
		t.Fatal(err)
	}
	started, err := launch.Start(t.Context(), binary, subcommand, env)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Process: started, log: processLog{started.Log}}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of billproxy %s:\n%s", subcommand, p.log)
		}
	})
	return p
}

func (p *process) hasExited() bool {
	select {
	case <-p.Exited:
		return true
	default:
		return false
	}
}

func (p *process) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.Signal(signal); err != nil {
		t.Errorf("signal billproxy: %v", err)
	}
}

// expectExit waits for the end of the process.
func (p *process) expectExit(t testing.TB, code int) {
	t.Helper()
	state, err := p.Wait(patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := state.ExitCode(); got != code {
		t.Errorf("billproxy ended with %v, want exit code %d", state, code)
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
	address, err := p.Listening(message, service)
	if err != nil {
		t.Fatal(err)
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
	p := &proxyProcess{process: startProcess(t, binary, subcommand, launch.Environment(cluster, changes))}
	p.address = p.waitListening(t, "proxy listening", "")
	p.admin = p.waitListening(t, "http listening", "admin")
	t.Cleanup(func() {
		if !p.hasExited() {
			p.stop(t)
		}
		p.log.check(t)
		if err := p.log.Problem(); err != nil {
			t.Error(err)
		}
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
