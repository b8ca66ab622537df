package reactor

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// The read buffer grows when it has been filled, up to the larger size.
	minPipeReadBytes = 1 << 10
	maxPipeReadBytes = 16 << 10

	pipeWriteBytes = 64 << 10

	// lastWriteTimeout bounds the write that is under way when a pipe is closed.
	lastWriteTimeout = time.Second

	// pipeKeptBytes is the largest write buffer that an idle pipe keeps.
	pipeKeptBytes = 4 << 10
)

// pipe makes a net.Conn look like a non-blocking socket. One goroutine reads
// into a buffer and waits until the loop has emptied it; another writes what the
// loop has given it, and at last closes the net.Conn.
type pipe struct {
	conn conn
	net  net.Conn

	// Posted by the goroutines; made once, so that posting allocates nothing.
	received, sent func()

	mu       sync.Mutex // guards the following
	changed  sync.Cond
	input    []byte // read and not yet taken by the loop
	output   []byte // given by the loop and not yet written
	readErr  error  // after input
	writeErr error
	closed   bool
}

// attachPipe makes a net.Conn part of the loop.
func attachPipe(e *Engine, t transport) *conn {
	p := &pipe{net: t.net}
	p.changed.L = &p.mu
	p.received, p.sent = p.onReceived, p.onSent
	p.conn.socket = p
	p.conn.remote = t.remote
	p.conn.flags = writeReady
	e.register(&p.conn)
	e.workers.Go(p.reader)
	e.workers.Go(p.writer)
	return &p.conn
}

func (p *pipe) reader() {
	b := make([]byte, minPipeReadBytes)
	for {
		n, err := p.net.Read(b)
		p.mu.Lock()
		p.input, p.readErr = b[:n], err
		p.mu.Unlock()
		if !p.conn.engine.Post(p.received) || err != nil {
			return
		}
		p.mu.Lock()
		for len(p.input) > 0 && !p.closed {
			p.changed.Wait()
		}
		closed := p.closed
		p.mu.Unlock()
		if closed {
			return
		}
		if n == len(b) && n < maxPipeReadBytes {
			b = make([]byte, 4*n)
		}
	}
}

func (p *pipe) writer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.output) == 0 && !p.closed {
			p.changed.Wait()
		}
		if len(p.output) == 0 {
			break
		}
		output := p.output
		p.mu.Unlock()
		_, err := p.net.Write(output)
		p.mu.Lock()
		p.output, p.writeErr = output[:0], err
		if cap(output) > pipeKeptBytes {
			p.output = nil
		}
		p.mu.Unlock()
		p.conn.engine.Post(p.sent)
		p.mu.Lock()
	}
	p.net.Close()
}

// onReceived runs on the loop.
func (p *pipe) onReceived() {
	p.mu.Lock()
	ended := p.readErr != nil
	p.mu.Unlock()
	p.conn.ready(true, false, ended)
}

// onSent runs on the loop.
func (p *pipe) onSent() {
	p.mu.Lock()
	err := p.writeErr
	p.mu.Unlock()
	if p.conn.flags&closed != 0 {
		return
	}
	p.conn.inflight = 0
	if err != nil {
		p.conn.breakOff(err)
		return
	}
	p.conn.ready(false, true, false)
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.input) == 0 {
		if p.readErr != nil {
			return 0, p.readErr
		}
		return 0, errWouldBlock
	}
	n := copy(b, p.input)
	p.input = p.input[n:]
	if len(p.input) == 0 {
		p.changed.Broadcast()
	}
	return n, nil
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writeErr != nil {
		return 0, p.writeErr
	}
	if len(p.output) > 0 {
		return 0, errWouldBlock
	}
	p.output = append(p.output, b[:min(len(b), pipeWriteBytes)]...)
	p.conn.inflight = len(p.output)
	p.changed.Broadcast()
	return len(p.output), nil
}

// awaitWrite has nothing to do: the end of every write is reported.
func (p *pipe) awaitWrite(bool) {}

// closeWrite is called with no output left. It fails only for a connection that
// has broken, which the reader reports.
func (p *pipe) closeWrite() {
	if c, ok := p.net.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

func (p *pipe) local() netip.AddrPort { return addressOf(p.net.LocalAddr()) }

func (p *pipe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readErr != nil {
		return p.readErr
	}
	return io.EOF
}

func (p *pipe) close(drop bool) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.changed.Broadcast()
	if !drop {
		_ = p.net.SetWriteDeadline(time.Now().Add(lastWriteTimeout))
		return
	}
	// At once, to release a write that the peer holds up.
	if tcp, ok := p.net.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	p.net.Close()
}
