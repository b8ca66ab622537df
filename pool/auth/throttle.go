package auth

import "time"

// Throttle delays the answers to failed logins, for each address by a token bucket:
// so many failures are answered at once, further ones no faster than one per
// interval. The zero value is ready.
type Throttle struct {
	full    map[string]time.Duration // when the bucket of an address is full again
	sweepAt time.Duration            // not before, full is searched for those that are
}

const (
	throttleBurst    = 5
	throttleInterval = time.Second
	// MaxThrottleDelay bounds the wait of one answer, so that the client learns the
	// reason before it gives up.
	MaxThrottleDelay = 10 * time.Second
	// throttleAddresses bounds the memory: beyond it all share a bucket.
	throttleAddresses = 10_000
)

// Failed accounts for a failed login at now and returns how long its answer is to
// wait.
func (t *Throttle) Failed(address string, now time.Duration) time.Duration {
	if t.full == nil {
		t.full = map[string]time.Duration{}
	}
	if _, known := t.full[address]; !known && len(t.full) >= throttleAddresses {
		t.sweep(now)
		if len(t.full) >= throttleAddresses {
			address = ""
		}
	}
	const burst = throttleBurst * throttleInterval
	full := min(max(t.full[address], now)+throttleInterval, now+burst+MaxThrottleDelay)
	t.full[address] = full
	return max(0, full-now-burst)
}

// sweep drops the buckets that are full, once per interval at most.
func (t *Throttle) sweep(now time.Duration) {
	if now < t.sweepAt {
		return
	}
	t.sweepAt = now + throttleInterval
	for address, full := range t.full {
		if full <= now {
			delete(t.full, address)
		}
	}
}
