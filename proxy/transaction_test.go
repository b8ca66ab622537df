package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
)

const aborted = "E|ERROR|25P02|current transaction is aborted, commands ignored until end of transaction block"

// An idle BEGIN holds no server, and goes together with the first statement.
func TestBeginHoldsNoServer(t *testing.T) {
	f := newFixture(t, oneServer)
	c, d := f.login(), f.login()
	c.send("Q|begin")
	c.want("C|BEGIN", "Z|T")
	d.ask("1")
	d.send("Q|begin", "Q|insert", "Q|commit")
	d.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T", "C|COMMIT", "Z|I")
	f.server().Received = nil
	c.send("Q|select 2")
	c.want("T|c", "D|2", "C|SELECT 1", "Z|T")
	f.wantReceived("Q|begin", "Q|select 2")
	c.send("Q|commit")
	c.want("C|COMMIT", "Z|I")
	f.checkIdleServers()
}

func TestBeginThatNothingFollows(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	f.server().Received = nil
	for end, tag := range map[string]string{"commit": "COMMIT", "rollback": "ROLLBACK", "end": "COMMIT", "ABORT": "ROLLBACK"} {
		c.send("Q|begin", "Q|"+end)
		c.want("C|BEGIN", "Z|T", "C|"+tag, "Z|I")
	}
	c.send("Q|/* start */ begin isolation level serializable", "S", "H", "Q|Start Transaction", "Q|commit")
	got := pooltest.BackendWords(c.conn.Sent())
	if got[0] != "C|BEGIN" || got[1] != "Z|T" || got[2] != "Z|T" {
		t.Errorf("got %q", got)
	}
	f.checkIdleServers()
}

func TestBeginTags(t *testing.T) {
	for text, want := range map[string]string{
		"begin": "BEGIN", "BEGIN;": "BEGIN", " \n Begin work": "BEGIN", "/* start */ begin": "BEGIN", "-- s\nbegin": "BEGIN",
		"start transaction": "START TRANSACTION", "/* begin */ START TRANSACTION READ ONLY": "START TRANSACTION",
	} {
		if got := beginTag(text); got != want {
			t.Errorf("%q: tag %q, want %q", text, got, want)
		}
	}
}

// BEGIN by the extended query protocol, as drivers send it again and again.
func TestBeginExtended(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	for round := range 3 {
		c.send("P||begin", "B||", "E|", "S")
		c.want("1", "2", "C|BEGIN", "Z|T")
		c.send("P||insert", "B||", "DP|", "E|", "S")
		c.want("1", "2", "n", "C|INSERT 0 1", "Z|T")
		c.send("P||commit", "B||", "E|", "S")
		c.want("1", "2", "C|COMMIT", "Z|I")
		if round == 0 {
			c.prepare("b", "begin")
			c.prepare("c", "commit")
		}
	}
	f.server().Received = nil
	c.send("B||b", "DP|", "E|", "S", "B||c", "E|", "S")
	c.want("2", "n", "C|BEGIN", "Z|T", "2", "C|COMMIT", "Z|I")
	f.wantReceived()
}

// The transaction's first statement may be refused before any server knows of the
// transaction: it has failed all the same.
func TestBeginWithoutAServer(t *testing.T) {
	begin := func(t *testing.T) (*fixture, *client) {
		f := newFixture(t, oneServer)
		f.block()
		c := f.login()
		c.send("Q|begin", "P|s|insert", "B||s", "E|", "S")
		c.want("C|BEGIN", "Z|T")
		f.world.Advance(10 * time.Second)
		c.want("E|ERROR|53400|no server became free within 10s", "Z|E")
		c.send("Q|select 1", "P||select 1", "B||", "E|", "S", "Q|begin")
		c.want(aborted, "Z|E", aborted, "Z|E", aborted, "Z|E")
		return f, c
	}
	for _, end := range []string{"rollback", "commit", "ROLLBACK;", "end"} {
		t.Run(end, func(t *testing.T) {
			_, c := begin(t)
			c.send("Q|" + end)
			c.want("C|ROLLBACK", "Z|I")
		})
		t.Run(end+", extended", func(t *testing.T) {
			f, c := begin(t)
			c.send("P||"+end, "B||", "DP|", "E|", "S")
			c.want("1", "2", "n", "C|ROLLBACK", "Z|I")
			for _, s := range f.pg.Open() {
				if slices.Contains(s.Executed, "insert") {
					t.Error("a statement was run that had been refused")
				}
			}
		})
	}
	t.Run("the client goes", func(t *testing.T) {
		f, c := begin(t)
		c.close(pooltest.EOF)
		if f.proxy.Stats().ClientCount != 1 {
			t.Errorf("stats %+v", f.proxy.Stats())
		}
	})
}

// On a standby, which cannot write, a BEGIN may be refused after it was answered.
func TestBeginThatTheServerRefuses(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	s := f.server()
	c.send("Q|begin read write")
	c.want("C|BEGIN", "Z|T")
	s.Refuse = "begin read write" // as a standby does
	c.send("Q|insert")
	got := pooltest.BackendWords(c.conn.Sent())
	if len(got) != 1 || !strings.HasPrefix(got[0], "E|FATAL|25006|") || !c.conn.Closed() {
		t.Errorf("got %q", got)
	}
	f.checkIdle()
}

// Many more transactions than servers, half of them idle after BEGIN: they do not
// wait for each other.
func TestBeginsDoNotBlockEachOther(t *testing.T) {
	f := newFixture(t, oneServer)
	var clients []*client
	for i := range 20 {
		c := f.login()
		c.send("Q|begin")
		c.want("C|BEGIN", "Z|T")
		c.prepare2(fmt.Sprintf("s%d", i), "insert")
		clients = append(clients, c)
	}
	for i, c := range clients {
		c.send("B||"+fmt.Sprintf("s%d", i), "E|", "S", "Q|commit")
		got := pooltest.BackendWords(c.conn.Sent())
		if got[len(got)-1] != "Z|I" || got[len(got)-2] != "C|COMMIT" {
			t.Fatalf("client %d: %q", i, got)
		}
	}
}

// prepare2 prepares a statement in whatever transaction there is, when others have
// prepared the same: that takes no server.
func (c *client) prepare2(name, text string) {
	c.f.Helper()
	if c.f.proxy.pools.Get("shop", "app").Registry().Lookup(nil, []byte(text+"\x00\x00\x00")) == nil {
		other := c.f.login()
		other.prepare(name, text)
		other.send("X")
	}
	c.send("P|"+name+"|"+text, "S")
	c.want("1", "Z|T")
}

func TestTransactionPinsTheServer(t *testing.T) {
	f := newFixture(t, oneServer)
	c, d := f.login(), f.login()
	c.send("Q|begin", "Q|insert 1")
	c.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T")
	d.send("Q|insert 2")
	d.want()
	c.send("Q|insert 3", "Q|fail", "Q|insert 4")
	c.want("C|INSERT 0 1", "Z|T", "E|ERROR|22012|division by zero", "Z|E", aborted, "Z|E")
	d.want()
	c.send("Q|rollback")
	c.want("C|ROLLBACK", "Z|I")
	d.want("C|INSERT 0 1", "Z|I")
}
