package reactor_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

// TestRoundTripAllocatesNothing covers read, OnData, Write and flush, also with
// bytes left over in between.
func TestRoundTripAllocatesNothing(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			return &handler{data: func(b []byte) int {
				if len(b) < 100 {
					c.Write(b[:1]) // asks for the rest
					return 0
				}
				c.Write(b)
				return len(b)
			}}
		})
		query, reply := make([]byte, 100), make([]byte, 100)
		roundTrip := func() {
			send(t, client, query[:50])
			if _, err := io.ReadFull(client, reply[:1]); err != nil {
				t.Fatal(err)
			}
			send(t, client, query[50:])
			if _, err := io.ReadFull(client, reply); err != nil {
				t.Fatal(err)
			}
		}
		most := 0.0
		if l.network == "tls" {
			// crypto/tls makes an object for each of its reads: two of the client, four
			// of ours, since the last finds nothing. The race detector has it forget some
			// of the buffers that it keeps for writes.
			most = 12
		}
		if allocs := testing.AllocsPerRun(200, roundTrip); allocs > most {
			t.Errorf("%v allocations per round trip, want at most %v", allocs, most)
		}
		l.do(func() {
			// The portable engine's goroutines have buffers of their own.
			if held := reactor.HeldBytes(c); held != 0 {
				t.Errorf("an idle connection holds %d bytes", held)
			}
		})
	})
}

// BenchmarkRoundTrip has so many clients, each waiting for the echo of its
// message before it sends the next.
func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range engineKinds(b) {
		for _, network := range []string{"tcp", "tls"} {
			for _, clients := range []int{1, 64, 256} {
				b.Run(fmt.Sprintf("%v/%s/clients=%d", kind, network, clients), func(b *testing.B) {
					l := startLoop(b, reactor.Options{Engine: kind})
					l.network = network
					benchmarkRoundTrip(b, l.listen(echo), clients)
				})
			}
		}
	}
}

func benchmarkRoundTrip(b *testing.B, address reactor.Address, clients int) {
	b.Helper()
	var conns []net.Conn
	for range clients {
		conns = append(conns, dial(b, address))
	}
	b.ReportAllocs()
	b.ResetTimer()
	var running sync.WaitGroup
	for i, c := range conns {
		running.Go(func() {
			message := make([]byte, 100)
			for n := i; n < b.N; n += clients {
				if _, err := c.Write(message); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(c, message); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}
