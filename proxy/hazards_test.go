package proxy

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// calls sends a statement as a whole transaction, and returns how many questions about its
// session followed it.
func (c *client) calls(statement string) int {
	inspected := func() (count int) {
		for _, s := range c.f.pg.Sessions {
			count += s.Inspected
		}
		return count
	}
	before := inspected()
	c.send("Q|" + statement)
	c.f.world.Settle()
	return inspected() - before
}

// TestFunctionsAreInspected calls functions of a database in which there are some that
// can do something to a session.
func TestFunctionsAreInspected(t *testing.T) {
	tests := []struct {
		name      string
		hazards   []string
		statement string
		inspected int // questions to the server behind the statement
	}{
		{"harmless", nil, "select f(1)", 0},
		{"harmless, called", nil, "call f(1)", 0},
		{"besides one that is not", []string{"g anything", "set_it set my.tenant"}, "select f(1)", 0},
		{"numbers", []string{"f numbers"}, "select f(1)", 0},
		{"for the transaction", []string{"f local"}, "select f(1)", 0},
		{"a block", nil, "do f", 1},
		{"locks", []string{"f locks"}, "select f(1)", 1},
		{"of two", []string{"f locks", "h channels"}, "select f(1), g(2), h(3)", 1},
		{"anything", []string{"f anything"}, "select f(1)", 1},
		{"a setting", []string{"f set my.tenant"}, "select f(1)", 1},
		{"one of many", []string{"f locks"}, "select a(1), b(1), c(1), d(1), e(1), f(1), g(1), h(1), i(1)", 1},
		{"not named", []string{"* locks"}, "select f(1)", 1},
		{"a write", []string{"f anything", "* locks"}, "insert", 0},
		{"a write that comes upon it", []string{"* locks", "+ locks"}, "insert", 1},
		{"a write that sets something", []string{"* set my.tenant", "+ set my.tenant"}, "update", 1},
		{"unknown to us", []string{"g miracles"}, "select f(1)", 1},
		{"text besides", nil, "select f(1), pg_advisory_lock(1)", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.pg.Hazards = test.hazards
			c := f.login()
			c.calls("select 1")
			if c.calls("select g(1)") == 0 {
				t.Error("the first call of a function is not followed by a question")
			}
			for range 3 {
				if got := c.calls(test.statement); got != test.inspected {
					t.Errorf("%d questions behind %s, want %d", got, test.statement, test.inspected)
				}
			}
			f.world.Advance(2 * time.Minute)
			if c.calls(test.statement) == 0 {
				t.Errorf("no question behind %s, although functions may be others by now", test.statement)
			}
		})
	}
}

// TestHazardsAreUnknown: where PostgreSQL does not tell what functions can do, they can do
// anything.
func TestHazardsAreUnknown(t *testing.T) {
	f := newFixture(t)
	f.pg.NoHazards = true
	c := f.login()
	for range 3 {
		if c.calls("select f(1)") == 0 {
			t.Error("no question behind a call")
		}
	}
	f.server().State["lock"] = 1
	c.calls("select f(1)")
	if f.stats().ServersLeased != 1 {
		t.Error("a lock is left to the next client")
	}
	f.server().State["lock"] = 0
	f.pg.NoHazards = false
	f.world.Advance(2 * time.Minute)
	c.calls("select f(1)")
	if c.calls("select f(1)") > 0 {
		t.Error("a question, although PostgreSQL has told that functions do nothing")
	}
}

// TestWritesWithoutHazards: where PostgreSQL does not tell what functions can do, a write is
// taken to come upon none, but for the one behind which it was asked.
func TestWritesWithoutHazards(t *testing.T) {
	f := newFixture(t)
	f.pg.NoHazards = true
	asking, c := f.login(), f.login()
	if asking.calls("insert") == 0 {
		t.Error("the first write is not followed by a question")
	}
	for range 3 {
		if got := c.calls("insert"); got != 0 {
			t.Errorf("%d questions behind a write", got)
		}
	}
	f.pg.NoHazards, f.pg.Hazards = false, []string{"* locks", "+ locks"}
	f.world.Advance(2 * time.Minute)
	c.calls("insert")
	if c.calls("insert") == 0 {
		t.Error("no question behind a write, although PostgreSQL has told of locks")
	}
}

// TestWritesAreAskedForOnceAMinute: what a write comes upon is good for longer than what is
// called.
func TestWritesAreAskedForOnceAMinute(t *testing.T) {
	f := newFixture(t)
	c := f.login()
	for minute := range 3 {
		if c.calls("insert") == 0 {
			t.Errorf("minute %d: the first write is not followed by a question", minute)
		}
		for range 5 {
			f.world.Advance(10 * time.Second)
			if got := c.calls("insert"); got != 0 {
				t.Errorf("minute %d: %d questions behind a write", minute, got)
			}
		}
		f.world.Advance(10 * time.Second)
	}
}

// TestFirstScanIsAwaited: until PostgreSQL has told for the first time which settings of
// applications functions set, a server on which a function was called is for nobody else.
func TestFirstScanIsAwaited(t *testing.T) {
	tests := []struct {
		name   string
		end    func(f *fixture, scanning *client, scanned *pooltest.Session) // of the scan
		leased int                                                           // servers behind it
	}{
		{"answered", func(f *fixture, _ *client, scanned *pooltest.Session) {
			scanned.Resume()
		}, 0},
		{"its client gone", func(f *fixture, scanning *client, scanned *pooltest.Session) {
			scanning.close(io.EOF)
			scanned.Resume()
		}, 0},
		{"lost", func(f *fixture, _ *client, scanned *pooltest.Session) {
			scanned.Terminate()
		}, 0},
		{"refused", func(f *fixture, _ *client, scanned *pooltest.Session) {
			f.pg.NoHazards = true
			scanned.Resume()
		}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.pg.Hazards, f.pg.HoldHazards = []string{"set_it set my.tenant"}, true
			first, second := f.login(), f.login()
			first.send("Q|select f(1)")
			second.send("Q|select set_it(1)")
			if got := f.stats().ServersLeased; got != 2 {
				t.Fatalf("%d servers are leased while nobody knows what functions set, want 2", got)
			}
			f.pg.HoldHazards = false
			test.end(f, first, f.pg.Open()[0])
			f.world.Settle()
			if got := f.stats().ServersLeased; got != test.leased {
				t.Errorf("%d servers are leased behind the scan, want %d", got, test.leased)
			}
			if got := f.pg.Open()[len(f.pg.Open())-1].Inspected; got == 0 {
				t.Error("nobody has asked what the second call has set")
			}
			if len(f.pg.CancelPIDs) > 0 {
				t.Error("the scan was canceled, which others wait for")
			}
		})
	}
}

// TestFirstScanIsAwaitedBesideNumbers: somebody else waits for a server meanwhile, and this
// one was kept for sequence numbers before.
func TestFirstScanIsAwaitedBesideNumbers(t *testing.T) {
	f := newFixture(t)
	f.pg.Hazards, f.pg.HoldHazards = []string{"listens channels"}, true
	scanning, c, other := f.login(), f.login(), f.login()
	scanning.send("Q|select f(1)")
	c.send("Q|select nextval('s')")
	listening := f.pg.Open()[1]
	listening.State["listen"] = 1
	c.send("Q|select listens(1)")
	other.send("Q|insert")
	f.world.Settle()
	if got := listening.Executed; slices.Contains(got, "insert") {
		t.Errorf("a server was lent before it was known what is on it: %q", got)
	}
	f.pg.HoldHazards = false
	f.pg.Open()[0].Resume()
	f.world.Settle()
	if got := f.stats().ServersLeased; got != 1 {
		t.Errorf("%d servers are leased, want the one whose client listens", got)
	}
}

// TestUnknownSettingsStay: what functions may have set, of which PostgreSQL does not tell,
// is left to no other client, and goes with the one who called them.
func TestUnknownSettingsStay(t *testing.T) {
	f := newFixture(t)
	f.pg.NoHazards = true
	c := f.login()
	c.calls("select f(1)")
	if got := f.stats().ServersLeased; got != 1 {
		t.Fatalf("%d servers are leased, want the one on which there may be settings", got)
	}
	server := f.server()
	c.close(io.EOF)
	f.world.Settle()
	if !slices.ContainsFunc(server.Executed, func(text string) bool { return strings.Contains(text, "RESET ALL") }) {
		t.Errorf("settings were left behind: %q", server.Executed)
	}
}

// TestKnownAgain: a client keeps its server for settings of which nobody knew until it is
// known what there is.
func TestKnownAgain(t *testing.T) {
	f := newFixture(t)
	f.pg.NoHazards = true
	c := f.login()
	c.calls("select f(1)")
	f.pg.NoHazards = false
	f.world.Advance(2 * time.Minute)
	c.calls("select f(1)")
	if got := f.stats().ServersLeased; got != 0 {
		t.Errorf("%d servers are leased, although PostgreSQL has told what functions set", got)
	}
}

// TestFunctionIsDefined: what a client defines, others of the database may call from the
// moment at which it is sent, whoever they are.
func TestFunctionIsDefined(t *testing.T) {
	f := newFixture(t)
	definer, c := f.dial(), f.login()
	definer.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "definer", "database", "shop"))
	definer.welcomed()
	harmless := func(want bool) {
		t.Helper()
		if got := c.calls("select f(1)") == 0; got != want {
			t.Errorf("a call is harmless: %v, want %v", got, want)
		}
	}
	harmless(false)
	harmless(true)
	definer.calls("create table t")
	harmless(true)
	definer.send("Q|begin", "Q|create function")
	f.world.Settle()
	harmless(false)
	definer.calls("commit")
	f.pg.Hazards = []string{"f locks"}
	harmless(false)
	harmless(false)
	f.pg.Hazards = nil
	definer.calls("create function")
	harmless(false)
	harmless(true)
	definer.send("Q|create function", "Q|wait")
	f.world.Settle()
	harmless(false)
	for _, server := range f.pg.Open() {
		if server.User == "definer" {
			server.Conn.End(pooltest.EOF)
		}
	}
	harmless(false)
	harmless(true)
}
