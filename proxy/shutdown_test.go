package proxy

import (
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pooltest"
)

const shutdownWord = "E|FATAL|57P01|terminating connection due to administrator command"

// shutdown begins a shutdown and returns whether it is done.
func (f *fixture) shutdown() *int {
	done := new(int)
	f.proxy.Shutdown(func() { *done++ })
	f.world.Settle()
	return done
}

func TestShutdownOfNobody(t *testing.T) {
	f := newFixture(t)
	if done := f.shutdown(); *done != 1 {
		t.Errorf("done was called %d times", *done)
	}
}

func TestShutdown(t *testing.T) {
	tests := []struct {
		name   string
		before []string
		said   []string // before the shutdown
		after  []string // sent during it
		want   []string // in the end, besides FATAL
		goOn   bool     // the server goes on with what it waits for
	}{
		{name: "idle"},
		{name: "idle after a query", before: []string{"Q|select 1"}, said: []string{"T|c", "D|1", "C|SELECT 1", "Z|I"}},
		{name: "a query", before: []string{"Q|wait"}, goOn: true, want: []string{"D|waited", "C|SELECT 1", "Z|I"}},
		{
			name: "a pipeline", before: []string{"Q|wait", "Q|insert", "P||insert", "B||", "E|", "S"}, goOn: true,
			want: []string{"D|waited", "C|SELECT 1", "Z|I", "C|INSERT 0 1", "Z|I", "1", "2", "C|INSERT 0 1", "Z|I"},
		},
		{
			name: "a transaction", before: []string{"Q|begin", "Q|insert"}, said: []string{"C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T"},
			after: []string{"Q|insert", "Q|commit"}, want: []string{"C|INSERT 0 1", "Z|T", "C|COMMIT", "Z|I"},
		},
		{
			name: "a transaction that no server knows", before: []string{"Q|begin"}, said: []string{"C|BEGIN", "Z|T"},
			after: []string{"Q|insert", "Q|commit"}, want: []string{"C|INSERT 0 1", "Z|T", "C|COMMIT", "Z|I"},
		},
		{
			name: "one that ends at once", before: []string{"Q|begin"}, said: []string{"C|BEGIN", "Z|T"},
			after: []string{"Q|commit"}, want: []string{"C|COMMIT", "Z|I"},
		},
		{
			name: "a part of a group", before: []string{"P||insert", "B||", "H"}, said: []string{"1", "2"},
			after: []string{"E|", "S"}, want: []string{"C|INSERT 0 1", "Z|I"},
		},
		{name: "a part of a group that no server has", before: []string{"P||insert", "B||"}},
		{
			name: "a copy", before: []string{"Q|copy in", "d|1"}, said: []string{"G"},
			after: []string{"d|2", "c"}, want: []string{"C|COPY 1", "Z|I"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			c.send(test.before...)
			c.want(test.said...)
			done := f.shutdown()
			if len(test.want) > 0 && (*done != 0 || c.conn.Closed()) {
				t.Fatal("the client was not waited for")
			}
			if !f.proxy.Stats().Draining {
				t.Error("the stats do not say so")
			}
			late := f.dial()
			late.startup()
			late.wantEnd("E|FATAL|57P03|the proxy is shutting down")
			c.send(test.after...)
			if test.goOn {
				f.server().Go()
				f.world.Settle()
			}
			c.wantEnd(append(test.want, shutdownWord)...)
			if *done != 1 {
				t.Errorf("done was called %d times", *done)
			}
			if n := len(f.pg.Open()); n != 0 {
				t.Errorf("%d servers are left", n)
			}
		})
	}
}

// Clients that wait for something have it before they go.
func TestShutdownOfWaiters(t *testing.T) {
	t.Run("for a server", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		c, d := f.login(), f.login()
		c.send("Q|insert")
		d.send("P||insert", "B||", "E|", "S")
		done := f.shutdown()
		c.want()
		release()
		c.wantEnd("C|INSERT 0 1", "Z|I", shutdownWord)
		d.wantEnd("1", "2", "C|INSERT 0 1", "Z|I", shutdownWord)
		if *done != 1 {
			t.Error("not done")
		}
	})
	t.Run("in vain", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.block()
		c, d := f.login(), f.login()
		c.send("Q|insert")
		d.send("P||insert", "B||", "E|", "S")
		f.shutdown()
		f.world.Advance(10 * time.Second)
		refused := "E|ERROR|53400|no server became free within 10s"
		c.wantEnd(refused, "Z|I", shutdownWord)
		d.wantEnd(refused, "Z|I", shutdownWord)
	})
	t.Run("until they cancel", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.block()
		c := f.login()
		c.send("Q|insert")
		f.shutdown()
		c.cancel()
		c.wantEnd(canceled, "Z|I", shutdownWord)
	})
	t.Run("for a login", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		c := f.dial()
		c.startup("application_name", "x")
		done := f.shutdown()
		release()
		f.world.Settle()
		if !c.conn.Closed() || *done != 1 {
			t.Errorf("closed %v, done %d", c.conn.Closed(), *done)
		}
	})
	t.Run("while settings are tried", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.login().send("X")
		s := f.server()
		s.Conn.Stall()
		c := f.dial()
		c.startup("application_name", "x")
		done := f.shutdown()
		s.Conn.Flow()
		f.world.Settle()
		if !c.conn.Closed() || *done != 1 {
			t.Errorf("closed %v, done %d", c.conn.Closed(), *done)
		}
	})
	t.Run("before they say who they are", func(t *testing.T) {
		f := newFixture(t)
		c := f.dial()
		if done := f.shutdown(); *done != 1 || !c.conn.Closed() {
			t.Errorf("closed %v, done %d", c.conn.Closed(), *done)
		}
	})
	t.Run("for a shared server", func(t *testing.T) {
		f := newFixture(t, oneServer, sharedReads)
		c, d := f.login(), f.login()
		warm(c, "select 1")
		s := f.server()
		s.Conn.Stall()
		c.send("Q|select 1")
		d.send("Q|select 2")
		if f.stats().ServersShared != 1 {
			t.Fatalf("stats %+v", f.stats())
		}
		done := f.shutdown()
		s.Conn.Flow()
		c.wantEnd("T|c", "D|1", "C|SELECT 1", "Z|I", shutdownWord)
		d.wantEnd("T|c", "D|2", "C|SELECT 1", "Z|I", shutdownWord)
		if *done != 1 {
			t.Error("not done")
		}
	})
	t.Run("for a server that is lost", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|wait")
		f.shutdown()
		f.server().Terminate()
		c.wantEnd("E|ERROR|57P01|"+terminated, "Z|I", shutdownWord)
	})
	t.Run("session mode", func(t *testing.T) {
		f := newFixture(t, oneServer, func(c *Config) { c.Pool.Mode = pool.ModeSession })
		c := f.login()
		c.ask("1")
		done := f.shutdown()
		c.wantEnd(shutdownWord)
		if f.world.Settle(); *done != 1 {
			t.Error("not done")
		}
	})
}

func TestShutdownTwice(t *testing.T) {
	f := newFixture(t)
	c := f.login()
	c.send("Q|begin")
	c.want("C|BEGIN", "Z|T")
	first, second := f.shutdown(), f.shutdown()
	c.send("Q|rollback")
	c.wantEnd("C|ROLLBACK", "Z|I", shutdownWord)
	if *first != 1 || *second != 0 {
		t.Errorf("done was called %d and %d times", *first, *second)
	}
}

func TestAbort(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Pool.SharedReads = true })
	var clients []*client
	for _, words := range [][]string{{"Q|select 1"}, {"Q|begin"}, {"Q|begin", "Q|insert"}, {"Q|wait"}, {"Q|insert"}, {"P||insert", "B||"}} {
		c := f.login()
		c.send(words...)
		c.conn.Sent()
		clients = append(clients, c)
	}
	silent := f.dial()
	done := f.shutdown()
	f.proxy.Abort()
	f.world.Settle()
	for i, c := range append(clients, silent) {
		if !c.conn.Closed() {
			t.Errorf("client %d is left", i)
		}
		got := pooltest.BackendWords(c.conn.Sent())
		if len(got) != 1 || got[0] != shutdownWord {
			t.Errorf("client %d was told %q", i, got)
		}
	}
	if *done != 1 {
		t.Errorf("done was called %d times", *done)
	}
	for _, s := range f.pg.Open() {
		t.Errorf("server %d is left", s.PID)
	}
	f.proxy.Abort() // again
	f.world.Advance(time.Minute)
	if f.proxy.pools.ServerCount() != 0 || f.world.Armed() {
		t.Error("something goes on")
	}
}

func TestAbortInAMessage(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.conn.Stall()
	c.send("Q|rows 1000 1000")
	f.proxy.Abort()
	c.conn.Flow()
	f.world.Settle()
	got := pooltest.BackendWords(c.conn.Sent())
	for _, word := range got {
		if word != "T|c" && word != row(1000) && word != shutdownWord {
			t.Fatalf("got %q", word)
		}
	}
}
