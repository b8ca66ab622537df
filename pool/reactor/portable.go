package reactor

import (
	"errors"
	"net"
	"time"
)

// portable waits for its mailbox alone: goroutines read, write and accept, and
// post what happens.
type portable struct {
	engine *Engine
	woken  chan struct{}
}

func newPortable(e *Engine) *portable {
	return &portable{engine: e, woken: make(chan struct{}, 1)}
}

func (p *portable) wait() error {
	timeout := p.engine.timeout()
	if timeout == 0 || !p.engine.mailbox.sleep() {
		return nil
	}
	defer p.engine.mailbox.awake()
	if timeout < 0 {
		<-p.woken
		return nil
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.woken:
	case <-timer.C:
	}
	return nil
}

func (p *portable) dispatch() {}

func (p *portable) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *portable) prepare(t transport) (transport, error) { return t, nil }

func (p *portable) discard(t transport) { t.net.Close() }

func (p *portable) attach(t transport) (*conn, error) { return attachPipe(p.engine, t), nil }

func (p *portable) locksThread() bool { return false }

func (p *portable) close() {}

// portableListener is the goroutine that accepts.
type portableListener struct {
	listener *Listener
	source   net.Listener
	taken    chan struct{} // the loop has the last connection
	done     chan struct{} // closed by close
}

func (p *portable) listen(l *Listener, source net.Listener) error {
	a := &portableListener{
		listener: l,
		source:   source,
		taken:    make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	l.source = a
	p.engine.workers.Go(a.run)
	return nil
}

func (a *portableListener) run() {
	e := a.listener.engine
	for {
		c, err := a.source.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.Post(func() { a.listener.failed(err) })
			select {
			case <-time.After(acceptPause):
			case <-a.done:
			}
			continue
		}
		if !e.Post(func() { a.accepted(c) }) {
			c.Close()
			return
		}
		// One at a time: what the loop has not taken waits in the kernel.
		select {
		case <-a.taken:
		case <-a.done:
		}
	}
}

func (a *portableListener) accepted(c net.Conn) {
	a.taken <- struct{}{}
	select {
	case <-a.done:
		c.Close()
	default:
		a.listener.accepted(transport{net: c, remote: addressOf(c.RemoteAddr())})
	}
}

func (a *portableListener) close() {
	close(a.done)
	a.source.Close()
}
