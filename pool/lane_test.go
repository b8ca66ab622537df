package pool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/shed"
)

// laneSwitched is how PostgreSQL answers to the settings of a lane.
var laneSwitched = []string{"T|set_config", "D|on", "C|SELECT 1", "Z|I"}

func sharing(depth, size int) func(*Config) {
	return func(c *Config) { c.SharedReads, c.SharedDepth, c.DefaultPoolSize = true, depth, size }
}

// share returns the lane that the client may use, or nil if it has to wait.
func (c *testClient) share() *Server {
	return c.f.pool.Share(&c.waiter, nil, shed.Work{Expected: 10 * time.Microsecond}, false)
}

// run sends a group of the client's on a lane.
func (c *testClient) run(lane *Server, words ...string) {
	c.f.Helper()
	lane.Begin(c, pooltest.Frontend(words...), nil, false)
	c.server = lane
	c.send(words...)
	c.server = nil
}

// lane returns a lane that is ready, its connection, and the client for which it was
// made, which has a place on it.
func (f *fixture) lane() (*Server, *pooltest.Conn, *testClient) {
	f.Helper()
	c := f.newClient()
	if c.share() != nil {
		f.Fatal("a lane without a server")
	}
	conn := f.connect()
	c.want("[lease]")
	lane := c.server
	c.server = nil
	if !lane.Claim(&c.waiter) {
		f.Fatal("the lane is gone")
	}
	f.world.Settle()
	if got := pooltest.FrontendWords(conn.Sent()); len(got) != 1 {
		f.Fatalf("sent %q to make a lane", got)
	}
	f.feed(conn, laneSwitched[:3]...)
	return lane, conn, c
}

// pair returns a lane on which two clients have a group each, read for Z of the
// switch of settings.
func (f *fixture) pair(first, second []string) (lane *Server, conn *pooltest.Conn, a, b *testClient) {
	f.Helper()
	lane, conn, a = f.lane()
	a.run(lane, first...)
	b = f.newClient()
	if got := b.share(); got != lane {
		f.Fatalf("the second client is not put on the lane but on %v", got)
	}
	b.run(lane, second...)
	f.feed(conn, "Z|I")
	conn.Sent()
	return lane, conn, a, b
}

func TestLane(t *testing.T) {
	f := newFixture(t, sharing(16, 4))
	_, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
	f.feed(conn, "T|c", "D|1", "C|SELECT 1", "Z|I")
	a.want("T|c", "D|1", "C|SELECT 1", "Z|I", "[shared end]")
	b.want()
	f.feed(conn, "N|notice", "T|c", "D|2", "C|SELECT 1", "Z|I")
	a.want()
	b.want("N|notice", "T|c", "D|2", "C|SELECT 1", "Z|I", "[shared end]")
	stats := f.pool.Stats()
	if stats.ServersShared != 0 || stats.ServersIdle != 1 || stats.SharedGroups != 2 || stats.GroupsRunAgain != 0 {
		t.Errorf("stats %+v", stats)
	}
	if f.world.Advance(time.Second); f.pool.laneTimer.Armed() {
		t.Error("the timer of lanes goes on without one")
	}
}

// Whatever befalls one group on a lane, what comes behind it reaches whom it is for.
func TestLaneErrors(t *testing.T) {
	firsts := map[string][]string{"query": {"Q|select 1"}, "extended": {"P|s|select 1", "B||s", "E|", "S"}}
	seconds := map[string][]string{"query": {"Q|select 2"}, "extended": {"P|s|select 2", "B||s", "E|", "S"}}
	answers := map[string][]string{"query": {"T|c", "D|1", "C|SELECT 1", "Z|I"}, "extended": {"1", "2", "D|1", "C|SELECT 1", "Z|I"}}
	failures := []struct {
		name  string
		error string
		again bool // the client never hears of it
	}{
		{"fails", "E|ERROR|22012|division by zero", false},
		{"writes", "E|ERROR|25006|cannot execute INSERT in a read-only transaction", true},
	}
	for firstName, first := range firsts {
		for secondName, second := range seconds {
			for _, failure := range failures {
				t.Run(firstName+" "+failure.name+", "+secondName+" behind", func(t *testing.T) {
					f := newFixture(t, sharing(16, 4))
					_, conn, a, b := f.pair(first, second)
					f.feed(conn, failure.error, "Z|I")
					a.flush()
					var told []string
					for _, entry := range a.log {
						if !strings.Contains(entry, "error 0]") && !strings.Contains(entry, "error 1]") {
							told = append(told, entry)
						}
					}
					want := []string{failure.error, "Z|I", "[shared end]"}
					if failure.again {
						want = []string{fmt.Sprintf("[again %d]", AgainWrites)}
						wantWords(t, "the group to run again", pooltest.FrontendWords(a.again), first)
					}
					wantWords(t, "told the first client", told, want)
					a.log = nil
					b.want()
					f.feed(conn, answers[secondName]...)
					if conn.Closed() {
						t.Error("the server's connection was closed")
					}
					a.want()
					b.want(append(answers[secondName], "[shared end]")...)
				})
			}
		}
	}
}

// The depth of a lane holds for clients that have waited, too.
func TestLaneDepth(t *testing.T) {
	f := newFixture(t, sharing(2, 1))
	lane, conn, a := f.lane()
	a.run(lane, "Q|select 1")
	f.feed(conn, "Z|I")
	b := f.newClient()
	if b.share() != lane {
		t.Fatal("no room for a second group")
	}
	b.run(lane, "Q|select 2")
	var waiting []*testClient
	for range 6 {
		c := f.newClient()
		if c.share() != nil {
			t.Fatal("the lane has more groups than its depth")
		}
		waiting = append(waiting, c)
	}
	f.feed(conn, "C|SELECT 1", "Z|I")
	leased := 0
	for _, c := range waiting {
		if c.server != nil {
			leased++
		}
	}
	if leased != 1 {
		t.Errorf("%d clients were given the one place that is free", leased)
	}
	if waiting[0].server == nil {
		t.Error("the first in the queue was not the first to be served")
	}
}

// A client for which a place was kept and that goes leaves nothing behind.
func TestLaneDecline(t *testing.T) {
	f := newFixture(t, sharing(16, 1))
	c := f.newClient()
	c.share()
	conn := f.connect()
	c.want("[lease]")
	lane := c.server
	f.feed(conn, laneSwitched...)
	if f.pool.Stats().ServersShared != 1 {
		t.Fatalf("stats %+v", f.pool.Stats())
	}
	lane.Decline(&c.waiter)
	if f.pool.Stats().ServersIdle != 1 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
}

func TestLaneMakesWay(t *testing.T) {
	f := newFixture(t, sharing(16, 1))
	lane, conn, a := f.lane()
	a.run(lane, "Q|select 1")
	f.feed(conn, "Z|I")
	writer := f.newClient()
	if writer.acquire(f.pool); writer.server != nil {
		t.Fatal("the writer was lent a lane")
	}
	reader := f.newClient()
	if reader.share() != nil {
		t.Error("a reader is served before a writer that waits")
	}
	f.feed(conn, "C|SELECT 1", "Z|I")
	writer.want("[lease]")
	reader.want()
	conn.Sent()
	writer.send("Q|update")
	f.wantSent(conn, "Q|update")
}

// The server that was a lane is not one for the client that leases it next.
func TestLaneSettingsAreUndone(t *testing.T) {
	f := newFixture(t, sharing(16, 1))
	lane, conn, a := f.lane()
	a.run(lane, "Q|select 1")
	f.feed(conn, "Z|I")
	f.feed(conn, "C|SELECT 1", "Z|I")
	conn.Sent()
	writer := f.newClient()
	writer.acquire(f.pool)
	if !writer.server.Adopt(nil) {
		t.Fatal("the server has no other settings")
	}
	f.wantSent(conn, "Q|RESET default_transaction_read_only;")
}

func TestLaneLost(t *testing.T) {
	t.Run("before a reply that matters", func(t *testing.T) {
		f := newFixture(t, sharing(16, 4))
		_, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		f.feed(conn, "T|c")
		conn.End(pooltest.EOF)
		a.want(fmt.Sprintf("[again %d]", AgainLost))
		b.want(fmt.Sprintf("[again %d]", AgainLost))
		wantWords(t, "again", pooltest.FrontendWords(b.again), []string{"Q|select 2"})
	})
	t.Run("in a reply", func(t *testing.T) {
		f := newFixture(t, sharing(16, 4))
		_, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		f.feed(conn, "T|c", "D|1", "E|FATAL|57P01|terminated")
		conn.End(pooltest.EOF)
		a.want("T|c", "D|1", "[shared lost 57P01]")
		if loss := a.loss; loss.GroupCount != 1 || loss.FirstHasError || loss.MidMessage || loss.Partial || loss.InTransaction {
			t.Errorf("loss %+v", loss)
		}
		b.want(fmt.Sprintf("[again %d]", AgainLost))
	})
	t.Run("in a message", func(t *testing.T) {
		f := newFixture(t, sharing(16, 4))
		_, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		conn.Feed(pooltest.Backend(fmt.Sprintf("D|*%d", 3*maxWholeBytes))[:2*maxWholeBytes])
		conn.End(pooltest.EOF)
		f.world.Settle()
		if a.loss == nil || !a.loss.MidMessage {
			t.Errorf("loss %+v", a.loss)
		}
		b.want(fmt.Sprintf("[again %d]", AgainLost))
	})
}

// A client that does not read its reply has the lane to itself, and neither that
// nor its end leaves the server unread.
func TestLanePaused(t *testing.T) {
	pause := func(t *testing.T) (*fixture, *Server, *pooltest.Conn, *testClient, *testClient) {
		f := newFixture(t, sharing(16, 1))
		lane, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		f.feed(conn, "T|c", "D|1")
		lane.PauseShared()
		b.want(fmt.Sprintf("[again %d]", AgainSlow))
		if !conn.Paused() {
			t.Fatal("the server is read")
		}
		return f, lane, conn, a, b
	}
	t.Run("and goes on", func(t *testing.T) {
		f, lane, conn, a, b := pause(t)
		lane.ResumeReplies()
		f.feed(conn, "C|SELECT 1", "Z|I", "T|c", "C|SELECT 1", "Z|I")
		a.want("T|c", "D|1", "C|SELECT 1", "Z|I", "[shared end]")
		b.want()
		if f.pool.Stats().ServersIdle != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("and goes away", func(t *testing.T) {
		f, lane, conn, a, _ := pause(t)
		if !lane.Withdraw(a) {
			t.Error("the group does not run")
		}
		f.feed(conn, "C|SELECT 1", "Z|I", "T|c", "C|SELECT 1", "Z|I")
		if conn.Paused() || f.pool.Stats().ServersIdle != 1 {
			t.Errorf("paused %v, stats %+v", conn.Paused(), f.pool.Stats())
		}
	})
	t.Run("in the read that ends the group", func(t *testing.T) {
		f := newFixture(t, sharing(16, 1))
		lane, conn, a := f.lane()
		a.run(lane, "Q|select 1")
		f.feed(conn, "Z|I")
		a.onReply = func() { lane.PauseShared() }
		f.feed(conn, "T|c", "D|1", "C|SELECT 1", "Z|I")
		a.want("T|c", "D|1", "C|SELECT 1", "Z|I", "[shared end]")
		if conn.Paused() || f.pool.Stats().ServersIdle != 1 {
			t.Errorf("paused %v, stats %+v", conn.Paused(), f.pool.Stats())
		}
	})
}

func TestLaneCancel(t *testing.T) {
	t.Run("the head", func(t *testing.T) {
		f := newFixture(t, sharing(16, 1))
		lane, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		if lane.CancelShared(a) {
			t.Fatal("the head was dropped")
		}
		request := f.cancelDial()
		b.want(fmt.Sprintf("[again %d]", AgainSlow))
		f.feed(conn, "E|ERROR|57014|canceled", "Z|I")
		a.want("E|ERROR|57014|canceled", "Z|I", "[shared end]")
		f.feed(conn, "C|SELECT 1", "Z|I") // for nobody
		if f.pool.Stats().ServersCanceling != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
		request.End(pooltest.EOF)
		f.world.Settle()
		if f.pool.Stats().ServersIdle != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("one behind the head", func(t *testing.T) {
		f := newFixture(t, sharing(16, 1))
		lane, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		if !lane.CancelShared(b) {
			t.Fatal("the second was not dropped")
		}
		if len(f.world.Dials) != 0 {
			t.Error("PostgreSQL is asked to cancel a neighbor")
		}
		f.feed(conn, "C|SELECT 1", "Z|I", "C|SELECT 1", "Z|I")
		a.want("C|SELECT 1", "Z|I", "[shared end]")
		b.want()
	})
	t.Run("the head ends before, a neighbor is hit", func(t *testing.T) {
		f := newFixture(t, sharing(16, 1))
		lane, conn, a := f.lane()
		a.run(lane, "Q|select 1")
		f.feed(conn, "Z|I")
		lane.CancelShared(a)
		c := f.newClient() // has had a place when the lane was stopped
		c.run(lane, "Q|select 3")
		f.feed(conn, "C|SELECT 1", "Z|I", "E|ERROR|57014|canceled", "Z|I")
		a.want("C|SELECT 1", "Z|I", "[shared end]")
		c.want(fmt.Sprintf("[again %d]", AgainCanceled))
	})
	t.Run("nobody has canceled", func(t *testing.T) {
		f := newFixture(t, sharing(16, 1))
		lane, conn, a := f.lane()
		a.run(lane, "Q|select 1")
		f.feed(conn, "Z|I")
		f.feed(conn, "E|ERROR|57014|canceling statement due to statement timeout", "Z|I")
		a.want("E|ERROR|57014|canceling statement due to statement timeout", "Z|I", "[shared end]")
	})
}

// Groups behind one that takes long are moved: soon where other servers get on, and
// in the end whatever the others do.
func TestLaneWithASlowHead(t *testing.T) {
	t.Run("others get on", func(t *testing.T) {
		f := newFixture(t, sharing(16, 3))
		other, busy := f.client()
		lane, conn, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		for range 20 {
			other.send("Q|insert")
			f.feed(busy, "C|INSERT 0 1", "Z|I")
			other.acquire(f.pool)
			f.world.Advance(lanePeriod)
		}
		a.want()
		b.want(fmt.Sprintf("[again %d]", AgainSlow))
		if b.share() == lane {
			t.Error("a group is put behind the slow one")
		}
		f.feed(conn, "C|SELECT 1", "Z|I", "C|SELECT 2", "Z|I")
		a.want("C|SELECT 1", "Z|I", "[shared end]")
		if stats := f.pool.Stats(); stats.ServersIdle+stats.ServersShared == 0 {
			t.Errorf("stats %+v", stats)
		}
	})
	t.Run("alone", func(t *testing.T) {
		f := newFixture(t, sharing(16, 3))
		_, _, a, b := f.pair([]string{"Q|select 1"}, []string{"Q|select 2"})
		f.world.Advance(slowHead / 2)
		b.want()
		f.world.Advance(time.Second)
		a.want()
		b.want(fmt.Sprintf("[again %d]", AgainSlow))
	})
}

// The group of a client that is gone is stopped, and PostgreSQL not flooded with
// requests to do so.
func TestLaneHeadWithoutClient(t *testing.T) {
	f := newFixture(t, sharing(16, 1))
	lane, conn, a := f.lane()
	a.run(lane, "Q|select 1")
	f.feed(conn, "Z|I")
	lane.Withdraw(a)
	requests := 0
	f.world.OnDial = func(d *pooltest.Dial) {
		requests++
		d.Connect().End(pooltest.EOF)
	}
	f.world.Advance(10 * time.Second)
	if requests == 0 || requests > 100 {
		t.Errorf("%d cancel requests in 10 s", requests)
	}
	f.world.Advance(time.Minute)
	if !conn.Closed() || f.pools.ServerCount() != 0 {
		t.Error("a server that never answers is kept for ever")
	}
}

func TestLaneSettingsRefused(t *testing.T) {
	f := newFixture(t, sharing(16, 1))
	lane, conn, a := f.lane()
	a.run(lane, "Q|select 1")
	conn.Feed(pooltest.Backend("Z|I"))
	_ = lane
	f.world.Settle()
	f.feed(conn, "C|SELECT 1", "Z|I")
	a.want("C|SELECT 1", "Z|I", "[shared end]")

	g := newFixture(t, sharing(16, 1))
	c := g.newClient()
	c.share()
	conn = g.connect()
	c.want("[lease]")
	refused := c.server
	refused.Claim(&c.waiter)
	c.run(refused, "Q|select 1")
	g.feed(conn, "E|ERROR|42501|no", "Z|I")
	c.want(fmt.Sprintf("[again %d]", AgainLost))
	if !conn.Closed() {
		t.Error("a lane without its settings goes on")
	}
}

// A Close of ours that an error skipped, while a group behind it has prepared the
// statement again: the server says that it has it, and nobody is harmed.
func TestLaneStatementIsThereAlready(t *testing.T) {
	f := newFixture(t, sharing(16, 1), func(c *Config) { c.MaxPreparedStatements = 1 })
	lane, conn, a := f.lane()
	a.names["y"], a.names["z"] = a.reference("select y"), a.reference("select z")
	b := f.newClient()
	b.names["y"] = a.names["y"]
	a.run(lane, "B||y", "E|", "S")
	b.run(lane, "Q|select 1") // the lane goes on
	f.feed(conn, "Z|I", "1", "2", "C|SELECT 1", "Z|I")
	a.want("2", "C|SELECT 1", "Z|I", "[shared end]")
	conn.Sent()
	a.run(lane, "DP|none", "B||z", "E|", "S")
	f.wantSent(conn, "DP|none", "CS|bp_1", "P|bp_2|select z", "B||bp_2", "E|", "S")
	c := f.newClient()
	c.names["y"] = a.names["y"]
	c.run(lane, "B||y", "E|", "S")
	conn.Sent()
	f.feed(conn, "C|SELECT 1", "Z|I")
	f.feed(conn, "E|ERROR|34000|no portal", "Z|I") // a's: bp_1 is not closed
	// c's Close of bp_2 does no harm, its Parse of bp_1 fails.
	f.feed(conn, "3", "E|ERROR|42P05|prepared statement bp_1 already exists", "Z|I")
	c.want(fmt.Sprintf("[error %d]", 0), fmt.Sprintf("[again %d]", AgainPlan))
	if conn.Closed() {
		t.Fatal("the server's connection was closed")
	}
	d := f.newClient()
	d.names["y"] = a.names["y"]
	lane = d.share()
	d.run(lane, "B||y", "E|", "S")
	f.wantSent(conn, "CS|bp_1", "P|bp_1|select y", "B||bp_1", "E|", "S")
}
