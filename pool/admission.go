package pool

import (
	"fmt"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/shed"
)

// This file is how clients come by servers. Who is next and who is told no is for the
// gate to decide, which package shed describes.

// Waiter is a client's place at a pool, embedded in the session.
type Waiter struct {
	Client Client

	// Owned by the pool.
	ticket *ticket // in the queue, or for a place on a lane; nil if there is none
	flight *flight // that the client leads, until its group is begun

	asksForNumbers bool // the client has called currval or lastval
}

// ticket is one at the gate: of a client that waits, or that holds a server. Most clients
// do neither, so they keep none.
type ticket struct {
	shed.Ticket
	waiter   *Waiter
	settings *Settings // that the client wants

	// What others may follow it for, empty if nothing; the flight that they make, nil if
	// there are none; where in that it follows another, from 1, else 0.
	question []byte
	flight   *flight
	seat     int
}

// newTicket returns a ticket for work of the client of w.
func (p *Pool) newTicket(w *Waiter, settings *Settings, work shed.Work) *ticket {
	var t *ticket
	if last := len(p.pools.tickets) - 1; last >= 0 {
		t = p.pools.tickets[last]
		p.pools.tickets = p.pools.tickets[:last]
	} else {
		t = &ticket{}
		t.Owner = t
	}
	t.Work, t.Shared = work, false
	t.waiter, t.settings = w, settings
	if t.Tenant == nil {
		t.Tenant = p.Tenant(nil)
	}
	return t
}

// endTicket keeps a ticket that is of no more use for another client.
func (p *Pool) endTicket(t *ticket) {
	t.waiter, t.settings, t.Tenant, t.flight, t.question = nil, nil, nil, nil, t.question[:0]
	if cap(t.question) > maxKeptQuestionBytes {
		t.question = nil
	}
	p.pools.tickets = append(p.pools.tickets, t)
}

// Waited is for how long the waiter has stood in the queue.
func (w *Waiter) Waited(now time.Duration) time.Duration {
	if !w.Waiting() {
		return 0
	}
	return now - w.ticket.Since()
}

// Waiting reports whether the waiter stands in the queue, or follows another.
func (w *Waiter) Waiting() bool {
	return w.ticket != nil && (w.ticket.Waiting() || w.ticket.seat > 0)
}

// Tenant returns the tenant of that name at the pool's gate.
func (p *Pool) Tenant(name []byte) *shed.Tenant { return p.gate.Tenant(name, p.now()) }

// Succeeded notes that work of the tenant has ended well.
func (p *Pool) Succeeded(tenant *shed.Tenant) { p.gate.Succeeded(tenant, p.now()) }

// Storming reports whether the pool is in a storm.
func (p *Pool) Storming() bool { return p.gate.Storming() }

// Acquire lends a server at once, or queues w and returns nil: then OnLease or
// OnRefused of its client follows, unless Abandon takes it out of the queue. OnRefused
// may come in the call. settings are those that the client wants.
func (p *Pool) Acquire(w *Waiter, settings *Settings, work shed.Work) *Server {
	t := p.newTicket(w, settings, work)
	idle := p.chooseIdle(settings)
	if !p.arrive(t, idle >= 0) {
		return nil
	}
	s := p.takeIdle(idle)
	s.lend(t, p.now())
	return s
}

// arrive asks the gate for a server. free tells whether there is one.
func (p *Pool) arrive(t *ticket, free bool) (admitted bool) {
	p.gate.SetClients(p.ClientCount)
	admitted, reason := p.gate.Arrive(&t.Ticket, p.now(), p.busy(), free)
	switch {
	case admitted:
	case reason != shed.NotShed:
		client := t.waiter.Client
		p.endTicket(t)
		p.armTick()
		client.OnRefused(p.refusal(reason, 0))
	default:
		t.waiter.ticket = t
		p.enqueued(t)
	}
	return admitted
}

// busy is how many servers are used, or not yet ready to be used again.
func (p *Pool) busy() int {
	return p.serverCount[stateLeased] + p.serverCount[stateShared] + p.serverCount[stateResetting] + p.serverCount[stateCanceling]
}

// chooseIdle returns the position of the idle server that was used last, or rather one
// of the last few that has the settings; -1 if there is none.
func (p *Pool) chooseIdle(settings *Settings) int {
	last := len(p.idle) - 1
	if last < 0 {
		return -1
	}
	chosen := last
	for i := last; i >= 0 && i > last-maxIdleLooks; i-- {
		if p.idle[i].settings == settings {
			chosen = i
			break
		}
	}
	if p.idle[chosen].streaming > 0 { // in the middle of a long notice
		return -1
	}
	return chosen
}

const maxIdleLooks = 8

// takeIdle takes the idle server at that position.
func (p *Pool) takeIdle(position int) *Server {
	s := p.idle[position]
	p.idle = append(p.idle[:position], p.idle[position+1:]...)
	return s
}

// enqueued acts on a waiter more.
func (p *Pool) enqueued(t *ticket) {
	p.armWaitTimer()
	p.armTick()
	p.stopLanes()
	p.grow()
	if p.serverCount[stateOpening] == 0 {
		p.releaseNumbers()
	}
}

// dequeued acts on a waiter less.
func (p *Pool) dequeued(t *ticket) {
	p.leaveFlight(t)
	p.stats.WaitTime += p.now() - t.Since()
	t.waiter.ticket = nil
	p.armWaitTimer()
}

// Abandon takes w out of the queue, or has it follow nobody any more.
func (p *Pool) Abandon(w *Waiter) {
	switch t := w.ticket; {
	case !w.Waiting():
	case !t.Waiting():
		t.flight.release(t)
	default:
		p.gate.Abandon(&t.Ticket, p.now())
		p.dequeued(t)
		p.endTicket(t)
		p.dispatch()
		p.pools.serveStarving()
	}
}

// handOver gives a free server to who is next, or keeps it.
func (p *Pool) handOver(s *Server) {
	s.setState(stateIdle)
	s.idleSince = p.now()
	p.idle = append(p.idle, s)
	p.dispatch()
	if s.state == stateIdle {
		p.pools.serveStarving()
	}
}

// dispatch gives free servers, and places on lanes, to those who are next.
func (p *Pool) dispatch() {
	if p.gate.Waiting() == 0 {
		return
	}
	for p.gate.Waiting() > 0 && len(p.idle)+len(p.lanes) > 0 && p.serveNext() {
	}
	p.armWaitTimer() // some may have been found to have waited for too long
}

// serveNext serves or refuses who is next, if there is a server for it.
func (p *Pool) serveNext() bool {
	next, reason := p.gate.Next(p.now(), p.busy())
	if next == nil {
		return false
	}
	t := next.Owner.(*ticket)
	switch {
	case reason != shed.NotShed:
		p.refuse(t, p.refusal(reason, p.now()-t.Since()))
	case t.Shared:
		s := p.lane(t.settings, t.Expected, true)
		if s == nil {
			return false
		}
		s.reserve(t)
	default:
		idle := p.chooseIdle(t.settings)
		if idle < 0 {
			return false
		}
		s := p.takeIdle(idle)
		p.admit(t)
		s.lend(t, p.now())
		s.client.OnLease(s)
	}
	return true
}

// admit ends the wait of t with a server.
func (p *Pool) admit(t *ticket) {
	p.depart(t)
	p.gate.Admit(&t.Ticket, p.now())
	p.dequeued(t)
}

// refuse tells the client of t, which the gate has let go, why it gets no server.
func (p *Pool) refuse(t *ticket, e *pgwire.Error) {
	p.dequeued(t)
	client := t.waiter.Client
	p.endTicket(t)
	client.OnRefused(e)
}

// refuseAll ends every wait.
func (p *Pool) refuseAll(e *pgwire.Error) {
	for t := p.gate.First(); t != nil; t = p.gate.First() {
		p.gate.Refuse(t)
		p.refuse(t.Owner.(*ticket), e)
	}
}

// armWaitTimer sets the timer for the waiter whose time is up first.
func (p *Pool) armWaitTimer() {
	deadline := p.gate.NextDeadline()
	switch {
	case deadline == 0:
		p.loop.StopTimer(&p.waitTimer)
	case deadline != p.waitTimerAt || !p.waitTimer.Armed():
		p.loop.SetTimer(&p.waitTimer, deadline)
	}
	p.waitTimerAt = deadline
}

// refuseOverdue tells those who have waited too long.
func (p *Pool) refuseOverdue() {
	for t, reason := p.gate.Overdue(p.now()); t != nil; t, reason = p.gate.Overdue(p.now()) {
		p.stats.WaitTimeouts++
		p.refuse(t.Owner.(*ticket), p.refusal(reason, p.now()-t.Since()))
	}
	p.armWaitTimer()
	p.dispatch()
}

// armTick has the gate notice that time passes.
func (p *Pool) armTick() {
	if !p.tickTimer.Armed() && !p.gate.Idle() {
		p.loop.SetTimer(&p.tickTimer, p.now()+shed.TickPeriod)
	}
}

func (p *Pool) tick() {
	p.logStorm(p.gate.Tick(p.now()))
	p.dispatch()
	p.armTick()
}

// logStorm writes a line when a storm begins and when it ends.
func (p *Pool) logStorm(change shed.Change) {
	stats := p.gate.Stats(p.now())
	storm := &stats.Storm
	switch change {
	case shed.StormBegins:
		p.pools.logger.Warn("storm begins", "database", p.Database, "user", p.User, "waiting", stats.Waiting,
			"oldest_wait", stats.OldestWait.Round(time.Millisecond).String(), "servers", stats.Servers)
	case shed.StormEnds:
		p.pools.logger.Warn("storm ends", "database", p.Database, "user", p.User,
			"duration", (storm.EndedAt - storm.BeganAt).Round(time.Millisecond).String(), "arrivals", storm.Arrivals,
			"admitted", storm.Admitted, "shed", storm.Shed.Total(), "retries", storm.Retries, "abandoned", storm.Abandoned,
			"most_waiting", storm.MostWaiting, "longest_wait", storm.LongestWait.Round(time.Millisecond).String())
	case shed.NoChange:
	}
}

// refusal is the answer to who gets no server. Its words avoid what drivers take for a
// lost connection.
func (p *Pool) refusal(reason shed.Reason, waited time.Duration) *pgwire.Error {
	if p.lastFailure != nil && p.serverCount[stateLeased]+p.serverCount[stateShared] == 0 {
		return &pgwire.Error{
			Severity: pgwire.SeverityError,
			SQLState: pgwire.CannotConnect,
			Message:  "no server available: " + p.lastFailure.Message,
			Detail:   fmt.Sprintf("billproxy reason=server_unavailable waited_ms=%d sqlstate=%s", waited.Milliseconds(), p.lastFailure.SQLState),
		}
	}
	e := &pgwire.Error{
		Severity: pgwire.SeverityError,
		SQLState: p.config.ShedSQLState,
		Message:  "too much work for the servers: this was not begun",
		Detail: fmt.Sprintf("billproxy shed reason=%s waited_ms=%d retry_after_ms=%d",
			reason, waited.Milliseconds(), p.gate.RetryAfter().Milliseconds()),
		Hint: "Ask again later, not at once.",
	}
	switch reason {
	case shed.WaitTimeout:
		e.Message = fmt.Sprintf("no server became free within %s", waited.Round(time.Millisecond))
		e.Hint = "All servers of the pool are in use: look for long transactions, or raise BILLPROXY_DEFAULT_POOL_SIZE."
	case shed.Deadline:
		e.Message = "too much work for the servers: this could not have been done within its statement_timeout or billproxy.deadline"
	case shed.RetryBudget:
		e.Message = "too many retries while the servers have too much work: this was not begun"
	default:
	}
	return e
}
