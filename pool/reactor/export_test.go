package reactor

import "time"

// AdvanceTimers fires what is due at now, as if it were that late. It must run
// on the loop.
func (e *Engine) AdvanceTimers(now time.Duration) { e.timers.Advance(now) }

// OpenConns counts the connections that have not been closed.
func (e *Engine) OpenConns() int { return len(e.conns) - len(e.freeSlots) }

// HeldBytes is the memory of the buffers that a connection holds.
func HeldBytes(c Conn) int {
	held := c.(*conn)
	bytes := cap(held.in.bytes) + cap(held.out.bytes)
	if held.flags&encrypted != 0 {
		s := held.secure()
		bytes += cap(s.input.bytes) + cap(s.sealed.bytes)
	}
	return bytes
}

// AcceptPause is how long a listener waits that cannot accept.
const AcceptPause = acceptPause

const LingerTimeout = lingerTimeout

// Handshakes counts those with clients: under way, and waiting for their turn.
func (e *Engine) Handshakes() (running, waiting int) {
	return e.handshakes.running, len(e.handshakes.waiting)
}

// Limits of a handshake.
const (
	MaxHandshakes     = maxHandshakes
	MaxHandshakeBytes = maxHandshakeBytes
	HandshakeTimeout  = handshakeTimeout
	MaxSealedBytes    = maxSealedBytes
)

// HandshakeReceived is how much the handshake of a connection has been given.
func HandshakeReceived(c Conn) int { return c.(*conn).secure().handshake.received }
