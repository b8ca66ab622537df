package pool

import (
	"fmt"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestContended(t *testing.T) {
	f := newFixture(t, poolSize(1))
	c, _ := f.client()
	c.send("Q|select 1")
	if c.server.Contended() {
		t.Error("contended with nobody else")
	}
	f.waiters(f.pool, 1)
	if !c.server.Contended() {
		t.Error("not contended though another waits")
	}

	g := newFixture(t, poolSize(1))
	c, _ = g.client()
	g.waiters(g.pool, 1)
	c.server.Adopt(g.settings("a", "1"))
	if c.server.Contended() {
		t.Error("the settings that a client needs count as its share")
	}
}

// Clients with different settings on one server all get on.
func TestSettingsDoNotStarve(t *testing.T) {
	f := newFixture(t, poolSize(1))
	c, conn := f.client()
	waiting := f.waiters(f.pool, 4)
	for i, next := range append([]*testClient{c}, waiting...) {
		if next.server == nil {
			t.Fatalf("client %d is not served", i)
		}
		switched := next.server.Adopt(f.settings("n", fmt.Sprint(i)))
		f.feed(conn, "T|c", "D|x", "C|SELECT 1", "Z|I")
		if !switched || next.server == nil {
			t.Fatalf("client %d has lost its server before it was used", i)
		}
		next.send("Q|select 1")
		f.feed(conn, "C|SELECT 1", "Z|I")
	}
}

func TestAdopt(t *testing.T) {
	f := newFixture(t, poolSize(1))
	c, conn := f.client()
	utc := f.settings("timezone", "UTC")
	if utc.Accepted() {
		t.Error("accepted before it was tried")
	}
	if !c.server.Adopt(utc) || c.server.Adopt(utc) {
		t.Error("the settings are switched twice, or not at all")
	}
	c.send("Q|select 1")
	f.wantSent(conn, "Q|SELECT pg_catalog.set_config(E'timezone',E'UTC',false)", "Q|select 1")
	f.feed(conn, "T|set_config", "N|x", "D|UTC", "C|SELECT 1", "S|TimeZone|UTC", "Z|I")
	c.want("[settings]")
	f.feed(conn, "T|c", "C|SELECT 0", "Z|I")
	c.want("T|c", "C|SELECT 0", "Z|I", "[end I]", "[released]")
	if !utc.Accepted() {
		t.Error("not accepted though a server has taken it")
	}
	wantWords(t, "welcome", pooltest.BackendWords(f.pool.AppendWelcome(nil, utc)), []string{"S|server_version|15.0", "S|TimeZone|UTC"})
	wantWords(t, "welcome of others", pooltest.BackendWords(f.pool.AppendWelcome(nil, nil)), []string{"S|server_version|15.0", "S|TimeZone|Etc/UTC"})
	c.acquire(f.pool)
	if c.server.Adopt(utc) {
		t.Error("the settings are switched though the server has them")
	}
	if !c.server.Adopt(nil) {
		t.Error("the settings are not switched back")
	}
	f.wantSent(conn, "Q|RESET timezone;")
}

func TestAdoptRefused(t *testing.T) {
	f := newFixture(t, poolSize(1))
	c, conn := f.client()
	bad := f.settings("timezone", "nowhere")
	c.server.Adopt(bad)
	f.feed(conn, "E|ERROR|22023|invalid value", "Z|I")
	c.want("[settings 22023]")
	if bad.Accepted() {
		t.Error("accepted though it was refused")
	}
	c.server.Release()
	c.acquire(f.pool)
	if c.server.Adopt(nil) {
		t.Error("the server is taken to have what it refused")
	}
}

// What a client that has gone changes does not stay.
func TestSettingsOfAClientThatIsGone(t *testing.T) {
	t.Run("set", func(t *testing.T) {
		f := newFixture(t, poolSize(1))
		c, conn := f.client()
		c.send("Q|set timezone")
		c.server.Orphan(false)
		conn.Sent()
		f.feed(conn, "C|SET", "S|TimeZone|Asia/Tokyo", "Z|I")
		f.wantSent(conn, "Q|RESET ROLE;RESET SESSION AUTHORIZATION;RESET ALL")
	})
	t.Run("set in a transaction", func(t *testing.T) {
		f := newFixture(t, poolSize(1))
		c, conn := f.client()
		tokyo := f.settings("timezone", "Asia/Tokyo")
		c.send("Q|begin;set timezone")
		f.feed(conn, "C|BEGIN", "C|SET", "S|TimeZone|Asia/Tokyo", "Z|T")
		c.server.SettingsChanged(tokyo)
		c.server.Orphan(false)
		f.feed(conn, "C|ROLLBACK", "S|TimeZone|Etc/UTC", "Z|I")
		f.wantSent(conn, "Q|begin;set timezone", "Q|ROLLBACK", "Q|RESET ROLE;RESET SESSION AUTHORIZATION;RESET ALL")
		f.feed(conn, "C|RESET", "C|RESET", "C|RESET", "Z|I")
		next := f.newClient()
		next.acquire(f.pool)
		if next.server == nil {
			t.Fatalf("stats %+v", f.pool.Stats())
		}
		if !next.server.Adopt(tokyo) {
			t.Error("the server is taken to have what was rolled back")
		}
	})
}

func TestDiscardAllForgetsSettings(t *testing.T) {
	f := newFixture(t, poolSize(1))
	c, conn := f.client()
	settings := f.settings("search_path", "app", "timezone", "UTC")
	c.server.Adopt(settings)
	c.send("Q|discard all")
	f.feed(conn, "C|SELECT 1", "S|TimeZone|UTC", "Z|I", "C|DISCARD ALL", "S|TimeZone|Etc/UTC", "Z|I")
	c.want("[settings]", "[deallocate all]", "C|DISCARD ALL", "[discard []]", "Z|I", "[end I]", "[released]")
	c.acquire(f.pool)
	if !c.server.Adopt(settings) {
		t.Error("the server is taken to have settings that it has discarded")
	}
}

func TestBeginTransaction(t *testing.T) {
	t.Run("well", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.client()
		c.server.BeginTransaction("begin read only")
		c.send("Q|select 1")
		f.wantSent(conn, "Q|begin read only", "Q|select 1")
		f.feed(conn, "N|x", "C|BEGIN", "Z|T", "C|SELECT 1", "Z|T")
		c.want("C|SELECT 1", "Z|T", "[end T]")
		c.send("Q|commit")
		f.feed(conn, "C|COMMIT", "Z|I")
		c.want("C|COMMIT", "Z|I", "[end I]", "[released]")
	})
	t.Run("refused", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.client()
		c.server.BeginTransaction("begin read write")
		f.feed(conn, "E|ERROR|25006|no", "Z|I")
		c.want("[settings 25006]")
	})
}
