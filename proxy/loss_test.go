package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

const terminated = "terminating connection due to administrator command"

// TestServerLost: outside a transaction the client gets an error in answer to each
// query under way and keeps its connection; inside one it loses that, too.
func TestServerLost(t *testing.T) {
	lost := "E|ERROR|57P01|" + terminated
	tests := []struct {
		name string
		send []string // on a server that waits at the first "wait"
		want []string
		ends bool
		then []string // sent afterwards
		rest []string
	}{
		{name: "a query", send: []string{"Q|wait"}, want: []string{lost, "Z|I"}},
		{name: "a query with rows", send: []string{"Q|select half"}, want: []string{"T|c", "D|half", lost, "Z|I"}},
		{
			name: "several queries", send: []string{"Q|wait", "Q|insert", "P||insert", "B||", "E|", "S"},
			want: []string{lost, "Z|I", lost, "Z|I", lost, "Z|I"},
		},
		{
			name: "a query and a part of a group", send: []string{"Q|wait", "P||insert", "B||", "H"}, want: []string{lost, "Z|I", lost},
			then: []string{"E|", "DP|", "H", "S"}, rest: []string{"Z|I"},
		},
		{
			name: "a query, not the part of a group behind it", send: []string{"Q|wait", "P||select 1", "B||"}, want: []string{lost, "Z|I"},
			then: []string{"E|", "S"}, rest: []string{"1", "2", "D|1", "C|SELECT 1", "Z|I"},
		},
		{
			name: "a part of a group", send: []string{"P||wait", "B||", "E|", "H"}, want: []string{"1", "2", lost},
			then: []string{"E|", "Q|insert", "S"}, rest: []string{"Z|I"},
		},
		{name: "a group that has done nothing", send: []string{"P|s|wait", "B||s", "E|", "S"}, want: []string{lost, "Z|I"}},
		{name: "a group", send: []string{"P|s|select half", "B||s", "E|", "S"}, want: []string{"1", "2", "D|half", lost, "Z|I"}},
		{
			name: "an error, and the rest of its group", send: []string{"B||none", "H", "E|"}, want: []string{`E|ERROR|26000|prepared statement "none" does not exist`},
			then: []string{"E|", "S"}, rest: []string{"Z|I"},
		},
		{name: "in a transaction", send: []string{"Q|begin", "Q|insert"}, want: []string{"C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T", "E|FATAL|57P01|" + terminated}, ends: true},
		{name: "in a failed transaction", send: []string{"Q|begin", "Q|fail"}, want: []string{"C|BEGIN", "Z|T", "E|ERROR|22012|division by zero", "Z|E", "E|FATAL|57P01|" + terminated}, ends: true},
		{name: "the first query of a transaction", send: []string{"Q|begin", "Q|wait"}, want: []string{"C|BEGIN", "Z|T", "E|FATAL|57P01|" + terminated}, ends: true},
		{
			name: "copy in", send: []string{"Q|copy in", "d|1"}, want: []string{"G", lost, "Z|I"},
			then: []string{"d|2", "d|3", "c"}, rest: nil,
		},
		{
			name: "copy in, extended", send: []string{"P||copy in", "B||", "E|", "S", "d|1"}, want: []string{"1", "2", "G", lost},
			then: []string{"d|2", "c", "S"}, rest: []string{"Z|I"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			c.send(test.send...)
			f.server().Terminate()
			f.world.Settle()
			if test.ends {
				c.wantEnd(test.want...)
				if f.ended(endServerLost) != 1 {
					t.Errorf("stats %+v", f.proxy.Stats())
				}
			} else {
				c.want(test.want...)
				c.send(test.then...)
				c.want(test.rest...)
				c.ask("1")
				c.send("P|s9|select 2", "B||s9", "E|", "S")
				c.want("1", "2", "D|2", "C|SELECT 1", "Z|I")
				c.send("X")
			}
			if n := referenced(f.registry()); n != 0 {
				t.Errorf("%d statements are in use by nobody", n)
			}
			f.checkIdle()
			count := 0
			for _, s := range f.pg.Sessions {
				for _, text := range s.Executed {
					if text == "insert" || text == "wait" {
						count++
					}
				}
			}
			if want := strings.Count(strings.Join(f.pg.Sessions[0].Executed, " "), "insert") + strings.Count(strings.Join(f.pg.Sessions[0].Executed, " "), "wait"); count != want {
				t.Errorf("%d statements were run on the server that is lost, %d in all", want, count)
			}
		})
	}
}

// What the client was told has happened; what it was not has not.
func TestServerLostKeepsStatements(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.prepare("old", "select 1")
	c.send("P|new|wait", "B||new", "E|", "P|never|select 3", "S")
	f.server().Terminate()
	got := pooltest.BackendWords(c.conn.Sent())
	f.world.Settle()
	got = append(got, pooltest.BackendWords(c.conn.Sent())...)
	known := slices.Contains(got, "1")
	c.send("B||old", "E|", "S")
	c.want("2", "D|1", "C|SELECT 1", "Z|I")
	c.send("B||never", "E|", "S")
	c.want(`E|ERROR|26000|prepared statement "never" does not exist`, "Z|I")
	c.send("DS|new", "S")
	if known {
		c.want("t", "n", "Z|I")
	} else {
		c.want(`E|ERROR|26000|prepared statement "new" does not exist`, "Z|I")
	}
	c.send("P|never|select 4", "B||never", "E|", "S")
	c.want("1", "2", "D|4", "C|SELECT 1", "Z|I")
}

func TestServerLostInAMessage(t *testing.T) {
	for _, end := range []string{"server", "abort", "protocol"} {
		t.Run(end, func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			s := f.server()
			c.send("Q|wait")
			s.Conn.Feed(pooltest.Backend("T|c"))
			s.Conn.Feed(pooltest.Backend("D|*500000")[:300_000])
			f.world.Settle()
			c.conn.Sent()
			switch end {
			case "server":
				s.Terminate()
				f.world.Settle()
			case "abort":
				f.proxy.Abort()
				f.world.Settle()
			case "protocol":
				c.feed([]byte{0})
			}
			if got := c.conn.Sent(); len(got) != 0 && slices.Contains(pooltest.BackendWords(got), "E|FATAL") {
				t.Errorf("got %q in the middle of a message", got)
			}
			if !c.conn.Closed() || strings.Contains(string(c.conn.Sent()), "FATAL") {
				t.Error("the client is not told by the end of its connection")
			}
		})
	}
}

func TestServerLostWithoutWords(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("Q|wait")
	f.server().Conn.End(pooltest.EOF)
	c.want("E|ERROR|08006|server closed the connection unexpectedly", "Z|I")
	c.ask("1")
}

// A server that goes while nobody holds it is no client's business.
func TestIdleServerLost(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.ask("1")
	f.server().Terminate()
	f.world.Settle()
	c.want()
	c.ask("2")
	if f.stats().ServerConnects != 2 {
		t.Errorf("stats %+v", f.stats())
	}
}

// Queries that wait while servers come and go are answered in the end.
func TestWaitersSurviveLosses(t *testing.T) {
	f := newFixture(t, oneServer)
	f.login().send("Q|wait")
	var waiting []*client
	for i := range 5 {
		c := f.login()
		c.send(fmt.Sprintf("Q|insert %d", i))
		waiting = append(waiting, c)
	}
	f.server().Terminate()
	for _, c := range waiting {
		c.want("C|INSERT 0 1", "Z|I")
	}
}
