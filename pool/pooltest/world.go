package pooltest

import (
	"errors"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

// World implements reactor.Loop. Its methods, and those of its connections, are
// called by one goroutine: the test's.
type World struct {
	now       time.Duration
	timers    reactor.Timers
	posted    []func()
	conns     []*Conn
	delivered []byte // what OnData is shown; overwritten after the call
	settling  bool

	// Works is how many times background work was asked for. HoldWork keeps it from
	// being done while it is true.
	Works    int
	HoldWork bool
	held     []func()

	// Dials are those that the test has not answered, oldest first. OnDial, if
	// it is set, answers them instead, in Settle.
	Dials  []*Dial
	OnDial func(*Dial)
}

// NewWorld returns a world at time zero without connections.
func NewWorld() *World { return &World{} }

// ErrDialTimeout is what a dial gets that nobody answers in time.
var ErrDialTimeout = errors.New("i/o timeout")

// Now implements reactor.Loop.
func (w *World) Now() time.Duration { return w.now }

// SetTimer implements reactor.Loop.
func (w *World) SetTimer(t *reactor.Timer, at time.Duration) { w.timers.Set(t, at) }

// StopTimer implements reactor.Loop.
func (w *World) StopTimer(t *reactor.Timer) { w.timers.Stop(t) }

// Post implements reactor.Loop.
func (w *World) Post(fn func()) bool {
	w.posted = append(w.posted, fn)
	return true
}

// Work implements reactor.Loop: in Settle, after what is being handled.
func (w *World) Work(fn, done func()) {
	w.Works++
	w.held = append(w.held, func() {
		fn()
		w.Post(done)
	})
}

// Dial implements reactor.Loop.
func (w *World) Dial(address reactor.Address, timeout time.Duration, done func(reactor.Conn, error) reactor.Handler) {
	d := &Dial{Address: address, Timeout: timeout, world: w, done: done}
	d.timer.Fire = func() { d.Fail(ErrDialTimeout) }
	if timeout > 0 {
		w.timers.Set(&d.timer, w.now+timeout)
	}
	w.Dials = append(w.Dials, d)
}

// Armed reports whether any timer is going to fire.
func (w *World) Armed() bool {
	_, armed := w.timers.Next()
	return armed
}

// Settle lets everything happen that can happen without time passing.
func (w *World) Settle() {
	if w.settling {
		panic("BUG: Settle from within a handler")
	}
	w.settling = true
	for round := 0; w.round(); round++ {
		if round > 1_000_000 {
			panic("BUG: the world does not settle: two parties wake each other for ever")
		}
	}
	w.settling = false
	open := w.conns[:0]
	for _, c := range w.conns {
		if !c.finished {
			open = append(open, c)
		}
	}
	clear(w.conns[len(open):])
	w.conns = open
}

// round reports whether anything happened.
func (w *World) round() bool {
	happened := false
	if w.OnDial != nil {
		for len(w.Dials) > 0 {
			happened = true
			w.OnDial(w.Dials[0])
		}
	}
	if !w.HoldWork {
		for _, fn := range w.held {
			w.Post(fn)
		}
		w.held = nil
	}
	for i := 0; i < len(w.posted); i++ { // more may be added
		w.posted[i]()
		happened = true
	}
	clear(w.posted)
	w.posted = w.posted[:0]
	for i := 0; i < len(w.conns); i++ { // more may be added
		if w.conns[i].step() {
			happened = true
		}
	}
	return happened
}

// Advance lets time pass and everything happen that is due meanwhile.
func (w *World) Advance(d time.Duration) {
	w.Settle()
	end := w.now + d
	for {
		at, armed := w.timers.Next()
		if !armed || at > end {
			break
		}
		w.now = max(w.now, at)
		w.timers.Advance(w.now)
		w.Settle()
	}
	w.now = end
}

// Dial is an outgoing connection that has been asked for.
type Dial struct {
	Address reactor.Address
	Timeout time.Duration

	world *World
	done  func(reactor.Conn, error) reactor.Handler
	timer reactor.Timer
}

// Connect answers the dial with a connection.
func (d *Dial) Connect() *Conn {
	d.remove()
	c := d.world.NewConn("server")
	c.Handle(d.done(c, nil))
	return c
}

// Fail answers the dial with an error.
func (d *Dial) Fail(err error) {
	d.remove()
	d.done(nil, err)
}

func (d *Dial) remove() {
	d.world.timers.Stop(&d.timer)
	for i, other := range d.world.Dials {
		if other == d {
			d.world.Dials = append(d.world.Dials[:i], d.world.Dials[i+1:]...)
			return
		}
	}
	panic("BUG: a dial was answered twice")
}
