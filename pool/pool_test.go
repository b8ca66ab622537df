package pool

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/shed"
)

func poolSize(n int) func(*Config) { return func(c *Config) { c.DefaultPoolSize = n } }

// waiters returns clients that wait for a server of the pool, the first one first.
func (f *fixture) waiters(p *Pool, count int) []*testClient {
	f.Helper()
	var list []*testClient
	for range count {
		c := f.newClient()
		if c.acquire(p); c.server != nil {
			f.Fatal("there was a server")
		}
		list = append(list, c)
	}
	return list
}

func TestAcquireTakesTheServerUsedLast(t *testing.T) {
	f := newFixture(t, poolSize(3))
	var clients []*testClient
	var servers []*Server
	for range 3 {
		c, _ := f.client()
		clients, servers = append(clients, c), append(servers, c.server)
	}
	for _, i := range []int{1, 2, 0} {
		clients[i].server.Release()
		clients[i].want("[released]")
	}
	for _, i := range []int{0, 2, 1} {
		c := f.newClient()
		if c.acquire(f.pool); c.server != servers[i] {
			t.Fatalf("lent another server than the %d.", i)
		}
	}
}

func TestAcquirePrefersTheSettings(t *testing.T) {
	f := newFixture(t, poolSize(3))
	settings := f.settings("a", "1")
	a, first := f.client()
	b, _ := f.client()
	a.server.Adopt(settings)
	f.feed(first, "C|SELECT 1", "Z|I")
	want := a.server
	a.server.Release()
	b.server.Release()
	c := f.newClient()
	if got := f.pool.Acquire(&c.waiter, settings, shed.Work{}); got != want {
		t.Error("lent a server with other settings")
	}
}

func TestWaitersAreServedInTheirOrder(t *testing.T) {
	f := newFixture(t, poolSize(1))
	c, conn := f.client()
	waiting := f.waiters(f.pool, 4)
	f.pool.Abandon(&waiting[1].waiter)
	if waiting[1].waiter.Waiting() || !waiting[2].waiter.Waiting() {
		t.Error("the wrong waiter has left")
	}
	f.pool.Abandon(&waiting[1].waiter) // again, without effect
	if stats := f.pool.Stats(); stats.ClientsWaiting != 3 {
		t.Errorf("stats %+v", stats)
	}
	for _, i := range []int{0, 2, 3} {
		c.send("Q|select 1")
		f.feed(conn, "C|SELECT 1", "Z|I")
		c = waiting[i]
		if c.server == nil {
			t.Fatalf("client %d was not served in its turn", i)
		}
	}
	if waiting[1].server != nil {
		t.Error("a client was served that has left")
	}
	if f.pool.Stats().ServerConnects != 1 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
}

// A client that gives its server back in the call that tells it of a group's end
// does not take it from the client that gets it.
func TestReleaseInAGroupEnd(t *testing.T) {
	for name, give := range map[string]func(*Server){
		"release": (*Server).Release,
		"orphan":  func(s *Server) { s.Orphan(false) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, poolSize(1))
			c, conn := f.client()
			next := f.waiters(f.pool, 1)[0]
			c.onGroupEnd = func() {
				server := c.server
				c.server = nil
				give(server)
			}
			c.send("Q|select 1")
			f.feed(conn, "C|SELECT 1", "Z|I")
			next.want("[lease]")
			if next.server == nil || f.pool.Stats().ServersLeased != 1 {
				t.Errorf("stats %+v", f.pool.Stats())
			}
			next.send("Q|select 2")
			f.feed(conn, "C|SELECT 1", "Z|I")
			next.want("C|SELECT 1", "Z|I", "[end I]", "[released]")
		})
	}
}

func TestWaitTimeout(t *testing.T) {
	f := newFixture(t, poolSize(1))
	f.client()
	first := f.waiters(f.pool, 1)[0]
	f.world.Advance(4 * time.Second)
	second := f.waiters(f.pool, 1)[0]
	f.world.Advance(6*time.Second - 1)
	first.want()
	f.world.Advance(1)
	first.want("[refused 53400]")
	second.want()
	f.world.Advance(4 * time.Second)
	second.want("[refused 53400]")
	if stats := f.pool.Stats(); stats.WaitTimeouts != 2 || stats.WaitTime != 20*time.Second || stats.ClientsWaiting != 0 || stats.OldestWait != 0 {
		t.Errorf("stats %+v", stats)
	}
	if f.pool.waitTimer.Armed() {
		t.Error("the timer is left armed")
	}
}

func TestWaitTimeoutOfTheNextAfterOneHasLeft(t *testing.T) {
	f := newFixture(t, poolSize(1))
	f.client()
	first := f.waiters(f.pool, 1)[0]
	f.world.Advance(time.Second)
	second := f.waiters(f.pool, 1)[0]
	f.pool.Abandon(&first.waiter)
	f.world.Advance(9 * time.Second)
	second.want()
	if got := f.pool.Stats().OldestWait; got != 9*time.Second {
		t.Errorf("oldest wait %s", got)
	}
	f.world.Advance(time.Second)
	second.want("[refused 53400]")
	first.want()
}

func TestWaitWithoutTimeout(t *testing.T) {
	f := newFixture(t, poolSize(1), func(c *Config) { c.QueryWaitTimeout = 0 })
	f.client()
	c := f.waiters(f.pool, 1)[0]
	f.world.Advance(24 * time.Hour)
	c.want()
}

// What is told after a timeout names the cause.
func TestWaitTimeoutReasons(t *testing.T) {
	f := newFixture(t, poolSize(1))
	busy := f.pool.refusal(shed.WaitTimeout, 3*time.Second)
	if busy.SQLState != pgwire.ConfigurationLimitExceeded || busy.IsFatal() || !strings.Contains(busy.Detail, "reason=query_wait_timeout waited_ms=3000 retry_after_ms=100") || busy.Hint == "" {
		t.Errorf("answer %+v", busy)
	}
	c := f.waiters(f.pool, 1)[0]
	for range 40 {
		for len(f.world.Dials) > 0 {
			f.world.Dials[0].Fail(errors.New("connection refused"))
		}
		f.world.Advance(250 * time.Millisecond)
	}
	c.want("[refused 08001]")
	down := f.pool.refusal(shed.Overload, 3*time.Second)
	if down.IsFatal() || !strings.Contains(down.Message, "connection refused") {
		t.Errorf("answer %+v", down)
	}
}

func TestGrowOpensWhatIsWanted(t *testing.T) {
	f := newFixture(t, poolSize(5))
	f.waiters(f.pool, 3)
	if len(f.world.Dials) != 3 {
		t.Errorf("%d connections for 3 waiters", len(f.world.Dials))
	}
	waiting := f.waiters(f.pool, 10)
	if len(f.world.Dials) != 5 || f.pools.ServerCount() != 5 {
		t.Errorf("%d connections, %d servers, want 5", len(f.world.Dials), f.pools.ServerCount())
	}
	for _, c := range waiting {
		f.pool.Abandon(&c.waiter)
	}
	for range 5 {
		f.connect()
	}
	if stats := f.pool.Stats(); stats.ServersLeased != 3 || stats.ServersIdle != 2 || stats.ServersOpening != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// Whatever happens, there are never more servers than allowed.
func TestPoolSizeIsNeverExceeded(t *testing.T) {
	f := newFixture(t, poolSize(3), func(c *Config) { c.ServerLifetime = 5 * time.Second })
	check := func(when string) {
		t.Helper()
		if n := f.pools.ServerCount(); n > 3 || n != len(f.pool.servers) {
			t.Fatalf("%s: %d servers, %d in the pool", when, n, len(f.pool.servers))
		}
		total := 0
		for state, count := range f.pool.serverCount {
			if count < 0 {
				t.Fatalf("%s: %d servers in state %d", when, count, state)
			}
			total += count
		}
		if total != len(f.pool.servers) {
			t.Fatalf("%s: the counts by state add up to %d of %d", when, total, len(f.pool.servers))
		}
	}
	for round := range 50 {
		clients := f.waiters(f.pool, 1)
		for range 4 {
			c := f.newClient()
			c.acquire(f.pool)
			clients = append(clients, c)
		}
		check("acquired")
		for len(f.world.Dials) > 0 {
			if round%3 == 1 {
				f.world.Dials[0].Fail(errors.New("refused"))
			} else {
				f.connect()
			}
			check("connected")
		}
		for i, c := range clients {
			switch {
			case c.server == nil:
				f.pool.Abandon(&c.waiter)
			case i%2 == 0:
				c.server.Release()
			default:
				c.server.close(ReasonLost)
			}
			check("given back")
		}
		for _, other := range clients {
			if other.server != nil && other.server.client == other {
				other.server.Release()
			}
		}
		f.world.Advance(10 * time.Second)
		check("after a while")
		if stats := f.pool.Stats(); stats.ServersLeased != 0 || stats.ClientsWaiting != 0 {
			t.Fatalf("stats %+v", stats)
		}
	}
}

func TestBackoff(t *testing.T) {
	f := newFixture(t, poolSize(3), func(c *Config) { c.QueryWaitTimeout = 0 })
	f.waiters(f.pool, 3)
	for range 3 { // all three fail at once
		f.world.Dials[0].Fail(errors.New("refused"))
	}
	previous := f.world.Now()
	for failures := 3; failures < 14; failures++ {
		if len(f.world.Dials) != 0 {
			t.Fatal("another attempt at once")
		}
		for len(f.world.Dials) == 0 {
			f.world.Advance(time.Millisecond)
		}
		if len(f.world.Dials) != 1 {
			t.Fatalf("%d attempts at a time after %d failures, want 1", len(f.world.Dials), failures)
		}
		longest := min(maxRetryDelay, minRetryDelay<<(failures-1))
		waited := f.world.Now() - previous
		if waited <= longest/2 || waited > longest+time.Millisecond {
			t.Errorf("after %d failures waited %s, want between %s and %s", failures, waited, longest/2, longest)
		}
		previous = f.world.Now()
		f.world.Dials[0].Fail(errors.New("refused"))
	}
	for len(f.world.Dials) == 0 {
		f.world.Advance(time.Millisecond)
	}
	f.connect() // succeeds: all others come at once
	if len(f.world.Dials) != 2 {
		t.Errorf("%d attempts after one has succeeded, want 2", len(f.world.Dials))
	}
}

func TestBackoffSpreads(t *testing.T) {
	delays := map[time.Duration]bool{}
	f := newFixture(t, poolSize(1))
	for range 20 {
		f.waiters(f.pool, 1)
		f.pool.failureCount, f.pool.retryAt = 9, 0
		f.pool.grow()
		f.world.Dials[0].Fail(errors.New("refused"))
		delays[f.pool.retryAt-f.world.Now()] = true
	}
	if len(delays) < 15 {
		t.Errorf("only %d different delays of 20", len(delays))
	}
}

func TestBackoffHoldsForNewClients(t *testing.T) {
	f := newFixture(t)
	f.waiters(f.pool, 1)
	f.world.Dials[0].Fail(errors.New("refused"))
	f.waiters(f.pool, 5)
	if len(f.world.Dials) != 0 {
		t.Error("a new client makes for an attempt before its time")
	}
}

func TestPermanentFailureIsAnsweredAtOnce(t *testing.T) {
	f := newFixture(t, poolSize(3))
	waiting := f.waiters(f.pool, 3)
	for i := range 3 {
		for _, c := range waiting {
			c.want()
		}
		conn := f.world.Dials[0].Connect()
		f.feed(conn, "E|FATAL|28P01|password authentication failed")
		_ = i
	}
	for _, c := range waiting {
		c.want("[refused 28P01]")
	}
}

func TestPermanentFailureBesideAServer(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	waiting := f.waiters(f.pool, 1)[0]
	second := f.world.Dials[0].Connect()
	f.feed(second, "E|FATAL|3D000|no database")
	waiting.want()
	c.send("Q|select 1")
	f.feed(conn, "C|SELECT 1", "Z|I")
	waiting.want("[lease]")
}

func TestIdleTimeout(t *testing.T) {
	f := newFixture(t, poolSize(2), func(c *Config) { c.ServerIdleTimeout = 30 * time.Second })
	a, first := f.client()
	b, second := f.client()
	a.server.Release()
	f.world.Advance(10 * time.Second)
	b.server.Release()
	f.world.Advance(20*time.Second - tendPeriod)
	if first.Closed() {
		t.Error("closed early")
	}
	f.world.Advance(2 * tendPeriod)
	if !first.Closed() || second.Closed() {
		t.Errorf("closed: %v, %v, want the first", first.Closed(), second.Closed())
	}
	f.world.Advance(10 * time.Second)
	if !second.Closed() || f.pool.Stats().ServersClosed[ReasonIdle.String()] != 2 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
	wantWords(t, "said in the end", pooltest.FrontendWords(second.Sent()), []string{"X"})
}

func TestLifetime(t *testing.T) {
	lifetime := func(c *Config) { c.ServerLifetime = time.Minute }
	t.Run("idle", func(t *testing.T) {
		f := newFixture(t, lifetime)
		c, conn := f.client()
		c.server.Release()
		f.world.Advance(time.Minute - tendPeriod)
		if conn.Closed() {
			t.Error("closed early")
		}
		f.world.Advance(2 * tendPeriod)
		if !conn.Closed() || f.pool.Stats().ServersClosed[ReasonLifetime.String()] != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("in use", func(t *testing.T) {
		f := newFixture(t, lifetime)
		c, conn := f.client()
		f.world.Advance(time.Hour)
		c.send("Q|begin")
		f.feed(conn, "C|BEGIN", "Z|T")
		f.world.Advance(time.Hour)
		if conn.Closed() {
			t.Fatal("closed in a transaction")
		}
		c.send("Q|commit")
		f.feed(conn, "C|COMMIT", "Z|I")
		c.want("C|BEGIN", "Z|T", "[end T]", "C|COMMIT", "Z|I", "[end I]", "[released]")
		if !conn.Closed() {
			t.Error("not closed though it is old")
		}
	})
	t.Run("a waiter gets a new one", func(t *testing.T) {
		f := newFixture(t, lifetime, poolSize(1), func(c *Config) { c.QueryWaitTimeout = 0 })
		c, conn := f.client()
		f.world.Advance(time.Hour)
		next := f.waiters(f.pool, 1)[0]
		c.send("Q|select 1")
		f.feed(conn, "C|SELECT 1", "Z|I")
		next.want()
		f.connect()
		next.want("[lease]")
	})
}

func TestPin(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.server.PinLongStatement(true)
	c.send("Q|select 1")
	f.feed(conn, "C|SELECT 1", "Z|I")
	c.want("C|SELECT 1", "Z|I", "[end I]")
	c.server.PinLongStatement(false)
	c.send("Q|select 1")
	f.feed(conn, "C|SELECT 1", "Z|I")
	c.want("C|SELECT 1", "Z|I", "[end I]", "[released]")
}
