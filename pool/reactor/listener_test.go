package reactor_test

import (
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

func TestListenerClose(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		address := reactor.Address{Network: l.network, Address: "127.0.0.1:0"}
		if l.network == "unix" {
			address.Address = socketPath(t)
		}
		listener := l.listenOn(address, echo)
		client := dial(t, listener.Addr())
		send(t, client, []byte("hello"))
		expect(t, client, "hello")
		l.do(func() {
			listener.Close()
			listener.Close()
		})
		if c, err := net.Dial(listener.Addr().Network, listener.Addr().Address); err == nil {
			c.Close()
			t.Error("somebody listens after Close")
		}
		send(t, client, []byte("hello"))
		expect(t, client, "hello")
		if _, err := os.Lstat(address.Address); l.network == "unix" && err == nil {
			t.Error("the socket file is left")
		}
		// The address is free again.
		l.listenOn(listener.Addr(), echo)
		second := dial(t, listener.Addr())
		send(t, second, []byte("hello"))
		expect(t, second, "hello")
	})
}

// TestListenerRefuses returns no handler: the peer gets what was written.
func TestListenerRefuses(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		address := l.listen(func(c reactor.Conn) reactor.Handler {
			c.Write([]byte("sorry"))
			return nil
		})
		client := dial(t, address)
		if got, err := io.ReadAll(client); err != nil || string(got) != "sorry" {
			t.Errorf("got %q, %v", got, err)
		}
		client.Close()
		l.untilClosed(0)
	})
}

func TestRemoteAddr(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		client, c := l.pair(sink)
		want := "unix"
		if l.network == "tcp" {
			want = client.LocalAddr().String()
		}
		l.do(func() {
			if got := c.RemoteAddr(); got != want || !c.Local() {
				t.Errorf("RemoteAddr is %q, want %q; Local is %v", got, want, c.Local())
			}
		})
	})
}

// TestRemoteAddrOfBothFamilies listens without a host, where the platform shows
// the address of an IPv4 client as an IPv6 one.
func TestRemoteAddrOfBothFamilies(t *testing.T) {
	for _, kind := range engineKinds(t) {
		l := startLoop(t, reactor.Options{Engine: kind})
		remotes := newEvents[string](1)
		listener := l.listenOn(reactor.Address{Network: "tcp", Address: ":0"}, func(c reactor.Conn) reactor.Handler {
			if !c.Local() {
				t.Errorf("%v: %s is not local", kind, c.RemoteAddr())
			}
			remotes.put(c.RemoteAddr())
			return sink(c)
		})
		_, port, err := net.SplitHostPort(listener.Addr().Address)
		if err != nil {
			t.Fatal(err)
		}
		client := dial(t, reactor.Address{Network: "tcp", Address: "127.0.0.1:" + port})
		if got, want := remotes.next(t), client.LocalAddr().String(); got != want {
			t.Errorf("%v: RemoteAddr is %q, want %q", kind, got, want)
		}
	}
}

func TestListenFails(t *testing.T) {
	for _, kind := range engineKinds(t) {
		l := startLoop(t, reactor.Options{Engine: kind})
		taken := l.listen(echo)
		plain := socketPath(t)
		if err := os.WriteFile(plain, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		answered := socketPath(t)
		l.listenOn(reactor.Address{Network: "unix", Address: answered}, echo)
		for _, test := range []struct {
			address reactor.Address
			want    string
		}{
			{taken, "address already in use"},
			{reactor.Address{Network: "tcp", Address: "nonsense"}, "missing port"},
			{reactor.Address{Network: "unix", Address: plain}, "not a socket"},
			{reactor.Address{Network: "unix", Address: answered}, "another process answers"},
			{reactor.Address{Network: "unix", Address: "/nonexistent/s"}, "no such file"},
		} {
			l.do(func() {
				_, err := l.Listen(context.Background(), test.address, echo)
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.address.Address) {
					t.Errorf("%v: listen on %s: got %v, want %q", kind, test.address, err, test.want)
				}
			})
		}
		if b, err := os.ReadFile(plain); err != nil || string(b) != "precious" {
			t.Errorf("%v: a file was touched: %q, %v", kind, b, err)
		}
	}
}

func TestSocketFile(t *testing.T) {
	for _, kind := range engineKinds(t) {
		l := startLoop(t, reactor.Options{Engine: kind, UnixSocketMode: 0o750})
		path := socketPath(t)
		// A file left by a process that died.
		dead, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		dead.(*net.UnixListener).SetUnlinkOnClose(false)
		dead.Close()
		address := reactor.Address{Network: "unix", Address: path}
		listener := l.listenOn(address, echo)
		client := dial(t, address)
		send(t, client, []byte("hello"))
		expect(t, client, "hello")
		file, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := fs.ModeSocket | 0o750; file.Mode() != want {
			t.Errorf("%v: mode is %v, want %v", kind, file.Mode(), want)
		}
		// One that another process has put in its place is not ours to remove.
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		other, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.do(listener.Close)
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%v: the file of another listener was removed: %v", kind, err)
		}
		other.Close()
	}
}
