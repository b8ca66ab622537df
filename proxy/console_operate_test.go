package proxy

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestPause(t *testing.T) {
	f := newFixture(t, withConsole)
	idle, busy, console := f.login(), f.login(), f.enter("app")
	idle.ask("1")
	busy.send("Q|begin", "Q|select 1")
	busy.want("C|BEGIN", "Z|T", "T|c", "D|1", "C|SELECT 1", "Z|T")
	console.send("Q|PAUSE shop")
	console.want() // until the transaction ends
	idle.send("Q|select 2")
	newcomer := f.login()
	newcomer.send("Q|select 3")
	f.world.Advance(time.Minute) // longer than QUERY_WAIT_TIMEOUT
	idle.want()
	other := f.enter("app")
	wantLine(t, find(t, other.show("DATABASES"), "name", "shop"), "paused", "1", "disabled", "0", "host", "db.example", "port", "5433")
	busy.send("Q|commit")
	busy.want("C|COMMIT", "Z|I")
	f.world.Advance(waitPeriod)
	console.want("C|PAUSE", "Z|I")
	if open := f.pg.Open(); len(open) > 0 {
		t.Errorf("%d servers are open", len(open))
	}
	for _, test := range []struct{ query, want string }{
		{"PAUSE shop", "E|ERROR|55000|already paused"},
		{"RESUME", "E|ERROR|55000|not paused"},
		{"RESUME other", "E|ERROR|55000|not paused"},
		{"PAUSE other", `E|ERROR|3D000|database "other" is not in use: expected one of SHOW DATABASES`},
		{"PAUSE pgbouncer", `E|ERROR|55000|database "pgbouncer" is the admin console`},
		{"RESUME shop", "C|RESUME"},
	} {
		console.send("Q|" + test.query)
		console.want(test.want, "Z|I")
	}
	idle.want("T|c", "D|2", "C|SELECT 1", "Z|I")
	newcomer.want("T|c", "D|3", "C|SELECT 1", "Z|I")

	// All databases, and back before that is done.
	busy.send("Q|begin", "Q|select 1")
	f.world.Settle()
	console.send("Q|PAUSE")
	wantLine(t, find(t, other.show("STATE"), "key", "paused"), "value", "yes")
	other.send("Q|RESUME shop", "Q|RESUME")
	other.want("E|ERROR|55000|all databases are paused: expected RESUME without a name", "Z|I", "C|RESUME", "Z|I")
	f.world.Advance(waitPeriod)
	console.want("E|ERROR|55000|resumed before all servers were closed", "Z|I")

	// Who is tired of waiting cancels, and goes on.
	console.send("Q|PAUSE; SHOW VERSION", "Q|SHOW TIMEZONE")
	console.want()
	console.cancel()
	console.want("E|ERROR|57014|canceling statement due to user request", "Z|I", "T|timezone", "D|GMT", "C|SHOW", "Z|I")
	console.send("Q|RESUME")
	console.want("C|RESUME", "Z|I")
	console.send("P||PAUSE", "B||", "E|", "S")
	console.want("1", "2")
	console.close(pooltest.EOF)
	other.send("Q|RESUME")
	other.want("C|RESUME", "Z|I")
}

// TestPauseLane lets servers that are shared run dry.
func TestPauseLane(t *testing.T) {
	f := newFixture(t, withConsole, sharedReads)
	c, console := f.login(), f.enter("app")
	for range 5 {
		c.ask("1") // until it is known to be fast
	}
	console.send("Q|PAUSE")
	f.world.Advance(waitPeriod)
	console.want("C|PAUSE", "Z|I")
	c.send("Q|select 2")
	f.world.Advance(time.Second)
	c.want()
	console.send("Q|RESUME")
	console.want("C|RESUME", "Z|I")
	c.want("T|c", "D|2", "C|SELECT 1", "Z|I")
}

// TestPauseLookup lets an operator in while nobody can be asked for secrets: who is to
// end the pause else?
func TestPauseLookup(t *testing.T) {
	f := newLookupFixture(t, AuthPassword, withConsole)
	const refusal = "E|FATAL|57P03|the database system is not accepting connections"
	enter := func() *client {
		t.Helper()
		c := f.dial()
		c.startup("database", "pgbouncer")
		c.want("R|3")
		c.feed(pgwire.AppendPassword(nil, "pencil"))
		c.welcomed()
		return c
	}
	console := enter()
	console.send("Q|RECONNECT; WAIT_CLOSE")
	console.want("C|RECONNECT", "C|WAIT_CLOSE", "Z|I")
	connect := f.world.OnDial
	f.world.OnDial = nil // PostgreSQL is away
	waiting := f.dial()
	waiting.startup("user", "found")
	waiting.want()
	console.send("Q|PAUSE")
	waiting.wantEnd(refusal)
	f.world.OnDial = connect
	f.world.Advance(waitPeriod)
	console.want("C|PAUSE", "Z|I")

	f.world.Advance(lookupLifetime) // nothing is remembered
	later := f.dial()
	later.startup("user", "found")
	later.wantEnd(refusal)
	other := enter()
	other.send("Q|RESUME")
	other.want("C|RESUME", "Z|I")
	f.world.Advance(lookupLifetime)
	found := f.dial()
	found.startup("user", "found")
	found.want("R|3")
}

func TestReconnect(t *testing.T) {
	f := newFixture(t, withConsole)
	busy, console := f.login(), f.enter("app")
	busy.send("Q|begin", "Q|select 1")
	f.world.Settle()
	busy.conn.Sent()
	old := f.server()
	console.send("Q|RECONNECT", "Q|WAIT_CLOSE shop")
	console.want("C|RECONNECT", "Z|I")
	viewer := f.enter("viewer")
	wantLine(t, viewer.show("SERVERS")[0], "close_needed", "1")
	busy.send("Q|commit")
	busy.want("C|COMMIT", "Z|I")
	f.world.Advance(waitPeriod)
	console.want("C|WAIT_CLOSE", "Z|I")
	busy.ask("1")
	if f.server() == old {
		t.Error("the old server is still used")
	}
	wantLine(t, viewer.show("SERVERS")[0], "close_needed", "0")
	console.send("Q|RECONNECT shop; WAIT_CLOSE") // an idle server closes at once
	f.world.Advance(waitPeriod)
	console.want("C|RECONNECT", "C|WAIT_CLOSE", "Z|I")
	console.send("Q|RECONNECT other", "Q|WAIT_CLOSE other")
	unknown := `E|ERROR|3D000|database "other" is not in use: expected one of SHOW DATABASES`
	console.want(unknown, "Z|I", unknown, "Z|I")
}

func TestDisable(t *testing.T) {
	f := newFixture(t, withConsole)
	c, console := f.login(), f.enter("app")
	console.send("Q|DISABLE shop; DISABLE pgbouncer")
	console.want("C|DISABLE", `E|ERROR|55000|database "pgbouncer" is the admin console`, "Z|I")
	wantLine(t, find(t, console.show("DATABASES"), "name", "shop"), "disabled", "1")
	c.ask("1") // who is connected stays
	refused := f.dial()
	refused.startup()
	refused.wantEnd(`E|FATAL|57P03|database "shop" is disabled`)
	console.send("Q|ENABLE shop", "Q|ENABLE shop")
	console.want("C|ENABLE", "Z|I", `E|ERROR|55000|database "shop" is not disabled`, "Z|I")
	f.login().ask("1")
}

func TestKill(t *testing.T) {
	f := newFixture(t, withConsole)
	idle, busy, elsewhere, console := f.login(), f.login(), f.login("database", "other"), f.enter("app")
	elsewhere.ask("1")
	idle.ask("1")
	busy.send("Q|wait")
	f.world.Settle()
	busy.conn.Sent()
	console.send("Q|KILL shop")
	console.want("C|KILL", "Z|I")
	for _, c := range []*client{idle, busy} {
		c.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
	}
	if got := f.ended(endKilled); got != 2 {
		t.Errorf("%d clients were killed", got)
	}
	elsewhere.ask("1")
	if open := f.pg.Open(); len(open) != 1 || open[0].Database != "other" {
		t.Errorf("%d servers are open", len(open))
	}
	later := f.login()
	later.send("Q|select 1")
	f.world.Advance(30 * time.Second)
	later.want()
	console.send("Q|RESUME shop")
	console.want("C|RESUME", "Z|I")
	later.want("T|c", "D|1", "C|SELECT 1", "Z|I")

	console.send("Q|KILL", "Q|KILL", "Q|RESUME")
	console.want("C|KILL", "Z|I", "E|ERROR|55000|already paused", "Z|I", "C|RESUME", "Z|I")
	later.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
	console.send("X")
	console.wantEnd()
	f.world.Advance(time.Second)
	f.checkIdle()
}

func TestKillClient(t *testing.T) {
	f := newFixture(t, withConsole)
	victim, other, console := f.login(), f.login(), f.enter("app")
	console.send(fmt.Sprintf("Q|KILL_CLIENT %d", victim.id))
	console.want("C|KILL_CLIENT", "Z|I")
	victim.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
	other.ask("1")
	newcomer := f.dial()
	for _, test := range []struct{ id, want string }{
		{fmt.Sprint(victim.id), fmt.Sprintf("E|ERROR|42704|there is no client %d: expected an id of SHOW CLIENTS", victim.id)},
		{fmt.Sprint(console.id + 1), fmt.Sprintf("E|ERROR|42704|there is no client %d: expected an id of SHOW CLIENTS", console.id+1)},
		{"x", `E|ERROR|42601|KILL_CLIENT "x": expected an id of SHOW CLIENTS`},
		{"4294967296", `E|ERROR|42601|KILL_CLIENT "4294967296": expected an id of SHOW CLIENTS`},
	} {
		console.send("Q|KILL_CLIENT " + test.id)
		console.want(test.want, "Z|I")
	}
	if newcomer.conn.Closed() {
		t.Error("a newcomer was killed")
	}
	console.send(fmt.Sprintf("Q|KILL_CLIENT %d; SHOW VERSION", console.id))
	console.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
}

// TestProcessCommands are those that the process around the proxy obeys.
func TestProcessCommands(t *testing.T) {
	var reloaded func(error)
	var shutdowns []bool
	f := newFixture(t, withConsole, func(c *Config) {
		c.Console.Reload = func(done func(error)) { reloaded = done }
		c.Console.Shutdown = func(orderly bool) { shutdowns = append(shutdowns, orderly) }
	})
	console := f.enter("app")
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, "C|RELOAD"},
		{errors.New("no such file"), "E|ERROR|F0000|not reloaded, what was read before stays in use: no such file"},
	} {
		console.send("Q|RELOAD")
		console.want()
		reloaded(test.err)
		console.want(test.want, "Z|I")
	}
	gone := f.enter("app")
	gone.send("Q|RELOAD")
	gone.close(pooltest.EOF)
	reloaded(nil) // nobody waits for it

	console.send("Q|SHUTDOWN soon", "Q|SHUTDOWN wait_for_servers", "Q|SHUTDOWN")
	console.want(`E|ERROR|42601|SHUTDOWN "soon": expected WAIT_FOR_SERVERS or nothing`, "Z|I", "C|SHUTDOWN", "Z|I")
	if len(shutdowns) != 2 || !shutdowns[0] || shutdowns[1] {
		t.Errorf("shutdowns, orderly: %v", shutdowns)
	}
	f.proxy.Abort()
	console.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
}

// TestDrainConsole ends those at the console with the proxy.
func TestDrainConsole(t *testing.T) {
	f := newFixture(t, withConsole)
	console := f.enter("app")
	drained := false
	f.proxy.Shutdown(func() { drained = true })
	console.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
	if !drained {
		t.Error("the proxy is not drained")
	}
}
