package reactor_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

// patience bounds every wait of the tests; it only decides how soon a broken
// test fails.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	// Run returns only after its goroutines have ended: no need to wait.
	if stacks := goroutineStacks(); code == 0 && strings.Contains(stacks, "reactor.(*") {
		fmt.Fprintf(os.Stderr, "goroutines leaked:\n%s\n", stacks)
		code = 1
	}
	os.Exit(code)
}

func goroutineStacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// eventually waits for what nothing announces.
func eventually(condition func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

// engineKinds are the engines of this platform.
func engineKinds(tb testing.TB) []reactor.Kind {
	tb.Helper()
	kinds := []reactor.Kind{reactor.EnginePortable}
	e, err := reactor.New(reactor.Options{Engine: reactor.EngineEpoll})
	switch {
	case err == nil:
		e.Stop()
		kinds = append(kinds, reactor.EngineEpoll)
	case !errors.Is(err, errors.ErrUnsupported):
		tb.Fatal(err)
	}
	return kinds
}

// forEngines runs a test against a running engine of every kind, over TCP and
// over a Unix-domain socket.
func forEngines(t *testing.T, test func(t *testing.T, l *loop)) {
	t.Helper()
	forNetworks(t, []string{"tcp", "unix"}, test)
}

// forConnections is forEngines for what must hold for encrypted connections as well.
func forConnections(t *testing.T, test func(t *testing.T, l *loop)) {
	t.Helper()
	forNetworks(t, []string{"tcp", "unix", "tls"}, test)
}

func forNetworks(t *testing.T, networks []string, test func(t *testing.T, l *loop)) {
	t.Helper()
	for _, kind := range engineKinds(t) {
		for _, network := range networks {
			t.Run(kind.String()+"/"+network, func(t *testing.T) {
				l := startLoop(t, reactor.Options{Engine: kind})
				l.network = network
				test(t, l)
			})
		}
	}
}

// loop is a running engine.
type loop struct {
	*reactor.Engine
	tb      testing.TB
	kind    reactor.Kind
	network string
	ended   chan struct{}
}

func startLoop(tb testing.TB, options reactor.Options) *loop {
	tb.Helper()
	e, err := reactor.New(options)
	if err != nil {
		tb.Fatal(err)
	}
	l := &loop{Engine: e, tb: tb, kind: options.Engine, network: "tcp", ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		if err := e.Run(context.Background()); err != nil {
			tb.Errorf("Run: %v", err)
		}
	}()
	tb.Cleanup(l.end)
	return l
}

func (l *loop) end() {
	l.Stop()
	wait(l.tb, l.ended)
}

// do runs fn on the loop and waits for it.
func (l *loop) do(fn func()) {
	l.tb.Helper()
	done := make(chan struct{})
	if !l.Post(func() { fn(); close(done) }) {
		l.tb.Fatal("Post: the loop has ended")
	}
	wait(l.tb, done)
}

// address is where to listen.
func (l *loop) address() reactor.Address {
	if l.network == "unix" {
		return reactor.Address{Network: "unix", Address: socketPath(l.tb)}
	}
	return reactor.Address{Network: "tcp", Address: "127.0.0.1:0"}
}

// listen returns the address on which accept answers.
func (l *loop) listen(accept func(reactor.Conn) reactor.Handler) reactor.Address {
	l.tb.Helper()
	return l.serve(accept, func(reactor.Conn) {})
}

// serve is listen with a function that is called when a connection is ready for use,
// on the loop.
func (l *loop) serve(accept func(reactor.Conn) reactor.Handler, ready func(reactor.Conn)) reactor.Address {
	l.tb.Helper()
	address := l.listenOn(l.address(), func(c reactor.Conn) reactor.Handler {
		h := accept(c)
		if l.network == "tls" {
			c.StartTLS(reactor.TLSServer, serverTLS, func(tls.ConnectionState) { ready(c) })
		} else {
			ready(c)
		}
		return h
	}).Addr()
	if l.network == "tls" {
		address.Network = "tls"
	}
	return address
}

func (l *loop) listenOn(address reactor.Address, accept func(reactor.Conn) reactor.Handler) *reactor.Listener {
	l.tb.Helper()
	var listener *reactor.Listener
	var err error
	l.do(func() { listener, err = l.Listen(context.Background(), address, accept) })
	if err != nil {
		l.tb.Fatal(err)
	}
	return listener
}

// pair returns a client's connection and the Conn that the loop has for it. The
// handler is made by make, on the loop.
func (l *loop) pair(make func(reactor.Conn) reactor.Handler) (net.Conn, reactor.Conn) {
	l.tb.Helper()
	accepted := newEvents[reactor.Conn](1)
	address := l.serve(make, accepted.put)
	client := dial(l.tb, address)
	return client, accepted.next(l.tb)
}

// socketPath is short enough for a Unix-domain socket, as t.TempDir is not.
func socketPath(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "reactor")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/s"
}

func dial(tb testing.TB, address reactor.Address) net.Conn {
	tb.Helper()
	c := connect(tb, address)
	if encrypted, ok := c.(*tls.Conn); ok {
		if err := encrypted.Handshake(); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// connect is dial without the handshake of TLS.
func connect(tb testing.TB, address reactor.Address) net.Conn {
	tb.Helper()
	network := address.Network
	if network == "tls" {
		network = "tcp"
	}
	c, err := net.DialTimeout(network, address.Address, patience)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if address.Network == "tls" {
		return tls.Client(c, clientTLS)
	}
	return c
}

// handler is a Handler made of functions; nil ones must not be called, but for
// OnClose.
type handler struct {
	data  func([]byte) int
	drain func()
	close func(error)
}

func (h *handler) OnData(b []byte) int { return h.data(b) }
func (h *handler) OnDrain()            { h.drain() }
func (h *handler) OnClose(err error) {
	if h.close != nil {
		h.close(err)
	}
}

// echo sends back what it gets and obeys the marks of OnDrain.
func echo(c reactor.Conn) reactor.Handler {
	return &handler{
		data: func(b []byte) int {
			c.Write(b)
			if c.BufferedBytes() > reactor.HighWaterBytes {
				c.PauseRead()
			}
			return len(b)
		},
		drain: c.ResumeRead,
	}
}

// sink takes everything and says nothing.
func sink(reactor.Conn) reactor.Handler {
	return &handler{data: func(b []byte) int { return len(b) }}
}

// events carries what happened on the loop to the test. put never blocks the
// loop: more events than expected are an error of the test.
type events[T any] struct{ c chan T }

func newEvents[T any](size int) events[T] { return events[T]{make(chan T, size)} }

func (e events[T]) put(v T) {
	select {
	case e.c <- v:
	default:
		panic("more events than expected")
	}
}

func (e events[T]) next(tb testing.TB) T {
	tb.Helper()
	select {
	case v := <-e.c:
		return v
	case <-time.After(patience):
		tb.Fatal("an event did not happen")
		panic("unreachable")
	}
}

func wait(tb testing.TB, done <-chan struct{}) {
	tb.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		tb.Fatalf("waited too long:\n%s", goroutineStacks())
	}
}

func send(tb testing.TB, c net.Conn, b []byte) {
	tb.Helper()
	if _, err := c.Write(b); err != nil {
		tb.Fatal(err)
	}
}

func expect(tb testing.TB, c net.Conn, want string) {
	tb.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		tb.Fatalf("read %q: %v", want, err)
	}
	if string(got) != want {
		tb.Fatalf("got %q, want %q", got, want)
	}
}

// closeSending ends the client's direction only.
func closeSending(tb testing.TB, c net.Conn) {
	tb.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		tb.Fatal(err)
	}
}
