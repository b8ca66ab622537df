package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const shutDown = "FATAL 57P01"

// TestShutdown lets transactions and queries finish that are under way at SIGTERM,
// and nothing else begin.
func TestShutdown(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "3"})
	idle, inTransaction, begun, querying, copying, waiting := loginWire(t, p.address, d), loginWire(t, p.address, d),
		loginWire(t, p.address, d), loginWire(t, p.address, d), loginWire(t, p.address, d), loginWire(t, p.address, d)
	g := newGate(t, d)
	silent := dialWire(t, "tcp", p.address)
	idle.usable(t)
	inTransaction.ask(t, "begin; insert into item values (1)")
	begun.ask(t, "begin")
	querying.query(t, "select "+g.call()+", 'finished'")
	copying.query(t, "copy item from stdin")
	copying.until(t, "CopyInResponse")
	g.await(t, 1)
	waiting.query(t, "insert into item values (2)")
	p.waitPool(t, d, "one waits", func(s poolStats) bool { return s.ClientsWaiting == 1 })

	p.signal(t, syscall.SIGTERM)
	if got := idle.untilClosed(t); errorCode(got) != shutDown {
		t.Errorf("the idle client got %q", got)
	}
	eventually(t, "new connections are refused", func() bool { return refusesConnections(t, "tcp", p.address) })
	// Still here: who has begun may finish.
	if got := inTransaction.ask(t, "insert into item values (3)"); errorCode(got) != "" {
		t.Errorf("in a transaction: got %q", got)
	}
	if got := inTransaction.ask(t, "commit"); got[0] != "CommandComplete COMMIT" {
		t.Errorf("commit: got %q", got)
	}
	if got := inTransaction.untilClosed(t); errorCode(got) != shutDown {
		t.Errorf("after its transaction the client got %q", got)
	}
	if got := begun.ask(t, "insert into item values (4)"); errorCode(got) != "" {
		t.Errorf("in a transaction just begun: got %q", got)
	}
	begun.ask(t, "commit")
	if got := begun.untilClosed(t); errorCode(got) != shutDown {
		t.Errorf("after its transaction the client got %q", got)
	}
	g.open(t)
	if got := querying.until(t, "ReadyForQuery"); errorCode(got) != "" || len(firstColumn(got)) != 1 {
		t.Errorf("the query got %q", got)
	}
	copying.send(t, &pgproto3.CopyData{Data: []byte("5\n")}, &pgproto3.CopyDone{})
	if got := copying.until(t, "ReadyForQuery"); !slices.Contains(got, "CommandComplete COPY 1") {
		t.Errorf("the copy got %q", got)
	}
	got := waiting.untilClosed(t)
	served := slices.Contains(got, "CommandComplete INSERT 0 1")
	if code := errorCode(got); code != shutDown && code != "ERROR 57P01" {
		t.Errorf("the waiting client got %q", got)
	}
	if got := silent.untilClosed(t); len(got) > 0 && !strings.HasPrefix(errorCode(got), "FATAL 57P0") {
		t.Errorf("the client that had not logged in got %q", got)
	}
	p.expectExit(t, 0)
	want := 4
	if served {
		want = 5
	}
	if count := value[int](t, d, "select count(*) from item"); count != want {
		t.Errorf("%d rows, want %d", count, want)
	}
	eventually(t, "no backend is left", func() bool { return len(d.backends(t)) == 0 })
}

// TestShutdownTimeout cuts transactions that take too long.
func TestShutdownTimeout(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"SHUTDOWN_TIMEOUT": "1s"})
	inTransaction, querying := loginWire(t, p.address, d), loginWire(t, p.address, d)
	g := newGate(t, d)
	inTransaction.ask(t, "begin; insert into item values (1)")
	querying.query(t, "insert into item select 2 where "+g.call())
	g.await(t, 1)
	p.signal(t, syscall.SIGTERM)
	for _, client := range []*wireClient{inTransaction, querying} {
		if got := client.untilClosed(t); errorCode(got) != shutDown {
			t.Errorf("got %q", got)
		}
	}
	p.expectExit(t, 0)
	g.open(t)
	eventually(t, "no backend is left", func() bool { return len(d.backends(t)) == 0 })
	if count := value[int](t, d, "select count(*) from item where id = 1"); count != 0 {
		t.Errorf("%d rows of a transaction that was cut", count)
	}
}

// TestSecondSignal does not wait.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startProxy(t, shared.cluster, settings{"SHUTDOWN_TIMEOUT": "1h"})
		client := loginWire(t, p.address, d)
		client.hold(t)
		p.signal(t, syscall.SIGTERM)
		eventually(t, "new connections are refused", func() bool { return refusesConnections(t, "tcp", p.address) })
		p.signal(t, signal)
		p.expectExit(t, 128+int(signal))
		client.untilClosed(t)
	}
}

// TestShutdownUnderLoad stops the proxy while clients work: each is told the truth
// about each of its queries.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "4"})
	traffic := startTraffic(t, p, d, 16)
	traffic.leaving.Store(true)
	traffic.waitEach("works", 20, successes)
	p.stop(t)
	traffic.finish()
}

// TestUnixSockets uses them on both sides, alone and along with TCP.
func TestUnixSockets(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	dir, err := os.MkdirTemp("", "billproxy-e2e-") // that of testing.TB may be too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := startProxy(t, shared.cluster, settings{
		"UNIX_SOCKET_DIR": dir,
		"UPSTREAM_URL":    shared.cluster.SocketURL("postgres", "postgres"),
	})
	_, port, _ := strings.Cut(p.address, ":")
	socket := filepath.Join(dir, ".s.PGSQL."+port)

	overTCP := loginWire(t, p.address, d)
	overTCP.usable(t)
	overUnix := dialWire(t, "unix", socket)
	overUnix.startup(t, pgproto3.ProtocolVersion30, "user", d.role, "database", d.name)
	overUnix.until(t, "ReadyForQuery")
	for _, client := range []*wireClient{overTCP, overUnix} {
		if got := client.ask(t, "begin; select client_addr is null from pg_stat_activity where pid = pg_backend_pid(); commit"); !slices.Equal(firstColumn(got), []string{"t"}) {
			t.Errorf("the server sees another address than its socket's: %q", got)
		}
	}
	output, err := program(t, "psql", "-XAt", "-h", dir, "-p", port, "-U", d.role, "-d", d.name, "-c", "select 'by socket'").CombinedOutput()
	if err != nil || strings.TrimSpace(string(output)) != "by socket" {
		t.Errorf("psql: %v: %s", err, output)
	}
	// Cancel requests take the same way.
	g := newGate(t, d)
	overUnix.query(t, "select "+g.call())
	g.await(t, 1)
	request := dialWire(t, "unix", socket)
	request.send(t, &pgproto3.CancelRequest{ProcessID: overUnix.pid, SecretKey: overUnix.key})
	if got := overUnix.until(t, "ReadyForQuery"); errorCode(got) != cancelled {
		t.Errorf("got %q", got)
	}
	p.stop(t)
	if !refusesConnections(t, "unix", socket) {
		t.Error("the socket still takes connections")
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket's file is still there")
	}
}
