package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// sharing2 returns clients whose reads share the only server, which is stalled: what
// they send piles up in front of it.
func sharing2(t *testing.T, texts ...string) (*fixture, *pooltest.Session, []*client) {
	t.Helper()
	f, s, clients := warmed(t, texts...)
	for i, text := range texts {
		clients[i].send("Q|" + text)
	}
	if stats := f.stats(); stats.ServersShared != 1 || stats.ClientsWaiting != 0 {
		t.Fatalf("stats %+v", stats)
	}
	return f, s, clients
}

// warmed returns clients whose reads may share the only server, which is stalled.
func warmed(t *testing.T, texts ...string) (*fixture, *pooltest.Session, []*client) {
	t.Helper()
	f := newFixture(t, oneServer, sharedReads)
	var clients []*client
	for _, text := range texts {
		c := f.login()
		warm(c, text)
		clients = append(clients, c)
	}
	s := f.server()
	s.Conn.Stall()
	s.Executed, s.Received = nil, nil
	return f, s, clients
}

func TestSharedReads(t *testing.T) {
	f, s, clients := sharing2(t, "select 1", "select 2", "select 3")
	s.Conn.Flow()
	for i, c := range clients {
		c.want("T|c", fmt.Sprintf("D|%d", i+1), "C|SELECT 1", "Z|I")
	}
	if got := f.stats(); got.SharedGroups != 3 || got.ServersIdle != 1 {
		t.Errorf("stats %+v", got)
	}
	if s.Setting("default_transaction_read_only") != "on" {
		t.Error("the server may write while it is shared")
	}
	clients[0].send("Q|insert")
	clients[0].want("C|INSERT 0 1", "Z|I")
	if s.Setting("default_transaction_read_only") == "on" {
		t.Error("the server may not write while it is leased")
	}
}

// What is not known to be fast, or not to read only, has a server of its own.
func TestNotShared(t *testing.T) {
	tests := []struct {
		name  string
		words []string
	}{
		{"a write", []string{"Q|insert"}},
		{"several statements", []string{"Q|select 1;select 2"}},
		{"two executions", []string{"P||select 1", "B||", "E|", "B||", "E|", "S"}},
		{"a query behind a bind", []string{"B||s", "Q|select 1"}},
		{"a query behind a parse", []string{"P||select 1", "Q|select 1"}},
		{"a query behind a describe", []string{"DS|s", "Q|select 1"}},
		{"another portal", []string{"B|p|s", "E|", "S"}},
		{"two binds", []string{"B||w", "B|p|s", "E|", "S"}},
		{"nothing executed", []string{"B||s", "DP|", "S"}},
		{"a flush", []string{"B||s", "E|", "H", "S"}},
		{"a close of a portal", []string{"B||s", "E|", "CP|", "S"}},
		{"a parse of a name that is taken", []string{"P|s|select 1", "B||s", "E|", "S"}},
		{"a statement that the server may know", []string{"B||unknown", "E|", "S"}},
		{"in a transaction", []string{"Q|begin", "Q|select 1", "Q|commit"}},
		{"a statement unknown so far", []string{"P||select 99", "B||", "E|", "S"}},
		{"a copy", []string{"Q|copy out"}},
		{"an empty query", []string{"Q|"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, oneServer, sharedReads)
			c := f.login()
			c.prepare("s", "select 1")
			c.prepare("w", "insert")
			for range 2 {
				c.send("B||s", "E|", "S", "Q|select 1")
			}
			before := f.stats().SharedGroups
			if before == 0 {
				t.Fatal("nothing is ever shared")
			}
			c.send(test.words...)
			if got := f.stats().SharedGroups; got != before {
				t.Error("shared")
			}
			c.conn.Sent()
			c.ask("1")
		})
	}
}

// An error of one client's group, whatever its form, is no neighbor's.
func TestSharedErrors(t *testing.T) {
	groups := map[string][]string{
		"bind":             {"B||s|bad", "E|", "S"},
		"describe":         {"DS|none", "B||s", "E|", "S"},
		"bind and a query": {"B||s|bad", "Q|select 1", "S"},
		"hidden write":     {"Q|select hidden"},
		"hidden write, extended": {
			"P||select hidden", "B||", "E|", "S",
		},
	}
	for name, words := range groups {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, oneServer, sharedReads)
			a, b, c := f.login(), f.login(), f.login()
			for _, each := range []*client{a, b, c} {
				each.prepare("s", "select 1")
				each.send("B||s", "E|", "S", "Q|select 1", "P||select hidden", "B||", "E|", "S", "Q|select hidden")
				each.conn.Sent()
			}
			want := []string{"2", "D|1", "C|SELECT 1", "Z|I"}
			s := f.server()
			s.Conn.Stall()
			b.send("B||s", "E|", "S")
			a.send(words...)
			c.send("B||s", "E|", "S")
			b.send("B||s", "E|", "S")
			s.Conn.Flow()
			f.world.Settle()
			b.want(append(slices.Clone(want), want...)...)
			c.want(want...)
			got := pooltest.BackendWords(a.conn.Sent())
			if n := len(got); n == 0 || got[n-1] != "Z|I" || strings.Contains(strings.Join(got, " "), "25006") {
				t.Errorf("the one with the error got %q", got)
			}
			for _, each := range []*client{a, b, c} {
				each.send("X")
			}
			f.checkIdle()
			if len(f.pg.Sessions) != 1 {
				t.Errorf("%d servers", len(f.pg.Sessions))
			}
		})
	}
}

// A read that turns out to write is run where it may, and not shared again.
func TestHiddenWrite(t *testing.T) {
	for _, words := range [][]string{{"Q|select hidden"}, {"P||select hidden", "B||", "E|", "S"}} {
		f := newFixture(t, oneServer, sharedReads)
		c := f.login()
		var want []string
		for round := range 4 {
			c.send(words...)
			got := pooltest.BackendWords(c.conn.Sent())
			if round == 0 {
				want = got
			}
			wantWords(t, fmt.Sprintf("round %d", round), got, want)
		}
		if stats := f.stats(); stats.GroupsRunAgain != 1 {
			t.Errorf("%d groups were run again, want the first that was shared", stats.GroupsRunAgain)
		}
	}
}

// A statement is judged by its own text, not by the one that had its name before.
func TestUnnamedStatementIsJudgedByItsText(t *testing.T) {
	f := newFixture(t, oneServer, sharedReads)
	c := f.login()
	for range 2 {
		c.send("P||select 1", "B||", "E|", "S")
		c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
	}
	shared := f.stats().SharedGroups
	c.send("P||insert", "B||", "E|", "S")
	c.want("1", "2", "C|INSERT 0 1", "Z|I")
	if f.stats().SharedGroups != shared || f.stats().GroupsRunAgain != 0 {
		t.Errorf("a write was taken for the read before it: %+v", f.stats())
	}
}

// A write is never sent twice, whatever it follows.
func TestWriteIsNotSentTwice(t *testing.T) {
	for _, words := range [][]string{
		{"P||wait", "B||", "E|", "S"},
		{"B||r", "B|p|w", "E|p", "S"},
		{"B||w", "B|p|r", "E|", "S"},
		{"CS|r", "P|r|wait", "B||r", "E|", "S"},
		{"Q|wait"},
		{"Q|select slow"}, // on a server that may write, it may
	} {
		t.Run(strings.Join(words, " "), func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			c.prepare("r", "select 1")
			c.prepare("w", "wait")
			c.send("P||select 1", "B||", "E|", "S")
			c.conn.Sent()
			c.send(words...)
			if !f.server().Waiting() {
				t.Fatal("the statement does not run")
			}
			f.server().Terminate()
			f.world.Settle()
			got := pooltest.BackendWords(c.conn.Sent())
			if n := len(got); n < 2 || got[n-1] != "Z|I" || !strings.HasPrefix(got[n-2], "E|ERROR|57P01|") {
				t.Errorf("got %q", got)
			}
			for _, s := range f.pg.Open() {
				if s.Waiting() || slices.Contains(s.Executed, "wait") || slices.Contains(s.Executed, "select slow") {
					t.Error("it was run again")
				}
			}
		})
	}
}

func TestSharedServerLost(t *testing.T) {
	f, s, clients := sharing2(t, "select 1", "select 2", "select 3")
	s.Terminate()
	for i, c := range clients {
		c.want("T|c", fmt.Sprintf("D|%d", i+1), "C|SELECT 1", "Z|I")
	}
	if f.stats().GroupsRunAgain != 3 {
		t.Errorf("stats %+v", f.stats())
	}
}

// A group that finds no server that lasts is given up in the end.
func TestSharedServersLostAgainAndAgain(t *testing.T) {
	f, s, clients := sharing2(t, "select 1")
	losses := 0
	for range 20 {
		if s != nil {
			s.Terminate()
			losses++
		}
		s = nil
		f.world.Settle()
		if got := pooltest.BackendWords(clients[0].conn.Sent()); len(got) > 0 {
			if len(got) != 4 && (len(got) != 2 || !strings.HasPrefix(got[0], "E|ERROR|08006|")) {
				t.Errorf("got %q", got)
			}
			return
		}
		if open := f.pg.Open(); len(open) > 0 {
			s = open[0]
		}
	}
	t.Errorf("no answer after %d losses", losses)
}

func TestSharedCancel(t *testing.T) {
	t.Run("the one that runs", func(t *testing.T) {
		f, s, clients := warmed(t, "select slow", "select 2")
		s.Conn.Flow()
		clients[0].send("Q|select slow")
		clients[1].send("Q|select 2")
		if !s.Waiting() {
			t.Fatal("the query does not run")
		}
		clients[0].cancel()
		clients[0].want("T|c", canceled, "Z|I")
		clients[1].want("T|c", "D|2", "C|SELECT 1", "Z|I")
		f.checkIdleServers()
	})
	t.Run("one of a batch", func(t *testing.T) {
		f, s, clients := sharing2(t, "select slow", "select 2")
		s.Conn.Flow()
		f.world.Settle()
		clients[0].cancel()
		clients[0].want(canceled, "Z|I")
		clients[1].want()
		for range 150 { // until the batch is found to be slow
			f.world.Advance(time.Millisecond)
		}
		clients[1].want("T|c", "D|2", "C|SELECT 1", "Z|I")
		if len(f.pg.CancelPIDs) != 1 {
			t.Errorf("cancel requests %v", f.pg.CancelPIDs)
		}
		f.checkIdleServers()
	})
	t.Run("one behind it", func(t *testing.T) {
		f, s, clients := sharing2(t, "select slow", "select 2", "select 3")
		s.Conn.Flow()
		f.world.Settle()
		clients[1].cancel()
		clients[1].want(canceled, "Z|I")
		if len(f.pg.CancelPIDs) != 0 {
			t.Error("PostgreSQL is asked to cancel a neighbor")
		}
		clients[1].send("Q|insert")
		s.Go()
		clients[0].want("T|c", "D|waited", "C|SELECT 1", "Z|I")
		clients[2].want("T|c", "D|3", "C|SELECT 1", "Z|I")
		clients[1].want("C|INSERT 0 1", "Z|I")
	})
}

func TestSharedClientGoes(t *testing.T) {
	for _, end := range []error{pooltest.EOF, errors.New("reset")} {
		f, s, clients := sharing2(t, "select 1", "select 2", "select 3")
		clients[0].close(end)
		clients[2].send("X") // behind its query
		s.Conn.Flow()
		clients[1].want("T|c", "D|2", "C|SELECT 1", "Z|I")
		clients[1].send("X")
		f.checkIdle()
		if len(f.pg.Sessions) != 1 || len(f.pg.CancelPIDs) != 0 {
			t.Errorf("%d servers, cancel requests %v", len(f.pg.Sessions), f.pg.CancelPIDs)
		}
	}
}

// A client that does not read its share of a server's replies.
func TestSharedClientDoesNotRead(t *testing.T) {
	begin := func(t *testing.T) (*fixture, *pooltest.Session, *client) {
		f := newFixture(t, oneServer, sharedReads)
		c := f.login()
		for i := range 3 {
			warm(c, fmt.Sprintf("select big %d", 3_000_000+i))
		}
		c.conn.Stall()
		c.send("Q|select big 3000000")
		s := f.server()
		if f.stats().ServersShared != 1 || !s.Conn.Paused() {
			t.Fatalf("paused %v, stats %+v", s.Conn.Paused(), f.stats())
		}
		return f, s, c
	}
	t.Run("and then does", func(t *testing.T) {
		f, s, c := begin(t)
		c.conn.Flow()
		c.want("T|c", row(3_000_000), "C|SELECT 1", "Z|I")
		if s.Conn.Paused() {
			t.Error("the server is not read")
		}
		f.login().ask("1")
	})
	t.Run("and goes", func(t *testing.T) {
		f, s, c := begin(t)
		c.close(pooltest.EOF)
		if s.Conn.Paused() {
			t.Error("the server is not read")
		}
		f.login().ask("1")
		if len(f.pg.Sessions) != 1 {
			t.Errorf("%d servers", len(f.pg.Sessions))
		}
	})
	t.Run("the end of the reply, which has come", func(t *testing.T) {
		f := newFixture(t, oneServer, sharedReads)
		c := f.login()
		warm(c, "select big 1080000")
		f.server().Conn.Piece = 2 << 20
		c.conn.Stall()
		c.send("Q|select big 1080000")
		f.login().ask("1")
		c.conn.Flow()
		c.want("T|c", row(1_080_000), "C|SELECT 1", "Z|I")
		c.ask("2")
	})
}

// Drift: the columns of a statement change under clients that have it prepared.
func TestDrift(t *testing.T) {
	for name, changes := range sharing {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, changes...)
			told, untold := f.login(), f.login()
			told.send("P|s|select 1", "DS|s", "S")
			told.want("1", "t", "T|c", "Z|I")
			untold.prepare("s", "select 1")
			for _, c := range []*client{told, untold, told, untold} {
				c.send("B||s", "E|", "S")
				c.want("2", "D|1", "C|SELECT 1", "Z|I")
			}
			f.pg.Column = "d"
			// Who does not know the columns does not notice.
			untold.send("B||s", "DP|", "E|", "S")
			untold.want("2", "T|d", "D|1", "C|SELECT 1", "Z|I")
			// Who does is told what PostgreSQL says.
			told.send("B||s", "E|", "S")
			told.want("E|ERROR|0A000|cached plan must not change result type", "Z|I")
			told.send("CS|s", "P|s|select 1", "DS|s", "B||s", "E|", "S")
			told.want("3", "1", "t", "T|d", "2", "D|1", "C|SELECT 1", "Z|I")
			// A Describe that is answered without a server tells the new ones.
			third := f.login()
			third.send("P|x|select 1", "DS|x", "S")
			third.want("1", "t", "T|d", "Z|I")
			third.send("B||x", "E|", "S")
			third.want("2", "D|1", "C|SELECT 1", "Z|I")
		})
	}
}

// A client may rely on what it was told of an earlier portal of its statement, unless it
// asks each time.
func TestDriftOfPortals(t *testing.T) {
	for name, changes := range sharing {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, changes...)
			relying, asking := f.login(), f.login()
			for _, c := range []*client{relying, asking} {
				c.send("P|s|select 1", "B||s", "DP|", "E|", "S")
				c.want("1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I")
			}
			for range 5 {
				relying.send("B||s", "E|", "S")
				relying.want("2", "D|1", "C|SELECT 1", "Z|I")
				asking.send("B||s", "DP|", "E|", "S")
				asking.want("2", "T|c", "D|1", "C|SELECT 1", "Z|I")
			}
			f.pg.Column = "d"
			asking.send("B||s", "DP|", "E|", "S")
			asking.want("2", "T|d", "D|1", "C|SELECT 1", "Z|I")
			for range 2 { // it stays so until it prepares the statement anew
				relying.send("B||s", "E|", "S")
				relying.want("E|ERROR|0A000|cached plan must not change result type", "Z|I")
			}
			relying.send("CS|s", "P|s|select 1", "B||s", "DP|", "E|", "S")
			relying.want("3", "1", "2", "T|d", "D|1", "C|SELECT 1", "Z|I")
			relying.send("B||s", "E|", "S")
			relying.want("2", "D|1", "C|SELECT 1", "Z|I")
		})
	}
}

// A server that prepares the statement anew returns something else without an error of
// its own.
func TestDriftOfPortalsOnAnotherServer(t *testing.T) {
	f := newFixture(t)
	c, d := f.login(), f.login()
	c.send("P|s|select 1", "B||s", "DP|", "E|", "S")
	c.want("1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I")
	d.send("Q|begin")
	d.want("C|BEGIN", "Z|T")
	d.send("Q|insert") // holds the server that has the statement
	d.want("C|INSERT 0 1", "Z|T")
	f.pg.Column = "d"
	c.send("B||s", "E|", "S")
	if got := c.conn.Sent(); !bytes.Contains(got, []byte("\x00C0A000\x00")) || !bytes.Contains(got, []byte("\x00RRevalidateCachedQuery\x00")) {
		t.Errorf("got %q, want an error that a driver takes for PostgreSQL's", got)
	}
	if n := len(f.pg.Open()); n != 2 {
		t.Errorf("%d servers, want 2", n)
	}
}

// What a cursor returns may be something else each time: nothing is known of it.
func TestMomentaryStatements(t *testing.T) {
	f := newFixture(t)
	c, d := f.login(), f.login()
	c.send("P|s|fetch all in x", "DS|s", "S")
	c.want("1", "t", "T|c", "Z|I")
	d.send("Q|begin")
	d.want("C|BEGIN", "Z|T")
	d.send("Q|insert") // holds the server that has the statement
	d.want("C|INSERT 0 1", "Z|T")
	f.pg.Column = "d"
	c.send("B||s", "E|", "S")
	c.want("2", "C|FETCH 0", "Z|I")
	c.send("P|other|FETCH all in x", "P|again|fetch all in x", "DS|again", "S")
	c.want("1", "1", "t", "T|d", "Z|I")
}
