package reactor_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

// BenchmarkIdleConnection reports the memory of the Go heap and stacks that a
// connection costs which has been used and says nothing now: in the clear, encrypted,
// encrypted after a record of the longest kind, and in the middle of the handshake.
func BenchmarkIdleConnection(b *testing.B) {
	for _, kind := range engineKinds(b) {
		for _, test := range []struct {
			name         string
			count        int
			encrypted    bool
			messageBytes int // none: it has not begun
		}{
			{"plain", 2000, false, 100},
			{"tls", 1000, true, 100},
			{"tls,long", 1000, true, 16 << 10},
			{"handshake", reactor.MaxHandshakes, true, 0},
		} {
			b.Run(kind.String()+"/"+test.name, func(b *testing.B) {
				l := startLoop(b, reactor.Options{Engine: kind})
				var handlers []echoHandler
				address := l.listen(func(c reactor.Conn) reactor.Handler {
					if test.encrypted {
						c.StartTLS(reactor.TLSServer, serverTLS, func(tls.ConnectionState) {})
					}
					handlers = append(handlers, echoHandler{c})
					return &handlers[len(handlers)-1]
				})
				message := make([]byte, test.messageBytes)
				for b.Loop() {
					l.do(func() { handlers = make([]echoHandler, 0, test.count) })
					before := memory()
					clients := dialRaw(b, address, test.count)
					for _, c := range clients {
						switch {
						case test.messageBytes == 0:
							c.send(b, []byte{22, 3, 1, 1, 0, 1})
						case test.encrypted:
							c.roundTripTLS(b, message)
						default:
							c.roundTrip(b, message)
						}
					}
					if test.messageBytes == 0 {
						l.untilHandshakes(test.count, 0)
					}
					b.ReportMetric(float64(memory()-before)/float64(test.count), "B/conn")
					for _, c := range clients {
						c.close()
					}
					l.untilClosed(0)
				}
			})
		}
	}
}

// echoHandler costs no closure.
type echoHandler struct{ c reactor.Conn }

func (h *echoHandler) OnData(b []byte) int {
	h.c.Write(b)
	return len(b)
}
func (h *echoHandler) OnDrain()      {}
func (h *echoHandler) OnClose(error) {}

func memory() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}

// rawClient is a client that takes no memory of the Go heap.
type rawClient int

func dialRaw(tb testing.TB, address reactor.Address, count int) []rawClient {
	tb.Helper()
	to := netip.MustParseAddrPort(address.Address)
	var clients []rawClient
	for range count {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			tb.Fatal(err)
		}
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			tb.Fatal(err)
		}
		clients = append(clients, rawClient(fd))
	}
	return clients
}

func (c rawClient) send(tb testing.TB, message []byte) {
	tb.Helper()
	if _, err := syscall.Write(int(c), message); err != nil {
		tb.Fatal(err)
	}
}

// roundTripTLS encrypts the connection first and forgets how.
func (c rawClient) roundTripTLS(tb testing.TB, message []byte) {
	tb.Helper()
	fd, err := syscall.Dup(int(c))
	if err != nil {
		tb.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	below, err := net.FileConn(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer below.Close()
	encrypted := tls.Client(below, clientTLS)
	send(tb, encrypted, message)
	if _, err := io.ReadFull(encrypted, message); err != nil {
		tb.Fatal(err)
	}
}

func (c rawClient) roundTrip(tb testing.TB, message []byte) {
	tb.Helper()
	c.send(tb, message)
	for got := 0; got < len(message); {
		n, err := syscall.Read(int(c), message[got:])
		if err != nil || n == 0 {
			tb.Fatalf("read %d bytes, %v", n, err)
		}
		got += n
	}
}

func (c rawClient) close() { syscall.Close(int(c)) }
