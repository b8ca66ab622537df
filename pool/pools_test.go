package pool

import (
	"errors"
	"testing"
	"time"
)

func maxDB(n int) func(*Config) {
	return func(c *Config) { c.MaxDBConnections, c.DefaultPoolSize = n, 10 }
}

func TestPoolsAreOnePerDatabaseAndUser(t *testing.T) {
	f := newFixture(t)
	if f.pools.Get("shop", "app") != f.pool {
		t.Error("the same pair has two pools")
	}
	if f.pools.Get("app", "shop") == f.pool || f.pools.Get("shop", "other") == f.pool || f.pools.Get("shopapp", "") == f.pools.Get("shop", "app") {
		t.Error("different pairs have one pool")
	}
	if got := len(f.pools.Stats()); got != 4 {
		t.Errorf("%d pools in the stats, want 4", got)
	}
}

func TestUnusedPoolsAreForgotten(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ServerIdleTimeout = 5 * time.Second })
	f.world.Advance(forgetDelay + tendPeriod)
	if len(f.pools.Stats()) != 0 || f.world.Armed() {
		t.Errorf("pools %+v, timers armed: %v", f.pools.Stats(), f.world.Armed())
	}
	p := f.pools.Get("shop", "app")
	if p == f.pool || f.pools.Get("shop", "app") != p {
		t.Error("the pool that was forgotten is still in use")
	}
	f.pool = p
	c, _ := f.client()
	p.ClientCount++
	f.world.Advance(time.Minute)
	c.server.Release()
	f.world.Advance(time.Minute)
	if len(f.pools.Stats()) != 1 || p.Stats().ServersIdle != 0 {
		t.Errorf("pools %+v", f.pools.Stats())
	}
	p.ClientCount--
	f.world.Advance(tendPeriod)
	if len(f.pools.Stats()) != 0 || f.world.Armed() {
		t.Errorf("pools %+v, timers armed: %v", f.pools.Stats(), f.world.Armed())
	}
}

// A pool that fails is remembered: one client after the other does not try at once.
func TestFailingPoolsAreRemembered(t *testing.T) {
	f := newFixture(t)
	f.world.Advance(time.Minute)
	attempts := 0
	for range 60 {
		p := f.pools.Get("shop", "app")
		c := f.newClient()
		p.ClientCount++
		c.acquire(p)
		for len(f.world.Dials) > 0 {
			attempts++
			conn := f.world.Dials[0].Connect()
			f.feed(conn, "E|FATAL|28P01|no")
		}
		f.world.Advance(time.Second)
		p.Abandon(&c.waiter)
		p.ClientCount--
	}
	if attempts > 35 {
		t.Errorf("%d attempts to log in within a minute", attempts)
	}
}

func TestMaxDBConnections(t *testing.T) {
	f := newFixture(t, maxDB(3))
	other := f.pools.Get("shop", "other")
	f.waiters(f.pool, 5)
	f.waiters(other, 5)
	if len(f.world.Dials) != 3 || f.pools.ServerCount() != 3 {
		t.Errorf("%d dials, %d servers, want 3", len(f.world.Dials), f.pools.ServerCount())
	}
}

// An idle server of another pool makes room, the one idle for longest.
func TestMakeRoom(t *testing.T) {
	f := newFixture(t, maxDB(3))
	a, first := f.client()
	b, second := f.client()
	f.world.Advance(time.Second)
	a.server.Release()
	f.world.Advance(time.Second)
	b.server.Release()
	third := f.pools.Get("shop", "third")
	busy := f.newClient()
	busy.acquire(third)
	f.connect()

	other := f.pools.Get("shop", "other")
	c := f.newClient()
	c.acquire(other)
	if !first.Closed() || second.Closed() {
		t.Fatalf("closed: %v, %v, want the first", first.Closed(), second.Closed())
	}
	if f.pool.Stats().ServersClosed[ReasonMakeRoom.String()] != 1 || f.pools.ServerCount() != 3 {
		t.Errorf("stats %+v", f.pools.Stats())
	}
	f.connect()
	c.want("[lease]")
}

// Where there is no idle server, one that becomes free or is closed later makes room
// for the pool that has waited longest.
func TestStarvingPools(t *testing.T) {
	begin := func(t *testing.T) (f *fixture, c, b, d *testClient) {
		f = newFixture(t, maxDB(1))
		c, _ = f.client()
		b = f.waiters(f.pools.Get("shop", "b"), 1)[0]
		f.world.Advance(time.Second)
		d = f.waiters(f.pools.Get("shop", "d"), 1)[0]
		if len(f.world.Dials) != 0 {
			t.Fatal("more servers than allowed")
		}
		return f, c, b, d
	}
	t.Run("a server is released", func(t *testing.T) {
		f, c, b, d := begin(t)
		c.server.Release()
		f.connect()
		b.want("[lease]")
		d.want()
		b.server.Release()
		f.connect()
		d.want("[lease]")
	})
	t.Run("a server is closed", func(t *testing.T) {
		f, c, b, _ := begin(t)
		c.server.close(ReasonLost)
		f.connect()
		b.want("[lease]")
	})
	t.Run("the one in front fails", func(t *testing.T) {
		f, c, b, d := begin(t)
		c.server.close(ReasonLost)
		f.world.Dials[0].Fail(errors.New("refused")) // b's
		b.want()
		f.connect() // d does not wait for b's next attempt
		d.want("[lease]")
	})
	t.Run("the one in front is refused for good", func(t *testing.T) {
		f, c, b, d := begin(t)
		c.server.close(ReasonLost)
		conn := f.world.Dials[0].Connect()
		f.feed(conn, "E|FATAL|28000|no")
		b.want("[refused 28000]")
		f.connect()
		d.want("[lease]")
	})
	t.Run("the one in front goes away", func(t *testing.T) {
		f, c, b, d := begin(t)
		f.pools.Get("shop", "b").Abandon(&b.waiter)
		c.server.Release()
		f.connect()
		d.want("[lease]")
	})
	t.Run("the one in front waits for its next attempt, with several behind", func(t *testing.T) {
		f := newFixture(t, maxDB(3), func(c *Config) { c.QueryWaitTimeout, c.ServerIdleTimeout = 0, 20*time.Second })
		var mine []*testClient
		for range 3 {
			c, _ := f.client()
			mine = append(mine, c)
		}
		failing, other := f.pools.Get("shop", "failing"), f.pools.Get("shop", "other")
		f.waiters(failing, 1)
		failing.failureCount, failing.retryAt = 5, f.world.Now()+time.Hour
		f.world.Advance(time.Second)
		waiting := f.waiters(other, 3)
		for _, c := range mine {
			c.server.Release()
		}
		f.world.Advance(time.Second)
		for len(f.world.Dials) > 0 {
			f.connect()
		}
		for i, c := range waiting {
			if c.server == nil {
				t.Errorf("client %d waits for another pool's next attempt", i)
			}
		}
		if f.pools.ServerCount() != 3 {
			t.Errorf("%d servers", f.pools.ServerCount())
		}
	})
}

// Closing idle servers may make other pools close more of them.
func TestCloseIdleWhileOthersMakeRoom(t *testing.T) {
	f := newFixture(t, maxDB(4), func(c *Config) { c.QueryWaitTimeout, c.ServerIdleTimeout = 0, 10*time.Second })
	var mine []*testClient
	for range 4 {
		c, _ := f.client()
		mine = append(mine, c)
	}
	other := f.pools.Get("shop", "other")
	other.retryAt = time.Hour
	f.waiters(other, 4)
	for _, c := range mine {
		c.server.Release()
	}
	other.retryAt = 0
	f.world.Advance(10*time.Second + tendPeriod)
	if f.pools.ServerCount() > 4 || other.Stats().ServerConnects != 4 || f.pool.Stats().ServersIdle != 0 {
		t.Errorf("stats %+v", f.pools.Stats())
	}
}

func TestClose(t *testing.T) {
	f := newFixture(t, poolSize(3))
	idle, first := f.client()
	busy, second := f.client()
	opening := f.waiters(f.pool, 1)[0]
	idle.server.Release() // to the one that waits
	opening.server.Release()
	f.pools.Close()
	if !first.Closed() || second.Closed() {
		t.Errorf("closed: %v, %v, want the idle one", first.Closed(), second.Closed())
	}
	third := f.world.Dials[0].Connect()
	f.feed(third, loginWords...)
	if !third.Closed() {
		t.Error("a server that logs in late is kept")
	}
	busy.send("Q|select 1")
	f.feed(second, "C|SELECT 1", "Z|I")
	busy.want("C|SELECT 1", "Z|I", "[end I]", "[released]")
	if !second.Closed() || f.pools.ServerCount() != 0 {
		t.Errorf("stats %+v", f.pools.Stats())
	}
	f.waiters(f.pool, 1)
	if len(f.world.Dials) != 0 {
		t.Error("a server is opened after Close")
	}
	if f.pool.Stats().ServersClosed[ReasonShutdown.String()] != 3 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
}

func TestAbort(t *testing.T) {
	f := newFixture(t, poolSize(4))
	idle, first := f.client()
	_, second := f.client()
	f.waiters(f.pool, 2)
	idle.server.Release()
	half := f.world.Dials[0].Connect()
	f.world.Settle()
	f.pools.Abort()
	f.world.Settle()
	if !first.Closed() || !second.Closed() || !half.Closed() || f.pools.ServerCount() != 0 {
		t.Errorf("closed %v, %v, %v, servers %d", first.Closed(), second.Closed(), half.Closed(), f.pools.ServerCount())
	}
	late := f.world.Dials[0].Connect()
	f.feed(late, loginWords...)
	if !late.Closed() || f.pools.ServerCount() != 0 {
		t.Error("a connection that comes late is kept")
	}
}
