package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/proxy"
)

// World is everything that a seed determines. It is reactor.Loop for the proxy,
// and the other machines for the rest.
type World struct {
	scenario *Scenario
	random   *rand.Rand
	trace    trace
	coverage Coverage

	// The clock and what is to come.
	now    time.Duration
	events eventQueue
	steps  int

	// The proxy's side.
	proxy     *proxy.Proxy
	timers    reactor.Timers
	posts     []func()
	ready     []*Conn // to be looked at in the next batch
	dirty     []*Conn // were written to
	requested []*Conn // asked for redelivery
	wakeAt    time.Duration
	wakes     bool // wakeAt is set
	inBatch   bool
	conns     []*Conn // open in the eyes of the proxy
	dials     int     // dials without an answer yet

	// The other machines.
	postgres *Postgres
	clients  []*Client
	faults   []faultRecord
	executed map[Tag]executedStatement
	readAt   map[hotRead]time.Duration // when it was begun last
	shutdown bool                      // Shutdown was called
	drained  bool                      // and is done
}

// violation is what the simulation exists to find. It unwinds the world.
type violation struct{ text string }

// fail ends the run: something that must hold does not.
func (w *World) fail(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

// newWorld builds the world of a scenario.
func newWorld(s *Scenario, words bool) *World {
	w := &World{
		scenario: s,
		random:   rand.New(rand.NewPCG(s.Seed, 0x62696c6c70726f78)),
		trace:    trace{hash: fnvOffset, words: words},
		executed: map[Tag]executedStatement{}, readAt: map[hotRead]time.Duration{},
	}
	w.postgres = &Postgres{world: w, nextPID: 1000, told: map[string]bool{}}
	w.proxy = proxy.New(s.proxyConfig(), w, slog.New(slog.DiscardHandler))
	for i := range s.Clients {
		w.addClient(i + 1)
	}
	w.planFaults()
	return w
}

// run takes the world to its end and returns what went wrong, nil if nothing did.
func (w *World) run() (err error) {
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case violation:
			err = errors.New(problem.text)
		default:
			err = fmt.Errorf("panic: %v\n%s", problem, debug.Stack())
		}
	}()
	for !w.clientsDone() {
		if !w.step() {
			w.fail("stuck: nothing is going to happen, but %s", w.unfinished())
		}
		if w.now > maxTime || w.steps > maxSteps {
			w.fail("stuck: after %v and %d steps %s", w.now, w.steps, w.unfinished())
		}
	}
	w.settle()
	w.checkQuiet()
	w.closeDown()
	return nil
}

// Bounds of a run: no scenario needs nearly as much.
const (
	maxTime  = 30 * time.Minute
	maxSteps = 2_000_000
)

// step lets the next thing happen. It reports false if there is none.
func (w *World) step() bool {
	w.steps++
	at, kind := w.next()
	switch kind {
	case nextNothing:
		return false
	case nextEvent:
		w.now = max(w.now, at)
		heap.Pop(&w.events).(*event).run()
	case nextBatch:
		w.now = max(w.now, at)
		w.batch()
		w.checkStep()
	}
	return true
}

type nextKind uint8

const (
	nextNothing nextKind = iota
	nextEvent
	nextBatch
)

// next tells what happens next: an event outside the proxy or a batch of its loop.
func (w *World) next() (at time.Duration, kind nextKind) {
	if len(w.events) > 0 {
		at, kind = w.events[0].at, nextEvent
	}
	if w.wakes && (kind == nextNothing || w.wakeAt < at) {
		at, kind = w.wakeAt, nextBatch
	}
	if due, ok := w.timers.Next(); ok && (kind == nextNothing || due < at) {
		at, kind = due, nextBatch
	}
	return at, kind
}

// batch is one round of the proxy's loop.
func (w *World) batch() {
	w.wakes = false
	w.inBatch = true
	ready := w.ready
	w.ready = nil
	w.shuffle(ready)
	for _, c := range ready {
		c.service()
	}
	if due, ok := w.timers.Next(); ok && due <= w.now {
		w.trace.add(w.now, traceTimers, "loop", 0, nil)
		w.timers.Advance(w.now)
	}
	posts := w.posts
	w.posts = nil
	for _, fn := range posts {
		fn()
	}
	for rounds := 0; len(w.requested) > 0 || len(w.dirty) > 0; rounds++ {
		if rounds > 100_000 {
			w.fail("livelock: one batch does not end")
		}
		if len(w.requested) > 0 {
			c := w.requested[0]
			w.requested = w.requested[1:]
			c.redeliver()
			continue
		}
		dirty := w.dirty
		w.dirty = nil
		for _, c := range dirty {
			c.dirty = false
			c.flush()
		}
	}
	w.inBatch = false
	if len(w.ready) > 0 || len(w.posts) > 0 {
		w.wake()
	}
}

// shuffle puts the ready connections into an order that epoll might report.
func (w *World) shuffle(conns []*Conn) {
	if len(conns) > 1 && w.random.IntN(2) == 0 {
		w.random.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	}
}

// wake makes sure that the proxy's loop runs soon. Until it does, more may gather.
func (w *World) wake() {
	if w.wakes || w.inBatch {
		return
	}
	delay := time.Duration(w.random.IntN(20)) * time.Microsecond
	if w.scenario.LoopStalls && w.random.IntN(50) == 0 {
		delay += time.Duration(w.random.IntN(20)) * time.Millisecond
	}
	w.wakes, w.wakeAt = true, w.now+delay
}

// Now implements reactor.Loop.
func (w *World) Now() time.Duration { return w.now }

// SetTimer implements reactor.Loop.
func (w *World) SetTimer(t *reactor.Timer, at time.Duration) { w.timers.Set(t, at) }

// StopTimer implements reactor.Loop.
func (w *World) StopTimer(t *reactor.Timer) { w.timers.Stop(t) }

// Post implements reactor.Loop.
func (w *World) Post(fn func()) bool {
	w.posts = append(w.posts, fn)
	w.wake()
	return true
}

// Work implements reactor.Loop. No scenario has passwords to be hashed yet.
func (w *World) Work(func(), func()) { w.fail("background work was asked for") }

// Dial implements reactor.Loop: the scripted PostgreSQL answers, or the network
// does.
func (w *World) Dial(address reactor.Address, timeout time.Duration, done func(reactor.Conn, error) reactor.Handler) {
	w.trace.add(w.now, traceDial, address.Address, 0, nil)
	if address != upstream {
		w.fail("dial to %v, which is not the server", address)
	}
	w.dials++
	w.postgres.dial(timeout, func(peer *Peer, err error) {
		w.Post(func() {
			w.dials--
			if err != nil {
				w.trace.add(w.now, traceDialed, "refused", 0, []byte(err.Error()))
				done(nil, err)
				return
			}
			c := peer.conn
			w.trace.add(w.now, traceDialed, c.name, 0, nil)
			w.opened(c)
			if c.handler = done(c, nil); c.handler == nil {
				c.Close()
			}
		})
	})
}

// opened counts a connection that the proxy now has.
func (w *World) opened(c *Conn) { w.conns = append(w.conns, c) }

// after lets fn happen, outside the proxy, when d has passed.
func (w *World) after(d time.Duration, fn func()) {
	heap.Push(&w.events, &event{at: w.now + d, tie: w.random.Uint64(), run: fn})
}

// between returns a random duration of at least low and less than high.
func (w *World) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.random.Int64N(int64(high-low)))
}

// chance reports true once in n times, on average.
func (w *World) chance(n int) bool { return w.random.IntN(n) == 0 }

// percent reports true p times in a hundred, on average.
func (w *World) percent(p int) bool { return p > 0 && w.random.IntN(100) < p }

// event is something that happens outside the proxy. Events of the same time come
// in random order.
type event struct {
	at  time.Duration
	tie uint64
	run func()
}

type eventQueue []*event

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q eventQueue) Len() int { return len(q) }

func (q eventQueue) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].tie < q[j].tie
}

func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *eventQueue) Push(e any) { *q = append(*q, e.(*event)) }

func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
