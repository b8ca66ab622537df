package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// conversations are what a client says in one go and is answered, the same as
// without a proxy.
var conversations = [][]string{
	{"Q|select 1"},
	{"Q|"},
	{"Q|select 1;select 2"},
	{"Q|fail"},
	{"Q|bad"},
	{"Q|notice"},
	{"Q|select 1", "Q|select 2", "Q|fail", "Q|select 3"},
	{"Q|begin", "Q|insert", "Q|commit"},
	{"Q|begin;insert;commit"},
	{"Q|begin", "Q|fail", "Q|select 1", "Q|rollback", "Q|select 2"},
	{"Q|begin", "Q|begin", "Q|commit", "Q|commit"},
	{"F|call", "Q|select 1"},
	{"S", "S", "H", "S"},
	{"P||select 1", "B||", "DP|", "E|", "S"},
	{"P||select 1", "B||", "E|", "H", "B||", "E|", "S"},
	{"P|s|select 1", "DS|s", "S", "B||s", "E|", "S", "CS|s", "S"},
	{"P|s|select 1", "B||s", "E|", "S", "P|s2|select 1", "B||s2", "E|", "S"},
	{"P||begin", "B||", "DP|", "E|", "S", "P||insert", "B||", "E|", "S", "P||commit", "B||", "E|", "S"},
	{"P||fail", "B||", "E|", "DP|", "S", "Q|select 1"},
	{"P||select 1", "B||", "E|", "Q|select 2"},
	{"B||none", "Q|select 1", "E|", "F|call", "S", "Q|select 2"},
	{"Q|copy out", "Q|select 1"},
	{"P||copy out", "B||", "E|", "S"},
	{"Q|copy in", "d|1", "d|2", "c", "Q|select 1"},
	{"Q|copy in", "d|1", "f|no", "Q|select 1"},
	{"Q|copy in", "d|bad", "d|2", "c", "Q|select 1"},
	{"P||copy in", "B||", "E|", "d|1", "c", "S", "Q|select 1"},
	{"P||copy in", "B||", "E|", "S", "d|1", "c", "S", "Q|select 1"},
	{"P||copy in", "B||", "E|", "H", "d|1", "S", "d|1", "c", "S", "Q|select 1"},
	{"P||copy in", "B||", "E|", "d|bad", "d|1", "c", "S", "Q|select 1"},
	{"d|stray", "c", "f|stray", "Q|select 1"},
	{"Q|set timezone=UTC", "Q|set application_name=x", "Q|select 1"},
	{"Q|begin", "Q|set timezone=UTC", "Q|rollback", "Q|select 1"},
	{"P||set timezone=UTC", "B||", "E|", "S"},
	{"P|s|select 1", "S", "Q|deallocate all", "B||s", "S", "P|s|select 2", "B||s", "E|", "S"},
	{"P|s|select 1", "S", "P||deallocate all", "B||", "E|", "S", "B||s", "S", "P|s|select 2", "B||s", "E|", "S"},
	{"P||deallocate all", "B||", "E|", "P||bad", "S", "Q|select 1"},
	{"P|s|select 1", "S", "Q|discard all", "P||select 2", "B||", "E|", "S", "P|s|select 1", "B||s", "E|", "S"},
}

// withoutProxy is what the server answers to a client of its own. What the proxy
// knows better is left out: it hears of DISCARD ALL only when it is done.
func withoutProxy(words []string) []string {
	world := pooltest.NewWorld()
	pooltest.NewPostgres(world)
	d := connectDirectly(world)
	d.Write(pooltest.Frontend(words...))
	world.Settle()
	return d.take()
}

// sharing is the ways in which a conversation may be had.
var sharing = map[string][]func(*Config){
	"alone":              nil,
	"on one server":      {oneServer},
	"with shared reads":  {sharedReads},
	"few statements":     {func(c *Config) { c.Pool.MaxPreparedStatements = 1 }},
	"shared and crowded": {sharedReads, oneServer, func(c *Config) { c.Pool.MaxPreparedStatements = 1 }},
}

func TestConversations(t *testing.T) {
	for name, changes := range sharing {
		for _, words := range conversations {
			t.Run(name+": "+strings.Join(words, " "), func(t *testing.T) {
				want := withoutProxy(words)
				f := newFixture(t, changes...)
				for range 3 { // the second time, much is known
					c := f.login()
					c.send(words...)
					c.want(want...)
					c.send("X")
					if n := referenced(f.registry()); n != 0 {
						t.Errorf("%d statements are in use by nobody", n)
					}
					f.checkIdle()
				}
			})
		}
	}
}

// However the client's bytes come, the answer is the same.
func TestConversationsInAnySplit(t *testing.T) {
	for _, words := range conversations {
		t.Run(strings.Join(words, " "), func(t *testing.T) {
			want := withoutProxy(words)
			b := pooltest.Frontend(words...)
			play := func(step int, cuts ...int) {
				t.Helper()
				f := newFixture(t, sharedReads)
				c := f.login()
				from := 0
				for _, cut := range append(cuts, len(b)) {
					c.feed(b[from:cut])
					from = cut
				}
				got := pooltest.BackendWords(c.conn.Sent())
				if !slices.Equal(got, want) {
					t.Fatalf("cut at %v (%d):\n got %s\nwant %s", cuts, step, strings.Join(got, "  "), strings.Join(want, "  "))
				}
			}
			for i := 1; i < len(b); i++ {
				play(i, i)
			}
			every := make([]int, 0, len(b))
			for i := 1; i < len(b); i++ {
				every = append(every, i)
			}
			play(0, every...)
		})
	}
}

// Clients that come at the same time do not get each other's answers.
func TestConversationsAtTheSameTime(t *testing.T) {
	for name, changes := range sharing {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, changes...)
			var clients []*client
			for range conversations {
				clients = append(clients, f.login())
			}
			for range 3 {
				for i, c := range clients {
					c.conn.Feed(pooltest.Frontend(conversations[i]...))
				}
				f.world.Settle()
				for i, c := range clients {
					wantWords(t, strings.Join(conversations[i], " "), pooltest.BackendWords(c.conn.Sent()), withoutProxy(conversations[i]))
					c.send("X")
					clients[i] = f.login()
				}
			}
			if n := f.proxy.pools.ServerCount(); n > 2 {
				t.Errorf("%d servers", n)
			}
			for _, c := range clients {
				c.send("X")
			}
			f.checkIdle()
		})
	}
}

func TestProtocolViolations(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		text string
	}{
		{"no message type", []byte{0, 0, 0, 0, 4}, "invalid frontend message type 0"},
		{"a backend message", pooltest.Backend("Z|I"), "invalid frontend message type 90"},
		{"a password", append([]byte{'p'}, 0, 0, 0, 5, 0), "invalid frontend message type 112"},
		{"a short length", []byte{'Q', 0, 0, 0, 3}, `invalid length 3 of frontend message type 'Q'`},
		{"a negative length", []byte{'Q', 0xff, 0xff, 0xff, 0xff}, "invalid length -1"},
		{"a long sync", []byte{'S', 0, 1, 0, 0}, "invalid length 65536"},
	}
	for _, test := range tests {
		for _, before := range [][]string{nil, {"P||select 1"}, {"P||select 1", "B||", "H"}, {"Q|begin"}, {"Q|begin", "Q|insert"}} {
			t.Run(fmt.Sprintf("%s after %q", test.name, before), func(t *testing.T) {
				f := newFixture(t, oneServer)
				c := f.login()
				c.send(before...)
				c.conn.Sent()
				c.feed(test.b)
				if test.name == "a password" && !c.conn.Closed() {
					c.send("S") // the group in which it stands is looked at when it is complete
				}
				got := pooltest.BackendWords(c.conn.Sent())
				if len(got) != 1 || !strings.HasPrefix(got[0], "E|FATAL|08P01|"+test.text) || !c.conn.Closed() {
					t.Fatalf("answer %q, closed %v", got, c.conn.Closed())
				}
				f.checkIdle()
				f.login().ask("1")
				if len(f.pg.Sessions) != 1 {
					t.Error("a client's mistake has cost a server")
				}
			})
		}
	}
}

// A client that dribbles holds no server.
func TestDribble(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	group := pooltest.Frontend("P||select 1", "B||", "E|", "S")
	leases := f.stats().LeaseCount
	for _, b := range group[:len(group)-1] {
		c.feed([]byte{b})
		if f.stats().LeaseCount != leases || f.stats().ClientsWaiting != 0 {
			t.Fatal("a server is lent for a part of a group")
		}
	}
	f.login().ask("2")
	c.feed(group[len(group)-1:])
	c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")

	c.send("Q|wait")
	c.feed(group[:len(group)-1]) // nor does one that holds it for something else
	f.server().Go()
	f.world.Settle()
	c.want("D|waited", "C|SELECT 1", "Z|I")
	if stats := f.stats(); stats.ServersIdle != 1 {
		t.Errorf("stats %+v, want an idle server", stats)
	}
	c.feed(group[len(group)-1:])
	c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
}

// PostgreSQL counts statement_timeout from the first message of a group on.
func TestPartOfGroup(t *testing.T) {
	part, rest := []string{"P||select 1", "B||"}, []string{"E|", "S"}
	begin := func(t *testing.T, words ...string) (*fixture, *client, int) {
		f := newFixture(t, oneServer)
		c := f.login(words...)
		c.conn.Sent()
		leases := f.stats().LeaseCount
		c.send(part...)
		f.world.Advance(999 * time.Millisecond)
		if f.stats().LeaseCount != leases {
			t.Fatal("a server is lent for a part of a group")
		}
		return f, c, int(leases)
	}
	t.Run("is sent in time", func(t *testing.T) {
		f, c, leases := begin(t, "statement_timeout", "8s")
		f.world.Advance(time.Millisecond)
		if got := int(f.stats().LeaseCount); got != leases+1 {
			t.Errorf("%d leases after an eighth of the time, want one", got-leases)
		}
		c.send(rest...)
		c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
		c.send(part[0]) // the time of the next one begins anew
		f.world.Advance(time.Millisecond)
		if got := int(f.stats().LeaseCount); got != leases+1 {
			t.Error("a server is lent for a part of the next group")
		}
		c.send("S", "X")
		f.checkIdle()
	})
	t.Run("is complete in time", func(t *testing.T) {
		f, c, leases := begin(t, "statement_timeout", "8s")
		c.send(rest...)
		c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
		f.world.Advance(time.Hour)
		if got := int(f.stats().LeaseCount); got != leases+1 {
			t.Errorf("%d leases, want one", got-leases)
		}
	})
	t.Run("waits for a server", func(t *testing.T) {
		f, c, _ := begin(t, "statement_timeout", "8s")
		release := f.block()
		f.world.Advance(time.Millisecond)
		if f.stats().ClientsWaiting != 1 {
			t.Errorf("stats %+v, want a client that waits", f.stats())
		}
		release()
		c.send(rest...)
		c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
	})
	t.Run("has all the time", func(t *testing.T) {
		f, c, leases := begin(t)
		f.world.Advance(time.Hour)
		if got := int(f.stats().LeaseCount); got != leases {
			t.Errorf("%d leases, want none", got-leases)
		}
		c.send(rest...)
		c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
	})
}

func TestQueueIsFair(t *testing.T) {
	f := newFixture(t, oneServer)
	release := f.block()
	var clients []*client
	for i := range 5 {
		c := f.login()
		for range 3 { // each has more to do than its turn
			c.send(fmt.Sprintf("Q|insert %d", i))
		}
		clients = append(clients, c)
	}
	release()
	answered := "C|INSERT 0 1"
	for _, c := range clients {
		c.want(answered, "Z|I", answered, "Z|I", answered, "Z|I")
	}
	var order []string
	for _, text := range f.server().Executed {
		if strings.HasPrefix(text, "insert") {
			order = append(order, text)
		}
	}
	want := []string{"insert 0", "insert 1", "insert 2", "insert 3", "insert 4"}
	if !slices.Equal(order[:5], want) {
		t.Errorf("order %q, want each client once before any a second time", order)
	}
}

// TestSessionSize keeps an idle client cheap: a session is the largest thing that it holds.
func TestSessionSize(t *testing.T) {
	const sizeClass = 576 // of Go's allocator; the next has 64 bytes more
	if size := unsafe.Sizeof(session{}); size > sizeClass {
		t.Errorf("a session has %d bytes, want at most %d", size, sizeClass)
	}
}
