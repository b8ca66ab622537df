package auth

import (
	"container/list"
	"net/netip"
	"time"
)

// Throttle limits how fast the clients of one source may fail to log in, by a token
// bucket: a burst of failures is answered at once, further ones at a fixed rate, and no
// more than MaxThrottleDelay of them wait. The zero value is ready.
type Throttle struct {
	debts map[netip.Prefix]*list.Element
	order list.List // of *debt, the one that grew last at the end
}

// debt is what a source has failed.
type debt struct {
	source netip.Prefix
	paidAt time.Duration // when it is forgotten: its bucket is full again
}

const (
	throttleBurst    = 10
	throttleInterval = 100 * time.Millisecond
	// MaxThrottleDelay bounds the wait of one answer, so that the client learns the
	// reason before it gives up, and with it how many wait.
	MaxThrottleDelay = 10 * time.Second
	// throttleSources bounds the memory: beyond it the debt that is oldest is forgotten,
	// not that of others added up.
	throttleSources = 10_000
)

// Delay is how long the answer to a proof from the source has to wait at now; ok is
// false if so many wait that it gets none.
func (t *Throttle) Delay(source netip.Prefix, now time.Duration) (delay time.Duration, ok bool) {
	element, known := t.debts[source]
	if !known {
		return 0, true
	}
	const burst = throttleBurst * throttleInterval
	delay = max(0, element.Value.(*debt).paidAt+throttleInterval-now-burst)
	return delay, delay <= MaxThrottleDelay
}

// Failed accounts for a failure at now whose answer waits as long as Delay said.
func (t *Throttle) Failed(source netip.Prefix, now time.Duration) {
	t.forget(now)
	element, known := t.debts[source]
	if known {
		t.order.MoveToBack(element)
	} else {
		if t.debts == nil {
			t.debts = map[netip.Prefix]*list.Element{}
		}
		element = t.order.PushBack(&debt{source: source})
		t.debts[source] = element
	}
	d := element.Value.(*debt)
	d.paidAt = max(d.paidAt, now) + throttleInterval
}

// forget drops the debts at the front that are paid, and one more if there are too many.
func (t *Throttle) forget(now time.Duration) {
	for front := t.order.Front(); front != nil; front = t.order.Front() {
		d := front.Value.(*debt)
		if d.paidAt > now && len(t.debts) < throttleSources {
			return
		}
		delete(t.debts, d.source)
		t.order.Remove(front)
	}
}

// Source is what stands for the machine behind an address as reactor.Conn names it: an
// IPv4 address; the network of an IPv6 address, because whoever has one has all of its
// /64; the zero Prefix for a Unix-domain socket.
func Source(address string) netip.Prefix {
	peer, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip := peer.Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() && !ip.IsLoopback() {
		bits = 64
	}
	source, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		panic("BUG: " + err.Error()) // no address has fewer bits
	}
	return source
}
