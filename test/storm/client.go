package main

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"syscall"
	"time"
)

// clientState is where a connection is in its life.
type clientState uint8

const (
	clientDialling clientState = iota
	clientLoggingIn
	clientIdle
	clientBusy
	clientLeaving    // the server has been asked to cancel, and then told goodbye
	clientCancelling // a connection that asks to cancel what another does
	clientClosed
)

// leaveTimeout is how long pgx waits for the other side of a connection that it leaves.
const leaveTimeout = 15 * time.Second

// Errors that have no SQLSTATE.
const (
	errorTimeout = "timeout"         // of the client
	errorConnect = "cannot connect"  // to the port
	errorLost    = "connection lost" // without a word
)

// client is a connection.
type client struct {
	// Static.
	service *service // nil if it cancels
	fd      int
	began   time.Duration

	state     clientState
	operation *operation // that it works on or is made for; nil if there is none any more
	hello     []byte     // what it says first
	in        []byte     // of a message that is not complete
	pid       uint32
	key       []byte
	leaves    *client // of a connection that cancels: to be told goodbye after that

	complaint string // SQLSTATE in the answer under way
}

// dial begins a connection. It returns nil if there is nobody at the port.
func (g *generator) dial(s *service, now time.Duration) *client {
	return g.open(&client{service: s, began: now, hello: s.startup})
}

func (g *generator) open(c *client) *client {
	var err error
	if c.fd, err = connect(g.port); err != nil {
		g.log.errors[errorConnect]++
		return nil
	}
	if err := g.poller.add(c.fd); err != nil {
		g.broken = err
	}
	if c.fd >= len(g.clients) {
		g.clients = append(g.clients, make([]*client, c.fd+1024-len(g.clients))...)
	}
	g.clients[c.fd] = c
	return c
}

// close forgets a connection and gives its slot back. What it worked on is the caller's
// affair.
func (g *generator) close(c *client, now time.Duration) {
	if c.state == clientClosed {
		return
	}
	wasIdle := c.state == clientIdle
	c.state = clientClosed
	g.clients[c.fd] = nil
	g.closing = append(g.closing, c.fd)
	switch {
	case c.leaves != nil:
		if c.leaves.state == clientLeaving {
			g.write(c.leaves, terminate)
		}
	case wasIdle:
		c.service.removeIdle(c)
	default:
		g.release(c.service, now)
	}
}

// lose ends a connection that is of no use any more, for a reason that is counted.
func (g *generator) lose(c *client, now time.Duration, reason string) {
	o, state := c.operation, c.state
	c.operation = nil
	if c.service != nil && (state == clientDialling || state == clientLoggingIn || state == clientBusy) {
		g.log.errors[reason]++
	}
	if c.service != nil && c.service == g.crowd && (state == clientDialling || state == clientLoggingIn) {
		g.log.crowdFailures++
	}
	g.close(c, now)
	if o == nil {
		return
	}
	how := failed
	if c.complaint != "" {
		how = refused
	}
	if state == clientBusy {
		g.giveUp(o, now)
		g.noteRefusal(c, o, now)
	}
	g.fail(o, now, how)
}

// send has an idle connection execute an operation.
func (g *generator) send(c *client, o *operation, now time.Duration) {
	c.state, c.operation, c.complaint = clientBusy, o, ""
	o.client, o.sent = c, now
	g.write(c, g.requestOf(o).of(o.number))
}

// write sends what is far shorter than a socket's buffer. If it cannot, the connection is
// broken, and the poller will say so.
func (g *generator) write(c *client, b []byte) { _, _ = syscall.Write(c.fd, b) }

// leave ends a connection whose answer nobody waits for, as pgx does: a connection of its
// own asks to cancel, then the old one says goodbye and waits for the other side. It
// keeps its slot until that has closed.
func (g *generator) leave(c *client, now time.Duration) {
	c.state = clientLeaving
	g.leaving = append(g.leaving, leaveLimit{c, now + leaveTimeout})
	request, err := cancelRequest(c.pid, c.key)
	if err != nil {
		g.broken = err
		return
	}
	if g.open(&client{state: clientDialling, hello: request, leaves: c}) == nil {
		g.write(c, terminate)
	}
}

// leaveLimit is when a connection is closed that the other side does not close.
type leaveLimit struct {
	client *client
	at     time.Duration
}

func (g *generator) closeLeaving(now time.Duration) {
	for len(g.leaving) > 0 && (g.leaving[0].client.state == clientClosed || g.leaving[0].at <= now) {
		c := g.leaving[0].client
		g.leaving = g.leaving[1:]
		g.close(c, now)
	}
}

// receive handles what has happened to a connection.
func (g *generator) receive(r readiness) {
	c := g.clients[r.fd]
	if c == nil {
		return
	}
	if c.state == clientDialling {
		now := g.now()
		if err := connectError(c.fd); err != nil {
			g.lose(c, now, errorConnect)
			return
		}
		c.state = clientLoggingIn
		if c.leaves != nil {
			c.state = clientCancelling
		}
		g.write(c, c.hello)
		c.hello = nil
	}
	for c.state != clientClosed {
		n, err := syscall.Read(c.fd, g.buffer)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return
		case errors.Is(err, syscall.EINTR):
			continue
		case err == nil && n == 0:
			err = io.EOF
		}
		now := g.now()
		if err != nil {
			g.lose(c, now, errorLost)
			return
		}
		if err := g.take(c, g.buffer[:n], now); err != nil {
			g.broken = err
			return
		}
		// A shorter read has emptied the socket, but does not tell of a close behind it.
		if n < len(g.buffer) && !r.hangUp {
			return
		}
	}
}

// take reads what the server says.
func (g *generator) take(c *client, b []byte, now time.Duration) error {
	if c.state == clientLeaving || c.state == clientCancelling {
		return nil
	}
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	for c.state != clientClosed && c.state != clientLeaving {
		messageType, body, rest, ok, err := nextMessage(b)
		if err != nil {
			return err
		}
		b = rest
		if !ok {
			break
		}
		if err := g.handle(c, messageType, body, now); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		c.in = nil
	} else {
		c.in = slices.Clone(b)
	}
	return nil
}

// handle handles one message.
func (g *generator) handle(c *client, messageType byte, body []byte, now time.Duration) error {
	switch messageType {
	case 'K':
		if len(body) < 8 {
			return errors.New("BackendKeyData is too short")
		}
		c.pid, c.key = binary.BigEndian.Uint32(body), slices.Clone(body[4:])
	case 'E':
		c.complaint = errorField(body, 'C')
		if errorField(body, 'S') == "FATAL" {
			g.lose(c, now, c.complaint)
		}
	case 'Z':
		g.answer(c, now)
	}
	return nil
}

// answer ends a login or an answer.
func (g *generator) answer(c *client, now time.Duration) {
	o := c.operation
	c.operation = nil
	switch {
	case c.state == clientLoggingIn:
		c.service.logins++
		if c.service == g.crowd {
			g.log.crowdLogins = append(g.log.crowdLogins, now-c.began)
		}
		if o != nil {
			g.send(c, o, now)
			return
		}
		g.rest(c, now)
	case c.complaint != "":
		g.log.errors[c.complaint]++
		g.noteRefusal(c, o, now)
		g.rest(c, now)
		g.fail(o, now, refused)
	default:
		g.rest(c, now)
		g.succeed(o, now)
	}
}

// noteRefusal writes down how long it took to say no, if somebody did.
func (g *generator) noteRefusal(c *client, o *operation, now time.Duration) {
	if c.complaint != "" {
		g.log.refusals = append(g.log.refusals, refusal{o.stream, now, now - o.sent})
	}
}
