package reactor_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

func TestPostFromManyGoroutines(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		const posters, posts = 8, 2000
		var next [posters]int
		total := 0
		done := newEvents[struct{}](1)
		var running sync.WaitGroup
		for p := range posters {
			running.Go(func() {
				for i := range posts {
					ok := l.Post(func() {
						if next[p] != i {
							t.Errorf("post %d of goroutine %d ran as number %d", i, p, next[p])
						}
						next[p]++
						if total++; total == posters*posts {
							done.put(struct{}{})
						}
					})
					if !ok {
						t.Error("Post is false while the loop runs")
					}
				}
			})
		}
		running.Wait()
		done.next(t)
	})
}

func TestPostRunsAfterWhatIsHandled(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		l.do(func() {
			inside := true
			l.Post(func() {
				if inside {
					t.Error("Post ran its function at once")
				}
			})
			inside = false
		})
		l.do(func() {})
	})
}

func TestTimersOfLoop(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		fired := newEvents[time.Duration](1)
		var at time.Duration
		timer := reactor.Timer{Fire: func() { fired.put(l.Now()) }}
		never := reactor.Timer{Fire: func() { t.Error("a stopped timer fired") }}
		l.do(func() {
			at = l.Now() + 5*time.Millisecond
			l.SetTimer(&timer, l.Now()+time.Hour)
			l.SetTimer(&timer, at)
			l.SetTimer(&never, l.Now()+time.Millisecond)
			l.StopTimer(&never)
			l.StopTimer(&never)
		})
		if now := fired.next(t); now < at {
			t.Errorf("fired at %v, set for %v", now, at)
		}
	})
}

func TestDial(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		address := l.listen(echo)
		answers := newEvents[string](1)
		ends := newEvents[error](1)
		var dialed reactor.Conn
		l.do(func() {
			l.Dial(address, patience, func(c reactor.Conn, err error) reactor.Handler {
				if err != nil {
					t.Errorf("dial: %v", err)
					return nil
				}
				dialed = c
				c.Write([]byte("hello"))
				return &handler{data: func(b []byte) int {
					if len(b) < len("hello") {
						return 0
					}
					answers.put(string(b))
					return len(b)
				}, close: ends.put}
			})
		})
		if got := answers.next(t); got != "hello" {
			t.Errorf("got %q", got)
		}
		l.do(func() {
			want := "unix"
			if address.Network == "tcp" {
				want = address.Address
			}
			if got := dialed.RemoteAddr(); got != want || !dialed.Local() {
				t.Errorf("RemoteAddr is %q, want %q; Local is %v", got, want, dialed.Local())
			}
		})
		l.Stop()
		if err := ends.next(t); !errors.Is(err, reactor.ErrStopped) {
			t.Errorf("OnClose got %v, want ErrStopped", err)
		}
	})
}

func TestDialFails(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		var listener *reactor.Listener
		address := reactor.Address{Network: l.network, Address: "127.0.0.1:0"}
		if l.network == "unix" {
			address.Address = socketPath(t)
		}
		listener = l.listenOn(address, echo)
		address = listener.Addr()
		l.do(listener.Close)
		for _, test := range []struct {
			name    string
			address reactor.Address
			timeout time.Duration
			want    func(error) bool
		}{
			{"nobody there", address, patience, func(err error) bool {
				return strings.Contains(err.Error(), address.Address)
			}},
			{"no time", reactor.Address{Network: "tcp", Address: "127.0.0.1:1"}, 1, func(err error) bool {
				var timeout net.Error
				return errors.As(err, &timeout) && timeout.Timeout()
			}},
			{"no such network", reactor.Address{Network: "carrier pigeon", Address: "x"}, patience, func(err error) bool {
				return strings.Contains(err.Error(), "carrier pigeon")
			}},
		} {
			errs := newEvents[error](1)
			l.do(func() {
				l.Dial(test.address, test.timeout, func(c reactor.Conn, err error) reactor.Handler {
					if c != nil {
						t.Errorf("%s: got a connection", test.name)
					}
					errs.put(err)
					return sink(c)
				})
			})
			if err := errs.next(t); err == nil || !test.want(err) {
				t.Errorf("%s: got %v", test.name, err)
			}
		}
	})
}

func TestDialWithoutHandler(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		ends := newEvents[error](1)
		address := l.listen(func(reactor.Conn) reactor.Handler {
			return &handler{data: func(b []byte) int { return len(b) }, close: ends.put}
		})
		l.do(func() {
			l.Dial(address, 0, func(c reactor.Conn, _ error) reactor.Handler {
				c.Write([]byte("x"))
				return nil
			})
		})
		if err := ends.next(t); !errors.Is(err, io.EOF) {
			t.Errorf("OnClose got %v, want EOF", err)
		}
	})
}

func TestBeforeRun(t *testing.T) {
	for _, kind := range engineKinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			e, err := reactor.New(reactor.Options{Engine: kind})
			if err != nil {
				t.Fatal(err)
			}
			listener, err := e.Listen(t.Context(), reactor.Address{Network: "tcp", Address: "127.0.0.1:0"}, echo)
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			timer := reactor.Timer{Fire: func() { order = append(order, "timer") }}
			e.SetTimer(&timer, 0)
			e.Post(func() { order = append(order, "post") })
			ctx, cancel := context.WithCancel(t.Context())
			e.Dial(listener.Addr(), 0, func(c reactor.Conn, err error) reactor.Handler {
				if err != nil {
					t.Errorf("dial: %v", err)
				}
				order = append(order, "dial")
				cancel()
				return sink(c)
			})
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
			if got := strings.Join(order, " "); got != "timer post dial" {
				t.Errorf("ran %s", got)
			}
			if e.Post(func() {}) {
				t.Error("Post is true after the end")
			}
		})
	}
}

func TestStopWithoutRun(t *testing.T) {
	for _, kind := range engineKinds(t) {
		e, err := reactor.New(reactor.Options{Engine: kind})
		if err != nil {
			t.Fatal(err)
		}
		path := socketPath(t)
		if _, err := e.Listen(t.Context(), reactor.Address{Network: "unix", Address: path}, echo); err != nil {
			t.Fatal(err)
		}
		e.Stop()
		e.Stop()
		if _, err := net.Dial("unix", path); err == nil {
			t.Errorf("%v: somebody listens after Stop", kind)
		}
		if err := e.Run(t.Context()); err != nil {
			t.Errorf("%v: Run after Stop: %v", kind, err)
		}
		if _, err := e.Listen(t.Context(), reactor.Address{Network: "unix", Address: path}, echo); !errors.Is(err, reactor.ErrStopped) {
			t.Errorf("%v: Listen after Stop: %v", kind, err)
		}
	}
}

func TestUnknownEngine(t *testing.T) {
	if _, err := reactor.New(reactor.Options{Engine: 99}); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("got %v", err)
	}
}

// TestStop ends an engine in the middle of everything: its handlers are told,
// what they do then is harmless, and nothing is left.
func TestStop(t *testing.T) {
	for _, kind := range engineKinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			before := openFiles(t)
			l := startLoop(t, reactor.Options{Engine: kind})
			ends := newEvents[error](32)
			var conns []reactor.Conn
			accept := func(c reactor.Conn) reactor.Handler {
				conns = append(conns, c)
				return &handler{data: func(b []byte) int { return len(b) }, drain: func() {}, close: func(err error) {
					ends.put(err)
					for _, c := range conns {
						c.Write([]byte("x"))
						c.Close()
					}
					l.Dial(reactor.Address{Network: "tcp", Address: "127.0.0.1:1"}, 0, nil)
				}}
			}
			tcp := l.listen(accept)
			l.network = "unix"
			unix := l.listen(accept)
			var clients []net.Conn
			for range 8 {
				clients = append(clients, dial(t, tcp), dial(t, unix))
			}
			l.untilClosed(len(clients))
			l.do(func() {
				for i, c := range conns[:8] {
					c.Write(make([]byte, 8<<20)) // more than the kernel takes
					if i%2 == 0 {
						c.Close()
					}
				}
				conns[15].Write([]byte("goodbye"))
				l.Stop()
			})
			wait(t, l.ended)
			if err := ends.next(t); !errors.Is(err, reactor.ErrStopped) {
				t.Errorf("OnClose got %v, want ErrStopped", err)
			}
			goodbyes := 0
			for _, c := range clients {
				b, _ := io.ReadAll(c)
				if string(b) == "goodbye" {
					goodbyes++
				}
				c.Close()
			}
			if goodbyes != 1 {
				t.Errorf("what was written before Stop was sent %d times", goodbyes)
			}
			if stacks := goroutineStacks(); strings.Contains(stacks, "reactor.(*") {
				t.Errorf("goroutines leaked:\n%s", stacks)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}
