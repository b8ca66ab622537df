package pooltest

import (
	"crypto/tls"
	"io"

	"github.com/billproxy/billproxy/pool/reactor"
)

// Conn implements reactor.Conn for the code under test and is the other end of the
// same connection for the test.
type Conn struct {
	// Static after construction.
	world *World
	name  string

	// Remote is true for a peer on another machine.
	Remote bool

	// Piece is how many bytes arrive at a time: 64 KiB, as the reactor reads.
	Piece int

	// OnSent, if it is set, gets what the code under test has sent, valid during
	// the call; otherwise Sent collects it.
	OnSent func(b []byte)

	// OnEnd, if it is set, is told when the code under test has closed the
	// connection and everything it sent has arrived.
	OnEnd func()

	handler reactor.Handler

	// From the test.
	arrived []byte // not yet offered
	left    []byte // offered and not consumed
	ended   error  // the test has closed its end
	paused  bool

	// To the test.
	out       []byte // not yet taken by the kernel
	sent      []byte // taken by the kernel
	room      int    // how many bytes a stalled peer still takes
	stalled   bool
	high      bool // OnDrain is due
	held      bool // by Hold
	redeliver bool

	// Encryption, which is only pretended: the bytes stay as they are.
	role      reactor.TLSRole
	config    *tls.Config // nil if StartTLS was not called
	encrypted func(tls.ConnectionState)

	closed   bool // by the code under test
	aborted  bool
	finished bool // nothing will happen any more
}

// NewConn returns a connection without handler.
func (w *World) NewConn(name string) *Conn {
	c := &Conn{world: w, name: name, Piece: 64 << 10}
	w.conns = append(w.conns, c)
	return c
}

// Handle sets the handler; nil closes the connection.
func (c *Conn) Handle(h reactor.Handler) {
	if h == nil {
		c.Close()
		return
	}
	if !c.closed {
		c.handler = h
	}
}

// Feed sends bytes to the code under test; they arrive in Settle.
func (c *Conn) Feed(b []byte) { c.arrived = append(c.arrived, b...) }

// End closes the test's end of the connection: io.EOF for an orderly end.
func (c *Conn) End(err error) { c.ended = err }

// Stall makes the test's end stop reading; Take then lets it read some bytes, and
// Flow all.
func (c *Conn) Stall() { c.stalled, c.room = true, 0 }

// Take lets a stalled end read n more bytes.
func (c *Conn) Take(n int) { c.room += n }

// Flow ends Stall.
func (c *Conn) Flow() { c.stalled = false }

// Sent returns what has arrived at the test's end since the last call. It is valid
// until more is sent.
func (c *Conn) Sent() []byte {
	b := c.sent
	c.sent = c.sent[:0]
	return b
}

// Closed reports whether the code under test has closed the connection; Aborted
// whether it dropped what was queued.
func (c *Conn) Closed() bool { return c.closed }

// Aborted reports whether the connection was closed without sending the rest.
func (c *Conn) Aborted() bool { return c.aborted }

// Paused reports whether the code under test does not read.
func (c *Conn) Paused() bool { return c.paused }

// UnreadBytes is how much the code under test has been offered or has not read, and
// has not consumed.
func (c *Conn) UnreadBytes() int { return len(c.arrived) + len(c.left) }

// Write implements reactor.Conn.
func (c *Conn) Write(b []byte) {
	if c.closed {
		return
	}
	c.out = append(c.out, b...)
	if len(c.out) > reactor.HighWaterBytes {
		c.high = true
	}
}

// BufferedBytes implements reactor.Conn.
func (c *Conn) BufferedBytes() int { return len(c.out) }

// Retract implements reactor.Conn.
func (c *Conn) Retract(n int) bool {
	if c.closed || len(c.out) < n {
		return false
	}
	c.out = c.out[:len(c.out)-n]
	return true
}

// Hold implements reactor.Conn.
func (c *Conn) Hold(on bool) { c.held = on }

// PauseRead implements reactor.Conn.
func (c *Conn) PauseRead() { c.paused = true }

// ResumeRead implements reactor.Conn.
func (c *Conn) ResumeRead() { c.paused = false }

// Redeliver implements reactor.Conn.
func (c *Conn) Redeliver() { c.redeliver = true }

// StartTLS implements reactor.Conn.
func (c *Conn) StartTLS(role reactor.TLSRole, config *tls.Config, done func(tls.ConnectionState)) {
	if c.config != nil {
		panic("BUG: StartTLS of an encrypted connection")
	}
	c.role, c.config, c.encrypted = role, config, done
}

// Handshaking returns what StartTLS was called with, and a nil config if it was not
// or the handshake is over.
func (c *Conn) Handshaking() (reactor.TLSRole, *tls.Config) {
	if c.encrypted == nil {
		return 0, nil
	}
	return c.role, c.config
}

// Encrypt ends the handshake that the code under test has begun, and with it the
// bytes that it has not consumed.
func (c *Conn) Encrypt(state tls.ConnectionState) {
	done := c.encrypted
	c.encrypted = nil
	c.arrived, c.left = c.arrived[:0], c.left[:0]
	if !c.closed {
		done(state)
	}
}

// Close implements reactor.Conn.
func (c *Conn) Close() {
	c.closed, c.held = true, false
	c.handler = nil
}

// Abort implements reactor.Conn.
func (c *Conn) Abort() {
	c.Close()
	c.aborted = c.aborted || len(c.out) > 0
	c.out = c.out[:0]
}

// RemoteAddr implements reactor.Conn.
func (c *Conn) RemoteAddr() string { return c.name }

// LocalAddr implements reactor.Conn.
func (c *Conn) LocalAddr() string { return "127.0.0.1:6432" }

// Local implements reactor.Conn.
func (c *Conn) Local() bool { return !c.Remote }

// step does what is possible and reports whether that was anything.
func (c *Conn) step() bool {
	happened := false
	if c.encrypted != nil && !c.closed {
		if c.ended == nil {
			return c.flush()
		}
		c.arrived = nil // it was of the handshake
	}
	if c.redeliver {
		c.redeliver = false
		if len(c.left) > 0 {
			c.deliver()
		}
		happened = true
	}
	if len(c.arrived) > 0 && c.handler != nil && !c.paused {
		n := min(len(c.arrived), c.Piece)
		c.left = append(c.left, c.arrived[:n]...)
		c.arrived = c.arrived[:copy(c.arrived, c.arrived[n:])]
		c.deliver()
		happened = true
	}
	happened = c.flush() || happened
	if c.ended != nil && c.handler != nil && (len(c.arrived) == 0 || c.paused) {
		h := c.handler
		c.Abort()
		h.OnClose(c.ended)
		happened = true
	}
	if c.closed && len(c.out) == 0 && !c.finished {
		c.finished = true
		if c.OnEnd != nil {
			c.OnEnd()
		}
		happened = true
	}
	return happened
}

// deliver offers what is left to the handler, in memory that is overwritten when
// the call has returned, so that whoever kept a slice of it is found out.
func (c *Conn) deliver() {
	if c.handler == nil {
		return
	}
	w := c.world
	w.delivered = append(w.delivered[:0], c.left...)
	offered := len(c.left)
	consumed := c.handler.OnData(w.delivered)
	if consumed < 0 || consumed > offered {
		panic("BUG: OnData consumed bytes that it was not given")
	}
	for i := range w.delivered {
		w.delivered[i] = 0xdb
	}
	c.left = c.left[:copy(c.left, c.left[consumed:])]
}

func (c *Conn) flush() bool {
	n := len(c.out)
	if c.held {
		n = 0
	}
	if c.stalled {
		n = min(n, c.room)
		c.room -= n
	}
	if n > 0 {
		if c.OnSent != nil {
			c.OnSent(c.out[:n])
		} else {
			c.sent = append(c.sent, c.out[:n]...)
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	if c.high && len(c.out) <= reactor.LowWaterBytes && c.handler != nil {
		c.high = false
		c.handler.OnDrain()
		return true
	}
	return n > 0
}

var _ reactor.Conn = (*Conn)(nil)

// EOF is an orderly end, for End.
var EOF = io.EOF
