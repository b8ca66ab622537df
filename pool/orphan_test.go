package pool

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// clientGone is how PostgreSQL answers to the CopyFail of the pool.
const clientGone = "E|ERROR|57014|COPY from stdin failed: client gone"

// An orphaned server finishes or undoes what its client left, whatever that is, and
// the next client finds it clean.
func TestOrphan(t *testing.T) {
	tests := []struct {
		name  string
		play  func(c *testClient, conn *pooltest.Conn) // before the client goes
		sent  []string                                 // after
		reply []string
		then  []string // sent after the reply, answered with end
		end   []string
	}{
		{"nothing under way", func(*testClient, *pooltest.Conn) {}, nil, nil, nil, nil},
		{
			"a query runs", func(c *testClient, _ *pooltest.Conn) { c.send("Q|select 1") },
			nil,
			[]string{"T|c", "D|1", "C|SELECT 1", "Z|I"},
			nil, nil,
		},
		{
			"a query that fails", func(c *testClient, _ *pooltest.Conn) { c.send("Q|select 1") },
			nil,
			[]string{"E|ERROR|57014|canceled", "Z|I"},
			nil, nil,
		},
		{"in a transaction", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|begin")
			c.f.feed(conn, "C|BEGIN", "Z|T")
		}, []string{"Q|ROLLBACK"}, []string{"C|ROLLBACK", "Z|I"}, nil, nil},
		{"in a failed transaction", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|begin;fail")
			c.f.feed(conn, "C|BEGIN", "E|ERROR|22012|no", "Z|E")
		}, []string{"Q|ROLLBACK"}, []string{"C|ROLLBACK", "Z|I"}, nil, nil},
		{
			"a begin runs", func(c *testClient, _ *pooltest.Conn) { c.send("Q|begin") },
			nil,
			[]string{"C|BEGIN", "Z|T"},
			[]string{"Q|ROLLBACK"},
			[]string{"C|ROLLBACK", "Z|I"},
		},
		{
			"in the middle of a group", func(c *testClient, _ *pooltest.Conn) { c.send("P||select 1", "B||") },
			[]string{"f|client gone", "DP|bp_refused", "S"},
			[]string{"1", "2", "E|ERROR|34000|no portal", "Z|I"},
			nil, nil,
		},
		{"in the middle of a group that failed", func(c *testClient, conn *pooltest.Conn) {
			c.send("P||select 1", "B||")
			c.f.feed(conn, "1", "E|ERROR|22023|no")
		}, []string{"S"}, []string{"Z|I"}, nil, nil},
		{
			"in the middle of a group that fails", func(c *testClient, _ *pooltest.Conn) { c.send("P||select 1", "B||") },
			[]string{"f|client gone", "DP|bp_refused", "S"},
			[]string{"1", "E|ERROR|22023|no", "Z|I"},
			nil, nil,
		},
		{"a group that failed ended with a query", func(c *testClient, conn *pooltest.Conn) {
			c.send("P||select 1", "B||", "Q|select 2")
			c.f.feed(conn, "1", "E|ERROR|22023|no")
		}, []string{"S"}, []string{"Z|I"}, nil, nil},
		{"several groups", func(c *testClient, _ *pooltest.Conn) {
			c.send("P||select 1", "B||", "E|", "S", "B||", "E|", "S", "Q|select 1")
		}, nil, []string{"1", "2", "C|SELECT 1", "Z|I", "2", "C|SELECT 1", "Z|I", "T|c", "C|SELECT 1", "Z|I"}, nil, nil},
		{"replies of ours in a later group", func(c *testClient, _ *pooltest.Conn) {
			c.send("P||select 1", "B||", "E|", "S", "P|s|select 1", "B||s", "E|", "CS|s", "S", "P||select 1", "S")
		}, nil, []string{"1", "2", "C|SELECT 1", "Z|I", "2", "C|SELECT 1", "Z|I", "Z|I"}, nil, nil},
		{
			"an error of ours", func(c *testClient, _ *pooltest.Conn) { c.send("fail|26000", "E|", "S") },
			nil,
			[]string{"E|ERROR|34000|no portal", "Z|I"},
			nil, nil,
		},
		{"a simple copy runs", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|copy t from stdin")
			c.f.feed(conn, "G")
			c.send("d|1")
		}, []string{"f|client gone"}, []string{clientGone, "Z|I"}, nil, nil},
		{
			"a simple copy begins", func(c *testClient, _ *pooltest.Conn) { c.send("Q|copy t from stdin") },
			nil,
			[]string{"G"},
			[]string{"f|client gone"},
			[]string{clientGone, "Z|I"},
		},
		{"an extended copy runs", func(c *testClient, conn *pooltest.Conn) {
			c.send("P||copy", "B||", "E|", "H")
			c.f.feed(conn, "1", "2", "G")
		}, []string{"f|client gone", "S"}, []string{clientGone, "Z|I"}, nil, nil},
		{
			"an extended copy begins", func(c *testClient, _ *pooltest.Conn) { c.send("P||copy", "B||", "E|") },
			[]string{"f|client gone", "DP|bp_refused", "S"},
			[]string{"1", "2", "G", clientGone, "Z|I"},
			nil, nil,
		},
		{"a simple copy has ended", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|copy t from stdin")
			c.f.feed(conn, "G")
			c.send("c")
		}, nil, []string{"C|COPY 1", "Z|I"}, nil, nil},
		{"copy out runs", func(c *testClient, conn *pooltest.Conn) {
			c.send("Q|copy t to stdout")
			c.f.feed(conn, "H", "d|1")
		}, nil, []string{"d|2", "c", "C|COPY 2", "Z|I"}, nil, nil},
	}
	for _, test := range tests {
		for _, cancel := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cancel %v", test.name, cancel), func(t *testing.T) {
				f := newFixture(t, func(c *Config) { c.DefaultPoolSize = 1 })
				c, conn := f.client()
				test.play(c, conn)
				conn.Sent()
				c.server.Orphan(cancel)
				c.log, c.bytes = nil, nil
				f.wantSent(conn, test.sent...)
				f.failCancels()
				next := f.newClient()
				next.acquire(f.pool)
				f.feed(conn, test.reply...)
				f.failCancels()
				f.wantSent(conn, test.then...)
				f.feed(conn, test.end...)
				f.failCancels()
				if sent := pooltest.FrontendWords(conn.Sent()); len(sent) > 0 && sent[len(sent)-1] == "Q|" {
					f.feed(conn, "I", "Z|I") // how many ReadyForQuery were due is asked
				}
				if conn.Closed() {
					t.Fatal("the server's connection was closed")
				}
				if next.server == nil {
					t.Fatalf("the next client has no server: %+v", f.pool.Stats())
				}
				c.want()
				if next.server.timer.Armed() {
					t.Error("the deadline of the clean-up is left armed")
				}
				next.send("Q|select 2")
				f.wantSent(conn, "Q|select 2")
				f.feed(conn, "C|SELECT 1", "Z|I")
				next.flush()
				wantWords(t, "the next client", next.log[len(next.log)-4:], []string{"C|SELECT 1", "Z|I", "[end I]", "[released]"})
			})
		}
	}
}

// If a COPY ends with an error before PostgreSQL has read the Syncs that were sent
// ahead of it, they count, and the server says one thing more than expected.
func TestOrphanOfACopyThatFailsEarly(t *testing.T) {
	for name, early := range map[string][]string{"syncs ignored": nil, "syncs not ignored": {"Z|I"}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			c.send("P||copy", "B||", "E|", "S")
			c.server.Orphan(false)
			f.feed(conn, "1", "2", "G")
			f.feed(conn, append([]string{"E|ERROR|P0001|raised by a trigger"}, early...)...)
			f.feed(conn, "Z|I", "I", "Z|I")
			if stats := f.pool.Stats(); conn.Closed() || stats.ServersIdle != 1 {
				t.Errorf("closed %v, stats %+v", conn.Closed(), stats)
			}
		})
	}
}

// failCancels fails the cancel requests that are under way.
func (f *fixture) failCancels() {
	for len(f.world.Dials) > 0 {
		f.world.Dials[0].Fail(errors.New("refused"))
	}
	f.world.Settle()
}

// The rest of a message that the client did not finish is made up so that the
// server refuses it, or the server is given up.
func TestOrphanInTheMiddleOfAMessage(t *testing.T) {
	begin := func(f *fixture, messageType byte, expect bool, kind ReplyKind) (*testClient, *pooltest.Conn) {
		c, conn := f.client()
		c.server.Forward(append(pgwire.AppendHeader(nil, messageType, 100), "delete from t"...))
		if expect {
			c.server.Expect(kind)
		}
		c.server.Unsent(messageType, 100-len("delete from t"))
		f.world.Settle()
		conn.Sent()
		return c, conn
	}
	t.Run("query", func(t *testing.T) {
		f := newFixture(t)
		c, conn := begin(f, pgwire.Query, true, ReplyQuery)
		c.server.Orphan(false)
		f.world.Settle()
		if got := conn.Sent(); !bytes.Equal(got, bytes.Repeat([]byte{0xff}, 87)) {
			t.Fatalf("sent %q", got)
		}
		f.feed(conn, "E|ERROR|08P01|invalid string in message", "Z|I")
		if f.pool.Stats().ServersIdle != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("copy data", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.client()
		c.send("Q|copy t from stdin")
		f.feed(conn, "G")
		c.server.Forward(pgwire.AppendHeader(nil, pgwire.CopyData, 10))
		c.server.Unsent(pgwire.CopyData, 10)
		f.world.Settle()
		conn.Sent()
		c.server.Orphan(false)
		f.world.Settle()
		sent := conn.Sent()
		if !bytes.HasPrefix(sent, bytes.Repeat([]byte{0xff}, 10)) {
			t.Fatalf("sent %q", sent)
		}
		wantWords(t, "sent behind", pooltest.FrontendWords(sent[10:]), []string{"f|client gone"})
	})
	t.Run("bind", func(t *testing.T) {
		f := newFixture(t)
		c, conn := begin(f, pgwire.Bind, true, ReplyBind)
		c.server.Orphan(false)
		f.world.Settle()
		sent := conn.Sent()
		wantWords(t, "sent behind", pooltest.FrontendWords(sent[87:]), []string{"f|client gone", "DP|bp_refused", "S"})
	})
	for name, messageType := range map[string]byte{"function call": pgwire.FunctionCall, "too much": pgwire.Query} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := begin(f, messageType, true, ReplyQuery)
			if name == "too much" {
				c.server.Unsent(messageType, maxPaddingBytes+1)
			}
			c.server.Orphan(true)
			f.world.Settle()
			if !conn.Closed() || f.pool.Stats().ServersClosed[ReasonClientMidMessage.String()] != 1 {
				t.Errorf("closed %v, stats %+v", conn.Closed(), f.pool.Stats())
			}
			if len(f.world.Dials) != 0 || f.world.Armed() && f.pools.ServerCount() != 0 {
				t.Error("something is left under way")
			}
		})
	}
}

// A client that reads nothing while its replies stream leaves nothing of that to the
// next.
func TestOrphanReadsAgain(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|select 1")
	c.server.PauseReplies()
	row := pooltest.Backend(fmt.Sprintf("D|*%d", 2*maxWholeBytes))
	conn.Feed(row[:maxWholeBytes])
	f.world.Settle()
	if conn.UnreadBytes() == 0 {
		t.Fatal("the server is read")
	}
	c.server.Orphan(false)
	f.world.Settle()
	if conn.UnreadBytes() != 0 {
		t.Fatal("the server is not read")
	}
	next := f.newClient()
	conn.Feed(row[maxWholeBytes:])
	f.feed(conn, "C|SELECT 1", "Z|I")
	next.acquire(f.pool)
	if next.server == nil {
		t.Fatal("the server is not free")
	}
	c.want()
	next.send("Q|select 2")
	f.feed(conn, "D|2", "C|SELECT 1", "Z|I")
	next.want("D|2", "C|SELECT 1", "Z|I", "[end I]", "[released]")
}

func TestOrphanThatTakesTooLong(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|select 1")
	c.server.Orphan(false)
	f.world.Advance(resetTimeout - 1)
	if conn.Closed() {
		t.Fatal("closed early")
	}
	f.world.Advance(1)
	if !conn.Closed() || f.pool.Stats().ServersClosed[ReasonStuck.String()] != 1 {
		t.Errorf("stats %+v", f.pool.Stats())
	}
	if f.pools.ServerCount() != 0 {
		t.Error("the server is still counted")
	}
}

// With the limit of replies reached by a client that is gone, the next is not made
// to wait for fewer.
func TestOrphanEndsThrottling(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	sync := pooltest.Frontend("S")
	for range maxReplies {
		c.server.Forward(sync)
		c.server.Expect(ReplySync)
	}
	if !c.server.Congested() {
		t.Fatal("no limit to replies")
	}
	c.server.Orphan(false)
	conn.Feed(bytes.Repeat(pooltest.Backend("Z|I"), maxReplies))
	f.world.Settle()
	next := f.newClient()
	next.acquire(f.pool)
	if next.server == nil {
		t.Fatal("the server is not free")
	}
	if next.server.Congested() {
		t.Error("the next client may not send")
	}
}

func TestThrottlingEnds(t *testing.T) {
	for _, word := range []string{"S", "E|"} {
		f := newFixture(t)
		c, conn := f.client()
		kind, answer := ReplySync, "Z|I"
		if word == "E|" {
			kind, answer = ReplyExecute, "s"
		}
		message := pooltest.Frontend(word)
		for range maxReplies {
			c.server.Forward(message)
			c.server.Expect(kind)
		}
		if !c.server.Congested() {
			t.Fatal("no limit to replies")
		}
		conn.Feed(bytes.Repeat(pooltest.Backend(answer), maxReplies/2-1))
		f.world.Settle()
		c.bytes = c.bytes[:0]
		if !c.server.Congested() {
			t.Error("the limit ends too early")
		}
		c.drains = 0
		f.feed(conn, answer)
		if c.server.Congested() || c.drains != 1 {
			t.Errorf("%q: congested %v, told %d times", word, c.server.Congested(), c.drains)
		}
	}
}

func TestCongestedByAServerThatDoesNotRead(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	conn.Stall()
	for range 5 {
		c.send(fmt.Sprintf("Q|*%d", 64<<10))
	}
	if !c.server.Congested() {
		t.Fatal("the server is sent more and more")
	}
	conn.Take(250 << 10)
	f.world.Settle()
	if c.drains != 0 {
		t.Error("the client is told too early")
	}
	conn.Flow()
	f.world.Settle()
	if c.server.Congested() || c.drains != 1 {
		t.Errorf("congested %v after the server has read, told %d times", c.server.Congested(), c.drains)
	}
}

func TestDisposition(t *testing.T) {
	const old = 2 * time.Hour
	tests := []struct {
		name    string
		prepare func(*Server)
		action  action
		reason  CloseReason
	}{
		{"clean", func(*Server) {}, reuse, 0},
		{"fatal error", func(s *Server) { s.fatal, s.uncertain = &pgwire.Error{}, true }, discard, ReasonLost},
		{"uncertain", func(s *Server) { s.uncertain, s.dirty, s.pool.pools.closed = true, true, true }, discard, ReasonCopyUncertain},
		{"closing", func(s *Server) { s.pool.pools.closed, s.txStatus, s.cancelInFlight = true, pgwire.TxActive, true }, discard, ReasonShutdown},
		{"cancel in flight", func(s *Server) { s.cancelInFlight, s.txStatus, s.dirty = true, pgwire.TxActive, true }, hold, 0},
		{"in a transaction", func(s *Server) { s.txStatus, s.createdAt = pgwire.TxActive, -old }, clean, 0},
		{"in a failed transaction", func(s *Server) { s.txStatus = pgwire.TxFailed }, clean, 0},
		{"dirty", func(s *Server) { s.dirty, s.createdAt = true, -old }, clean, 0},
		{"old", func(s *Server) { s.createdAt = -old }, discard, ReasonLifetime},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.ServerLifetime = time.Hour })
			c, _ := f.client()
			s := c.server
			test.prepare(s)
			action, reason := s.disposition()
			if action != test.action || action == discard && reason != test.reason {
				t.Errorf("disposition %v, %v, want %v, %v", action, reason, test.action, test.reason)
			}
		})
	}
}

func TestSessionModeCleansTheServer(t *testing.T) {
	begin := func(t *testing.T) (*fixture, *pooltest.Conn) {
		f := newFixture(t, func(c *Config) { c.Mode, c.DefaultPoolSize = ModeSession, 1 })
		c, conn := f.client()
		c.send("P|s|select 1", "S")
		f.feed(conn, "1", "Z|I")
		c.want("1", "Z|I", "[end I]") // and no release
		conn.Sent()
		c.server.Orphan(false)
		f.wantSent(conn, "Q|DISCARD ALL")
		return f, conn
	}
	t.Run("well", func(t *testing.T) {
		f, conn := begin(t)
		next := f.newClient()
		next.acquire(f.pool)
		f.feed(conn, "C|DISCARD ALL", "Z|I")
		next.want("[lease]")
		next.send("P|s|select 1", "B||s", "S") // which the server has no more
		f.wantSent(conn, "P|bp_1|select 1", "B||bp_1", "S")
	})
	t.Run("badly", func(t *testing.T) {
		f, conn := begin(t)
		f.feed(conn, "E|ERROR|25001|no", "Z|I")
		if !conn.Closed() || f.pool.Stats().ServersClosed[ReasonResetFailed.String()] != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("from a transaction", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.Mode = ModeSession })
		c, conn := f.client()
		c.send("Q|begin")
		f.feed(conn, "C|BEGIN", "Z|T")
		conn.Sent()
		c.server.Orphan(false)
		f.wantSent(conn, "Q|ROLLBACK")
		f.feed(conn, "C|ROLLBACK", "Z|I")
		f.wantSent(conn, "Q|DISCARD ALL")
		f.feed(conn, "C|DISCARD ALL", "Z|I")
		if f.pool.Stats().ServersIdle != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
	t.Run("a rollback that fails", func(t *testing.T) {
		f := newFixture(t)
		c, conn := f.client()
		c.send("Q|begin")
		f.feed(conn, "C|BEGIN", "Z|T")
		c.server.Orphan(false)
		f.feed(conn, "E|ERROR|XX000|no", "Z|T")
		if !conn.Closed() || f.pool.Stats().ServersClosed[ReasonResetFailed.String()] != 1 {
			t.Errorf("stats %+v", f.pool.Stats())
		}
	})
}
