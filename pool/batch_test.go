package pool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// join sends a group that may share its Sync, and leaves it to the caller to let
// anything happen.
func (c *testClient) join(lane *Server, timing *Timing, words ...string) {
	c.f.Helper()
	lane.Begin(c, pooltest.Frontend(words...), timing, true)
	c.server = lane
	for _, word := range words {
		if strings.HasPrefix(word, "Q|") {
			lane.Query(pooltest.Frontend(word))
		} else {
			c.sendOne(word, strings.Split(word, "|"))
		}
	}
	c.server = nil
}

// fast is what is known of a statement that takes 10 µs.
func fast() *Timing { return &Timing{average: 10 * time.Microsecond} }

// batch returns an idle lane's clients, with a group each that were sent together,
// and what the server was sent.
func (f *fixture) batch(groups ...[]string) (lane *Server, conn *pooltest.Conn, clients []*testClient, sent []string) {
	f.Helper()
	lane, conn, first := f.lane()
	f.feed(conn, "Z|I")
	first.want()
	for i, words := range groups {
		c := f.newClient()
		if i > 0 && !lane.open(10*time.Microsecond) {
			f.Fatal("the batch is not open")
		}
		if c.share() != lane {
			f.Fatal("another lane")
		}
		c.join(lane, fast(), words...)
		clients = append(clients, c)
	}
	f.world.Settle()
	return lane, conn, clients, pooltest.FrontendWords(conn.Sent())
}

func count(words []string, word string) int {
	n := 0
	for _, w := range words {
		if w == word {
			n++
		}
	}
	return n
}

var (
	extendedRead  = []string{"P|s|select 1", "B||s", "E|", "S"}
	extendedReply = []string{"1", "2", "D|1", "C|SELECT 1"}
	simpleRead    = []string{"Q|select 2"}
	simpleReply   = []string{"1", "2", "T|c", "D|2", "C|SELECT 1"} // to what it is sent as
)

func TestBatch(t *testing.T) {
	f := newFixture(t, sharing(16, 4))
	_, conn, clients, sent := f.batch(extendedRead, simpleRead, extendedRead, simpleRead)
	if count(sent, "S") != 1 || sent[len(sent)-1] != "S" {
		t.Errorf("sent %q, want one Sync, at the end", sent)
	}
	if count(sent, "P||select 2") != 2 || count(sent, "DP|") != 2 {
		t.Errorf("sent %q, want both simple queries in the extended protocol", sent)
	}
	// The second of the extended reads finds the statement prepared.
	f.feed(conn, slices.Concat(extendedReply, simpleReply, extendedReply[1:], simpleReply)...)
	for _, c := range clients {
		c.want() // the batch may yet fail
	}
	f.feed(conn, "Z|I")
	for i, c := range clients {
		reply := []string{"1", "2", "D|1", "C|SELECT 1", "Z|I", "[shared end]"}
		if i%2 == 1 {
			reply = []string{"T|c", "D|2", "C|SELECT 1", "Z|I", "[shared end]"}
		}
		c.want(reply...)
	}
	if stats := f.pool.Stats(); stats.ServersIdle != 1 || stats.SharedGroups != 4 {
		t.Errorf("stats %+v", stats)
	}
}

// A query that has no company is sent as it came.
func TestBatchOfOne(t *testing.T) {
	f := newFixture(t, sharing(16, 4))
	_, conn, clients, sent := f.batch(simpleRead)
	wantWords(t, "sent", sent, simpleRead)
	f.feed(conn, "T|c", "D|2", "C|SELECT 1", "Z|I")
	clients[0].want("T|c", "D|2", "C|SELECT 1", "Z|I", "[shared end]")
}

// Nobody hears of an error in a batch: everybody asks again.
func TestBatchFails(t *testing.T) {
	long := "D|*20000"
	for _, test := range []struct {
		name    string
		replies []string
		culprit int // whose statement is to be alone from now on, -1 if nobody's
	}{
		{"the first", []string{"E|ERROR|22012|division by zero", "Z|I"}, 0},
		{"the second", append(slices.Clone(extendedReply), "1", "2", "T|c", "E|ERROR|22012|division by zero", "Z|I"), 1},
		{"the last", slices.Concat(extendedReply, simpleReply, []string{"E|ERROR|42804|no", "Z|I"}), 2},
		{"the commit", slices.Concat(extendedReply, simpleReply, extendedReply[1:], []string{"E|ERROR|40001|no", "Z|I"}), 2},
		{"a long reply", slices.Concat(extendedReply, []string{"1", "2", "T|c", long, "C|SELECT 1"}, extendedReply[1:], []string{"Z|I"}), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, sharing(16, 4))
			lane, conn, first := f.lane()
			f.feed(conn, "Z|I")
			first.want()
			groups := [][]string{extendedRead, simpleRead, extendedRead}
			timings := []*Timing{fast(), fast(), fast()}
			var clients []*testClient
			for i, words := range groups {
				c := f.newClient()
				c.share()
				c.join(lane, timings[i], words...)
				clients = append(clients, c)
			}
			f.world.Settle()
			f.feed(conn, test.replies...)
			for i, c := range clients {
				c.flush()
				c.log = slices.DeleteFunc(c.log, func(entry string) bool {
					return strings.HasPrefix(entry, "[error") || strings.HasPrefix(entry, "[parse error")
				})
				c.want(fmt.Sprintf("[again %d]", AgainAlone))
				wantWords(t, "to run again", pooltest.FrontendWords(c.again), groups[i])
				if alone := timings[i].alone > 0; alone != (i == test.culprit) {
					t.Errorf("statement %d is to be alone: %v", i, alone)
				}
			}
			if conn.Closed() || f.pool.Stats().ServersIdle != 1 {
				t.Errorf("stats %+v", f.pool.Stats())
			}
			// The statement to blame joins no batch.
			c, d := f.newClient(), f.newClient()
			c.share()
			c.join(lane, fast(), extendedRead...)
			d.share()
			d.join(lane, timings[test.culprit], simpleRead...)
			f.world.Settle()
			if sent := pooltest.FrontendWords(conn.Sent()); count(sent, simpleRead[0]) != 1 {
				t.Errorf("sent %q, want the query as it came", sent)
			}
		})
	}
}

// A write that no lexer could see is run on a lease, its neighbors anywhere.
func TestBatchWrites(t *testing.T) {
	f := newFixture(t, sharing(16, 4))
	_, conn, clients, _ := f.batch(extendedRead, simpleRead)
	f.feed(conn, append(slices.Clone(extendedReply), "1", "2", "T|c", "E|ERROR|25006|read-only transaction", "Z|I")...)
	for i, reason := range []AgainReason{AgainAlone, AgainWrites} {
		clients[i].flush()
		if got := clients[i].log[len(clients[i].log)-1]; got != fmt.Sprintf("[again %d]", reason) {
			t.Errorf("client %d was told %q", i, got)
		}
	}
}

// While a server is busy the next batch gathers.
func TestBatchGathers(t *testing.T) {
	f := newFixture(t, sharing(16, 4))
	lane, conn, clients, sent := f.batch(extendedRead)
	if count(sent, "S") != 1 {
		t.Fatalf("sent %q", sent)
	}
	for range 3 {
		c := f.newClient()
		c.share()
		c.join(lane, fast(), extendedRead...)
		f.world.Settle()
		clients = append(clients, c)
	}
	if sent := conn.Sent(); len(sent) > 0 {
		t.Errorf("sent %q to a server that is busy", pooltest.FrontendWords(sent))
	}
	f.feed(conn, append(slices.Clone(extendedReply), "Z|I")...)
	clients[0].want("1", "2", "D|1", "C|SELECT 1", "Z|I", "[shared end]")
	wantWords(t, "sent", pooltest.FrontendWords(conn.Sent()), []string{"B||bp_1", "E|", "B||bp_1", "E|", "B||bp_1", "E|", "S"})
	for range 3 {
		f.feed(conn, extendedReply[1:]...)
	}
	f.feed(conn, "Z|I")
	for _, c := range clients[1:] {
		c.want("1", "2", "D|1", "C|SELECT 1", "Z|I", "[shared end]")
	}
}

// A batch is bounded in number and work.
func TestBatchBounds(t *testing.T) {
	for name, timing := range map[string]*Timing{"number": fast(), "work": {average: maxBatchWork / 4}} {
		f := newFixture(t, sharing(2*maxBatchCount, 1))
		lane, conn, first := f.lane()
		f.feed(conn, "Z|I")
		first.want()
		for range 2 * maxBatchCount {
			c := f.newClient()
			if c.share() != lane {
				t.Fatal("another lane")
			}
			c.join(lane, timing, extendedRead...)
		}
		f.world.Settle()
		want := 2
		if name == "work" {
			want = 2 * maxBatchCount / 4
		}
		if got := count(pooltest.FrontendWords(conn.Sent()), "S"); got != want {
			t.Errorf("%s: %d batches, want %d", name, got, want)
		}
	}
}

// A client that goes takes nothing of its neighbors with it, at any point of the
// replies.
func TestBatchWithdraw(t *testing.T) {
	replies := slices.Concat(extendedReply, simpleReply, extendedReply[1:], []string{"Z|I"})
	for at := range len(replies) {
		for gone := range 3 {
			f := newFixture(t, sharing(16, 4))
			lane, conn, clients, _ := f.batch(extendedRead, simpleRead, extendedRead)
			f.feed(conn, replies[:at]...)
			lane.Withdraw(clients[gone])
			f.feed(conn, replies[at:]...)
			for i, c := range clients {
				switch i {
				case gone:
					c.want()
				case 1:
					c.want("T|c", "D|2", "C|SELECT 1", "Z|I", "[shared end]")
				default:
					c.want("1", "2", "D|1", "C|SELECT 1", "Z|I", "[shared end]")
				}
			}
		}
	}
}

// A server that dies in a batch has told nobody anything.
func TestBatchLost(t *testing.T) {
	f := newFixture(t, sharing(16, 4))
	_, conn, clients, _ := f.batch(extendedRead, simpleRead)
	f.feed(conn, slices.Concat(extendedReply, simpleReply)...)
	conn.End(pooltest.EOF)
	for _, c := range clients {
		c.want(fmt.Sprintf("[again %d]", AgainLost))
	}
}
