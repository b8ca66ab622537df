package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

const (
	// readBytes is how much is read at a time.
	readBytes = 16 << 10
	// openTimeout is how long it may take until all services have their connections.
	openTimeout = 60 * time.Second
	// openAtOnce is the logins under way while they get them.
	openAtOnce = 64
	// crowdStep is how many of a crowd connect before others are looked after.
	crowdStep = 64
	// longestSleep is how long the loop waits when nothing is due.
	longestSleep = 10 * time.Millisecond
)

// generator plays all clients in one event loop on one thread. It belongs to the
// goroutine of run.
type generator struct {
	// Static.
	port     int
	retries  int
	services []*service
	streams  []*stream // with the service and the request of each beside it
	schedule []arrival
	requests map[kind]*request

	crowd      *service // nil if there is none
	crowdAt    time.Duration
	crowdBegan int

	poller  *poller
	clients []*client // by descriptor
	ready   []readiness
	closing []int // descriptors that may still be in ready: no other connection may get them yet
	buffer  []byte
	broken  error // what must not happen: it ends the run

	start      time.Time
	operations []operation
	pending    int
	attempts   []attemptLimit
	leaving    []leaveLimit

	log runLog
}

// runLog is what a run has written down. Times are since its start.
type runLog struct {
	start      time.Time
	end        time.Duration
	operations []operation
	refusals   []refusal
	abandoned  []abandonment
	lags       []time.Duration // between the intended start of an operation and its beginning
	errors     map[string]int  // by SQLSTATE or a word
	logins     int             // of services, those before the start left out
	slots      int             // of services
	cpu        time.Duration   // of the loop

	crowdLogins   []time.Duration
	crowdFailures int
}

// refusal is an answer that says no.
type refusal struct {
	stream *stream
	at     time.Duration
	took   time.Duration // since the request
}

// abandonment is the moment at which nobody waits any more for an attempt under way.
type abandonment struct {
	operation int64
	attempt   int
	at        time.Duration
}

// kind is what requests differ in besides the number of the operation.
type kind struct {
	critical bool
	attempt  int
}

// newGenerator prepares a scenario. The statement executes an operation, whose number is
// its parameter.
func newGenerator(port int, s *scenario, schedule []arrival, statement string) (*generator, error) {
	g := &generator{port: port, retries: s.retries, schedule: schedule, requests: map[kind]*request{}, buffer: make([]byte, readBytes)}
	g.log.errors = map[string]int{}
	var err error
	for attempt := range s.retries + 1 {
		for _, k := range []kind{{false, attempt + 1}, {true, attempt + 1}} {
			if g.requests[k], err = newRequest(tagged(statement, k.critical, k.attempt)); err != nil {
				return nil, err
			}
		}
	}
	for _, service := range s.services {
		if err := g.addService(service); err != nil {
			return nil, err
		}
	}
	for i := range s.streams {
		g.streams = append(g.streams, &s.streams[i])
	}
	if s.crowd > 0 {
		if err := g.addService(serviceKind{"crowd", s.crowd}); err != nil {
			return nil, err
		}
		last := len(g.services) - 1
		g.crowd, g.services = g.services[last], g.services[:last]
		g.crowdAt, _ = s.span(phaseDuring)
	}
	g.poller, err = newPoller()
	return g, err
}

func (g *generator) addService(s serviceKind) error {
	hello, err := startup(s.name)
	g.services = append(g.services, &service{startup: hello, slots: s.clients})
	return err
}

func (g *generator) requestOf(o *operation) *request {
	return g.requests[kind{o.stream.critical, o.attempt}]
}

func (g *generator) now() time.Duration { return time.Since(g.start) }

// run opens the connections of all services, tells started, begins every operation at
// its time, and returns when all have ended.
func (g *generator) run(ctx context.Context, started chan<- time.Time) (*runLog, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer g.hangUp()
	if err := g.openAll(ctx); err != nil {
		return nil, err
	}
	g.operations = make([]operation, 0, len(g.schedule))
	g.log.lags = make([]time.Duration, 0, len(g.schedule))
	clear(g.log.errors)
	before := g.logins()
	cpu, err := threadCPUTime()
	if err != nil {
		return nil, err
	}
	g.start = time.Now()
	started <- g.start
	for len(g.schedule) > 0 || g.pending > 0 || g.crowd != nil && g.crowdBegan < g.crowd.slots {
		if err := g.turn(ctx); err != nil {
			return nil, err
		}
	}
	after, err := threadCPUTime()
	if err != nil {
		return nil, err
	}
	g.log.cpu = after - cpu
	g.log.start, g.log.end, g.log.operations = g.start, g.now(), g.operations
	g.log.logins = g.logins() - before
	for _, s := range g.services {
		g.log.slots += s.slots
	}
	return &g.log, nil
}

func (g *generator) logins() int {
	n := 0
	for _, s := range g.services {
		n += s.logins
	}
	return n
}

// turn does what is due and then what the sockets bring.
func (g *generator) turn(ctx context.Context) error {
	now := g.now()
	g.arrive(now)
	g.expire(now)
	g.closeLeaving(now)
	g.gather(now)
	return g.listen(ctx, g.sleep(now))
}

// sleep is how long nothing is due.
func (g *generator) sleep(now time.Duration) time.Duration {
	next := now + longestSleep
	if len(g.schedule) > 0 {
		next = min(next, g.schedule[0].at)
	}
	if len(g.attempts) > 0 {
		next = min(next, g.attempts[0].at)
	}
	if g.crowd != nil && g.crowdBegan < g.crowd.slots {
		next = min(next, max(g.crowdAt, now))
	}
	return next - now
}

// listen handles what happens to the sockets within the timeout.
func (g *generator) listen(ctx context.Context, timeout time.Duration) error {
	g.closeDescriptors()
	var err error
	if g.ready, err = g.poller.wait(timeout, g.ready[:0]); err != nil {
		return err
	}
	for _, r := range g.ready {
		g.receive(r)
	}
	g.closeDescriptors()
	return errors.Join(g.broken, context.Cause(ctx))
}

func (g *generator) closeDescriptors() {
	for _, fd := range g.closing {
		_ = syscall.Close(fd) // nothing depends on how a connection ends
	}
	g.closing = g.closing[:0]
}

// arrive begins the operations that are due.
func (g *generator) arrive(now time.Duration) {
	for len(g.schedule) > 0 && g.schedule[0].at <= now {
		a := g.schedule[0]
		g.schedule = g.schedule[1:]
		stream := g.streams[a.stream]
		g.operations = append(g.operations, operation{
			number: int64(len(g.operations) + 1), stream: stream, service: g.services[stream.service], intended: a.at,
		})
		g.pending++
		now = g.now()
		g.log.lags = append(g.log.lags, now-a.at)
		g.try(&g.operations[len(g.operations)-1], now)
	}
}

// gather has the next of a crowd connect.
func (g *generator) gather(now time.Duration) {
	if g.crowd == nil || now < g.crowdAt {
		return
	}
	for range min(crowdStep, g.crowd.slots-g.crowdBegan) {
		g.crowdBegan++
		g.crowd.used++
		// All come at the same moment, whenever we get round to each.
		if g.dial(g.crowd, g.crowdAt) == nil {
			g.crowd.used--
			g.log.crowdFailures++
		}
	}
}

// openAll opens every connection of every service, so that a run begins with a fleet
// that has been up for long.
func (g *generator) openAll(ctx context.Context) error {
	g.start = time.Now()
	for _, s := range g.services {
		for made := 0; len(s.idle) < s.slots; {
			if g.now() > openTimeout || len(g.log.errors) > 0 {
				return fmt.Errorf("%d of %d clients logged in within %.0f s, errors: %v",
					len(s.idle), s.slots, g.now().Seconds(), g.log.errors)
			}
			for ; made < s.slots && s.used < openAtOnce; made++ {
				s.used++
				if g.dial(s, g.now()) == nil {
					return fmt.Errorf("client %d of %d finds nobody at the port", made+1, s.slots)
				}
			}
			if err := g.listen(ctx, longestSleep); err != nil {
				return err
			}
		}
	}
	return nil
}

// hangUp closes every connection.
func (g *generator) hangUp() {
	for fd, c := range g.clients {
		if c != nil {
			g.closing = append(g.closing, fd)
		}
	}
	g.closeDescriptors()
	g.poller.close()
}
