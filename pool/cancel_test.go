package pool

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// cancelDial returns the dial of a cancel request, connected.
func (f *fixture) cancelDial() *pooltest.Conn {
	f.Helper()
	if len(f.world.Dials) != 1 {
		f.Fatalf("%d dials, want the cancel request's", len(f.world.Dials))
	}
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	got, _, err := pgwire.ParseStartup(conn.Sent())
	if err != nil || got.Kind != pgwire.StartupCancel || got.CancelPID != 7 || string(got.CancelKey) != "key7" {
		f.Fatalf("cancel request %+v, %v", got, err)
	}
	return conn
}

func TestCancel(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|wait")
	c.server.Cancel()
	request := f.cancelDial()
	f.feed(conn, "E|ERROR|57014|canceled", "Z|I")
	c.want("E|ERROR|57014|canceled", "Z|I", "[end I]", "[released]")
	if stats := f.pool.Stats(); stats.ServersCanceling != 1 || stats.ServersIdle != 0 {
		t.Errorf("the server is lent before the cancel request has ended: %+v", stats)
	}
	next := f.newClient()
	next.acquire(f.pool)
	request.End(pooltest.EOF)
	next.want("[lease]")
	if next.server.timer.Armed() {
		t.Error("a deadline is left armed")
	}
}

func TestCancelEndsBeforeTheQuery(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|wait")
	c.server.Cancel()
	f.cancelDial().End(pooltest.EOF)
	f.world.Settle()
	f.feed(conn, "E|ERROR|57014|canceled", "Z|I")
	c.want("E|ERROR|57014|canceled", "Z|I", "[end I]", "[released]")
	if f.pool.Stats().ServersIdle != 1 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
}

func TestCancelTwice(t *testing.T) {
	for _, running := range []bool{true, false} {
		f := newFixture(t)
		c, conn := f.client()
		c.send("Q|wait")
		server := c.server
		server.Cancel()
		server.Cancel()
		server.Cancel()
		request := f.cancelDial()
		if !running {
			f.feed(conn, "E|ERROR|57014|canceled", "Z|I")
		}
		request.End(pooltest.EOF)
		f.world.Settle()
		if running {
			f.cancelDial().End(pooltest.EOF)
			f.world.Settle()
		}
		if len(f.world.Dials) != 0 {
			t.Errorf("running %v: a third request, or one for nothing", running)
		}
	}
}

func TestCancelFails(t *testing.T) {
	tests := map[string]func(f *fixture){
		"refused":       func(f *fixture) { f.world.Dials[0].Fail(errors.New("refused")) },
		"not connected": func(f *fixture) { f.world.Advance(5 * time.Second) },
		"not answered": func(f *fixture) {
			request := f.world.Dials[0].Connect()
			f.world.Advance(5 * time.Second)
			if !request.Closed() {
				f.Error("the request is left open")
			}
		},
		"reset": func(f *fixture) { f.world.Dials[0].Connect().End(errors.New("reset")) },
	}
	for name, fail := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			c.send("Q|wait")
			c.server.Cancel()
			f.feed(conn, "C|SELECT 1", "Z|I")
			if f.pool.Stats().ServersCanceling != 1 {
				t.Fatalf("stats %+v", f.pool.Stats())
			}
			fail(f)
			f.world.Settle()
			if stats := f.pool.Stats(); stats.ServersIdle != 1 || stats.ServersCanceling != 0 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

// A server on which a cancel request may still strike is closed in the end.
func TestCancelThatNeverEnds(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ServerConnectTimeout = time.Minute })
	c, conn := f.client()
	c.send("Q|wait")
	c.server.Cancel()
	f.feed(conn, "C|SELECT 1", "Z|I")
	f.world.Advance(resetTimeout)
	if !conn.Closed() || f.pool.Stats().ServersClosed[ReasonStuck.String()] != 1 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
	f.world.Advance(time.Minute) // the dial fails for a server that is gone
}

func TestCancelWithoutKey(t *testing.T) {
	f := newFixture(t)
	c := f.newClient()
	c.acquire(f.pool)
	conn := f.world.Dials[0].Connect()
	f.feed(conn, slices.DeleteFunc(slices.Clone(loginWords), func(word string) bool { return word[0] == 'K' })...)
	c.send("Q|wait")
	c.server.Cancel()
	if len(f.world.Dials) != 0 {
		t.Error("a cancel request without a key")
	}
}

func TestOrphanWithACancelInFlight(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.DefaultPoolSize = 1 })
	c, conn := f.client()
	c.send("Q|begin")
	f.feed(conn, "C|BEGIN", "Z|T")
	c.send("Q|wait")
	c.server.Cancel()
	request := f.cancelDial()
	c.server.Orphan(true)
	conn.Sent()
	next := f.newClient()
	next.acquire(f.pool)
	f.feed(conn, "E|ERROR|57014|canceled", "Z|E")
	f.wantSent(conn) // the ROLLBACK might be hit
	request.End(pooltest.EOF)
	f.wantSent(conn, "Q|ROLLBACK")
	next.want()
	f.feed(conn, "C|ROLLBACK", "Z|I")
	next.want("[lease]")
}
