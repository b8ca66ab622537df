package proxy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/reactor"
)

// A client that does not read stops its server, costs a bounded amount of memory,
// and nobody else is harmed.
func TestClientThatDoesNotRead(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.conn.Stall()
	c.conn.Feed(pooltest.Frontend("Q|rows 1000 10000"))
	s := f.fedInPieces(c, 16<<10)
	if n := c.conn.BufferedBytes(); n < reactor.HighWaterBytes || n > reactor.HighWaterBytes+100<<10 {
		t.Errorf("%d bytes are queued", n)
	}
	if !s.Paused() {
		t.Fatal("the server is read")
	}
	c.conn.Flow()
	f.world.Settle()
	got := pooltest.BackendWords(c.conn.Sent())
	if len(got) != 1003 || got[1002] != "Z|I" || got[500] != row(10000) {
		t.Errorf("%d messages, the last %s", len(got), got[len(got)-1])
	}
	if s.Paused() {
		t.Error("the server is not read")
	}
	c.ask("1")
}

// fedInPieces lets the only server's answer to what has been fed come in pieces.
func (f *fixture) fedInPieces(c *client, piece int) *pooltest.Conn {
	f.Helper()
	conn := f.server().Conn
	conn.Piece = piece
	f.world.Settle()
	return conn
}

func TestServerThatDoesNotRead(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("Q|copy in")
	c.want("G")
	s := f.server()
	s.Conn.Stall()
	data := pooltest.Frontend("d|*10000")
	sent := 0
	for range 200 {
		c.feed(data)
		sent += len(data)
	}
	if n := s.Conn.BufferedBytes(); n > reactor.HighWaterBytes+2*len(data) {
		t.Errorf("%d bytes are queued for the server", n)
	}
	if !c.conn.Paused() {
		t.Fatal("the client is read")
	}
	s.Conn.Flow()
	c.send("c")
	c.want("C|COPY 1", "Z|I")
	if c.conn.Paused() {
		t.Error("the client is not read")
	}
	count := 0
	for _, word := range s.Received {
		if word == "d|*10000" {
			count++
		}
	}
	if count != 200 {
		t.Errorf("%d of 200 rows reached the server", count)
	}
}

// A server that does not read part of a long message.
func TestServerThatDoesNotReadALongMessage(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	s := f.server()
	s.Conn.Stall()
	text := "select " + strings.Repeat("5", 4<<20)
	b := pooltest.Frontend("Q|"+text, "Q|select 1")
	for len(b) > 0 {
		n := min(len(b), 50_000)
		c.feed(b[:n])
		b = b[n:]
	}
	if n := s.Conn.BufferedBytes(); n > reactor.HighWaterBytes+200_000 {
		t.Errorf("%d bytes are queued for the server", n)
	}
	s.Conn.Flow()
	f.world.Settle()
	got := pooltest.BackendWords(c.conn.Sent())
	if len(got) != 8 || got[1] != "D|"+text[len("select "):] {
		t.Errorf("%d answers", len(got))
	}
}

// A client that sends what is answered without a server, and does not read.
func TestClientThatDoesNotReadWhatIsAnsweredHere(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.conn.Stall()
	syncs := bytes.Repeat(pooltest.Frontend("S"), 10_000)
	for range 100 {
		c.feed(syncs)
	}
	if n := c.conn.BufferedBytes(); n > reactor.HighWaterBytes+20 {
		t.Errorf("%d bytes are queued", n)
	}
	if !c.conn.Paused() {
		t.Error("the client is read")
	}
	c.conn.Flow()
	f.world.Settle()
	if n := len(c.conn.Sent()) / len(pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)); n != 1_000_000 {
		t.Errorf("%d answers of a million", n)
	}
}
