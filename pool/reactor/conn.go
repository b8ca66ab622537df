package reactor

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

// lingerTimeout is how long Close waits for the peer to take what is queued, and
// a connection that cannot be written to for its end.
const lingerTimeout = 5 * time.Second

// directWriteBytes is the size from which a Write is handed to the kernel from
// the caller's slice at once. Measured on loopback: below it, waiting for more
// saves a system call that costs more than the copy; above, the copy costs more.
const directWriteBytes = 32 << 10

// errWouldBlock is what a socket returns that has nothing to read or no room.
var errWouldBlock = errors.New("socket not ready")

// socket is a non-blocking byte stream of the operating system, or a pipe that
// behaves like one. Readiness is edge-triggered: after errWouldBlock or a short
// count, conn.ready is called when there is more.
type socket interface {
	read(b []byte) (int, error) // io.EOF at the end
	write(b []byte) (int, error)
	// awaitWrite tells whether a write is waiting for room.
	awaitWrite(waits bool)
	// closeWrite tells the peer that nothing more comes.
	closeWrite()
	// failure is the error of a connection that has broken, or io.EOF.
	failure() error
	// local is our end's address, zero for anything but TCP.
	local() netip.AddrPort
	// close drops what the peer has not received yet if asked to.
	close(drop bool)
}

type connFlags uint32

const (
	closing    connFlags = 1 << iota // Close was called; the peer is given time
	closed                           // the socket is gone
	paused                           // PauseRead
	held                             // Hold
	readReady                        // the socket may have bytes
	writeReady                       // the socket may have room
	hungUp                           // the peer has ended; read until the end is seen
	allRead                          // and all that it has sent is read
	endRead                          // the end was seen while closing
	endSent                          // closeWrite was called while closing
	waits                            // awaitWrite(true)
	high                             // HighWaterBytes was exceeded; OnDrain is due
	again                            // Redeliver was called after the last OnData began
	encrypted                        // socket is a tlsSocket
	awaitsTLS                        // its handshake has not ended
	inHandler                        // OnData runs and may be reading from in
	inReadable                       // the lists of Engine
	inRedeliver
	inFailed
	inDirty
)

// conn is the state of one connection, the same for every kind of socket. All
// of it is owned by the loop.
type conn struct {
	engine     *Engine
	handler    Handler
	socket     socket
	in         buffer // received and not consumed
	out        buffer // written and not sent
	broken     error  // of the write that failed
	linger     *Timer
	remote     netip.AddrPort // zero for a Unix-domain socket
	inflight   int            // sent but not taken by the kernel; portable sockets only
	slot       int32
	generation uint32
	flags      connFlags
}

// begin gives the connection its handler; nil closes it.
func (c *conn) begin(h Handler) {
	switch {
	case h == nil:
		c.Close()
	case c.flags&(closing|closed) == 0:
		c.handler = h
	}
}

// Write implements Conn.
func (c *conn) Write(b []byte) {
	if len(b) == 0 || c.flags&(closing|closed) != 0 || c.broken != nil {
		return
	}
	if len(b) >= directWriteBytes && c.out.len() == 0 && c.flags&(writeReady|held|awaitsTLS) == writeReady {
		n, err := c.socket.write(b)
		if err != nil && !errors.Is(err, errWouldBlock) {
			c.breakOff(err)
			return
		}
		b = b[n:]
		if len(b) == 0 && c.unsent() == 0 {
			return
		}
		c.awaitWrite()
	}
	c.out.append(&c.engine.buffers, b)
	c.markDirty()
	if c.BufferedBytes() > HighWaterBytes {
		c.flags |= high
	}
}

// BufferedBytes implements Conn.
func (c *conn) BufferedBytes() int {
	n := c.out.len() + c.inflight
	if c.flags&encrypted != 0 {
		n += c.secure().sealed.len()
	}
	return n
}

// unsent is how much can be given to the socket.
func (c *conn) unsent() int {
	switch c.flags & (encrypted | awaitsTLS) {
	case 0:
		return c.out.len()
	case encrypted:
		return c.out.len() + c.secure().sealed.len()
	default:
		return c.secure().sealed.len()
	}
}

// Retract implements Conn.
func (c *conn) Retract(n int) bool {
	if c.out.len() < n {
		return false
	}
	c.out.retract(&c.engine.buffers, n)
	return true
}

// Hold implements Conn.
func (c *conn) Hold(on bool) {
	switch {
	case on && c.flags&(closing|closed) == 0:
		c.flags |= held
	case !on && c.flags&held != 0:
		c.flags &^= held
		c.markDirty()
	}
}

// PauseRead implements Conn.
func (c *conn) PauseRead() {
	if c.flags&closing == 0 {
		c.flags |= paused
	}
}

// ResumeRead implements Conn.
func (c *conn) ResumeRead() {
	if c.flags&paused == 0 {
		return
	}
	c.flags &^= paused
	if c.flags&readReady != 0 {
		c.engine.readable.add(c)
	}
}

// Redeliver implements Conn.
func (c *conn) Redeliver() {
	if c.flags&(closing|closed) == 0 {
		c.flags |= again
		c.engine.redeliver.add(c)
	}
}

// Close implements Conn.
func (c *conn) Close() {
	if c.flags&(closing|closed) != 0 {
		return
	}
	if c.flags&awaitsTLS != 0 { // there is no way to say anything
		c.Abort()
		return
	}
	c.flags = c.flags&^held | closing
	c.handler = nil
	if c.flags&inHandler == 0 {
		c.in.release(&c.engine.buffers)
	}
	if c.BufferedBytes() == 0 && (c.flags&readReady == 0 || c.flags&allRead != 0) && (c.flags&encrypted == 0 || c.secure().sayEnd()) {
		c.finish(false)
		return
	}
	// Closing a socket with unread input, or that gets more, resets the
	// connection, and the peer may lose our last words. So send them, say that
	// they were the last, and discard input until the peer has ended too.
	c.startLinger(c.Abort)
	c.flags &^= paused
	if c.flags&readReady != 0 {
		c.engine.readable.add(c)
	}
	c.markDirty()
}

// Abort implements Conn.
func (c *conn) Abort() {
	if c.flags&closed == 0 {
		c.finish(c.BufferedBytes() > 0)
	}
}

// RemoteAddr implements Conn.
func (c *conn) RemoteAddr() string { return addressName(c.remote) }

// LocalAddr implements Conn.
func (c *conn) LocalAddr() string {
	if !c.remote.IsValid() || c.flags&closed != 0 {
		return addressName(netip.AddrPort{})
	}
	return addressName(c.socket.local())
}

func addressName(address netip.AddrPort) string {
	if !address.IsValid() {
		return "unix"
	}
	return address.String()
}

// Local implements Conn.
func (c *conn) Local() bool {
	return !c.remote.IsValid() || c.remote.Addr().IsLoopback()
}

// markDirty has the connection flushed unless it waits for room.
func (c *conn) markDirty() {
	if c.flags&(writeReady|held) == writeReady {
		c.engine.dirty.add(c)
	}
}

// ready takes an event of the socket.
func (c *conn) ready(readable, writable, ended bool) {
	if c.flags&closed != 0 {
		return
	}
	if writable {
		c.flags |= writeReady
		if c.flags&waits != 0 {
			c.flags &^= waits
			c.socket.awaitWrite(false)
		}
		if c.unsent() > 0 || c.flags&(high|closing) != 0 {
			c.markDirty()
		}
	}
	if ended {
		c.flags |= hungUp
	}
	if readable || ended {
		c.flags |= readReady
		c.receive()
	}
}

// receive reads what the socket has and delivers it. It is never called from
// inside a handler.
func (c *conn) receive() {
	buffer := c.engine.scratch[headroomBytes:]
	for left := readBatchBytes; c.flags&(readReady|paused|closed|awaitsTLS) == readReady; {
		if left <= 0 {
			c.engine.readable.add(c)
			return
		}
		n, err := c.socket.read(buffer)
		if err != nil {
			c.flags &^= readReady
			c.readFailed(err)
			return
		}
		left -= n
		// A short count says that nothing is left, unless the end is: one read
		// per event. (After urgent data it may be wrong; such a peer waits for
		// its own next byte.)
		if n < len(buffer) {
			if c.flags&hungUp == 0 {
				c.flags &^= readReady
			} else if c.flags&encrypted == 0 {
				c.flags |= allRead
			}
		}
		if c.flags&closing == 0 {
			c.deliver(n)
		}
	}
	if c.flags&(awaitsTLS|closed) == awaitsTLS {
		c.secure().receive()
		return
	}
	// The kernel reports the end only once, and what a paused connection has
	// not read is of no use to a peer that is gone.
	if c.flags&(paused|hungUp|closing|closed) == paused|hungUp {
		err := c.broken
		if err == nil {
			err = c.socket.failure()
		}
		c.end(err)
	}
}

// receiveRest reads what the peer sent before writing to it failed.
func (c *conn) receiveRest() {
	c.flags |= readReady | hungUp
	c.receive()
}

// deliver hands n bytes at the end of the headroom to the handler, behind those
// it left.
func (c *conn) deliver(n int) {
	var data []byte
	fresh := c.engine.scratch[headroomBytes : headroomBytes+n]
	left := c.in.len()
	inPlace := left > headroomBytes
	if inPlace {
		c.in.append(&c.engine.buffers, fresh)
		data = c.in.view()
	} else {
		copy(c.engine.scratch[headroomBytes-left:], c.in.view())
		data = c.engine.scratch[headroomBytes-left : headroomBytes+n]
	}
	consumed, open := c.onData(data)
	switch {
	case !open:
		c.in.release(&c.engine.buffers)
	case inPlace:
		c.in.consume(&c.engine.buffers, consumed)
	case consumed == 0:
		c.in.append(&c.engine.buffers, fresh)
	default:
		c.in.release(&c.engine.buffers)
		c.in.append(&c.engine.buffers, data[consumed:])
	}
	c.unread()
}

// redeliver hands the bytes left to the handler once more.
func (c *conn) redeliver() {
	if c.flags&(again|closing|closed) != again || c.in.len() == 0 {
		return
	}
	consumed, open := c.onData(c.in.view())
	if !open {
		c.in.release(&c.engine.buffers)
		return
	}
	c.in.consume(&c.engine.buffers, consumed)
	c.unread()
}

// onData reports open as false if the handler closed the connection.
func (c *conn) onData(data []byte) (consumed int, open bool) {
	c.flags = c.flags&^again | inHandler
	consumed = c.handler.OnData(data)
	c.flags &^= inHandler
	if consumed < 0 || consumed > len(data) {
		panic("BUG: OnData consumed bytes that it was not given")
	}
	return consumed, c.flags&(closing|closed) == 0
}

// flush sends what is queued. It is never called from inside a handler.
func (c *conn) flush() {
	if c.flags&(closed|held) != 0 {
		return
	}
	if c.unsent() > 0 && c.flags&writeReady != 0 {
		n, err := c.socket.write(c.out.view())
		switch {
		case errors.Is(err, errWouldBlock):
		case err != nil:
			c.breakOff(err)
			return
		default:
			c.out.consume(&c.engine.buffers, n)
		}
		if c.unsent() > 0 {
			c.awaitWrite()
		}
	}
	if c.flags&closing != 0 {
		c.endGently()
		return
	}
	if c.flags&high != 0 && c.BufferedBytes() <= LowWaterBytes {
		c.flags &^= high
		c.handler.OnDrain()
	}
}

func (c *conn) awaitWrite() {
	c.flags &^= writeReady
	if c.flags&waits == 0 {
		c.flags |= waits
		c.socket.awaitWrite(true)
	}
}

// endGently goes on with what Close began.
func (c *conn) endGently() {
	switch {
	case c.BufferedBytes() > 0:
	case c.flags&encrypted != 0 && c.secure().sealEnd():
		c.markDirty()
	case c.flags&endRead != 0:
		c.finish(false)
	case c.flags&endSent == 0:
		c.flags |= endSent
		c.socket.closeWrite()
	}
}

// breakOff notes that nothing can be sent any more. What the peer sent before
// it went, for instance why, is still delivered: the end is reported when it
// has been read, at the end of the batch or later.
func (c *conn) breakOff(err error) {
	if c.broken != nil {
		return
	}
	if c.flags&closing != 0 {
		c.finish(true)
		return
	}
	c.broken = err
	c.dropOutput()
	c.flags &^= high
	c.engine.failed.add(c)
}

// startLinger bounds the time that is given to a connection that is to end.
func (c *conn) startLinger(fire func()) {
	if c.linger != nil {
		c.engine.StopTimer(c.linger)
	}
	c.linger = &Timer{Fire: fire}
	c.engine.SetTimer(c.linger, c.engine.now+lingerTimeout)
}

// readFailed ends the connection unless the error is only that nothing is left.
func (c *conn) readFailed(err error) {
	switch {
	case c.flags&closing != 0:
		if errors.Is(err, io.EOF) {
			c.flags |= endRead
			c.endGently()
		} else if !errors.Is(err, errWouldBlock) {
			c.finish(true)
		}
	case !errors.Is(err, errWouldBlock):
		c.end(err)
	case c.broken != nil:
		// The end is on its way, unless the write failed for another reason.
		if c.linger == nil {
			c.startLinger(func() { c.end(c.broken) })
		}
	default:
		c.flags &^= hungUp | allRead
	}
}

// end closes the connection and tells its handler, if it still wants to know.
func (c *conn) end(err error) {
	handler := c.handler
	c.finish(c.unsent() > 0)
	if handler != nil {
		handler.OnClose(err)
	}
}

// finish closes the socket and gives everything back.
func (c *conn) finish(drop bool) {
	c.flags |= closed
	c.handler = nil
	if c.linger != nil {
		c.engine.StopTimer(c.linger)
	}
	if c.flags&inHandler == 0 {
		c.in.release(&c.engine.buffers)
	}
	c.dropOutput()
	c.engine.unregister(c)
	c.socket.close(drop)
}

// dropOutput forgets what is queued.
func (c *conn) dropOutput() {
	c.out.release(&c.engine.buffers)
	c.inflight = 0
	if c.flags&encrypted != 0 {
		c.secure().sealed.release(&c.engine.buffers)
	}
}
