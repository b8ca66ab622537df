package shed

import "time"

// Retries recognises work that has failed before: equal work came within the last half
// minute, and every time it ended in a refusal, a timeout, a cancel request, the loss of
// its client or the like. Work that succeeded once in a while, or of which some is under
// way, is what many clients or one in regular intervals ask, and is no retry. The zero
// value is ready; it takes memory with the first failure.
type Retries struct {
	slots    []slot
	failedAt time.Duration // when there was a failure last
}

// slot is what is known of work that has failed.
type slot struct {
	hash               Hash   // 0 if there is none
	at                 uint32 // milliseconds, of the last failure
	arrivals, failures uint16
}

const (
	retrySlots  = 1 << 16
	retryWays   = 4 // places for work of one hash
	retryMemory = 30 * time.Second
)

// Armed reports whether there is anything to recognise at all.
func (r *Retries) Armed(now time.Duration) bool {
	return r.slots != nil && now-r.failedAt <= retryMemory
}

// Arrive reports whether the work is a retry.
func (r *Retries) Arrive(hash Hash, now time.Duration) bool {
	if !r.Armed(now) {
		return false
	}
	s := r.find(hash, now)
	if s == nil || s.arrivals == 1<<16-1 {
		return false
	}
	s.arrivals++
	return s.failures == s.arrivals-1
}

// Fail notes that the work came to nothing.
func (r *Retries) Fail(hash Hash, now time.Duration) {
	if r.slots == nil {
		r.slots = make([]slot, retrySlots)
	}
	r.failedAt = now
	s := r.find(hash, now)
	if s == nil {
		s = r.oldest(hash, now)
		*s = slot{hash: hash, arrivals: 1}
	}
	s.at = milliseconds(now)
	s.failures = min(s.failures+1, s.arrivals)
}

// set returns the places for work with that hash.
func (r *Retries) set(hash Hash) []slot {
	first := int(hash) & (retrySlots - 1) &^ (retryWays - 1)
	return r.slots[first : first+retryWays]
}

func (r *Retries) find(hash Hash, now time.Duration) *slot {
	set := r.set(hash)
	for i := range set {
		if set[i].hash == hash && set[i].age(now) <= retryMemory {
			return &set[i]
		}
	}
	return nil
}

// oldest returns the place whose work failed longest ago.
func (r *Retries) oldest(hash Hash, now time.Duration) *slot {
	set := r.set(hash)
	chosen := &set[0]
	for i := range set {
		switch s := &set[i]; {
		case s.hash == 0 || s.hash == hash:
			return s
		case s.age(now) > chosen.age(now):
			chosen = s
		}
	}
	return chosen
}

func (s *slot) age(now time.Duration) time.Duration {
	return time.Duration(milliseconds(now)-s.at) * time.Millisecond
}

func milliseconds(t time.Duration) uint32 { return uint32(t / time.Millisecond) }
