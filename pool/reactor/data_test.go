package reactor_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

// sendInPieces writes b in pieces of random size and closes its direction.
func sendInPieces(c net.Conn, b []byte, random *rand.Rand, maxBytes int) error {
	for len(b) > 0 {
		n := min(len(b), 1+random.IntN(maxBytes))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return b
}

func TestEcho(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		address := l.listen(echo)
		var clients sync.WaitGroup
		for i := range 48 {
			c := dial(t, address)
			random := rand.New(rand.NewPCG(1, uint64(i)))
			sent := randomBytes(random, 1+random.IntN(300<<10))
			largest := 1 << random.IntN(18)
			if largest < 64 {
				sent = sent[:min(len(sent), 4<<10)]
			}
			clients.Go(func() {
				if err := sendInPieces(c, sent, random, largest); err != nil {
					t.Error(err)
				}
			})
			clients.Go(func() {
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(c, got); err != nil {
					t.Error(err)
				} else if !bytes.Equal(got, sent) {
					t.Errorf("connection %d: the echo of %d bytes differs", i, len(sent))
				}
			})
		}
		clients.Wait()
	})
}

// TestLeftovers sends frames of a length and that many bytes, which the handler
// consumes only when they are whole.
func TestLeftovers(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		frames := newEvents[[]byte](400)
		client, _ := l.pair(func(reactor.Conn) reactor.Handler {
			return &handler{data: func(b []byte) (consumed int) {
				for len(b) >= 4 {
					end := 4 + int(binary.BigEndian.Uint32(b))
					if len(b) < end {
						break
					}
					frames.put(bytes.Clone(b[4:end]))
					b, consumed = b[end:], consumed+end
				}
				return consumed
			}}
		})
		random := rand.New(rand.NewPCG(2, 2))
		var stream []byte
		var want [][]byte
		for i := range cap(frames.c) {
			// Some longer than the headroom, some longer than a read.
			frame := randomBytes(random, random.IntN(1+[...]int{10, 1 << 10, 30 << 10, 200 << 10}[i%4]))
			want = append(want, frame)
			stream = binary.BigEndian.AppendUint32(stream, uint32(len(frame)))
			stream = append(stream, frame...)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for len(stream) > 0 {
				n := min(len(stream), 1+random.IntN(1<<random.IntN(18)))
				if _, err := client.Write(stream[:n]); err != nil {
					t.Error(err)
					return
				}
				stream = stream[n:]
			}
		})
		for i := range want {
			if got := frames.next(t); !bytes.Equal(got, want[i]) {
				t.Fatalf("frame %d: got %d bytes, want %d, or they differ", i, len(got), len(want[i]))
			}
		}
		sender.Wait()
	})
}

func TestRedeliver(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		consume := 0
		running := false
		deliveries := newEvents[string](10)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{data: func(b []byte) int {
				if running {
					t.Error("OnData called from inside OnData")
				}
				running = true
				defer func() { running = false }()
				deliveries.put(string(b))
				if string(b) == "cdef" {
					c.Redeliver() // once more, when this call is over
				}
				return min(consume, len(b))
			}}
		})
		l.do(c.Redeliver) // nothing was received: no call
		send(t, client, []byte("abcdef"))
		deliver := func(want string) {
			t.Helper()
			if got := deliveries.next(t); got != want {
				t.Fatalf("delivered %q, want %q", got, want)
			}
		}
		deliver("abcdef")
		l.do(func() {
			c.PauseRead()
			consume = 2
			c.Redeliver()
			c.Redeliver() // asked twice, called once
			if len(deliveries.c) != 0 {
				t.Error("OnData called from inside Redeliver")
			}
		})
		deliver("abcdef")
		l.do(c.Redeliver)
		deliver("cdef")
		deliver("ef")
		l.do(c.Redeliver) // all is consumed: no call
		l.do(c.ResumeRead)
		send(t, client, []byte("gh"))
		deliver("gh")
		if len(deliveries.c) != 0 {
			t.Errorf("delivered %q beyond what was asked", <-deliveries.c)
		}
	})
}

// TestRedeliverMayClose closes the connection at the second presentation of the
// same bytes.
func TestRedeliverMayClose(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		calls := 0
		first := newEvents[struct{}](1)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{data: func(b []byte) int {
				if calls++; calls == 1 {
					first.put(struct{}{})
				} else {
					c.Write([]byte("bye"))
					c.Close()
					c.Redeliver()
				}
				return 0
			}, close: func(err error) { t.Errorf("OnClose(%v) after Close", err) }}
		})
		send(t, client, []byte("x"))
		first.next(t)
		l.do(c.Redeliver)
		if got, err := io.ReadAll(client); err != nil || string(got) != "bye" {
			t.Errorf("got %q, %v", got, err)
		}
		client.Close()
		l.untilClosed(0)
		l.do(func() {
			if calls != 2 || reactor.HeldBytes(c) != 0 {
				t.Errorf("OnData called %d times; %d bytes are held", calls, reactor.HeldBytes(c))
			}
		})
	})
}

// TestRedeliverForever checks that the loop serves others between the answers of
// a handler that asks for ever.
func TestRedeliverForever(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{data: func([]byte) int {
				c.Redeliver()
				return 0
			}}
		})
		send(t, client, []byte("x"))
		other := dial(t, l.listen(echo))
		send(t, other, []byte("hello"))
		expect(t, other, "hello")
		l.do(c.Abort)
	})
}

func TestPauseRead(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		paused := true
		received := newEvents[byte](1 << 20)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			c.PauseRead()
			c.PauseRead()
			return &handler{data: func(b []byte) int {
				if paused {
					t.Error("OnData called while paused")
				}
				for _, x := range b {
					received.put(x)
				}
				if b[0] == 'p' {
					paused = true
					c.PauseRead()
				}
				return len(b)
			}}
		})
		other := dial(t, l.listen(echo))
		for range 20 {
			send(t, client, []byte("pause"))
			// A round trip of another gives the loop the chance to do wrong.
			send(t, other, []byte("x"))
			expect(t, other, "x")
			l.do(func() {
				paused = false
				c.ResumeRead()
				c.ResumeRead()
			})
			for _, want := range []byte("pause") {
				if got := received.next(t); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
		}
	})
}

// TestFirehose checks that a connection that never stops sending does not keep
// the loop to itself.
func TestFirehose(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		hose := dial(t, l.listen(sink))
		stop := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() {
			b := make([]byte, 1<<20)
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := hose.Write(b); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		other := dial(t, l.listen(echo))
		for range 100 {
			send(t, other, []byte("hello"))
			expect(t, other, "hello")
		}
		close(stop)
		sender.Wait()
	})
}
