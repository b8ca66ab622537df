package reactor

import (
	"crypto/tls"
	"time"
)

// Conn is the outgoing side of one connection. Every method must be called on
// the loop's goroutine, never blocks and never fails: what goes wrong with the
// connection arrives as Handler.OnClose.
type Conn interface {
	// Write queues b, which is copied before Write returns. Queued bytes reach
	// the kernel when the batch of events at hand has been handled, in one
	// system call per connection; a large b may be sent at once.
	Write(b []byte)

	// BufferedBytes is how many queued bytes the kernel has not taken yet.
	BufferedBytes() int

	// Retract takes the last n bytes written back. It reports false, and does
	// nothing, if they are not all queued any more.
	Retract(n int) bool

	// Hold keeps queued bytes from being sent while on is true. Close ends it.
	Hold(on bool)

	// PauseRead stops OnData until ResumeRead. Bytes stay in the kernel, so the
	// peer is slowed down by TCP itself. Both are idempotent. The end of a
	// paused connection is noticed where the platform reports it (Linux does).
	PauseRead()
	ResumeRead()

	// Redeliver asks for OnData to be called again, within the batch at hand
	// and not from inside Redeliver, with the bytes it has left unconsumed,
	// whether or not reading is paused. Without such bytes, and when OnData has
	// been called in between, it does nothing.
	Redeliver()

	// StartTLS encrypts the connection, with us in that role: from the first byte
	// that OnData leaves unconsumed, to the first byte written after this. done is
	// called when the handshake has ended; what is written before waits. If the
	// handshake fails, for which it has ten seconds, OnClose is called. Meanwhile
	// Close is Abort. config must allow neither renegotiation nor session tickets.
	StartTLS(role TLSRole, config *tls.Config, done func(tls.ConnectionState))

	// Close sends what is queued and discards input, for a few seconds at most,
	// then closes. No method of the Handler is called any more. Closing twice is
	// allowed.
	Close()

	// Abort closes at once and drops what is queued.
	Abort()

	// RemoteAddr names the peer for logs: "127.0.0.1:51234" or "unix".
	RemoteAddr() string

	// LocalAddr names our end as RemoteAddr does the peer's. It asks the system.
	LocalAddr() string

	// Local reports whether the peer is on this machine: a Unix-domain socket
	// or a loopback address.
	Local() bool
}

// Handler receives what happens to one connection. All methods run on the
// loop's goroutine.
type Handler interface {
	// OnData gets every byte received and not consumed so far and returns how
	// many it consumes. data is valid only during the call. Bytes not consumed
	// are presented again, in front of what comes next. The handler bounds them:
	// it pauses reading or closes when data has grown beyond what it will hold.
	OnData(data []byte) (consumed int)

	// OnDrain reports that BufferedBytes, having been above HighWaterBytes, has
	// fallen to LowWaterBytes or less.
	OnDrain()

	// OnClose reports the end of the connection when it was not the handler that
	// closed it: io.EOF when the peer did, ErrStopped when the loop ended, else
	// the error of the socket. It is never called from inside another method. Bytes
	// received before have been delivered, unless reading was paused. The
	// connection is already closed.
	OnClose(err error)
}

// Marks of OnDrain. A handler that feeds a connection stops its source when
// BufferedBytes exceeds HighWaterBytes and starts it again at OnDrain, so one
// slow peer costs a bounded amount of memory.
const (
	HighWaterBytes = 256 << 10
	LowWaterBytes  = 64 << 10
)

// Address is where to connect or listen: Network "tcp" with "host:port", or
// Network "unix" with the path of the socket.
type Address struct {
	Network string
	Address string
}

// String returns the part that a log line or an error shows.
func (a Address) String() string { return a.Address }

// Loop is the world as the core sees it: a clock, timers and outgoing
// connections. The reactor implements it over sockets, a simulation over
// memory. Except for Post, methods must be called on the loop's goroutine.
type Loop interface {
	// Now is the time since the loop began, read once per batch of events.
	Now() time.Duration

	// SetTimer makes t fire once, on the loop, when Now reaches at. It replaces
	// an earlier setting of the same timer. StopTimer of an idle timer is
	// allowed.
	SetTimer(t *Timer, at time.Duration)
	StopTimer(t *Timer)

	// Dial connects in the background, names resolved, and calls done on the
	// loop: with a connection, for which done returns the handler, or with an
	// error (then the result is ignored). A nil handler closes the connection.
	Dial(address Address, timeout time.Duration, done func(Conn, error) Handler)

	// Work runs fn in the background, one such at a time, and then done on the
	// loop: for what computes for milliseconds, such as the hash of a password.
	// fn must not touch what the loop owns. If the loop ends first, done is not
	// called, and perhaps not fn.
	Work(fn, done func())

	// Post runs fn on the loop, after what is being handled. It may be called
	// from any goroutine and never blocks. It reports false, and drops fn, if
	// the loop has ended.
	Post(fn func()) bool
}
