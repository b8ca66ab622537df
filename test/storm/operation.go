package main

import "time"

// outcome is what became of an operation.
type outcome uint8

const (
	pending  outcome = iota
	answered         // maybe late
	refused          // the last attempt was told no
	failed           // the last attempt timed out or lost its connection
)

// operation is work that a service wants done once, however often it has to try.
type operation struct {
	// Static.
	number   int64 // in the database, from 1
	stream   *stream
	service  *service
	intended time.Duration // like all times, since the start of the run

	// Of the attempt under way.
	attempt int           // from 1
	client  *client       // nil while it waits for one
	sent    time.Duration // when the request was

	// At the end.
	outcome outcome
	ended   time.Duration
}

// isGood reports whether it was answered while that was of use.
func (o *operation) isGood() bool { return o.outcome == answered && o.ended-o.intended <= deadline }

// try begins another attempt.
func (g *generator) try(o *operation, now time.Duration) {
	o.attempt++
	g.attempts = append(g.attempts, attemptLimit{o, o.attempt, now + attemptTimeout})
	g.acquire(o, now)
}

// fail ends an attempt. A service tries again at once, whatever time it is.
func (g *generator) fail(o *operation, now time.Duration, how outcome) {
	o.client = nil
	if o.attempt <= g.retries {
		g.try(o, now)
		return
	}
	o.outcome, o.ended = how, now
	g.pending--
}

// succeed ends an operation.
func (g *generator) succeed(o *operation, now time.Duration) {
	o.client, o.outcome, o.ended = nil, answered, now
	g.pending--
}

// giveUp writes down that nobody waits for this attempt any more, though the server may
// still execute it.
func (g *generator) giveUp(o *operation, now time.Duration) {
	g.log.abandoned = append(g.log.abandoned, abandonment{o.number, o.attempt, now})
}

// attemptLimit is when a service loses patience with an attempt. All have the same
// patience, so the limits are in order.
type attemptLimit struct {
	operation *operation
	attempt   int
	at        time.Duration
}

func (l *attemptLimit) isOver() bool {
	return l.operation.outcome != pending || l.operation.attempt != l.attempt
}

// expire ends the attempts whose time is over.
func (g *generator) expire(now time.Duration) {
	for len(g.attempts) > 0 && (g.attempts[0].isOver() || g.attempts[0].at <= now) {
		limit := g.attempts[0]
		g.attempts = g.attempts[1:]
		if limit.isOver() {
			continue
		}
		o := limit.operation
		g.log.errors[errorTimeout]++
		if c := o.client; c != nil {
			c.operation = nil
			if c.state == clientBusy {
				g.giveUp(o, now)
				g.leave(c, now)
			} // else the connection is made all the same, for whoever comes next
		}
		g.fail(o, now, failed)
	}
}
