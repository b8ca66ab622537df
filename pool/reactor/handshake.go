package reactor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// maxHandshakes bounds the handshakes with clients that are under way, and with
	// them what peers that nobody knows yet can make us remember. The others wait
	// unread.
	maxHandshakes = 256

	// maxHandshakeBytes is how much of a peer is read while the handshake lasts: more
	// than any chain of certificates takes.
	maxHandshakeBytes = 128 << 10

	// handshakeTimeout is how long one may take, so that peers that say nothing do
	// not keep the others waiting.
	handshakeTimeout = 10 * time.Second
)

// handshakes is what an engine knows of those under way. Only processors is used by
// their goroutines.
type handshakes struct {
	running int          // with clients
	waiting []*handshake // with clients, first come first served

	// processors has a token for each handshake with a client that computes: so that
	// a flood of them leaves the loop its processor.
	processors chan struct{}
}

func newHandshakes() handshakes {
	return handshakes{processors: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))}
}

// handshake is one between two goroutines: its own, which blocks until the peer has
// sent what comes next, and the loop.
type handshake struct {
	// Static after construction.
	socket *tlsSocket
	role   TLSRole
	done   func(tls.ConnectionState)
	flush  func() // posted by write

	// Owned by the loop.
	started  bool
	received int
	timer    Timer

	mu       sync.Mutex // guards the following
	changed  sync.Cond
	input    []byte // from the peer
	inputErr error  // after input
	output   []byte // for the peer
	posted   bool   // flush is going to run
}

func newHandshake(s *tlsSocket, role TLSRole, done func(tls.ConnectionState)) *handshake {
	h := &handshake{socket: s, role: role, done: done}
	h.changed.L = &h.mu
	h.flush = h.takeOutput
	h.timer.Fire = func() { h.end(fmt.Errorf("it did not complete within %s", handshakeTimeout)) }
	return h
}

// start begins a handshake unless it has begun or has to wait, and reports whether it
// runs.
func (s *handshakes) start(h *handshake) bool {
	if h.started {
		return true
	}
	if h.role == TLSServer {
		if s.running >= maxHandshakes {
			if !slices.Contains(s.waiting, h) {
				s.waiting = append(s.waiting, h)
			}
			return false
		}
		s.running++
	}
	h.started = true
	e := h.socket.conn.engine
	e.SetTimer(&h.timer, e.now+handshakeTimeout)
	// Its end is told by end: to watch ctx would cost another goroutine.
	ctx := context.WithoutCancel(e.ctx)
	e.workers.Go(func() { h.run(ctx) })
	return true
}

// ended makes room for the next.
func (s *handshakes) ended(h *handshake) {
	h.socket.conn.engine.StopTimer(&h.timer)
	if h.role != TLSServer {
		return
	}
	s.running--
	if len(s.waiting) > 0 {
		next := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.start(next)
		next.socket.conn.engine.readable.add(next.socket.conn)
	}
}

// cancel ends a handshake whose connection has ended.
func (s *handshakes) cancel(h *handshake) {
	if !h.started {
		s.waiting = slices.DeleteFunc(s.waiting, func(other *handshake) bool { return other == h })
		return
	}
	h.end(net.ErrClosed)
}

// run is the goroutine.
func (h *handshake) run(ctx context.Context) {
	h.compute(true)
	err := h.socket.tls.HandshakeContext(ctx)
	state := h.socket.tls.ConnectionState()
	h.compute(false)
	e := h.socket.conn.engine
	e.Post(func() {
		e.handshakes.ended(h)
		h.socket.established(h, state, err)
	})
}

// compute takes a processor, or gives it back.
func (h *handshake) compute(on bool) {
	if h.role != TLSServer {
		return
	}
	processors := h.socket.conn.engine.handshakes.processors
	if on {
		processors <- struct{}{}
	} else {
		<-processors
	}
}

// read is called by the goroutine.
func (h *handshake) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.input) == 0 && h.inputErr == nil {
		h.compute(false)
		for len(h.input) == 0 && h.inputErr == nil {
			h.changed.Wait()
		}
		h.mu.Unlock()
		h.compute(true)
		h.mu.Lock()
	}
	if len(h.input) == 0 {
		return 0, h.inputErr
	}
	n := copy(b, h.input)
	h.input = h.input[n:]
	return n, nil
}

// write is called by the goroutine.
func (h *handshake) write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.output = append(h.output, b...)
	if !h.posted {
		h.posted = h.socket.conn.engine.Post(h.flush)
	}
	return len(b), nil
}

// takeOutput runs on the loop.
func (h *handshake) takeOutput() {
	c := h.socket.conn
	h.mu.Lock()
	defer h.mu.Unlock()
	h.posted = false
	if c.flags&closed == 0 {
		h.socket.sealed.append(&c.engine.buffers, h.output)
		c.markDirty()
	}
	h.output = h.output[:0]
}

// room is how much more may be fed.
func (h *handshake) room() int { return maxHandshakeBytes - h.received }

// feed gives bytes of the peer to the goroutine.
func (h *handshake) feed(b []byte) {
	h.received += len(b)
	h.mu.Lock()
	h.input = append(h.input, b...)
	h.mu.Unlock()
	h.changed.Broadcast()
}

// end tells the goroutine that no more comes.
func (h *handshake) end(err error) {
	h.mu.Lock()
	if h.inputErr == nil {
		h.inputErr = err
	}
	h.mu.Unlock()
	h.changed.Broadcast()
}
