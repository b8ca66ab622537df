package reactor_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

// unencrypted is the connection below TLS.
func unencrypted(c net.Conn) net.Conn {
	if encrypted, ok := c.(*tls.Conn); ok {
		return encrypted.NetConn()
	}
	return c
}

// reset makes the close of a client's connection a reset.
func reset(tb testing.TB, c net.Conn) {
	tb.Helper()
	c = unencrypted(c)
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			tb.Fatal(err)
		}
	}
	c.Close()
}

func TestPeerCloses(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		received := 0
		ends := newEvents[error](2)
		client, c := l.pair(func(reactor.Conn) reactor.Handler {
			return &handler{
				data: func(b []byte) int {
					received += len(b)
					return len(b) / 2 * 2 // an odd byte stays unconsumed
				},
				close: ends.put,
			}
		})
		send(t, client, make([]byte, 300001))
		client.Close()
		if err := ends.next(t); !errors.Is(err, io.EOF) {
			t.Errorf("OnClose got %v, want EOF", err)
		}
		l.do(func() {
			if received < 300001 {
				t.Errorf("%d bytes were delivered before OnClose, want 300001", received)
			}
			if l.OpenConns() != 0 {
				t.Error("open after OnClose")
			}
			c.Write([]byte("x"))
			c.Redeliver()
			c.Abort()
			c.Close()
		})
		l.do(func() {})
		if len(ends.c) != 0 {
			t.Error("OnClose called twice")
		}
	})
}

// TestPeerClosesWhileAnswered checks that OnData may close the connection whose
// end is known already.
func TestPeerClosesWhileAnswered(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		client, _ := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{
				data: func(b []byte) int {
					c.Write(b)
					c.Close()
					return len(b)
				},
				close: func(err error) { t.Errorf("OnClose(%v) after Close", err) },
			}
		})
		send(t, client, []byte("bye"))
		closeSending(t, client)
		got, err := io.ReadAll(client)
		if err != nil || string(got) != "bye" {
			t.Errorf("got %q, %v", got, err)
		}
		l.untilClosed(0)
	})
}

func TestPeerClosesWhilePaused(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		ends := newEvents[error](1)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			c.PauseRead()
			return &handler{close: ends.put}
		})
		l.do(func() { c.Write([]byte("hello")) })
		expect(t, client, "hello")
		unencrypted(client).Close() // a close_notify would be input that is not read
		if err := ends.next(t); !errors.Is(err, io.EOF) {
			t.Errorf("OnClose got %v, want EOF", err)
		}
	})
}

func TestPeerResets(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		for _, paused := range []bool{false, true} {
			ends := newEvents[error](2)
			client, c := l.pair(func(c reactor.Conn) reactor.Handler {
				if paused {
					c.PauseRead()
				}
				return &handler{data: func(b []byte) int {
					c.Write(b)
					return 0
				}, close: ends.put}
			})
			if !paused {
				send(t, client, []byte("hello"))
				expect(t, client, "hello")
			}
			// Bytes it has not read make a Unix-domain socket reset as well.
			l.do(func() { c.Write([]byte("unread")) })
			l.untilSent(c)
			reset(t, client)
			if err := ends.next(t); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
				t.Errorf("OnClose got %v, want a reset or the end", err)
			}
			l.do(func() { c.Write([]byte("x")) })
			l.do(func() {})
			if len(ends.c) != 0 {
				t.Error("OnClose called twice")
			}
		}
	})
}

// TestWriteToPeerThatIsGone writes before the loop has seen the end: what the
// peer sent last is delivered all the same, and OnClose is not called from
// inside Write.
func TestWriteToPeerThatIsGone(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		for _, test := range []struct {
			size   int
			paused bool
			want   string
		}{
			{100, false, "last words"},
			{1 << 20, false, "last words"},
			{100, true, ""},
			{1 << 20, true, ""},
		} {
			var received []byte
			writing := false
			ends := newEvents[error](2)
			client, c := l.pair(func(c reactor.Conn) reactor.Handler {
				if test.paused {
					c.PauseRead()
				}
				return &handler{
					data: func(b []byte) int {
						received = append(received, b...)
						return len(b)
					},
					drain: func() {},
					close: func(err error) {
						if writing {
							t.Error("OnClose called from inside Write")
						}
						ends.put(err)
					},
				}
			})
			write := func() {
				writing = true
				for range 8 {
					c.Write(make([]byte, test.size))
				}
				writing = false
			}
			l.do(func() {
				send(t, client, []byte("last words"))
				client.Close()
				write()
			})
			// The portable engine has nothing but writes to notice the end of a
			// paused connection by.
			if test.paused && !eventually(func() bool { l.do(write); return len(ends.c) > 0 }) {
				t.Fatal("the end was not noticed")
			}
			if err := ends.next(t); err == nil {
				t.Error("OnClose got nil")
			}
			l.do(func() {
				if string(received) != test.want {
					t.Errorf("received %q, want %q", received, test.want)
				}
				c.Write(make([]byte, test.size))
				if c.BufferedBytes() != 0 {
					t.Error("bytes are queued for a closed connection")
				}
			})
			if len(ends.c) != 0 {
				t.Error("OnClose called twice")
			}
		}
	})
}

// TestHandlersCloseEachOther has one batch in which the handlers of many
// connections with input close all the others.
func TestHandlersCloseEachOther(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		var conns []reactor.Conn
		over := false
		address := l.listen(func(c reactor.Conn) reactor.Handler {
			conns = append(conns, c)
			return &handler{data: func(b []byte) int {
				if over {
					t.Error("OnData called for a connection that was closed")
				}
				over = true
				for i, other := range conns {
					if i%2 == 0 {
						other.Abort()
					} else {
						other.Close()
					}
				}
				return len(b)
			}, close: func(err error) { t.Errorf("OnClose(%v) after Close", err) }}
		})
		var clients []net.Conn
		for range 20 {
			clients = append(clients, dial(t, address))
		}
		l.untilClosed(len(clients))
		l.do(func() {
			for _, c := range clients {
				send(t, c, []byte("x"))
			}
		})
		l.untilClosed(0)
		for _, c := range clients {
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes from a closed connection", n)
			}
		}
	})
}
