package shed

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// This file is a simulation of a storm: clients, a gate and servers under a virtual
// clock. Everything follows from the seed.

// scenario is what a simulation is like.
type scenario struct {
	seed     uint64
	servers  int
	took     time.Duration // one piece of work, on average
	uneven   bool          // work is of very different length
	load     []float64     // offered, in shares of what the servers can do, for a second each
	retries  int           // of a client that is told no or gives up
	backoff  time.Duration // before them
	patience time.Duration // of clients
	told     bool          // and they say so
	tenants  int
	flood    bool    // the first of them makes half of the load
	critical float64 // share of critical work
	stallAt  time.Duration
	stall    time.Duration
	deaths   float64       // of servers, per second
	batch    time.Duration // what happens is noticed only so often; 0 is at once
	config   Config
}

func newScenario(seed uint64) scenario {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(values ...float64) float64 { return values[r.IntN(len(values))] }
	s := scenario{
		seed:     seed,
		servers:  1 + r.IntN(24),
		took:     time.Duration(pick(0.5, 2, 8, 30) * float64(time.Millisecond)),
		uneven:   r.IntN(3) == 0,
		retries:  r.IntN(4),
		backoff:  time.Duration(pick(0, 0, 0.01, 0.2) * float64(time.Second)),
		patience: time.Duration(pick(0.1, 0.5, 1, 1, 5) * float64(time.Second)),
		told:     r.IntN(3) == 0,
		tenants:  1 + r.IntN(5),
		flood:    r.IntN(2) == 0,
		config:   usualConfig(),
	}
	s.took = max(s.took, time.Duration(s.servers)*time.Millisecond) // a thousand per second are enough
	if r.IntN(3) == 0 {
		s.critical = 0.1
	}
	if r.IntN(3) == 0 {
		s.deaths = 1
	}
	for range 2 + r.IntN(3) {
		s.load = append(s.load, pick(0.3, 0.8, 1, 1.5, 3, 5))
	}
	if r.IntN(3) == 0 {
		s.stallAt, s.stall = time.Duration(r.Int64N(int64(time.Second))), time.Duration(r.Int64N(int64(3*time.Second)))
	}
	if r.IntN(4) == 0 {
		s.batch = time.Duration(r.Int64N(int64(20 * time.Millisecond)))
	}
	s.config.MaxWaiters = 8 << r.IntN(8)
	s.config.Fair = r.IntN(5) > 0
	s.config.AdaptiveLimit = r.IntN(3) > 0
	if r.IntN(8) == 0 {
		s.config.Target = 0
	}
	if r.IntN(8) == 0 {
		s.config.RetryBudget = 0
	}
	return s
}

// operation is what a client wants done once, with all its attempts.
type operation struct {
	number    int
	tenant    int
	critical  bool
	startedAt time.Duration
	took      time.Duration
	attempts  int
	ticket    Ticket
	server    int // that works for it; -1 if none does
	executed  int // how often it was
	attempt   int // of the events that belong to it
	over      bool
}

type eventKind uint8

const (
	eventArrival eventKind = iota
	eventAttempt
	eventDone
	eventGiveUp
	eventDeadline
	eventTick
	eventStallEnds
	eventDeath
	eventBack
)

type event struct {
	at      time.Duration
	number  uint64 // of events at the same time, the one that was planned first comes first
	kind    eventKind
	op      *operation
	attempt int
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// world is a simulation under way.
type world struct {
	scenario
	random  *rand.Rand
	gate    *Gate
	retried Retries
	now     time.Duration
	events  events
	number  uint64

	deadline time.Duration // for which an event is planned
	arriveAt time.Duration // the next operation, whenever that is noticed

	idle    int
	busy    int
	dead    int
	work    map[*operation]bool // that servers are at
	stalled bool
	waiting map[*Ticket]*operation

	// For the invariants.
	passedOver map[*Tenant]int // admissions of others since the tenant began to wait
	retryCount map[*Tenant]int // that were let in during storms
	successes  map[*Tenant]int //
	stats      simStats
	seconds    []float64 // goodput
	shares     []share   // of the tenants
	err        error
}

// share is what became of the work of a tenant.
type share struct{ operations, answered int }

type simStats struct {
	operations, answered, executions, wasted int
	refused                                  [ReasonCount]int
	waits                                    []time.Duration // of answered operations, from their start
	retries, storms, abandoned               int
}

var errInvariant = errors.New("invariant violated")

func newWorld(s scenario) *world {
	w := &world{
		scenario: s, random: rand.New(rand.NewPCG(s.seed, 2)), idle: s.servers, work: map[*operation]bool{},
		waiting: map[*Ticket]*operation{}, passedOver: map[*Tenant]int{}, retryCount: map[*Tenant]int{}, successes: map[*Tenant]int{},
	}
	w.gate = NewGate(&w.config, s.servers)
	w.seconds = make([]float64, len(s.load)+1)
	w.shares = make([]share, s.tenants)
	return w
}

func (w *world) plan(after time.Duration, kind eventKind, op *operation) {
	at := w.now + after
	if w.batch > 0 && at%w.batch > 0 {
		at += w.batch - at%w.batch
	}
	e := event{at: at, number: w.number, kind: kind, op: op}
	if op != nil {
		e.attempt = op.attempt
	}
	w.number++
	heap.Push(&w.events, e)
}

func (w *world) failf(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w at %v: %s", errInvariant, w.now, fmt.Sprintf(format, args...))
	}
}

// run runs the simulation to its end: no more arrives, and everybody has an answer.
func (w *world) run() error {
	w.plan(0, eventArrival, nil)
	w.plan(TickPeriod, eventTick, nil)
	if w.deaths > 0 {
		w.plan(w.wait(time.Second), eventDeath, nil)
	}
	if w.stall > 0 {
		w.plan(w.stallAt, eventStallEnds, nil)
	}
	for len(w.events) > 0 && w.err == nil {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		if e.op != nil && e.attempt != e.op.attempt {
			continue
		}
		w.step(e)
		w.check()
	}
	if w.err == nil && (len(w.waiting) > 0 || w.busy > 0) {
		w.failf("%d wait and %d servers are busy at the end", len(w.waiting), w.busy)
	}
	return w.err
}

// wait is a random time with that mean.
func (w *world) wait(mean time.Duration) time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(mean))
}

func (w *world) ended() bool { return w.now >= time.Duration(len(w.load))*time.Second }

func (w *world) step(e event) {
	switch e.kind {
	case eventArrival:
		if w.ended() {
			return
		}
		load := w.load[int(w.now/time.Second)]
		w.arriveAt += w.wait(time.Duration(float64(w.took) / float64(w.servers) / load))
		w.plan(max(0, w.arriveAt-w.now), eventArrival, nil)
		w.start()
	case eventAttempt:
		w.attemptOnce(e.op)
	case eventDone:
		w.done(e.op)
	case eventGiveUp:
		w.giveUp(e.op)
	case eventDeadline:
		if w.now < w.deadline || w.deadline == 0 {
			return // another has been planned since
		}
		w.deadline = 0
		for t, reason := w.gate.Overdue(w.now); t != nil; t, reason = w.gate.Overdue(w.now) {
			w.refused(t, reason)
		}
		if at := w.gate.NextDeadline(); at > 0 && at <= w.now {
			w.failf("somebody should have been told no at %v", at)
		}
		w.planDeadline()
	case eventTick:
		if change := w.gate.Tick(w.now); change == StormBegins {
			w.stats.storms++
		}
		w.dispatch()
		if !w.ended() || len(w.waiting) > 0 || w.busy > 0 {
			w.plan(TickPeriod, eventTick, nil)
		}
	case eventStallEnds:
		w.stallOver()
	case eventDeath:
		w.death()
	case eventBack:
		w.dead--
		w.idle++
		w.dispatch()
	}
}

// start has a client want something.
func (w *world) start() {
	op := &operation{number: w.stats.operations, startedAt: w.now, server: -1, tenant: w.random.IntN(w.tenants), took: w.wait(w.took)}
	if w.uneven && w.random.IntN(20) == 0 {
		op.took *= 10
	}
	if w.flood && w.random.IntN(2) == 0 {
		op.tenant = 0
	}
	op.critical = w.random.Float64() < w.critical
	w.stats.operations++
	w.shares[op.tenant].operations++
	w.attemptOnce(op)
}

func (op *operation) hash() Hash {
	return HashSeed.AddNumber(uint64(op.number))
}

func (w *world) attemptOnce(op *operation) {
	op.attempts++
	op.attempt++
	t := &op.ticket
	*t = Ticket{Owner: op, Work: Work{Tenant: w.gate.Tenant([]byte{'a' + byte(op.tenant)}, w.now), Critical: op.critical}}
	if w.told {
		t.Patience = w.patience
	}
	t.Retry = w.retried.Arrive(op.hash(), w.now)
	if t.Retry != (op.attempts > 1) {
		w.failf("attempt %d: taken for a retry %v", op.attempts, t.Retry)
	}
	waited := t.Tenant.lines[ordinary].count
	admitted, reason := w.gate.Arrive(t, w.now, w.busy, w.idle > 0)
	if t.Retry {
		w.stats.retries++
		if w.gate.storm.On && !t.Critical && (admitted || reason == NotShed) {
			w.retryCount[t.Tenant]++
		}
	}
	switch {
	case reason != NotShed:
		if reason == Overload && waited == 0 {
			w.failf("a tenant of which nobody waits is refused: %v", reason)
		}
		w.refused(t, reason)
		return
	case admitted:
		w.serve(op)
	default:
		w.waiting[t] = op
		w.planDeadline()
	}
	w.plan(w.patience, eventGiveUp, op)
}

func (w *world) planDeadline() {
	if at := w.gate.NextDeadline(); at > 0 && at != w.deadline {
		w.deadline = at
		w.plan(max(0, at-w.now), eventDeadline, nil)
	}
}

func (w *world) serve(op *operation) {
	w.idle--
	w.busy++
	op.server = 1
	op.executed++
	w.work[op] = true
	w.stats.executions++
	if !w.stalled {
		w.plan(op.took, eventDone, op)
	}
}

// release has a server become free.
func (w *world) release(op *operation, took time.Duration) {
	delete(w.work, op)
	op.server = -1
	op.attempt++
	w.busy--
	w.idle++
	w.gate.Done(&op.ticket, w.now, took)
}

func (w *world) done(op *operation) {
	w.release(op, op.took)
	if op.over {
		w.stats.wasted++
	} else {
		op.over = true
		w.stats.answered++
		w.stats.waits = append(w.stats.waits, w.now-op.startedAt)
		w.shares[op.tenant].answered++
		if second := int(w.now / time.Second); second < len(w.seconds) && w.now-op.startedAt <= w.patience {
			w.seconds[second]++
		}
		w.gate.Succeeded(op.ticket.Tenant, w.now)
		w.successes[op.ticket.Tenant]++
	}
	w.gate.Observe(1, w.now)
	w.dispatch()
}

// giveUp has a client stop waiting for the answer: at once if it is in the queue; what a
// server is at is cancelled, which takes until a stall is over.
func (w *world) giveUp(op *operation) {
	w.retried.Fail(op.hash(), w.now)
	if op.ticket.Waiting() {
		delete(w.waiting, &op.ticket)
		w.gate.Abandon(&op.ticket, w.now)
		w.stats.abandoned++
	} else if op.server >= 0 {
		if w.stalled {
			op.over = true
			return
		}
		w.release(op, w.now-op.ticket.since)
		w.dispatch()
	}
	w.again(op)
}

// again has a client try again, if it does.
func (w *world) again(op *operation) {
	op.attempt++
	if op.attempts > w.retries {
		op.over = true
		return
	}
	w.plan(w.backoff, eventAttempt, op)
}

func (w *world) refused(t *Ticket, reason Reason) {
	op := t.Owner.(*operation)
	if t.Waiting() {
		w.failf("refused, and still in the queue")
	}
	if t.Critical && (reason == Overload || reason == QueueDelay || reason == RetryBudget) {
		w.failf("critical work is refused: %v", reason)
	}
	delete(w.waiting, t)
	w.stats.refused[reason]++
	w.retried.Fail(op.hash(), w.now)
	w.again(op)
}

// dispatch gives free servers to those who wait.
func (w *world) dispatch() {
	for w.idle > 0 {
		t, reason := w.gate.Next(w.now, w.busy)
		switch {
		case t == nil:
			w.planDeadline() // of those that have been found to have waited for too long
			return
		case reason != NotShed:
			w.refused(t, reason)
			continue
		}
		w.checkNext(t)
		w.gate.Admit(t, w.now)
		op := w.waiting[t]
		delete(w.waiting, t)
		w.serve(op)
	}
}

// working returns what servers are at, in order.
func (w *world) working() []*operation {
	return slices.SortedFunc(maps.Keys(w.work), func(a, b *operation) int { return cmp.Compare(a.number, b.number) })
}

// stallOver begins a stall at its first call, and ends it at the second.
func (w *world) stallOver() {
	w.stalled = !w.stalled
	if w.stalled {
		for _, op := range w.working() {
			op.attempt++ // it is not done when it would have been
			w.plan(max(0, op.ticket.since+w.patience-w.now), eventGiveUp, op)
		}
		w.plan(w.stall, eventStallEnds, nil)
		return
	}
	for _, op := range w.working() {
		if op.over { // its client has gone: PostgreSQL has been asked to cancel it
			w.release(op, w.now-op.ticket.since)
			continue
		}
		w.plan(w.wait(w.took), eventDone, op)
	}
	w.dispatch()
}

// death has a server die, and come back after a while.
func (w *world) death() {
	if !w.ended() {
		w.plan(w.wait(time.Second), eventDeath, nil)
	}
	switch work := w.working(); {
	case len(work) > 0:
		victim := work[0]
		w.release(victim, w.now-victim.ticket.since)
		w.retried.Fail(victim.hash(), w.now)
		if !victim.over {
			w.again(victim)
		}
	case w.idle == 0:
		return
	}
	w.idle--
	w.dead++
	w.plan(50*time.Millisecond, eventBack, nil)
	w.dispatch()
}

// checkNext checks who is given a server after a wait.
func (w *world) checkNext(t *Ticket) {
	if w.waiting[t] == nil {
		w.failf("a server is given to somebody who does not wait")
		return
	}
	spent := w.now - t.since
	if span := t.deadline - t.since; t.deadline > 0 && spent > span/2 && t.next != nil {
		w.failf("one that has waited %v of %v goes before those that came later", spent, span)
	}
	if len(w.gate.rings[critical].tenants) > 0 && !t.Critical {
		w.failf("other work is admitted while critical work waits")
	}
	for _, tenant := range w.gate.rings[ordinary].tenants {
		switch {
		case t.Critical, tenant == t.Tenant, tenant.open >= w.gate.maxOpen():
			w.passedOver[tenant] = 0
		default:
			w.passedOver[tenant]++
		}
		if most := 60 * w.tenants; w.passedOver[tenant] > most {
			w.failf("tenant %q waits while others are served %d times", tenant.Name, w.passedOver[tenant])
		}
	}
	w.passedOver[t.Tenant] = 0
}

// check checks what has to hold between any two events.
func (w *world) check() {
	g := w.gate
	if g.Waiting()+g.leaving != len(w.waiting) {
		w.failf("%d in the queue and %d leave it, but %d wait", g.Waiting(), g.leaving, len(w.waiting))
	}
	if count := len(w.waiting); count > g.config.MaxWaiters {
		w.failf("%d wait, more than %d", count, g.config.MaxWaiters)
	}
	if w.idle > 0 && g.Waiting() > 0 && w.busy < g.Servers()-g.reserve(w.now) {
		w.failf("%d wait though a server is free: %d of %d are used", g.Waiting(), w.busy, g.Servers())
	}
	if w.idle+w.busy+w.dead != w.servers {
		w.failf("%d servers idle, %d busy, %d dead of %d", w.idle, w.busy, w.dead, w.servers)
	}
	if w.config.RetryBudget > 0 {
		for tenant, count := range w.retryCount {
			most := maxBudget + budgetFloor*w.now.Seconds() + w.config.RetryBudget*float64(w.successes[tenant])
			if float64(count) > math.Ceil(most) {
				w.failf("tenant %q has had %d retries in storms, at most %v", tenant.Name, count, most)
			}
		}
	}
}
