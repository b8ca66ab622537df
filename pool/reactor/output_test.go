package reactor_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

// TestBackpressure has a handler feed a peer that reads nothing at first.
func TestBackpressure(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		const pieceBytes, totalBytes = 24 << 10, 24 << 20
		piece := randomBytes(rand.New(rand.NewPCG(3, 3)), pieceBytes)
		var most, exceeded, drained, written int
		stalled := newEvents[struct{}](1)
		var feed func()
		client, _ := l.pair(func(c reactor.Conn) reactor.Handler {
			feed = func() {
				for written < totalBytes {
					c.Write(piece)
					written += pieceBytes
					most = max(most, c.BufferedBytes())
					if c.BufferedBytes() > reactor.HighWaterBytes {
						exceeded++
						return
					}
				}
			}
			return &handler{drain: func() {
				drained++
				if drained != exceeded {
					t.Errorf("OnDrain called %d times after the mark was exceeded %d times", drained, exceeded)
				}
				if c.BufferedBytes() > reactor.LowWaterBytes {
					t.Errorf("OnDrain called with %d bytes left", c.BufferedBytes())
				}
				feed()
			}}
		})
		// Feed until the kernel takes no more.
		l.do(feed)
		var step func(last int)
		step = func(last int) {
			if drained != last {
				l.Post(func() { step(drained) })
				return
			}
			stalled.put(struct{}{})
		}
		l.Post(func() { step(-1) })
		stalled.next(t)

		got := make([]byte, pieceBytes)
		for read := 0; read < totalBytes; read += pieceBytes {
			if _, err := io.ReadFull(client, got); err != nil {
				t.Fatalf("after %d bytes: %v", read, err)
			}
			if !bytes.Equal(got, piece) {
				t.Fatalf("the %d bytes from %d differ", pieceBytes, read)
			}
		}
		l.do(func() {
			if most > reactor.HighWaterBytes+pieceBytes {
				t.Errorf("buffered up to %d bytes", most)
			}
			if drained == 0 || drained < exceeded-1 || drained > exceeded {
				t.Errorf("OnDrain called %d times, the mark was exceeded %d times", drained, exceeded)
			}
		})
	})
}

// TestDrainIsOwedOnce exceeds the mark within one batch and, another time, does
// not.
func TestDrainIsOwedOnce(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		drains := newEvents[int](2)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{drain: func() { drains.put(c.BufferedBytes()) }}
		})
		go io.Copy(io.Discard, client)
		small := make([]byte, 1<<10)
		fill := func(size int) {
			l.do(func() {
				for c.BufferedBytes() < size {
					c.Write(small) // too small to be sent before the batch ends
				}
			})
		}
		l.untilSent(c)
		fill(reactor.HighWaterBytes)
		l.untilSent(c)
		if len(drains.c) != 0 {
			t.Fatal("OnDrain called though the mark was not exceeded")
		}
		fill(reactor.HighWaterBytes + 1)
		if left := drains.next(t); left > reactor.LowWaterBytes {
			t.Errorf("OnDrain called with %d bytes left", left)
		}
		l.untilSent(c)
		if len(drains.c) != 0 {
			t.Error("OnDrain called twice")
		}
	})
}

// untilSent waits until the kernel has everything.
func (l *loop) untilSent(c reactor.Conn) {
	l.tb.Helper()
	done := false
	if !eventually(func() bool {
		l.do(func() { done = c.BufferedBytes() == 0 })
		return done
	}) {
		l.tb.Fatal("queued bytes are not sent")
	}
}

func TestCloseSendsWhatIsQueued(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		sent := randomBytes(rand.New(rand.NewPCG(4, 4)), 8<<20)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{data: func(b []byte) int {
				c.Write(sent[:100])
				c.Write(sent[100:])
				c.Close()
				c.Close()
				c.Write([]byte("not sent"))
				c.PauseRead()
				c.ResumeRead()
				c.Redeliver()
				return 0
			}, close: func(err error) { t.Errorf("OnClose(%v) after Close", err) }}
		})
		// More input than is read at once: none of it may be delivered, and it
		// must not make the kernel reset the connection.
		send(t, client, make([]byte, 200<<10))
		got, err := io.ReadAll(client)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("got %d bytes, want %d, or they differ", len(got), len(sent))
		}
		client.Close()
		l.untilClosed(0)
		l.do(func() {
			c.Write([]byte("x"))
			c.Close()
			c.Abort()
			c.Redeliver()
			if c.BufferedBytes() != 0 || reactor.HeldBytes(c) != 0 {
				t.Errorf("a closed connection holds %d bytes", c.BufferedBytes())
			}
		})
	})
}

// untilClosed waits until the loop has only so many connections.
func (l *loop) untilClosed(count int) {
	l.tb.Helper()
	open := 0
	if !eventually(func() bool {
		l.do(func() { open = l.OpenConns() })
		return open == count
	}) {
		l.tb.Fatalf("%d connections are open, want %d", open, count)
	}
}

func TestCloseGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		client, c := l.pair(sink)
		var closed time.Duration
		l.do(func() {
			c.Write(make([]byte, 32<<20))
			c.Close()
			closed = l.Now()
		})
		l.do(func() {
			l.AdvanceTimers(closed + reactor.LingerTimeout - 1)
			if l.OpenConns() != 1 {
				t.Error("closed before the time was over")
			}
			l.AdvanceTimers(closed + reactor.LingerTimeout)
			if l.OpenConns() != 0 {
				t.Error("still open after the time was over")
			}
		})
		if n, err := io.Copy(io.Discard, client); err == nil && n == 32<<20 {
			t.Error("the peer got everything")
		}
	})
}

func TestAbort(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		client, c := l.pair(func(reactor.Conn) reactor.Handler {
			return &handler{close: func(err error) { t.Errorf("OnClose(%v) after Abort", err) }}
		})
		l.do(func() {
			c.Write([]byte("dropped"))
			c.Abort()
			c.Abort()
			c.Close()
			if l.OpenConns() != 0 {
				t.Error("open after Abort")
			}
		})
		got, err := io.ReadAll(client)
		if len(got) != 0 {
			t.Errorf("the peer got %q", got)
		}
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

// TestAbortWithinData aborts while the handler has the bytes in hand, of which
// some are left over from before.
func TestAbortWithinData(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		for _, size := range []int{10, 60 << 10} {
			done := newEvents[struct{}](1)
			_, other := l.pair(sink)
			client, _ := l.pair(func(c reactor.Conn) reactor.Handler {
				return &handler{data: func(b []byte) int {
					if len(b) <= size {
						return 0
					}
					c.Abort()
					// Grows through the buffers of every size.
					for range 128 {
						other.Write(bytes.Repeat([]byte("#"), 1<<10))
					}
					if bytes.ContainsRune(b, '#') {
						t.Error("the bytes changed while the handler had them")
					}
					done.put(struct{}{})
					return 0
				}}
			})
			send(t, client, make([]byte, size))
			send(t, client, []byte("x"))
			done.next(t)
		}
	})
}

func TestRetractAndHold(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		var c reactor.Conn
		client, _ := l.pair(func(conn reactor.Conn) reactor.Handler {
			c = conn
			return &handler{}
		})
		want := func(text string) {
			t.Helper()
			got := make([]byte, len(text))
			if _, err := io.ReadFull(client, got); err != nil || string(got) != text {
				t.Fatalf("got %q, %v; want %q", got, err, text)
			}
		}
		l.do(func() {
			c.Write([]byte("said"))
			c.Write([]byte("unsaid"))
			if c.Retract(11) {
				t.Error("took back more than was written")
			}
			if !c.Retract(6) {
				t.Error("could not take back what was not sent")
			}
		})
		want("said")
		l.do(func() {
			if c.Retract(1) {
				t.Error("took back what was sent")
			}
			c.Hold(true)
			c.Write([]byte("held"))
		})
		l.do(func() { // in a later batch
			if c.BufferedBytes() < 4 {
				t.Errorf("%d bytes are queued, want all 4 that are held", c.BufferedBytes())
			}
			if !c.Retract(4) {
				t.Error("could not take back all")
			}
			c.Write([]byte("sent"))
			c.Hold(false)
		})
		want("sent")
		l.do(func() {
			c.Hold(true)
			c.Write([]byte("last words"))
			c.Close()
		})
		want("last words")
	})
}
