package reactor_test

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

// chaotic is a handler that does anything allowed, to its own connection and to
// others, and checks what is promised to it.
type chaotic struct {
	t         *testing.T
	c         reactor.Conn
	random    *rand.Rand
	others    *[]*chaotic
	paused    bool
	redeliver bool // asked for
	exceeded  bool // HighWaterBytes was; OnDrain is due
	over      bool // closed by us or told of the end
}

func (h *chaotic) OnData(b []byte) int {
	if h.over {
		h.t.Error("OnData after the end")
	}
	if h.paused && !h.redeliver {
		h.t.Error("OnData while paused")
	}
	if len(b) == 0 {
		h.t.Error("OnData without bytes")
	}
	h.redeliver = false
	h.act()
	if len(b) > 128<<10 {
		return len(b) // what a handler holds is bounded
	}
	return h.random.IntN(len(b) + 1)
}

func (h *chaotic) OnDrain() {
	if h.over || !h.exceeded {
		h.t.Errorf("OnDrain though it is over (%v) or not due (%v)", h.over, !h.exceeded)
	}
	if h.c.BufferedBytes() > reactor.LowWaterBytes {
		h.t.Errorf("OnDrain with %d bytes left", h.c.BufferedBytes())
	}
	h.exceeded = false
	h.act()
}

func (h *chaotic) OnClose(err error) {
	if h.over || err == nil {
		h.t.Errorf("OnClose(%v), over: %v", err, h.over)
	}
	h.over = true
	h.c.Write([]byte("ignored"))
	h.other().act()
}

func (h *chaotic) other() *chaotic { return (*h.others)[h.random.IntN(len(*h.others))] }

// act does one thing to a connection.
func (h *chaotic) act() {
	target := h
	if h.random.IntN(4) == 0 {
		target = h.other()
	}
	switch h.random.IntN(40) {
	case 0:
		target.over = true
		target.c.Close()
	case 1:
		target.over = true
		target.c.Abort()
	case 2, 3, 4, 5:
		target.paused = true
		target.c.PauseRead()
	case 6, 7, 8, 9, 10, 11, 12, 13:
		target.paused = false
		target.c.ResumeRead()
	case 14, 15, 16:
		target.redeliver = true
		target.c.Redeliver()
	default:
		target.write(h.random.IntN(1 << h.random.IntN(18)))
	}
}

func (h *chaotic) write(size int) {
	if h.c.BufferedBytes() <= reactor.HighWaterBytes {
		h.c.Write(make([]byte, size))
	}
	h.exceeded = h.exceeded || h.c.BufferedBytes() > reactor.HighWaterBytes
}

// chaoticClient writes, reads and at last goes, one way or another.
func chaoticClient(c net.Conn, random *rand.Rand) {
	below := unencrypted(c) // ends at once, as crypto/tls does not
	defer below.Close()
	if encrypted, ok := c.(*tls.Conn); ok && encrypted.Handshake() != nil {
		return
	}
	for range random.IntN(60) {
		// The other side may neither read nor write, or be gone.
		c.SetDeadline(time.Now().Add(time.Millisecond))
		if random.IntN(3) == 0 {
			io.CopyN(io.Discard, c, 1<<random.Int64N(20))
		} else {
			c.Write(make([]byte, 1<<random.IntN(18)))
		}
	}
	switch random.IntN(3) {
	case 0:
		below.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, c)
	case 1:
		if tcp, ok := below.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
}

func TestChaos(t *testing.T) {
	forConnections(t, func(t *testing.T, l *loop) {
		var all []*chaotic
		random := rand.New(rand.NewPCG(6, 6))
		address := l.listen(func(c reactor.Conn) reactor.Handler {
			h := &chaotic{t: t, c: c, random: random, others: &all}
			all = append(all, h)
			return h
		})
		var clients sync.WaitGroup
		for i := range 100 {
			c := connect(t, address)
			clients.Go(func() { chaoticClient(c, rand.New(rand.NewPCG(7, uint64(i)))) })
		}
		clients.Wait()
		// All clients are gone. What paused does not notice it everywhere, and
		// what waits for room notices at the next write.
		if !eventually(func() bool {
			open := 0
			l.do(func() {
				for _, h := range all {
					h.paused = false
					h.c.ResumeRead()
					h.write(1)
				}
				open = l.OpenConns()
			})
			return open == 0
		}) {
			t.Fatalf("%d connections stay open", l.OpenConns())
		}
		l.do(func() {
			for _, h := range all {
				if !h.over {
					t.Error("a connection ended without OnClose")
				}
				if held := reactor.HeldBytes(h.c); held != 0 || h.c.BufferedBytes() != 0 {
					t.Errorf("a closed connection holds %d bytes", held)
				}
			}
		})
	})
}
