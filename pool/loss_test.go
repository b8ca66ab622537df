package pool

import (
	"errors"
	"fmt"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestServerLost(t *testing.T) {
	long := pooltest.Backend(fmt.Sprintf("D|*%d", 3*maxWholeBytes))[:2*maxWholeBytes]
	tests := []struct {
		name  string
		play  func(c *testClient, conn *pooltest.Conn)
		want  Loss // Cause apart
		cause pgwire.SQLState
	}{
		{"idle", func(*testClient, *pooltest.Conn) {}, Loss{}, ""},
		{"a query", func(c *testClient, _ *pooltest.Conn) { c.send("Q|select 1") }, Loss{GroupCount: 1}, ""},
		{"a query with rows", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|select 1")
			c.f.feed(conn, "T|c", "D|1")
		}, Loss{GroupCount: 1}, ""},
		{"a query with an error", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|select 1", "Q|select 2")
			c.f.feed(conn, "E|ERROR|22012|no")
		}, Loss{GroupCount: 2, FirstHasError: true}, ""},
		{"the next query after an error", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|select 1", "Q|select 2")
			c.f.feed(conn, "E|ERROR|22012|no", "Z|I")
		}, Loss{GroupCount: 1}, ""},
		{"last words", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|select 1")
			c.f.feed(conn, "E|FATAL|57P01|terminated")
		}, Loss{GroupCount: 1}, pgwire.AdminShutdown},
		{"last words of a crash", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|select 1")
			c.f.feed(conn, "E|PANIC|57P02|crash")
		}, Loss{GroupCount: 1}, pgwire.CrashShutdown},
		{"in a transaction", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|begin")
			c.f.feed(conn, "C|BEGIN", "Z|T")
		}, Loss{InTransaction: true}, ""},
		{"after a transaction", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|begin", "Q|commit", "Q|select 1")
			c.f.feed(conn, "C|BEGIN", "Z|T", "C|COMMIT", "Z|I")
		}, Loss{GroupCount: 1}, ""},
		{"part of a group", func(c *testClient, _ *pooltest.Conn) { c.send("P|s|select 1", "B||s") }, Loss{Partial: true, LowestTag: 1}, ""},
		{"part of a group, answered", func(c *testClient, conn *pooltest.Conn) {
			c.send("P|s|select 1", "B||s", "H")
			c.f.feed(conn, "1", "2")
		}, Loss{Partial: true}, ""},
		{"part of a group that failed", func(c *testClient, conn *pooltest.Conn) {
			c.send("P|s|select 1", "B||s")
			c.f.feed(conn, "1", "E|ERROR|22023|no")
		}, Loss{Partial: true, FirstHasError: true}, ""},
		{"a group that failed before its sync", func(c *testClient, conn *pooltest.Conn) {
			c.send("P|s|select 1", "B||s")
			c.f.feed(conn, "1", "E|ERROR|22023|no")
			c.send("S")
		}, Loss{GroupCount: 1, FirstHasError: true}, ""},
		{"two groups and a part", func(c *testClient, _ *pooltest.Conn) {
			c.send("Q|select 1", "P|s|select 1", "S", "P|x|select 2")
		}, Loss{GroupCount: 2, Partial: true, LowestTag: 1}, ""},
		{"a parse that was answered", func(c *testClient, conn *pooltest.Conn) {
			c.send("P|s|select 1", "P|x|select 2", "S")
			c.f.feed(conn, "1")
		}, Loss{GroupCount: 1, LowestTag: 2}, ""},
		{"our own query in front", func(c *testClient, _ *pooltest.Conn) {
			c.server.Adopt(c.f.settings("a", "1"))
			c.send("Q|select 1")
		}, Loss{GroupCount: 1}, ""},
		{"our own query alone", func(c *testClient, _ *pooltest.Conn) { c.server.Adopt(c.f.settings("a", "1")) }, Loss{}, ""},
		{"in a message", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|select 1")
			conn.Feed(long)
		}, Loss{GroupCount: 1, MidMessage: true}, ""},
		{"in a copy", func(c *testClient, conn *pooltest.Conn) {
			c.send("P||copy", "B||", "E|", "S")
			c.f.feed(conn, "1", "2", "G")
		}, Loss{Partial: true}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			test.play(c, conn)
			conn.End(pooltest.EOF)
			f.world.Settle()
			if c.loss == nil {
				t.Fatal("the client was not told")
			}
			got := *c.loss
			cause := got.Cause
			got.Cause = nil
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("loss %+v, want %+v", got, test.want)
			}
			if test.cause == "" {
				test.cause = pgwire.ConnectionFailure
			}
			if cause.SQLState != test.cause || !cause.IsFatal() || cause.Message == "" {
				t.Errorf("cause %v, want %s", cause, test.cause)
			}
			if f.pools.ServerCount() != 0 || f.pool.Stats().ServersClosed[ReasonLost.String()] != 1 {
				t.Errorf("stats %+v", f.pool.Stats())
			}
		})
	}
}

func TestServerLostWithAnError(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	conn.End(errors.New("connection reset by peer"))
	f.world.Settle()
	if c.loss == nil || c.loss.Cause.Message != "connection to server lost: connection reset by peer" {
		t.Errorf("loss %+v", c.loss)
	}
}

func TestIdleServerLost(t *testing.T) {
	idle := func(t *testing.T) (*fixture, *pooltest.Conn) {
		f := newFixture(t)
		c, conn := f.client()
		c.server.Release()
		if f.pool.Stats().ServersIdle != 1 {
			t.Fatalf("stats %+v", f.pool.Stats())
		}
		return f, conn
	}
	t.Run("without words", func(t *testing.T) {
		f, conn := idle(t)
		conn.End(pooltest.EOF)
		f.world.Settle()
		if f.pools.ServerCount() != 0 || f.pool.Stats().ServersIdle != 0 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("after last words nobody is lent it", func(t *testing.T) {
		f, conn := idle(t)
		f.feed(conn, "E|FATAL|57P01|terminated")
		c := f.newClient()
		if c.acquire(f.pool); c.server != nil {
			t.Error("a client was lent a server that ends")
		}
		if stats := f.pool.Stats(); stats.ServersClosed[ReasonLost.String()] != 1 {
			t.Errorf("stats %+v", stats)
		}
	})
	t.Run("what it says meanwhile is dropped", func(t *testing.T) {
		f, conn := idle(t)
		f.feed(conn, "N|notice", "A|channel", "E|ERROR|XX000|stray", "S|TimeZone|Asia/Tokyo")
		c := f.newClient()
		c.acquire(f.pool)
		c.send("Q|select 1")
		f.feed(conn, "C|SELECT 1", "Z|I")
		c.want("C|SELECT 1", "Z|I", "[end I]", "[released]")
		wantWords(t, "welcome", pooltest.BackendWords(f.pool.AppendWelcome(nil, nil)), []string{"S|server_version|15.0", "S|TimeZone|Asia/Tokyo"})
	})
	t.Run("in a message that takes long", func(t *testing.T) {
		f, conn := idle(t)
		notice := pooltest.Backend(fmt.Sprintf("N|*%d", 2*maxWholeBytes))
		conn.Feed(notice[:maxWholeBytes])
		f.world.Settle()
		c := f.newClient()
		c.acquire(f.pool)
		if c.server != nil {
			conn.Feed(notice[maxWholeBytes:])
			c.send("Q|select 1")
			f.feed(conn, "C|SELECT 1", "Z|I")
			c.want("C|SELECT 1", "Z|I", "[end I]", "[released]")
		}
	})
}
