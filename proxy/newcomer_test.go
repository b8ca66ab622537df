package proxy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// loginConns bounds the clients that have not logged in.
func loginConns(limit int) func(*Config) {
	return func(c *Config) { c.MaxLoginConn = limit }
}

const (
	madeRoom = "E|FATAL|53300|sorry, too many clients already: this one has not logged in"
	noRoom   = "E|FATAL|53300|sorry, too many clients already: 3 are logging in"
)

// Clients that say nothing do not keep others out.
func TestSilentClientsMakeRoom(t *testing.T) {
	f := newFixture(t, loginConns(3))
	first, second, third := f.dial(), f.dial(), f.dial()
	f.world.Advance(newcomerPatience - 1)
	f.dial().wantEnd(noRoom) // they may be only far away
	f.world.Advance(1)
	c := f.login()
	first.wantEnd(madeRoom)
	second.want()
	third.want()
	c.ask("1")
	f.login().ask("2") // those who have logged in need no room
	second.want()
	if f.ended(endMadeRoom) != 1 || f.proxy.Stats().ClientsRefused != 1 || f.proxy.Stats().ClientLoginCount != 2 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
	third.startup()
	third.welcomed()
	second.close(pooltest.EOF)
	if n := &f.proxy.newcomers; n.count != 0 || n.waiting.Len() != 0 {
		t.Errorf("%d newcomers, %d waiting, want none", n.count, n.waiting.Len())
	}
}

// The one that goes is the one that has kept the proxy waiting longest, whatever bytes
// it sends meanwhile.
func TestDripMakesRoom(t *testing.T) {
	f := newFixture(t, loginConns(2), authenticated(t, AuthSCRAM))
	drip, asked := f.dial(), f.dial()
	for _, b := range []byte{0, 0, 0x20} {
		f.world.Advance(newcomerPatience)
		drip.feed([]byte{b})
	}
	asked.startupAs("app") // its turn begins anew
	c := f.dial()
	drip.wantEnd(madeRoom)
	asked.want()
	_, _, exchange := c.prove("app", "pencil")
	c.verified(exchange)
}

// What a client that is being dealt with waits for is not its fault.
func TestLoginsUnderWayStay(t *testing.T) {
	f := newFixture(t, loginConns(1), authenticated(t, AuthPassword))
	busy := f.dial()
	busy.startupAs("app")
	f.world.HoldWork = true
	busy.feed(pgwire.AppendPassword(nil, "pencil"))
	f.world.Advance(time.Minute - 1)
	f.dial().wantEnd("E|FATAL|53300|sorry, too many clients already: 1 are logging in")
	f.world.HoldWork = false
	f.world.Settle()
	busy.welcomed()
	silent := f.dial()
	f.world.Advance(newcomerPatience)
	f.dial()
	silent.wantEnd(madeRoom)
}

// One whose wrong password waits for its answer is not.
func TestWrongPasswordsMakeRoom(t *testing.T) {
	f := newFixture(t, loginConns(2), authenticated(t, AuthSCRAM))
	for range answersAtOnce {
		f.guess("127.0.0.1:1", false).wantEnd(refusedProof("app"))
	}
	var waiting []*client
	for range 2 {
		waiting = append(waiting, f.guess("127.0.0.1:2", false))
	}
	f.world.Advance(0)
	if f.proxy.newcomers.waiting.Len() != 2 {
		t.Fatalf("%d newcomers may have to make room, want 2", f.proxy.newcomers.waiting.Len())
	}
	for _, c := range waiting {
		c.want()
	}
}

// Where there are as many clients as there may be, one that has not logged in makes room,
// and a cancel request gets through in any case.
func TestRoomBelowMaxClientConn(t *testing.T) {
	f := newFixture(t, oneServer, func(c *Config) { c.MaxClientConn = 2 })
	c := f.login()
	silent := f.dial()
	c.send("Q|wait")
	c.cancel()
	c.want("E|ERROR|57014|canceling statement due to user request", "Z|I")
	late := f.dial()
	late.startup()
	late.wantEnd("E|FATAL|53300|sorry, too many clients already: the limit is 2")
	silent.want()
	f.world.Advance(newcomerPatience)
	f.login().ask("1")
	silent.wantEnd(madeRoom)
	late = f.dial()
	late.startup()
	late.wantEnd("E|FATAL|53300|sorry, too many clients already: the limit is 2")
}

// Refusals before a login are in the log, but not each.
func TestRefusedNewcomersAreLogged(t *testing.T) {
	f := newFixture(t, loginConns(3))
	var log bytes.Buffer
	f.proxy = New(f.proxy.config, f.world, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		f.dial()
	}
	for range 3 {
		for range 50 {
			f.dial().wantEnd(noRoom)
		}
		f.world.Advance(newcomerPatience / 4)
	}
	if lines := strings.Count(log.String(), "clients refused"); lines != 1 {
		t.Errorf("%d lines:\n%s", lines, &log)
	}
	if got := f.proxy.Stats().ClientsRefused; got != 150 {
		t.Errorf("%d refused, want 150", got)
	}
}

// However much a client sends before it is known, little of it is kept.
func TestNewcomerInputIsBounded(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthPassword))
	c := f.dial()
	c.conn.Piece = 1000
	c.startupAs("app")
	f.world.HoldWork = true
	c.feed(pgwire.AppendPassword(nil, "pencil"))
	c.feed(make([]byte, maxNewcomerBytes))
	if !c.conn.Paused() || c.conn.UnreadBytes() != maxNewcomerBytes {
		t.Errorf("%d bytes are kept, reading is paused: %v", c.conn.UnreadBytes(), c.conn.Paused())
	}
	f.world.HoldWork = false
	f.world.Settle()
	if got := pooltest.BackendWords(c.conn.Sent()); got[len(got)-1] != "E|FATAL|08P01|invalid frontend message type 0" {
		t.Errorf("answer %s", strings.Join(got, "  "))
	}
	f.checkIdle()
}

// The longest messages that a newcomer may send arrive, in pieces, too.
func TestLongestMessagesOfNewcomers(t *testing.T) {
	for bytes, fits := range map[int]bool{pgwire.MaxStartupBytes: true, pgwire.MaxStartupBytes + 1: false} {
		startup := func(n int) []byte {
			return pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app", "options", "-c a.b="+strings.Repeat("x", n))
		}
		f := newFixture(t)
		c := f.dial()
		c.conn.Piece = 999
		c.feed(startup(bytes - len(startup(0))))
		if c.conn.Closed() == fits {
			t.Errorf("a startup packet of %d bytes: closed %v", bytes, c.conn.Closed())
		}
	}
	f := newFixture(t, authenticated(t, AuthPassword))
	c := f.dial()
	c.conn.Piece = 999
	c.startupAs("app")
	c.feed(pgwire.AppendPassword(nil, strings.Repeat("x", pgwire.MaxShortMessageBytes-5)))
	c.wantEnd(refusedProof("app"))
}
