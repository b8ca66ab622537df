package proxy

import (
	"slices"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestTerminate(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		f := newFixture(t)
		c := f.login()
		c.send("X")
		c.wantEnd()
		if f.ended(endTerminate) != 1 {
			t.Errorf("stats %+v", f.proxy.Stats())
		}
	})
	t.Run("behind a query", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|insert 1", "X")
		if s := f.server(); !slices.Contains(s.Executed, "insert 1") || len(f.pg.CancelPIDs) != 0 {
			t.Errorf("executed %q, cancels %v", s.Executed, f.pg.CancelPIDs)
		}
		f.checkIdle()
	})
	t.Run("while a query runs", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|wait")
		c.send("X")
		c.wantEnd()
		if len(f.pg.CancelPIDs) != 0 {
			t.Error("the query is canceled")
		}
		f.server().Go()
		f.world.Settle()
		f.checkIdle()
	})
	t.Run("while it waits for a server", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		c := f.login()
		c.send("Q|insert 1")
		c.send("X")
		c.wantEnd()
		if f.stats().ClientsWaiting != 0 {
			t.Errorf("stats %+v", f.stats())
		}
		release()
		if slices.Contains(f.server().Executed, "insert 1") {
			t.Error("the work of a client that is gone was done")
		}
		f.checkIdle()
	})
	t.Run("behind a group that has to wait", func(t *testing.T) {
		for _, sql := range []string{"wait", "discard all"} {
			f := newFixture(t, oneServer)
			c := f.login()
			c.send("P||"+sql, "B||", "E|", "S", "P||insert 2", "B||", "E|", "X")
			c.close(pooltest.EOF)
			if len(f.pg.CancelPIDs) != 0 {
				t.Error("the first group is canceled")
			}
			if s := f.server(); s.Waiting() {
				s.Go()
			}
			f.world.Settle()
			if f.ended(endTerminate) != 1 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
			f.checkIdle()
		}
	})
	t.Run("in a transaction", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.login().send("Q|begin", "Q|select 1", "X")
		if got := f.server().Executed; got[len(got)-1] != "ROLLBACK" {
			t.Errorf("executed %q", got)
		}
		f.checkIdle()
	})
	t.Run("in a transaction that has not reached a server", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.login().send("Q|begin", "X")
		f.checkIdle()
	})
}

func TestClientGoes(t *testing.T) {
	begin := map[string]func(*client){
		"idle":            func(*client) {},
		"query":           func(c *client) { c.send("Q|wait") },
		"transaction":     func(c *client) { c.send("Q|begin", "Q|insert") },
		"query in it":     func(c *client) { c.send("Q|begin", "Q|wait") },
		"failed":          func(c *client) { c.send("Q|begin", "Q|fail") },
		"part of a group": func(c *client) { c.send("P||select 1", "B||", "H") },
		"skipping":        func(c *client) { c.send("B||none", "H") },
		"skipping, query": func(c *client) { c.send("B||none", "E|", "Q|select 1") },
		"pipeline":        func(c *client) { c.send("Q|wait", "Q|wait", "Q|insert", "P||select 1", "B||", "S", "B||") },
		"known pipeline":  func(c *client) { c.send("P||wait", "B||", "E|", "S", "P||wait", "B||", "E|", "S", "P||wait") },
		"copy in":         func(c *client) { c.send("Q|copy in", "d|1") },
		"copy in, sync":   func(c *client) { c.send("P||copy in", "B||", "E|", "S", "d|1") },
		"half a copy":     func(c *client) { c.send("Q|copy in"); c.feed(pooltest.Frontend("d|*100000")[:70000]) },
		"half a query":    func(c *client) { c.feed(pooltest.Frontend("Q|*100000")[:70000]) },
		"half a bind": func(c *client) {
			c.prepare("s", "select 1")
			c.feed(pooltest.Frontend("B||s|*100000")[:70000])
		},
		"half a startup of a group": func(c *client) { c.feed(pooltest.Frontend("P||select 1", "B||")[:20]) },
	}
	for name, play := range begin {
		for _, words := range []string{"sharing", "not sharing"} {
			t.Run(name+", "+words, func(t *testing.T) {
				f := newFixture(t, oneServer, func(c *Config) { c.Pool.SharedReads = words == "sharing" })
				c := f.login()
				play(c)
				c.close(pooltest.EOF)
				f.world.Advance(0)
				for range 5 { // a cancel request may have to be repeated
					f.world.Advance(1e9)
				}
				f.checkIdle()
				next := f.login()
				next.send("P||select 1", "B||", "E|", "S", "Q|insert")
				next.want("1", "2", "D|1", "C|SELECT 1", "Z|I", "C|INSERT 0 1", "Z|I")
				if len(f.pg.Sessions) != 1 {
					t.Errorf("a client's end has cost a server: %+v", f.stats().ServersClosed)
				}
				if f.ended(endGone) != 1 {
					t.Errorf("stats %+v", f.proxy.Stats())
				}
			})
		}
	}
}
