package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestQueryWaitTimeout refuses a query that has waited for too long, and keeps the
// client.
func TestQueryWaitTimeout(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "QUERY_WAIT_TIMEOUT": "500ms"})
	holder, waiter := loginWire(t, p.address, d), loginWire(t, p.address, d)
	holder.hold(t)
	const refused = "ERROR 53400"
	for _, s := range []step{
		simple("select 'read'"),
		simple("insert into item values (1)"),
		extended(parse("", "insert into item values (2)"), bind(""), execute()),
		extended(parse("named", "select 3"), describe("named")),
	} {
		if got := waiter.play(t, s); errorCode(got) != refused || waiter.status != 'I' {
			t.Errorf("got %q", got)
		}
	}
	// BEGIN needs no server; what follows does, and then the transaction has failed.
	waiter.ask(t, "begin")
	if got := waiter.ask(t, "insert into item values (4)"); errorCode(got) != refused || waiter.status != 'E' {
		t.Errorf("in a transaction: got %q", got)
	}
	if got := waiter.ask(t, "insert into item values (5)"); errorCode(got) != "ERROR 25P02" {
		t.Errorf("in a failed transaction: got %q", got)
	}
	if got := waiter.ask(t, "commit"); len(got) != 2 || got[0] != "CommandComplete ROLLBACK" || got[1] != "ReadyForQuery I" {
		t.Errorf("commit: got %q", got)
	}
	// What was refused of a pipeline does not hold up the rest.
	waiter.send(t, &pgproto3.Query{String: "insert into item values (6)"}, &pgproto3.Query{String: "select 'later'"})
	if got := waiter.until(t, "ReadyForQuery"); errorCode(got) != refused {
		t.Errorf("got %q", got)
	}
	holder.ask(t, "commit")
	waiter.until(t, "ReadyForQuery")
	waiter.usable(t)
	if got := waiter.play(t, runPrepared("named")); errorCode(got) != "ERROR 26000" {
		t.Errorf("a statement that was refused: got %q", got)
	}
	if count := value[int](t, d, "select count(*) from item"); count != 0 {
		t.Errorf("%d rows of refused queries", count)
	}
	if got := p.poolStats(t, d).WaitTimeouts; got < 6 {
		t.Errorf("%d timeouts, want at least 6", got)
	}
}

// TestIdleTransactionTimeout ends a transaction that nobody goes on with.
func TestIdleTransactionTimeout(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "IDLE_TRANSACTION_TIMEOUT": "1s"})
	busy, idle, waiter := loginWire(t, p.address, d), loginWire(t, p.address, d), loginWire(t, p.address, d)
	g := newGate(t, d)

	idle.ask(t, "begin; insert into item values (1)")
	pids := d.pids(t, 1)
	waiter.query(t, "select pg_backend_pid()")
	if got := idle.untilClosed(t); errorCode(got) != "FATAL 25P03" {
		t.Errorf("got %q", got)
	}
	got := waiter.until(t, "ReadyForQuery")
	if errorCode(got) != "" {
		t.Errorf("the waiter got %q", got)
	}
	d.expectPIDs(t, pids)
	eventually(t, "the end in the log", func() bool { return p.log.ends("idle transaction timeout") == 1 })

	// A transaction that works is not idle, however long it takes: longer than one
	// that is, though it holds no server yet.
	busy.ask(t, "begin; insert into item values (2)")
	busy.query(t, "select "+g.call())
	g.await(t, 1)
	idle = loginWire(t, p.address, d)
	idle.ask(t, "begin")
	if got := idle.untilClosed(t); errorCode(got) != "FATAL 25P03" {
		t.Errorf("got %q", got)
	}
	g.open(t)
	busy.until(t, "ReadyForQuery")
	if got := busy.ask(t, "commit"); got[0] != "CommandComplete COMMIT" {
		t.Errorf("commit: got %q", got)
	}
	if count := value[int](t, d, "select count(*) from item where id = 2"); count != 1 {
		t.Errorf("%d rows, want 1", count)
	}
	if count := value[int](t, d, "select count(*) from item where id = 1"); count != 0 {
		t.Errorf("%d rows of the idle transaction", count)
	}
	busy.usable(t)
}
