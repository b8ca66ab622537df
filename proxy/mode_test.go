package proxy

import (
	"slices"
	"testing"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pooltest"
)

func mode(m pool.Mode) func(*Config) { return func(c *Config) { c.Pool.Mode = m } }

func TestSessionMode(t *testing.T) {
	f := newFixture(t, mode(pool.ModeSession), sharedReads)
	a, b := f.login(), f.login()
	a.ask("1")
	b.ask("2")
	if stats := f.stats(); stats.ServersLeased != 2 {
		t.Errorf("stats %+v", stats)
	}
	a.send("Q|begin", "Q|insert", "Q|commit", "P|s|select 3", "B||s", "E|", "S")
	a.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T", "C|COMMIT", "Z|I", "1", "2", "D|3", "C|SELECT 1", "Z|I")
	c := f.login()
	c.send("Q|select 4")
	c.want()
	a.send("X")
	c.want("T|c", "D|4", "C|SELECT 1", "Z|I")
	if s := f.pg.Open(); !slices.Contains(s[0].Executed, "DISCARD ALL") && !slices.Contains(s[1].Executed, "DISCARD ALL") {
		t.Error("the server was not cleaned")
	}
	c.close(pooltest.EOF)
	b.send("X")
	f.checkIdle()
	if len(f.pg.Sessions) != 2 {
		t.Errorf("%d servers were used", len(f.pg.Sessions))
	}
}

func TestSessionModeServerLost(t *testing.T) {
	f := newFixture(t, mode(pool.ModeSession), oneServer)
	c := f.login()
	c.ask("1")
	f.server().Terminate()
	c.wantEnd("E|FATAL|57P01|" + terminated)
}

func TestStatementMode(t *testing.T) {
	f := newFixture(t, mode(pool.ModeStatement), oneServer)
	a, b := f.login(), f.login()
	a.ask("1")
	b.ask("2")
	a.send("P||select 3", "B||", "E|", "S")
	a.want("1", "2", "D|3", "C|SELECT 1", "Z|I")
	for _, words := range [][]string{{"Q|begin"}, {"P||begin", "B||", "E|", "S"}} {
		c := f.login()
		c.send(words...)
		got := pooltest.BackendWords(c.conn.Sent())
		if last := got[len(got)-1]; last != "E|FATAL|0A000|transaction blocks are not allowed in statement pooling mode" || !c.conn.Closed() {
			t.Errorf("%q: got %q", words, got)
		}
	}
	if f.ended(endPoolMode) != 2 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
	b.ask("4")
	if got := f.server().Executed; !slices.Contains(got, "ROLLBACK") {
		t.Errorf("executed %q", got)
	}
	a.send("Q|begin;insert;commit") // in one statement
	a.want("C|BEGIN", "C|INSERT 0 1", "C|COMMIT", "Z|I")
	a.send("X")
	b.send("X")
	f.checkIdle()
}

func TestPoolsByUserAndDatabase(t *testing.T) {
	f := newFixture(t, oneServer)
	a := f.login()
	b := f.dial()
	b.startup("user", "other") // the last one counts, as in PostgreSQL
	b.welcomed()
	a.send("Q|begin", "Q|insert")
	a.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T")
	b.ask("1")
	pools := f.proxy.Stats().Pools
	if len(pools) != 2 || pools[0].User != "app" || pools[1].User != "other" || pools[0].ServersLeased != 1 || pools[1].ServersIdle != 1 {
		t.Errorf("pools %+v", pools)
	}
}
