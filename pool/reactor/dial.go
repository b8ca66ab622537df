package reactor

import (
	"net"
	"time"
)

// Dial implements Loop. A timeout of zero leaves the time to the operating
// system. If the engine ends first, done is not called.
func (e *Engine) Dial(address Address, timeout time.Duration, done func(Conn, error) Handler) {
	if e.ending {
		return
	}
	if e.ctx == nil {
		e.Post(func() { e.Dial(address, timeout, done) })
		return
	}
	// Run waits for the goroutine; the end of ctx makes it hurry.
	e.workers.Go(func() {
		dialer := net.Dialer{Timeout: timeout}
		c, err := dialer.DialContext(e.ctx, address.Network, address.Address)
		if err != nil {
			e.Post(func() { e.dialFailed(err, done) })
			return
		}
		t, err := e.poller.prepare(transport{net: c, remote: addressOf(c.RemoteAddr())})
		if err != nil {
			e.Post(func() { e.dialFailed(err, done) })
			return
		}
		if !e.Post(func() { e.dialed(t, done) }) {
			e.poller.discard(t)
		}
	})
}

func (e *Engine) dialed(t transport, done func(Conn, error) Handler) {
	if e.ending {
		e.poller.discard(t)
		return
	}
	c, err := e.poller.attach(t)
	if err != nil {
		e.dialFailed(err, done)
		return
	}
	c.begin(done(c, nil))
}

func (e *Engine) dialFailed(err error, done func(Conn, error) Handler) {
	if !e.ending {
		done(nil, err)
	}
}
