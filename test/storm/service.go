package main

import "time"

// service is a program with a pool of connections such as pgxpool: at most so many, made
// when they are needed, the one used last first, and none given back before the other
// side knows that it has gone.
type service struct {
	// Static.
	startup []byte
	slots   int

	used    int       // slots of connections that work, are being made, or are leaving
	idle    []*client // those that do none of that
	waiting []waiter  // for a slot
	logins  int
}

// waiter is an attempt that waits for a slot; it is passed over when its time is over.
type waiter struct {
	operation *operation
	attempt   int
}

// acquire gets the operation a connection, or has it wait for one.
func (g *generator) acquire(o *operation, now time.Duration) {
	s := o.service
	if s.used == s.slots {
		s.waiting = append(s.waiting, waiter{o, o.attempt})
		return
	}
	s.used++
	g.begin(o, now)
}

// begin gives an operation, which has a slot, an idle connection or a new one.
func (g *generator) begin(o *operation, now time.Duration) {
	s := o.service
	if last := len(s.idle) - 1; last >= 0 {
		c := s.idle[last]
		s.idle = s.idle[:last]
		g.send(c, o, now)
		return
	}
	c := g.dial(s, now)
	if c == nil {
		g.release(s, now)
		g.fail(o, now, failed)
		return
	}
	c.operation, o.client = o, c
}

// release gives a slot to the operation that has waited longest.
func (g *generator) release(s *service, now time.Duration) {
	for len(s.waiting) > 0 {
		w := s.waiting[0]
		s.waiting = s.waiting[1:]
		if o := w.operation; o.outcome == pending && o.attempt == w.attempt {
			g.begin(o, now)
			return
		}
	}
	s.used--
}

// rest puts a connection back.
func (g *generator) rest(c *client, now time.Duration) {
	c.state = clientIdle
	c.service.idle = append(c.service.idle, c)
	g.release(c.service, now)
}

// removeIdle takes out a connection that the other side has closed.
func (s *service) removeIdle(c *client) {
	for i, other := range s.idle {
		if other == c {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			return
		}
	}
}
