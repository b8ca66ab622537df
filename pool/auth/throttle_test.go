package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// fail fails from a source as a client does who gets no answer if too many wait.
func (t *Throttle) fail(source netip.Prefix, now time.Duration) (delay time.Duration, ok bool) {
	delay, ok = t.Delay(source, now)
	if ok {
		t.Failed(source, now)
	}
	return delay, ok
}

func TestThrottle(t *testing.T) {
	var throttle Throttle
	a, b := Source("192.0.2.1:1"), Source("192.0.2.2:1")
	now := time.Hour
	failed := func(source netip.Prefix, want time.Duration) {
		t.Helper()
		if got, ok := throttle.fail(source, now); got != want || !ok {
			t.Errorf("%s: delay %v, %v, want %v", source, got, ok, want)
		}
	}
	for range throttleBurst {
		failed(a, 0)
	}
	failed(a, throttleInterval)
	failed(a, 2*throttleInterval)
	failed(b, 0) // another address
	now += 2 * throttleInterval
	failed(a, throttleInterval)
	if got, ok := throttle.Delay(a, now); got != 2*throttleInterval || !ok {
		t.Errorf("one more would wait %v, %v", got, ok)
	}
	waiting := 0
	for range 1000 {
		if _, ok := throttle.fail(a, now); ok {
			waiting++
		}
	}
	if got, ok := throttle.Delay(a, now); ok || waiting != int(MaxThrottleDelay/throttleInterval)-1 {
		t.Errorf("%d wait, and one more would wait %v, %v", waiting, got, ok)
	}
	now += MaxThrottleDelay + throttleBurst*throttleInterval
	failed(a, 0) // forgiven
	if len(throttle.debts) != 1 || throttle.order.Len() != 1 {
		t.Errorf("%d debts are remembered, want 1", len(throttle.debts))
	}
}

// However a source spreads its attempts, its answers come at the rate.
func TestThrottleRate(t *testing.T) {
	var throttle Throttle
	source := Source("192.0.2.1:1")
	answered := 0
	const seconds = 60
	for now := time.Duration(0); now < seconds*time.Second; now += time.Millisecond {
		if delay, ok := throttle.fail(source, now); ok && now+delay < seconds*time.Second {
			answered++
		}
	}
	if most := throttleBurst + int(seconds*time.Second/throttleInterval); answered > most || answered < most-throttleBurst {
		t.Errorf("%d answers in %d s, want about %d", answered, seconds, most)
	}
}

// Many sources neither fill the memory nor pay for each other.
func TestThrottleIsBounded(t *testing.T) {
	var throttle Throttle
	source := func(i int) netip.Prefix {
		return Source(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff))
	}
	for i := range 3 * throttleSources {
		if delay, ok := throttle.fail(source(i), 0); delay != 0 || !ok {
			t.Fatalf("source %d pays for others: %v, %v", i, delay, ok)
		}
	}
	if len(throttle.debts) != throttleSources || throttle.order.Len() != throttleSources {
		t.Errorf("%d sources are remembered", len(throttle.debts))
	}
	for range throttleBurst {
		throttle.Failed(source(3*throttleSources), time.Millisecond)
	}
	throttle.Failed(source(1), time.Millisecond) // the oldest goes
	if delay, _ := throttle.Delay(source(3*throttleSources), time.Millisecond); delay == 0 {
		t.Error("the debt that grew last is forgotten")
	}
}

func TestSource(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:40000":           "192.0.2.1/32",
		"192.0.2.1:2":               "192.0.2.1/32",
		"[::ffff:192.0.2.1]:2":      "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:40": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:40":         "fe80::/64",
		"[::1]:40":                  "::1/128",
		"unix":                      "invalid Prefix",
	} {
		if got := Source(address).String(); got != want {
			t.Errorf("%s stands for %s, want %s", address, got, want)
		}
	}
}
