package reactor_test

import (
	"net/netip"
	"runtime"
	"syscall"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

// BenchmarkIdleConnection reports the memory of the Go heap and stacks that a
// connection costs which has been used and says nothing now.
func BenchmarkIdleConnection(b *testing.B) {
	for _, kind := range engineKinds(b) {
		b.Run(kind.String(), func(b *testing.B) {
			const count = 2000
			l := startLoop(b, reactor.Options{Engine: kind})
			var handlers []echoHandler
			address := l.listen(func(c reactor.Conn) reactor.Handler {
				handlers = append(handlers, echoHandler{c})
				return &handlers[len(handlers)-1]
			})
			message := make([]byte, 100)
			for b.Loop() {
				l.do(func() { handlers = make([]echoHandler, 0, count) })
				before := memory()
				clients := dialRaw(b, address, count)
				for _, c := range clients {
					c.roundTrip(b, message)
				}
				b.ReportMetric(float64(memory()-before)/count, "B/conn")
				for _, c := range clients {
					c.close()
				}
				l.untilClosed(0)
			}
		})
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

func (c rawClient) roundTrip(tb testing.TB, message []byte) {
	tb.Helper()
	if _, err := syscall.Write(int(c), message); err != nil {
		tb.Fatal(err)
	}
	for got := 0; got < len(message); {
		n, err := syscall.Read(int(c), message[got:])
		if err != nil || n == 0 {
			tb.Fatalf("read %d bytes, %v", n, err)
		}
		got += n
	}
}

func (c rawClient) close() { syscall.Close(int(c)) }
