package pool

import (
	"fmt"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// drift is how PostgreSQL says that a statement's result type has changed.
func drift() []byte {
	return pgwire.AppendError(nil, &pgwire.Error{
		Severity: pgwire.SeverityError, SQLState: pgwire.FeatureNotSupported,
		Message: "cached plan must not change result type", Routine: RoutineRevalidate,
	})
}

// driftWord is drift as a word.
const driftWord = "E|ERROR|0A000|cached plan must not change result type"

// prepared returns a client that leases the only server, on which its statement "s"
// is prepared.
func (f *fixture) prepared() (*testClient, *pooltest.Conn) {
	f.Helper()
	c, conn := f.client()
	c.send("P|s|select 1", "S")
	f.feed(conn, "1", "Z|I")
	c.want("1", "Z|I", "[end I]", "[released]")
	conn.Sent()
	c.acquire(f.pool)
	return c, conn
}

// begin opens a group that may be run again, and sends it.
func (c *testClient) begin(words ...string) {
	c.f.Helper()
	c.server.Begin(c, pooltest.Frontend(words...), nil, false)
	c.send(words...)
}

func TestRunsAgain(t *testing.T) {
	bind := []string{"B||s", "E|", "S"}
	lost := string(pooltest.Backend("E|ERROR|26000|prepared statement bp_1 does not exist"))
	tests := []struct {
		name  string
		send  []string
		reply string
		again bool
	}{
		{"result type changed", bind, string(drift()), true},
		{"statement lost", bind, lost, true},
		{"statement lost, at a describe", []string{"DS|s", "B||s", "E|", "S"}, lost, true},
		{"replies of ours in front", []string{"P|x|select 1", "B||x", "E|", "S"}, lost, true},
		{"another error", bind, string(pooltest.Backend("E|ERROR|22012|no")), false},
		{"another 0A000", bind, string(pooltest.Backend("E|ERROR|0A000|no")), false},
		{"something was told that decides nothing", []string{"DS|s", "B||s", "E|", "S"}, string(pooltest.Backend("N|x", "t", "T|c")) + string(drift()), true},
		{"something was done", []string{"B||s", "E|", "B||s", "E|", "S"}, string(pooltest.Backend("2", "D|1", "C|SELECT 1")) + string(drift()), false},
		{"the client's own 26000", []string{"Q|execute s"}, lost, false},
		{"a cancel", bind, string(pooltest.Backend("E|ERROR|57014|canceled")), false},
		{"read only", bind, string(pooltest.Backend("E|ERROR|25006|no")), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.DefaultPoolSize = 1 })
			c, conn := f.prepared()
			c.begin(test.send...)
			conn.Feed([]byte(test.reply))
			f.feed(conn, "Z|I")
			if conn.Closed() {
				t.Fatal("the server's connection was closed")
			}
			if !test.again {
				if c.again != nil || len(c.all) == 0 {
					t.Errorf("again %q, told %q", c.again, c.all)
				}
				return
			}
			wantWords(t, "again", pooltest.FrontendWords(c.again), test.send)
			c.all = nil
			c.acquire(f.pool)
			conn.Sent()
			c.send("B||s", "E|", "S")
			f.world.Settle()
			sent := pooltest.FrontendWords(conn.Sent())
			if test.reply != lost { // it is still there, as it was
				wantWords(t, "sent first", sent[:1], []string{"CS|bp_1"})
				f.feed(conn, "3")
				sent = sent[1:]
			}
			wantWords(t, "sent", sent, []string{"P|bp_1|select 1", "B||bp_1", "E|", "S"})
			c.log, c.bytes = nil, nil
			f.feed(conn, "1", "2", "C|SELECT 0", "Z|I")
			c.want("2", "C|SELECT 0", "Z|I", "[end I]", "[released]")
		})
	}
}

func TestRunsAgainTellsNothing(t *testing.T) {
	f := newFixture(t)
	c, conn := f.prepared()
	c.begin("P|x|select 1", "B||x", "E|", "S")
	conn.Feed(drift())
	f.feed(conn, "N|late", "Z|I")
	c.want("[error 2]", fmt.Sprintf("[again %d]", AgainPlan), "[released]")
	if f.pool.Stats().GroupsRunAgain != 1 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
}

// A client that was told the columns has to hear that they are others now.
func TestRunsNotAgainForWhomTheColumnsMatter(t *testing.T) {
	f := newFixture(t)
	c, conn := f.prepared()
	c.described = 1
	c.begin("B||s", "E|", "S")
	conn.Feed(drift())
	f.feed(conn, "Z|I")
	c.want("[error 0]", driftWord, "Z|I", "[end I]", "[released]")
	c.acquire(f.pool)
	conn.Sent()
	c.send("B||s", "S") // it decides to go on
	f.wantSent(conn, "CS|bp_1", "P|bp_1|select 1", "B||bp_1", "S")
}

// Nothing that is not the first of its lease, or that has others behind it, is run
// again: the order of replies would not be that of the queries.
func TestRunsNotAgainInTheMiddle(t *testing.T) {
	t.Run("others behind", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.prepared()
		c.begin("B||s", "E|", "S")
		c.send("Q|select 2")
		conn.Feed(drift())
		f.feed(conn, "Z|I", "D|2", "C|SELECT 1", "Z|I")
		c.want("[error 0]", driftWord, "Z|I", "[end I]", "D|2", "C|SELECT 1", "Z|I", "[end I]", "[released]")
	})
	t.Run("not the first", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.prepared()
		c.begin("Q|select 2")
		c.send("B||s", "E|", "S")
		f.feed(conn, "C|SELECT 1", "Z|I")
		conn.Feed(drift())
		f.feed(conn, "Z|I")
		c.want("C|SELECT 1", "Z|I", "[end I]", "[error 0]", driftWord, "Z|I", "[end I]", "[released]")
	})
	t.Run("in a transaction", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.prepared()
		c.begin("Q|begin")
		f.feed(conn, "C|BEGIN", "Z|T")
		c.send("B||s", "E|", "S")
		conn.Feed(drift())
		f.feed(conn, "Z|E")
		c.want("C|BEGIN", "Z|T", "[end T]", "[error 0]", driftWord, "Z|E", "[end E]")
	})
	t.Run("behind a begin of ours", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.prepared()
		c.server.BeginTransaction("begin")
		c.send("B||s", "E|", "S")
		f.feed(conn, "C|BEGIN", "Z|T")
		conn.Feed(drift())
		f.feed(conn, "Z|E")
		c.want("[error 0]", driftWord, "Z|E", "[end E]")
	})
	t.Run("a second group is not begun meanwhile", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.prepared()
		c.begin("B||s", "E|", "S")
		conn.Feed(drift())
		f.world.Settle()
		if !c.server.Unconfirmed() {
			t.Error("the client may send another group before the one that is run again")
		}
	})
}

// Two clients fail for the same change: what is known of the statement is forgotten
// once, and the second server prepares it anew as well.
func TestDriftOnTwoServers(t *testing.T) {
	f := newFixture(t)
	a, first := f.prepared()
	b := f.newClient()
	b.acquire(f.pool)
	second := f.connect()
	b.names["s"] = a.names["s"]
	b.send("B||s", "S")
	f.feed(second, "1", "2", "Z|I")
	b.acquire(f.pool)
	statement := a.names["s"]
	if !f.pool.Parsed(statement, nil) {
		t.Fatal("the pool does not know the statement")
	}
	a.begin("B||s", "E|", "S")
	first.Feed(drift())
	f.feed(first, "Z|I")
	if f.pool.Parsed(statement, nil) || statement.Epoch != 2 {
		t.Errorf("epoch %d, known %v", statement.Epoch, f.pool.Parsed(statement, nil))
	}
	second.Sent()
	b.begin("B||s", "E|", "S")
	f.wantSent(second, "CS|bp_1", "P|bp_1|select 1", "B||bp_1", "E|", "S")
	f.feed(second, "3", "1", "2", "C|SELECT 1", "Z|I")
	if statement.Epoch != 2 || !f.pool.Parsed(statement, nil) {
		t.Errorf("epoch %d, known %v", statement.Epoch, f.pool.Parsed(statement, nil))
	}
}

func TestKnownStatements(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("P|s|select 1", "DS|s", "S")
	statement := c.names["s"]
	if f.pool.Parsed(statement, nil) || f.pool.Description(statement, nil) != nil {
		t.Error("known before the server answered")
	}
	f.feed(conn, "1", "N|x", "t", "T|c", "Z|I")
	if !f.pool.Parsed(statement, nil) {
		t.Error("not known after ParseComplete")
	}
	wantWords(t, "description", pooltest.BackendWords(f.pool.Description(statement, nil)), []string{"t", "T|c"})
	if !f.pool.Parsed(statement, f.settings("application_name", "x")) {
		t.Error("not known under settings that make no difference")
	}
	if other := f.settings("search_path", "a"); f.pool.Parsed(statement, other) || f.pool.Description(statement, other) != nil {
		t.Error("known under other settings")
	}
	if f.pools.Get("shop", "other").Parsed(statement, nil) {
		t.Error("known in another pool")
	}
	c.acquire(f.pool)
	c.send("P|bad|bad", "DS|bad", "S")
	f.feed(conn, "E|ERROR|42601|no", "Z|I")
	if f.pool.Parsed(c.names["bad"], nil) {
		t.Error("known though it was refused")
	}
	c.acquire(f.pool)
	c.send("P|wide|wide", "DS|wide", "S")
	f.feed(conn, "1", "t", fmt.Sprintf("T|*%d", 2*maxWholeBytes), "Z|I")
	if f.pool.Description(c.names["wide"], nil) != nil {
		t.Error("a description beyond the bound is kept")
	}
	for i := range 100 {
		statement.learn(f.pool, f.settings("search_path", fmt.Sprint(i)).meaning(), nil)
	}
	if len(statement.known) > maxKnown {
		t.Errorf("%d combinations are remembered", len(statement.known))
	}
}

// On another server, a statement of which the client was told what it returns is
// described first: PostgreSQL would not let that change.
func TestReady(t *testing.T) {
	begin := func(t *testing.T) (*fixture, *testClient, *pooltest.Conn, *Statement) {
		f := newFixture(t)
		a, first := f.client()
		a.send("P|s|select 1", "DS|s", "S")
		f.feed(first, "1", "t", "T|c", "Z|I")
		a.acquire(f.pool)
		c, conn := f.client()
		c.names["s"] = a.names["s"]
		c.described = 1
		statement := c.names["s"]
		if c.server.Ready(statement, "") {
			t.Fatal("the server is ready though it does not have the statement")
		}
		f.wantSent(conn, "P|bp_1|select 1", "DS|bp_1", "H")
		return f, c, conn, statement
	}
	t.Run("the same", func(t *testing.T) {
		f, c, conn, statement := begin(t)
		f.feed(conn, "1", "t")
		if c.server.Ready(statement, "") {
			t.Error("ready too early")
		}
		f.feed(conn, "T|c")
		if c.drains == 0 || !c.server.Ready(statement, "") || statement.Epoch != 1 {
			t.Errorf("not ready, or epoch %d", statement.Epoch)
		}
		c.send("B||s", "E|", "S")
		f.wantSent(conn, "B||bp_1", "E|", "S")
		f.feed(conn, "2", "C|SELECT 1", "Z|I")
		c.want("2", "C|SELECT 1", "Z|I", "[end I]", "[released]")
	})
	t.Run("something else", func(t *testing.T) {
		f, c, conn, statement := begin(t)
		f.feed(conn, "1", "t", "T|other")
		if c.drains == 0 || !c.server.Ready(statement, "") || statement.Epoch != 2 || !c.Described(statement, statement.Epoch) {
			t.Errorf("epoch %d, the client was told %d times", statement.Epoch, c.drains)
		}
		if f.pool.Parsed(statement, nil) != true || !sameResult(f.pool.Description(statement, nil), pooltest.Backend("t", "T|other")) {
			t.Error("the new description is not known")
		}
	})
	t.Run("not accepted", func(t *testing.T) {
		f, c, conn, statement := begin(t)
		f.feed(conn, "E|ERROR|42P01|no table")
		c.want("[error 0]", "E|ERROR|42P01|no table")
		if c.drains == 0 || !c.server.Skipping() {
			t.Error("the client waits for ever")
		}
		c.send("S")
		f.feed(conn, "Z|I")
		c.want("Z|I", "[end I]", "[released]")
		_ = statement
	})
	t.Run("the client goes", func(t *testing.T) {
		f, c, conn, _ := begin(t)
		c.server.Orphan(false)
		f.wantSent(conn, "f|client gone", "DP|bp_refused", "S")
		f.feed(conn, "1", "t", "T|c", "E|ERROR|34000|no portal", "Z|I")
		if stats := f.pool.Stats(); stats.ServersIdle != 1 || conn.Closed() {
			t.Errorf("stats %+v", stats)
		}
	})
}

func TestSameResult(t *testing.T) {
	column := func(name string, table, number, format byte) string {
		return name + "\x00" + string([]byte{0, 0, 0, table, 0, number, 0, 0, 0, 23, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, format})
	}
	rows := func(columns ...string) []byte {
		body := string([]byte{0, byte(len(columns))})
		for _, c := range columns {
			body += c
		}
		return append(pooltest.Backend("t"), pgwire.AppendMessage(nil, pgwire.RowDescription, []byte(body))...)
	}
	a := rows(column("a", 1, 1, 0), column("b", 1, 2, 0))
	tests := []struct {
		name  string
		other []byte
		want  bool
	}{
		{"itself", a, true},
		{"from another table", rows(column("a", 9, 1, 0), column("b", 1, 7, 0)), true},
		{"another name", rows(column("x", 1, 1, 0), column("b", 1, 2, 0)), false},
		{"another format", rows(column("a", 1, 1, 1), column("b", 1, 2, 0)), false},
		{"one less", rows(column("a", 1, 1, 0)), false},
		{"one more", rows(column("a", 1, 1, 0), column("b", 1, 2, 0), column("c", 1, 3, 0)), false},
		{"no rows", pooltest.Backend("t", "n"), false},
		{"other parameters", append(pgwire.AppendMessage(nil, pgwire.ParameterDescription, []byte{0, 1, 0, 0, 0, 23}), a[len(pooltest.Backend("t")):]...), false},
		{"nothing", nil, false},
		{"cut off", a[:len(a)-1], false},
	}
	for _, test := range tests {
		if got := sameResult(a, test.other); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if got := sameResult(test.other, a); got != test.want {
			t.Errorf("%s, the other way round: %v, want %v", test.name, got, test.want)
		}
	}
}

// Replies are held back only as long as the group may be run again, and not without
// bound: a server may have a lot to say before the first row.
func TestHeldReplies(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.begin("Q|select 1")
	notice := fmt.Sprintf("N|*%d", 10_000)
	for range 100 {
		f.feed(conn, notice)
	}
	c.flush()
	if len(c.log) < 90 {
		t.Errorf("%d of 100 notices have been passed on", len(c.log))
	}
	f.feed(conn, "T|c", "D|1", "C|SELECT 1", "Z|I")
	c.flush()
	got := c.log
	wantWords(t, "in the end", got[len(got)-6:], []string{"T|c", "D|1", "C|SELECT 1", "Z|I", "[end I]", "[released]"})
	if len(got) != 106 || cap(c.server0().held) > 128<<10 {
		t.Errorf("%d entries, %d bytes of storage are kept", len(got), cap(c.server0().held))
	}
}

// server0 is the first server of the client's pool.
func (c *testClient) server0() *Server { return c.f.pool.servers[0] }
