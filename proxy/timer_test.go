package proxy

import (
	"fmt"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
)

func idleTransaction(d time.Duration) func(*Config) {
	return func(c *Config) { c.IdleTransactionTimeout = d }
}

func TestIdleTransactionTimeout(t *testing.T) {
	begin := map[string][]string{
		"begun":            {"Q|begin", "Q|insert"},
		"failed":           {"Q|begin", "Q|fail"},
		"not on a server":  {"Q|begin"},
		"in one statement": {"Q|begin;insert"},
	}
	for name, words := range begin {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, oneServer, idleTransaction(10*time.Second))
			c := f.login()
			c.send(words...)
			c.conn.Sent()
			f.world.Advance(9 * time.Second)
			c.want()
			f.world.Advance(5 * time.Second)
			c.wantEnd("E|FATAL|25P03|idle transaction timeout of 10s")
			if f.ended(endIdleTransaction) != 1 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
			f.checkIdle()
		})
	}
	t.Run("each statement counts", func(t *testing.T) {
		f := newFixture(t, oneServer, idleTransaction(10*time.Second))
		c := f.login()
		c.send("Q|begin", "Q|insert")
		for range 10 {
			f.world.Advance(9 * time.Second)
			c.send("Q|insert")
		}
		c.send("Q|commit")
		if c.conn.Closed() {
			t.Error("closed though it was not idle")
		}
		f.world.Advance(time.Hour)
		c.conn.Sent()
		c.ask("1")
	})
	t.Run("a query that runs", func(t *testing.T) {
		f := newFixture(t, oneServer, idleTransaction(10*time.Second))
		c := f.login()
		c.send("Q|begin", "Q|wait")
		f.world.Advance(time.Hour)
		f.server().Go()
		c.want("C|BEGIN", "Z|T", "D|waited", "C|SELECT 1", "Z|T")
		f.world.Advance(9 * time.Second)
		c.send("Q|commit")
		c.want("C|COMMIT", "Z|I")
	})
	t.Run("off", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|begin", "Q|insert")
		f.world.Advance(24 * time.Hour)
		c.send("Q|commit")
		c.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T", "C|COMMIT", "Z|I")
	})
}

// A client that holds a server and does nothing is closed.
func TestStallTimeout(t *testing.T) {
	begin := map[string]func(*client){
		"part of a group":   func(c *client) { c.send("P||select 1", "B||", "H") },
		"after an error":    func(c *client) { c.send("B||none", "H") },
		"part of a query":   func(c *client) { c.feed(pooltest.Frontend("Q|*100000")[:70000]) },
		"part of a copy":    func(c *client) { c.send("Q|copy in", "d|1") },
		"part of a copyrow": func(c *client) { c.send("Q|copy in"); c.feed(pooltest.Frontend("d|*100000")[:70000]) },
	}
	for name, play := range begin {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			play(c)
			c.conn.Sent()
			f.world.Advance(59 * time.Second)
			c.want()
			f.world.Advance(30 * time.Second)
			if !c.conn.Closed() || f.ended(endStalled) != 1 {
				t.Fatalf("closed %v, stats %+v", c.conn.Closed(), f.proxy.Stats())
			}
			c.want("E|FATAL|08P01|client sent part of a query and no more for 1m0s")
			for range 5 {
				f.world.Advance(time.Second)
			}
			f.checkIdle()
		})
	}
	t.Run("reads nothing", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.conn.Stall()
		c.send("Q|rows 1000 1000")
		f.world.Advance(59 * time.Second)
		if c.conn.Closed() {
			t.Fatal("closed early")
		}
		f.world.Advance(30 * time.Second)
		if !c.conn.Closed() || !c.conn.Aborted() || f.ended(endStalled) != 1 {
			t.Errorf("closed %v, aborted %v, stats %+v", c.conn.Closed(), c.conn.Aborted(), f.proxy.Stats())
		}
		f.checkIdle()
	})
	t.Run("reads nothing of a shared reply", func(t *testing.T) {
		f := newFixture(t, oneServer, sharedReads)
		c := f.login()
		warm(c, "select big 3000000")
		c.conn.Stall()
		c.send("Q|select big 3000000")
		if f.stats().ServersShared != 1 {
			t.Fatalf("stats %+v", f.stats())
		}
		f.world.Advance(90 * time.Second)
		if !c.conn.Closed() || f.ended(endStalled) != 1 {
			t.Errorf("closed %v, stats %+v", c.conn.Closed(), f.proxy.Stats())
		}
		f.checkIdle()
	})
}

// warm makes a text one that may be shared: it has been run, and was fast.
func warm(c *client, text string) {
	c.f.Helper()
	c.send("Q|" + text)
	for _, s := range c.f.pg.Open() {
		if s.Waiting() {
			s.Go()
		}
	}
	c.f.world.Settle()
	c.conn.Sent()
}

// A client that waits, or is slow, is left alone.
func TestNoStall(t *testing.T) {
	t.Run("waits for a query", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|wait")
		f.world.Advance(time.Hour)
		f.server().Go()
		c.want("D|waited", "C|SELECT 1", "Z|I")
	})
	t.Run("waits for an answer in a group", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("P||wait", "B||", "E|", "H")
		f.world.Advance(time.Hour)
		f.server().Go()
		c.want("1", "2", "D|waited", "C|SELECT 1")
		c.send("S")
		c.want("Z|I")
	})
	t.Run("waits for a server", func(t *testing.T) {
		f := newFixture(t, oneServer, func(c *Config) { c.Pool.QueryWaitTimeout = 0 })
		release := f.block()
		c := f.login()
		c.send("Q|select 1")
		f.world.Advance(time.Hour)
		release()
		c.want("T|c", "D|1", "C|SELECT 1", "Z|I")
	})
	t.Run("waits for a server that does not read", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		s := f.server()
		s.Conn.Stall()
		c.feed(pooltest.Frontend("Q|*200000")[:150_000])
		f.world.Advance(time.Hour)
		if c.conn.Closed() {
			t.Error("closed though the server is to blame")
		}
	})
	t.Run("reads slowly", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.conn.Stall()
		c.send("Q|rows 1000 1000")
		for range 100 {
			c.conn.Take(1000)
			f.world.Advance(30 * time.Second)
			if c.conn.Closed() {
				t.Fatal("closed though it reads")
			}
		}
		c.conn.Flow()
		f.world.Settle()
		if got := pooltest.BackendWords(c.conn.Sent()); got[len(got)-1] != "Z|I" {
			t.Errorf("%d messages", len(got))
		}
	})
	t.Run("is idle", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.ask("1")
		f.world.Advance(24 * time.Hour)
		c.ask("2")
		f.world.Advance(time.Hour)
		if f.world.Armed() && f.stats().ServersIdle != 1 {
			t.Errorf("stats %+v", f.stats())
		}
	})
	t.Run("copies for long", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|copy in")
		c.want("G")
		for i := range 50 {
			c.send(fmt.Sprintf("d|%d", i))
			f.world.Advance(50 * time.Second)
		}
		c.send("c")
		c.want("C|COPY 1", "Z|I")
	})
}

func TestTimersOff(t *testing.T) {
	f := newFixture(t, oneServer, func(c *Config) { c.ClientStallTimeout, c.ClientLoginTimeout = 0, 0 })
	silent := f.dial()
	c := f.login()
	c.send("P||select 1")
	f.world.Advance(24 * time.Hour)
	c.send("B||", "E|", "S")
	c.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
	silent.startup()
	silent.welcomed()
}
