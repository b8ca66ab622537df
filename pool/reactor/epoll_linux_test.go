package reactor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

func startEpoll(tb testing.TB) *loop {
	tb.Helper()
	return startLoop(tb, reactor.Options{Engine: reactor.EngineEpoll})
}

// TestEndBehindUnreadBytes has a peer end behind bytes that a paused connection
// leaves in the kernel.
func TestEndBehindUnreadBytes(t *testing.T) {
	// More than one read where the kernel holds so much for a peer that does not
	// read; it does not show an end behind bytes that it has not.
	for network, size := range map[string]int{"tcp": 40 << 10, "unix": 100 << 10} {
		for _, pauseWithin := range []bool{false, true} {
			l := startEpoll(t)
			l.network = network
			ends := newEvents[error](2)
			client, c := l.pair(func(c reactor.Conn) reactor.Handler {
				if !pauseWithin {
					c.PauseRead()
				}
				return &handler{data: func(b []byte) int {
					c.PauseRead()
					return 0
				}, close: ends.put}
			})
			l.do(func() {
				send(t, client, make([]byte, size))
				client.Close()
			})
			if err := ends.next(t); !errors.Is(err, io.EOF) {
				t.Errorf("%s: OnClose got %v, want EOF", network, err)
			}
			l.do(c.ResumeRead)
			l.do(func() {})
			if len(ends.c) != 0 {
				t.Error("OnClose called twice")
			}
		}
	}
}

// TestCloseBehindTheEnd closes a connection whose peer has ended behind its last words:
// nothing is left to wait for.
func TestCloseBehindTheEnd(t *testing.T) {
	l := startEpoll(t)
	left := newEvents[int](1)
	client, _ := l.pair(func(c reactor.Conn) reactor.Handler {
		return &handler{data: func(b []byte) int {
			c.Close()
			left.put(l.OpenConns())
			return len(b)
		}}
	})
	l.do(func() {
		send(t, client, []byte("last words"))
		client.Close()
	})
	if open := left.next(t); open != 0 {
		t.Errorf("%d connections are open behind Close", open)
	}
}

// TestCloseOfBrokenConnection closes one that can be read but not written to any
// more: the time that it was given to end by itself is over with it.
func TestCloseOfBrokenConnection(t *testing.T) {
	l := startEpoll(t)
	client, c := l.pair(func(c reactor.Conn) reactor.Handler {
		return &handler{data: func(b []byte) int {
			c.Close()
			return len(b)
		}}
	})
	l.do(func() {
		if err := syscall.Shutdown(reactor.FD(c), syscall.SHUT_WR); err != nil {
			t.Error(err)
		}
		c.Write([]byte("x"))
	})
	l.do(func() {
		send(t, client, []byte("last words"))
		client.Close()
	})
	l.untilClosed(0)
	other, _ := l.pair(echo) // in the slot of the first
	l.do(func() { l.AdvanceTimers(l.Now() + reactor.LingerTimeout) })
	send(t, other, []byte("hello"))
	expect(t, other, "hello")
}

// TestStaleEvent has one batch of events in which the first handler closes a
// connection, a new one gets its descriptor and its slot, and then comes the
// event of the old one.
func TestStaleEvent(t *testing.T) {
	l := startEpoll(t)
	over := false
	var killer, victim, reborn reactor.Conn
	address := l.listen(func(c reactor.Conn) reactor.Handler {
		switch {
		case killer == nil:
			killer = c
			return &handler{data: func(b []byte) int {
				victim.Abort()
				return len(b)
			}}
		case victim == nil:
			victim = c
			return &handler{
				data:  func([]byte) int { t.Error("OnData of a closed connection"); return 0 },
				close: func(error) { t.Error("OnClose of a closed connection") },
			}
		default:
			reborn = c
			c.PauseRead() // would take the end of the old one for its own
			return &handler{data: func(b []byte) int {
				if string(b) != "mine" {
					t.Errorf("the new connection got %q", b)
				}
				c.Write(b)
				return len(b)
			}, close: func(error) {
				if !over {
					t.Error("the new connection got the end of the old one")
				}
			}}
		}
	})
	first, second := dial(t, address), dial(t, address)
	l.untilClosed(2)
	var third net.Conn
	oldFD := 0
	l.do(func() {
		oldFD = reactor.FD(victim)
		send(t, first, []byte("x"))
		// All descriptors below the one to be freed are in use.
		third = dial(t, address)
		send(t, second, []byte("not for you"))
		closeSending(t, second)
	})
	send(t, third, []byte("mine"))
	l.do(func() { reborn.ResumeRead() })
	expect(t, third, "mine")
	l.do(func() {
		over = true
		if reactor.FD(reborn) != oldFD {
			t.Errorf("the new connection has descriptor %d, not %d: nothing was tested", reactor.FD(reborn), oldFD)
		}
	})
}

func TestOptionsOfAcceptedSockets(t *testing.T) {
	l := startEpoll(t)
	_, c := l.pair(sink)
	l.do(func() {
		for _, option := range []struct {
			name              string
			level, code, want int
		}{
			{"TCP_NODELAY", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
			{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
			{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
			{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
		} {
			if got, err := syscall.GetsockoptInt(reactor.FD(c), option.level, option.code); err != nil || got != option.want {
				t.Errorf("%s is %d, %v; want %d", option.name, got, err, option.want)
			}
		}
	})
}

// fullListener is an address on which connecting takes for ever.
func fullListener(t *testing.T) reactor.Address {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := reactor.Address{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)}
	for {
		c, err := net.DialTimeout("tcp", address.Address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestDialTimeoutAndStop(t *testing.T) {
	address := fullListener(t)
	for _, kind := range engineKinds(t) {
		l := startLoop(t, reactor.Options{Engine: kind})
		errs := newEvents[error](1)
		l.do(func() {
			l.Dial(address, 50*time.Millisecond, func(_ reactor.Conn, err error) reactor.Handler {
				errs.put(err)
				return nil
			})
			l.Dial(address, time.Hour, func(reactor.Conn, error) reactor.Handler {
				t.Error("a dial that Stop ended was reported")
				return nil
			})
		})
		var timeout net.Error
		if err := errs.next(t); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v: got %v, want a timeout", kind, err)
		}
		l.end()
	}
}

const childEnvironment = "REACTOR_TEST_CHILD"

// TestOutOfDescriptors runs in a process of its own, with a limit of its own.
func TestOutOfDescriptors(t *testing.T) {
	if kind := os.Getenv(childEnvironment); kind != "" {
		outOfDescriptors(t, kind)
		return
	}
	for _, kind := range engineKinds(t) {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOutOfDescriptors$", "-test.v")
		child.Env = append(os.Environ(), childEnvironment+"="+kind.String())
		output, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(output), "--- PASS: TestOutOfDescriptors") {
			t.Errorf("%v: %v\n%s", kind, err, output)
		}
	}
}

func outOfDescriptors(t *testing.T, kindName string) {
	kind := reactor.EnginePortable
	if kindName == reactor.EngineEpoll.String() {
		kind = reactor.EngineEpoll
	}
	logged := records{make(chan slog.Record, 100)}
	l := startLoop(t, reactor.Options{Engine: kind, Logger: slog.New(logged)})
	listener := l.listenOn(reactor.Address{Network: "tcp", Address: "127.0.0.1:0"}, echo)
	working := dial(t, listener.Addr())
	send(t, working, []byte("hello"))
	expect(t, working, "hello")

	limit := syscall.Rlimit{Cur: 64, Max: 64}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// One descriptor stays free, for the client.
	var files []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, file)
	}
	files[len(files)-1].Close()
	files = files[:len(files)-1]
	waiting := dial(t, listener.Addr())
	select {
	case record := <-logged.c:
		text := record.Message
		record.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		if !strings.Contains(text, "too many open files") || !strings.Contains(text, listener.Addr().Address) {
			t.Errorf("logged %q", text)
		}
	case <-time.After(patience):
		t.Fatal("nothing was logged")
	}
	if kind == reactor.EngineEpoll {
		paused := false // but while it tries again
		if !eventually(func() bool {
			l.do(func() { paused = reactor.Paused(listener) })
			return paused
		}) {
			t.Error("the listener does not pause")
		}
		l.do(func() {
			// Try again while there still is no descriptor, more than once.
			for range 3 {
				l.AdvanceTimers(l.Now() + reactor.AcceptPause)
			}
		})
	}
	send(t, working, []byte("still there"))
	expect(t, working, "still there")
	for _, file := range files {
		file.Close()
	}
	send(t, waiting, []byte("hello"))
	expect(t, waiting, "hello")
	if len(logged.c) != 0 {
		t.Errorf("logged %d more times", len(logged.c))
	}
}

// records counts what is logged.
type records struct{ c chan slog.Record }

func (r records) Enabled(context.Context, slog.Level) bool { return true }
func (r records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r records) WithGroup(string) slog.Handler            { return r }
func (r records) Handle(_ context.Context, record slog.Record) error {
	r.c <- record
	return nil
}
