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
	return cap(held.in.bytes) + cap(held.out.bytes)
}

// AcceptPause is how long a listener waits that cannot accept.
const AcceptPause = acceptPause

const LingerTimeout = lingerTimeout
