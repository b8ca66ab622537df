package sim

import (
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

// errReset is how a connection ends that was not closed in an orderly way.
var errReset = errors.New("read: " + syscall.ECONNRESET.Error())

// lingerTimeout is how long a closed connection goes on sending what is queued.
const lingerTimeout = 5 * time.Second

// maxReadBytes is the most that one read of the proxy returns.
const maxReadBytes = 64 << 10

// Conn is the proxy's end of a connection. It implements reactor.Conn.
type Conn struct {
	world   *World
	name    string
	peer    *Peer
	handler reactor.Handler

	// From the peer.
	arrived  buffer // in the kernel
	in       buffer // read and not consumed
	paused   bool
	endError error // the end has arrived

	// To the peer.
	out    buffer // written and not taken by the kernel
	flight buffer // in the kernel or on the way
	high   bool   // HighWaterBytes was exceeded and OnDrain is due
	held   bool   // by Hold

	state       connState
	ready       bool // in world.ready
	dirty       bool // in world.dirty
	requested   bool // in world.requested
	maxOutBytes int  // the most that was ever queued
}

type connState uint8

const (
	connOpen    connState = iota
	connClosing           // Close was called and bytes are still queued
	connClosed
)

// Peer is the other end of a connection: a client's, or PostgreSQL's.
type Peer struct {
	world *World
	conn  *Conn
	owner endpoint

	unsent    buffer // not yet taken by the network
	closing   bool   // the end follows what is unsent
	endSent   bool
	reset     bool  // the end is a reset
	gone      bool  // nothing is received any more
	arriving  bool  // an event moves unsent bytes
	stalled   bool  // it does not read
	receiving bool  // an event hands over bytes in flight
	proxyEnd  error // how the proxy's side ended
	outEnded  bool  // the owner knows that the proxy closed
}

// endpoint is who owns the other end of a connection.
type endpoint interface {
	// receive gets some of the bytes that the proxy sent, valid during the call.
	receive(b []byte)
	// ended reports that the proxy closed the connection: io.EOF, or errReset if
	// bytes were lost.
	ended(err error)
	// drained reports that bytes which were sent have been taken.
	drained()
}

// connect makes a connection; the proxy does not know of it yet.
func (w *World) connect(name string, owner endpoint) *Peer {
	c := &Conn{world: w, name: name}
	p := &Peer{world: w, conn: c, owner: owner}
	c.peer = p
	return p
}

// Write implements reactor.Conn.
func (c *Conn) Write(b []byte) {
	if c.state != connOpen || len(b) == 0 {
		return
	}
	c.world.trace.add(c.world.now, traceWrite, c.name, len(b), b)
	c.out.append(b)
	if len(b) >= 16<<10 && c.world.chance(2) {
		c.take()
	}
	c.maxOutBytes = max(c.maxOutBytes, c.out.len())
	if c.out.len() > reactor.HighWaterBytes {
		c.high = true
	}
	c.markDirty()
}

// BufferedBytes implements reactor.Conn.
func (c *Conn) BufferedBytes() int { return c.out.len() }

// Retract implements reactor.Conn.
func (c *Conn) Retract(n int) bool {
	if c.state != connOpen || c.out.len() < n {
		return false
	}
	c.world.trace.add(c.world.now, traceWrite, c.name, -n, nil)
	c.out.retract(n)
	return true
}

// Hold implements reactor.Conn.
func (c *Conn) Hold(on bool) {
	if c.held != on && c.state == connOpen {
		c.held = on
		c.markDirty()
	}
}

// StartTLS implements reactor.Conn. No scenario has encryption.
func (c *Conn) StartTLS(reactor.TLSRole, *tls.Config, func(tls.ConnectionState)) {
	c.world.fail("%s was to be encrypted", c.name)
}

// PauseRead implements reactor.Conn.
func (c *Conn) PauseRead() { c.paused = true }

// ResumeRead implements reactor.Conn.
func (c *Conn) ResumeRead() {
	if c.paused {
		c.paused = false
		c.markReady()
	}
}

// Redeliver implements reactor.Conn.
func (c *Conn) Redeliver() {
	if c.state == connOpen && !c.requested {
		c.requested = true
		c.world.requested = append(c.world.requested, c)
		c.world.wake()
	}
}

// Close implements reactor.Conn.
func (c *Conn) Close() {
	if c.state != connOpen {
		return
	}
	c.world.trace.add(c.world.now, traceEnd, c.name, c.out.len(), []byte("proxy closes"))
	c.leave()
	c.state, c.held = connClosing, false
	if c.out.len() > 0 {
		c.world.after(lingerTimeout, func() {
			if c.state == connClosing {
				c.finish(errReset)
			}
		})
	}
	c.markDirty()
}

// Abort implements reactor.Conn.
func (c *Conn) Abort() {
	if c.state == connClosed {
		return
	}
	c.world.trace.add(c.world.now, traceEnd, c.name, c.out.len(), []byte("proxy aborts"))
	if c.state == connOpen {
		c.leave()
	}
	c.finish(errReset)
}

// RemoteAddr implements reactor.Conn.
func (c *Conn) RemoteAddr() string { return c.name }

// LocalAddr implements reactor.Conn.
func (c *Conn) LocalAddr() string { return c.name }

// Local implements reactor.Conn.
func (c *Conn) Local() bool { return true }

// leave takes the connection out of the list of the proxy's.
func (c *Conn) leave() {
	if i := slices.Index(c.world.conns, c); i >= 0 {
		c.world.conns = slices.Delete(c.world.conns, i, i+1)
	}
}

// finish closes for good; what is in flight still arrives.
func (c *Conn) finish(err error) {
	c.state = connClosed
	c.handler = nil
	c.out.clear()
	c.in.clear()
	c.arrived.clear()
	c.peer.lostProxy(err)
}

func (c *Conn) markReady() {
	if !c.ready && c.state != connClosed && (c.handler != nil || c.state == connClosing) {
		c.ready = true
		c.world.ready = append(c.world.ready, c)
		c.world.wake()
	}
}

func (c *Conn) markDirty() {
	if !c.dirty {
		c.dirty = true
		c.world.dirty = append(c.world.dirty, c)
		c.world.wake()
	}
}

// service looks at a connection that something has happened to.
func (c *Conn) service() {
	c.ready = false
	if c.out.len() > 0 || c.state == connClosing {
		c.markDirty()
	}
	if c.state != connOpen {
		c.arrived.clear()
		return
	}
	if !c.paused && c.arrived.len() > 0 {
		n := c.world.piece(min(c.arrived.len(), maxReadBytes))
		c.in.append(c.arrived.bytes()[:n])
		c.arrived.consume(n)
		c.peer.pump()
		c.world.trace.add(c.world.now, traceReceive, c.name, n, c.in.bytes()[c.in.len()-n:])
		c.deliver()
		if c.state != connOpen {
			return
		}
	}
	if c.endError != nil {
		if c.paused && !c.world.scenario.NoticePausedEnd {
			return // noticed when reading goes on
		}
		if c.paused || c.arrived.len() == 0 {
			c.end()
			return
		}
	}
	if !c.paused && c.arrived.len() > 0 {
		c.markReady()
	}
}

// deliver hands the handler what it has not consumed.
func (c *Conn) deliver() {
	offered := c.in.len()
	consumed := c.handler.OnData(c.in.bytes())
	if consumed < 0 || consumed > offered {
		c.world.fail("%s: OnData consumed %d of %d bytes", c.name, consumed, offered)
	}
	if c.state != connOpen {
		c.in.clear()
		return
	}
	c.world.trace.add(c.world.now, traceConsume, c.name, offered, nil)
	c.in.consume(consumed)
}

func (c *Conn) redeliver() {
	c.requested = false
	if c.state == connOpen && c.in.len() > 0 {
		c.deliver()
	}
}

// end reports the end of the connection.
func (c *Conn) end() {
	c.world.trace.add(c.world.now, traceEnd, c.name, 0, []byte("proxy sees "+c.endError.Error()))
	if _, ok := c.peer.owner.(*serverConn); ok { // the loop may have been late to hear of it
		c.world.faults = append(c.world.faults, faultRecord{faultServer, c.world.now})
	}
	handler, err := c.handler, c.endError
	c.leave()
	c.finish(errReset)
	handler.OnClose(err)
}

// take moves queued bytes into the kernel as far as there is room.
func (c *Conn) take() {
	if n := min(c.out.len(), c.world.scenario.WindowBytes-c.flight.len()); n > 0 && !c.held {
		c.flight.append(c.out.bytes()[:n])
		c.out.consume(n)
		c.peer.pull()
	}
}

// flush is what the loop does for a connection at the end of a batch.
func (c *Conn) flush() {
	if c.state == connClosed {
		return
	}
	c.take()
	if c.state == connClosing {
		if c.out.len() == 0 {
			c.finish(io.EOF)
		}
		return
	}
	if c.high && c.out.len() <= reactor.LowWaterBytes {
		c.high = false
		c.world.coverage.Drained++
		c.handler.OnDrain()
	}
}

// Send sends bytes to the proxy.
func (p *Peer) Send(b []byte) {
	if p.closing || p.gone || p.conn.state == connClosed {
		return
	}
	p.unsent.append(b)
	p.pump()
}

// pump moves unsent bytes to the proxy's kernel, after a while.
func (p *Peer) pump() {
	if p.arriving || p.endSent || p.conn.state == connClosed {
		return
	}
	room := p.unsent.len() == 0 || p.conn.arrived.len() < p.world.scenario.WindowBytes
	if !room || p.unsent.len() == 0 && !p.closing {
		return
	}
	p.arriving = true
	p.world.after(p.world.latency(), p.arrive)
}

func (p *Peer) arrive() {
	p.arriving = false
	if p.conn.state == connClosed || p.endSent {
		return
	}
	if n := min(p.unsent.len(), p.world.scenario.WindowBytes-p.conn.arrived.len()); n > 0 {
		n = p.world.piece(n)
		p.conn.arrived.append(p.unsent.bytes()[:n])
		p.unsent.consume(n)
		p.conn.markReady()
		p.owner.drained()
	}
	if p.unsent.len() == 0 && p.closing && !p.endSent {
		p.endSent = true
		p.conn.endError = io.EOF
		if p.reset {
			p.conn.endError = errReset
			if p.world.chance(2) {
				p.conn.arrived.clear()
			}
		}
		p.conn.markReady()
		return
	}
	p.pump()
}

// Close closes the connection behind what was sent.
func (p *Peer) Close() {
	if p.closing {
		return
	}
	p.closing, p.gone = true, true
	p.pump()
}

// Reset breaks the connection: what was not yet taken by the network is lost.
func (p *Peer) Reset() {
	if p.closing {
		return
	}
	p.closing, p.gone, p.reset = true, true, true
	p.unsent.clear()
	p.pump()
}

// Stall stops reading, Unstall starts it again.
func (p *Peer) Stall() { p.stalled = true }

// Unstall undoes Stall.
func (p *Peer) Unstall() {
	p.stalled = false
	p.pull()
}

// pull hands bytes in flight to the owner, after a while.
func (p *Peer) pull() {
	if p.receiving || p.stalled || p.conn.flight.len() == 0 && (p.conn.state != connClosed || p.outEnded) {
		return
	}
	p.receiving = true
	p.world.after(p.world.latency(), p.take)
}

func (p *Peer) take() {
	p.receiving = false
	if p.stalled {
		return
	}
	c := p.conn
	if n := c.flight.len(); n > 0 {
		n = p.world.piece(n)
		b := c.flight.bytes()[:n]
		c.flight.consume(n)
		if !p.gone {
			p.world.trace.add(p.world.now, traceArrive, c.name, n, b)
			p.owner.receive(b)
		}
		if c.out.len() > 0 || c.state == connClosing {
			c.markReady()
		}
	}
	if c.flight.len() == 0 && c.state == connClosed && !p.outEnded {
		p.outEnded = true
		if !p.gone {
			p.owner.ended(p.proxyEnd)
		}
		return
	}
	p.pull()
}

// lostProxy notes that the proxy closed. After a reset some of what was in flight
// may be lost.
func (p *Peer) lostProxy(err error) {
	p.unsent.clear()
	p.proxyEnd = err
	if !errors.Is(err, io.EOF) {
		if n := p.conn.flight.len(); n > 0 && p.world.chance(2) {
			keep := p.world.random.IntN(n + 1)
			p.conn.flight.b = p.conn.flight.b[:p.conn.flight.read+keep]
		}
	}
	p.pull()
}

// latency is how long the network takes.
func (w *World) latency() time.Duration {
	d := time.Duration(w.random.Int64N(int64(w.scenario.Latency)))
	if w.scenario.NetworkStalls && w.random.IntN(300) == 0 {
		d += time.Duration(w.random.IntN(200)) * time.Millisecond
	}
	return d
}

// piece is how many of n bytes the network passes on at once.
func (w *World) piece(n int) int {
	if n <= 1 || !w.percent(w.scenario.SplitPercent) {
		return n
	}
	if n > 2<<10 {
		return 1 + n/8 + w.random.IntN(n/2)
	}
	return 1 + w.random.IntN(n)
}
