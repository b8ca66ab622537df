package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// coalesceReads has clients that wait to read the same share an answer.
func coalesceReads(c *Config) { c.CoalesceReads = true }

// crowd is clients that ask while somebody else has the only server.
type crowd struct {
	*fixture
	server  *pooltest.Session
	clients []*client
	release func()
}

// newCrowd returns clients that have asked so much before that their reads may share a
// server, which is taken.
func newCrowd(t *testing.T, count int, groups [][]string, changes ...func(*Config)) *crowd {
	t.Helper()
	c := &crowd{fixture: newFixture(t, append([]func(*Config){oneServer, sharedReads, coalesceReads}, changes...)...)}
	for range count {
		one := c.login()
		for _, group := range groups {
			for range 2 {
				one.send(group...)
				if s := c.fixture.server(); s.Waiting() {
					s.Go()
					c.world.Settle()
				}
			}
		}
		one.conn.Sent()
		c.clients = append(c.clients, one)
	}
	c.release = c.block()
	c.server = c.fixture.server()
	c.server.Executed = nil
	return c
}

// meanwhile gives the server back while something is done.
func (c *crowd) meanwhile(do func()) {
	c.release()
	do()
	c.world.Settle()
	for _, client := range c.clients {
		client.conn.Sent()
	}
	c.release = c.block()
	c.server.Executed = nil
}

// ask has clients, all of them if none is named, send a group, and fails unless they wait.
func (c *crowd) ask(group []string, numbers ...int) {
	c.Helper()
	before := c.stats().ClientsWaiting
	if len(numbers) == 0 {
		for number := range c.clients {
			numbers = append(numbers, number)
		}
	}
	for _, number := range numbers {
		c.clients[number].send(group...)
	}
	if got := c.stats().ClientsWaiting - before; got != len(numbers) {
		c.Fatalf("%d clients wait, want %d", got, len(numbers))
	}
}

// wantRuns fails unless the statement was executed so often.
func (c *crowd) wantRuns(text string, want int) {
	c.Helper()
	got := 0
	for _, s := range c.pg.Sessions {
		for _, executed := range s.Executed {
			if executed == text {
				got++
			}
		}
	}
	if got != want {
		c.Errorf("%q was executed %d times, want %d", text, got, want)
	}
}

var (
	simpleRead = []string{"Q|select 1"}
	parsedRead = []string{"P||select 1", "B||", "DP|", "E|", "S"}
	namedRead  = []string{"B||s", "E|", "S"}
	readReply  = []string{"T|c", "D|1", "C|SELECT 1", "Z|I"}
)

func TestCoalescedReads(t *testing.T) {
	off := func(c *Config) { c.CoalesceReads = false }
	for _, test := range []struct {
		name          string
		first, second []string
		reply         []string // to both
		runs          int
		change        func(*Config)
	}{
		{"simple", simpleRead, simpleRead, readReply, 1, nil},
		{"parsed", parsedRead, parsedRead, []string{"1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I"}, 1, nil},
		{"named", namedRead, namedRead, []string{"2", "D|1", "C|SELECT 1", "Z|I"}, 1, nil},
		{"by another name", namedRead, []string{"B||t", "E|", "S"}, []string{"2", "D|1", "C|SELECT 1", "Z|I"}, 1, nil},
		{"described", []string{"B||s", "DP|", "E|", "S"}, []string{"B||s", "DP|", "E|", "S"}, []string{"2", "T|c", "D|1", "C|SELECT 1", "Z|I"}, 1, nil},

		{"one asks for the columns", namedRead, []string{"B||s", "DP|", "E|", "S"}, nil, 2, nil},
		{"one parses", namedRead, []string{"P||select 1", "B||", "E|", "S"}, nil, 2, nil},
		{"other parameters", []string{"B||s|5", "E|", "S"}, []string{"B||s|6", "E|", "S"}, nil, 2, nil},
		{"another protocol", simpleRead, parsedRead, nil, 2, nil},
		{"the statement is described", []string{"B||s", "DS|s", "E|", "S"}, []string{"B||s", "DS|s", "E|", "S"}, nil, 2, nil},
		{"off", simpleRead, simpleRead, readReply, 2, off},
	} {
		t.Run(test.name, func(t *testing.T) {
			prepare := [][]string{{"P|s|select 1", "S"}, {"P|t|select 1", "S"}, test.first, test.second}
			if test.change == nil {
				test.change = func(*Config) {}
			}
			c := newCrowd(t, 2, prepare, test.change)
			c.ask(test.first, 0)
			c.ask(test.second, 1)
			c.release()
			for _, client := range c.clients {
				got := pooltest.BackendWords(client.conn.Sent())
				if test.reply != nil && !slices.Equal(got, test.reply) || !slices.Contains(got, "D|1") {
					t.Errorf("received %s", strings.Join(got, "  "))
				}
			}
			c.wantRuns("select 1", test.runs)
			if got := c.stats().CoalescedReads; got != uint64(2-test.runs) {
				t.Errorf("%d reads coalesced", got)
			}
			c.clients[1].ask("2")
			c.checkIdleServers()
		})
	}
}

// What the texts have in common does not make it the same question.
func TestNotCoalesced(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		login []string
	}{
		"other settings": {"select 1", []string{"application_name", "other"}},
		"by chance":      {"select 1 from t TableSample system (50)", nil},
		"a random value": {"select random()", nil},
		"a new uuid":     {"select gen_random_uuid()", nil},
		"the clock":      {"select clock_timestamp()", nil},
		"a write":        {"insert", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, 1, [][]string{{"Q|" + test.text}})
			c.meanwhile(func() { c.clients = append(c.clients, c.login(test.login...)) })
			c.ask([]string{"Q|" + test.text})
			c.release()
			c.wantRuns(test.text, 2)
			if got := c.stats().CoalescedReads; got != 0 {
				t.Errorf("%d reads coalesced", got)
			}
		})
	}
}

// A follower knows of its prepared statements what it would if it had asked itself.
func TestFollowersStatements(t *testing.T) {
	t.Run("a Parse gives the unnamed one", func(t *testing.T) {
		c := newCrowd(t, 2, [][]string{parsedRead})
		c.meanwhile(func() { c.clients[1].send("P||insert", "S") })
		c.ask(parsedRead)
		c.release()
		c.clients[1].want("1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I")
		c.clients[1].send("B||", "E|", "S")
		c.clients[1].want("2", "D|1", "C|SELECT 1", "Z|I")
	})
	t.Run("a query takes it away", func(t *testing.T) {
		c := newCrowd(t, 2, [][]string{simpleRead, parsedRead})
		c.ask(simpleRead)
		c.release()
		c.clients[1].want(readReply...)
		c.clients[1].send("B||", "E|", "S")
		c.clients[1].want("E|ERROR|26000|unnamed prepared statement does not exist", "Z|I")
	})
	t.Run("one that has changed", func(t *testing.T) {
		c := newCrowd(t, 2, [][]string{{"P|s|select 1", "S"}, {"DS|s", "S"}, namedRead})
		c.ask(namedRead)
		c.pg.Column = "other"
		c.release()
		for _, client := range c.clients {
			client.want("E|ERROR|0A000|cached plan must not change result type", "Z|I")
		}
	})
}

func TestFollowersOfOneThatGoes(t *testing.T) {
	const text = "select slow"
	reply := []string{"T|c", "D|waited", "C|SELECT 1", "Z|I"}
	for name, test := range map[string]struct {
		runs   bool // when it happens
		goes   func(leader *client)
		leader []string // what it is told
		gone   bool
	}{
		"disconnects, waiting": {false, func(c *client) { c.close(pooltest.EOF) }, nil, true},
		"cancels, waiting":     {false, (*client).cancel, []string{canceled, "Z|I"}, false},
		"says so, waiting":     {false, func(c *client) { c.send("X") }, nil, true},
		"disconnects, running": {true, func(c *client) { c.close(pooltest.EOF) }, nil, true},
		"cancels, running":     {true, (*client).cancel, []string{canceled, "Z|I"}, false},
	} {
		for _, who := range []int{0, 1} { // the leader, a follower
			t.Run(fmt.Sprintf("%d %s", who, name), func(t *testing.T) {
				c := newCrowd(t, 3, [][]string{{"Q|" + text}})
				c.ask([]string{"Q|" + text})
				if test.runs {
					c.release()
				}
				test.goes(c.clients[who])
				if !test.gone {
					c.clients[who].want(test.leader...)
				}
				if !test.runs {
					c.release()
				}
				c.server.Go()
				for number, client := range c.clients {
					if number != who {
						client.want(reply...)
					}
				}
				c.wantRuns(text, 1)
				if len(c.pg.CancelPIDs) != 0 {
					t.Errorf("cancel requests %v", c.pg.CancelPIDs)
				}
				if !test.gone {
					c.clients[who].ask("2")
				}
				c.checkIdleServers()
			})
		}
	}
	t.Run("and so do all", func(t *testing.T) {
		c := newCrowd(t, 3, [][]string{{"Q|" + text}})
		c.ask([]string{"Q|" + text})
		c.release()
		for _, client := range c.clients {
			client.close(pooltest.EOF)
		}
		c.world.Advance(time.Second)
		if len(c.pg.CancelPIDs) != 1 {
			t.Errorf("cancel requests %v", c.pg.CancelPIDs)
		}
		c.checkIdle()
	})
}

// What befalls the leader is not the answer to the others.
func TestFollowersOfOneThatFails(t *testing.T) {
	t.Run("an error", func(t *testing.T) {
		group := []string{"P||select 1", "B||", "E|", "S"}
		c := newCrowd(t, 3, [][]string{group})
		c.ask(group)
		c.pg.BadText = "select 1"
		c.server.Forget()
		c.release()
		for _, client := range c.clients {
			client.want("1", "E|ERROR|42601|syntax error", "Z|I")
		}
	})
	t.Run("a hidden write", func(t *testing.T) {
		c := newCrowd(t, 3, [][]string{simpleRead})
		c.meanwhile(func() { c.clients[0].send("Q|select hidden") }) // on its own
		c.ask([]string{"Q|select hidden"})
		c.release()
		for _, client := range c.clients {
			client.want("T|c", "D|hidden", "C|SELECT 1", "Z|I")
		}
	})
	t.Run("a lost server", func(t *testing.T) {
		c := newCrowd(t, 3, [][]string{{"Q|select slow"}})
		c.ask([]string{"Q|select slow"})
		c.release()
		c.server.Terminate()
		c.world.Settle()
		for s := c.fixture.server(); s.Waiting(); c.world.Settle() {
			s.Go()
		}
		for _, client := range c.clients {
			client.want("T|c", "D|waited", "C|SELECT 1", "Z|I")
		}
		c.wantRuns("select slow", 3) // lost, for the leader again, and for those who follow again
	})
	t.Run("its time is up", func(t *testing.T) {
		c := newCrowd(t, 2, [][]string{simpleRead})
		c.ask(simpleRead, 0)
		c.world.Advance(6 * time.Second)
		c.ask(simpleRead, 1)
		c.world.Advance(5 * time.Second)
		if got := strings.Join(pooltest.BackendWords(c.clients[0].conn.Sent()), "  "); !strings.Contains(got, "53400") {
			t.Errorf("the leader received %s", got)
		}
		c.clients[1].want()
		c.release()
		c.clients[1].want(readReply...)
	})
	t.Run("the time of all is up", func(t *testing.T) {
		c := newCrowd(t, 3, [][]string{simpleRead})
		c.ask(simpleRead)
		c.world.Advance(11 * time.Second)
		for number, client := range c.clients {
			if got := strings.Join(pooltest.BackendWords(client.conn.Sent()), "  "); strings.Count(got, "53400") != 1 {
				t.Errorf("%d received %s", number, got)
			}
		}
		c.release()
		c.wantRuns("select 1", 0)
		c.checkIdleServers()
	})
}

// Nobody gets an answer that is older than its question, or than what it wrote before.
func TestFollowersReadWhatTheyWrote(t *testing.T) {
	c := newCrowd(t, 2, [][]string{simpleRead})
	writer, other := c.clients[1], c.login()
	c.release()
	writer.send("Q|begin", "Q|alter written") // holds the server
	writer.conn.Sent()
	other.send("Q|wait") // is next
	c.ask(simpleRead, 0) // and waits behind
	writer.send("Q|commit")
	writer.want("C|COMMIT", "Z|I")
	c.ask(simpleRead, 1)
	if !c.server.Waiting() {
		t.Fatal("the server is free")
	}
	c.server.Executed = nil
	c.server.Go()
	for _, client := range c.clients {
		client.want("T|written", "D|1", "C|SELECT 1", "Z|I")
	}
	c.wantRuns("select 1", 1)
}

// Whoever asks when the leader has been given its place is answered by another read.
func TestFlightHasDeparted(t *testing.T) {
	c := newCrowd(t, 3, [][]string{{"Q|select slow"}})
	c.ask([]string{"Q|select slow"}, 0, 1)
	c.release()
	c.clients[2].send("Q|select slow")
	c.server.Go()
	c.clients[0].want("T|c", "D|waited", "C|SELECT 1", "Z|I")
	c.clients[1].want("T|c", "D|waited", "C|SELECT 1", "Z|I")
	c.clients[2].want()
	c.server.Go()
	c.clients[2].want("T|c", "D|waited", "C|SELECT 1", "Z|I")
	c.wantRuns("select slow", 2)
}

func TestFollowersOfALongReply(t *testing.T) {
	const bytes = 300_000
	group := []string{fmt.Sprintf("Q|select big %d", bytes)}
	c := newCrowd(t, 3, [][]string{group})
	c.ask(group)
	c.release()
	for _, client := range c.clients {
		client.want("T|c", row(bytes), "C|SELECT 1", "Z|I")
	}
	if got := c.stats().CoalescedReads; got != 0 {
		t.Errorf("%d reads coalesced", got)
	}
}

// A client that does not read holds nobody up.
func TestFollowersThatDoNotRead(t *testing.T) {
	const bytes = 200_000
	group := []string{fmt.Sprintf("Q|select big %d", bytes)}
	for stalled := range 3 {
		c := newCrowd(t, 3, [][]string{group})
		c.clients[stalled].conn.Stall()
		c.ask(group)
		c.release()
		for number, client := range c.clients {
			if number != stalled {
				client.want("T|c", row(bytes), "C|SELECT 1", "Z|I")
			}
		}
		c.clients[stalled].conn.Flow()
		c.clients[stalled].want("T|c", row(bytes), "C|SELECT 1", "Z|I")
		c.wantRuns(group[0][2:], 1)
	}
}

// A storm of the same question is charged to its tenant.
func TestFollowersAreCharged(t *testing.T) {
	c := newCrowd(t, 5, [][]string{simpleRead})
	before := c.stats().Gate.Tenants[0]
	c.ask(simpleRead)
	if got := c.stats().Gate; got.Waiting != 1 || got.Following != 4 {
		t.Errorf("%d wait and %d follow, want 1 and 4", got.Waiting, got.Following)
	}
	c.release()
	c.world.Settle()
	after := c.stats().Gate.Tenants[0]
	if admitted, followed := after.Admitted-before.Admitted, after.Followed-before.Followed; admitted != 5 || followed != 4 {
		t.Errorf("%d admitted, of them %d with another; want 5 and 4", admitted, followed)
	}
}
