package reactor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Kind selects how an Engine waits for its sockets.
type Kind int

const (
	// EngineAuto is epoll where there is epoll, else the portable engine.
	EngineAuto Kind = iota
	// EngineEpoll exists on Linux only.
	EngineEpoll
	// EnginePortable runs two goroutines per connection and works everywhere.
	EnginePortable
)

// String returns the name of the engine: "auto", "epoll" or "portable".
func (k Kind) String() string {
	switch k {
	case EngineEpoll:
		return "epoll"
	case EnginePortable:
		return "portable"
	default:
		return "auto"
	}
}

// Options are the parameters of New. The zero value is usable.
type Options struct {
	Engine Kind

	// UnixSocketMode is the mode of the socket files that Listen makes, as
	// unix_socket_mode in PgBouncer. Zero means 0777.
	UnixSocketMode fs.FileMode

	// Logger hears of failures that no handler can be told: a listener that
	// cannot accept. Nil discards them.
	Logger *slog.Logger
}

// ErrStopped is what OnClose reports when the engine ended before the connection.
var ErrStopped = errors.New("event loop stopped")

const (
	// readChunkBytes is the most that one read asks for.
	readChunkBytes = 64 << 10

	// readBatchBytes is the most that one connection is read in one batch of
	// events, so that one which always has more does not starve the others.
	readBatchBytes = 256 << 10

	// headroomBytes is the room in front of a read for the bytes left
	// unconsumed by the last: up to that size it costs less to move them than
	// to read into a buffer of their own.
	headroomBytes = 16 << 10

	// settleRounds bounds how often handlers that answer each other by Redeliver
	// or OnDrain are served before new events are looked for.
	settleRounds = 16
)

// Engine is a Loop over sockets. One goroutine calls Run; all else follows the
// rules of Loop. Before Run has been called, its methods may be called by the
// goroutine that is going to call it.
type Engine struct {
	options Options
	poller  poller
	mailbox mailbox
	workers sync.WaitGroup // every goroutine the engine started
	working chan struct{}  // holds a token while the function of a Work runs
	state   atomic.Int32
	stop    atomic.Bool

	// Owned by the loop.
	start      time.Time // zero before Run
	now        time.Duration
	ctx        context.Context // of Run; ends all background work
	ending     bool
	timers     Timers
	buffers    bufferPool
	scratch    []byte // headroomBytes, then what read fills
	listeners  map[*Listener]struct{}
	handshakes handshakes

	// Every open connection by its slot, and the free slots.
	conns      []*conn
	freeSlots  []int32
	generation uint32

	// What a batch sees to before it ends, but for readable: that the next does.
	readable  worklist // may have more to read
	redeliver worklist // called Redeliver
	failed    worklist // a write failed
	dirty     worklist // has bytes to write
}

const (
	stateNew int32 = iota
	stateRunning
	stateEnded
)

// poller is what differs between the engines. Unless it says otherwise, a method
// is called on the loop.
type poller interface {
	// wait returns when something is ready, upon wake or after Engine.timeout,
	// which it asks for if nothing is ready. Nothing is handled before dispatch.
	wait() error
	dispatch()
	wake()
	// listen sets l.source, which accepts from source. It owns source.
	listen(l *Listener, source net.Listener) error
	// prepare makes a connection of package net ready for attach. Any goroutine
	// may call it.
	prepare(t transport) (transport, error)
	// attach makes t part of the loop. It owns t even if it fails.
	attach(t transport) (*conn, error)
	// discard closes what is not attached. Any goroutine may call it.
	discard(t transport)
	// locksThread reports whether Run should keep its thread to itself.
	locksThread() bool
	close()
}

// New makes an engine. It holds descriptors until Run or Stop ends it.
func New(options Options) (*Engine, error) {
	if options.UnixSocketMode == 0 {
		options.UnixSocketMode = 0o777
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		options:    options,
		scratch:    make([]byte, headroomBytes+readChunkBytes),
		listeners:  make(map[*Listener]struct{}),
		handshakes: newHandshakes(),
		working:    make(chan struct{}, 1),
		readable:   worklist{member: inReadable},
		redeliver:  worklist{member: inRedeliver},
		failed:     worklist{member: inFailed},
		dirty:      worklist{member: inDirty},
	}
	var err error
	switch options.Engine {
	case EngineAuto, EngineEpoll:
		e.poller, err = newEpoll(e)
		if errors.Is(err, errors.ErrUnsupported) && options.Engine == EngineAuto {
			e.poller, err = newPortable(e), nil
		}
	case EnginePortable:
		e.poller = newPortable(e)
	default:
		err = fmt.Errorf("engine %d: expected EngineAuto, EngineEpoll or EnginePortable", options.Engine)
	}
	if err != nil {
		return nil, fmt.Errorf("start event loop: %w", err)
	}
	e.mailbox.wake = e.poller.wake
	return e, nil
}

// Run is the loop. It returns nil after Stop or when ctx has ended, and an
// error if it cannot wait for events. Before it returns, every connection and
// listener is closed and every goroutine of the engine has ended. Handlers of
// connections still open are told ErrStopped.
func (e *Engine) Run(ctx context.Context) error {
	if !e.state.CompareAndSwap(stateNew, stateRunning) {
		if e.stop.Load() {
			return nil
		}
		return errors.New("event loop runs already")
	}
	if e.poller.locksThread() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unwatch := context.AfterFunc(ctx, e.Stop)
	e.ctx, e.start = ctx, time.Now()

	var err error
	for !e.stop.Load() && err == nil {
		err = e.batch()
	}
	unwatch() // or the end of ctx starts a goroutine that calls Stop
	cancel()
	e.shutdown()
	if err != nil {
		return fmt.Errorf("wait for events: %w", err)
	}
	return nil
}

// Stop ends Run after the batch of events at hand. Any goroutine may call it,
// also more than once. Without Run it frees what New and Listen hold.
func (e *Engine) Stop() {
	e.stop.Store(true)
	if e.state.CompareAndSwap(stateNew, stateEnded) {
		e.shutdown()
		return
	}
	e.mailbox.post(func() {})
}

// Now implements Loop. It is zero before Run.
func (e *Engine) Now() time.Duration { return e.now }

// SetTimer implements Loop.
func (e *Engine) SetTimer(t *Timer, at time.Duration) { e.timers.Set(t, at) }

// StopTimer implements Loop.
func (e *Engine) StopTimer(t *Timer) { e.timers.Stop(t) }

// Post implements Loop.
func (e *Engine) Post(fn func()) bool { return e.mailbox.post(fn) }

func (e *Engine) batch() error {
	if err := e.poller.wait(); err != nil {
		return err
	}
	e.now = time.Since(e.start)
	e.poller.dispatch()
	e.readable.run((*conn).receive)
	e.timers.Advance(e.now)
	e.mailbox.run()
	e.settle()
	return nil
}

// timeout is how long the loop may sleep: negative without bound.
func (e *Engine) timeout() time.Duration {
	if len(e.readable.conns)+len(e.redeliver.conns)+len(e.failed.conns)+len(e.dirty.conns) > 0 {
		return 0
	}
	at, ok := e.timers.Next()
	if !ok {
		return -1
	}
	return max(0, at-time.Since(e.start))
}

// settle does what the handlers asked for during the batch: first all that may
// make more output, then the output.
func (e *Engine) settle() {
	for range settleRounds {
		for rounds := 0; len(e.redeliver.conns) > 0 && rounds < settleRounds; rounds++ {
			e.redeliver.run((*conn).redeliver)
		}
		e.failed.run((*conn).receiveRest)
		e.dirty.run((*conn).flush)
		if len(e.redeliver.conns)+len(e.failed.conns)+len(e.dirty.conns) == 0 {
			return
		}
	}
}

// register gives a connection its slot.
func (e *Engine) register(c *conn) {
	e.generation++
	c.engine, c.generation = e, e.generation
	if last := len(e.freeSlots) - 1; last >= 0 {
		c.slot = e.freeSlots[last]
		e.freeSlots = e.freeSlots[:last]
		e.conns[c.slot] = c
		return
	}
	c.slot = int32(len(e.conns))
	e.conns = append(e.conns, c)
}

func (e *Engine) unregister(c *conn) {
	e.conns[c.slot] = nil
	e.freeSlots = append(e.freeSlots, c.slot)
}

// shutdown ends everything. What handlers queued is tried to be sent once.
func (e *Engine) shutdown() {
	e.ending = true
	e.state.Store(stateEnded)
	e.mailbox.close()
	e.mailbox.run()
	for l := range e.listeners {
		l.Close()
	}
	e.dirty.run((*conn).flush)
	// All are closed before the first handler hears of it and writes to others.
	var handlers []Handler
	for _, c := range e.conns {
		if c == nil {
			continue
		}
		if c.handler != nil {
			handlers = append(handlers, c.handler)
		}
		c.finish(c.unsent() > 0)
	}
	for _, h := range handlers {
		h.OnClose(ErrStopped)
	}
	e.workers.Wait()
	e.poller.close()
}
