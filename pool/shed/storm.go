package shed

import "time"

// Storm is a time in which overloads follow each other.
type Storm struct {
	On           bool
	BeganAt      time.Duration
	EndedAt      time.Duration // if it is over
	Arrivals     uint64
	Admitted     uint64
	Retries      uint64 // among those that arrived
	Abandoned    uint64 // by clients that went or cancelled while they waited
	MostWaiting  int
	LongestWait  time.Duration // of those that were admitted
	Shed         Counts
	lastOverload time.Duration
}

// stormCalm is for how long there has to be no overload before a storm is over.
const stormCalm = time.Second

// Change is what has become of a storm.
type Change uint8

// The changes.
const (
	NoChange Change = iota
	StormBegins
	StormEnds
)

// follow notes whether there is an overload.
func (s *Storm) follow(now time.Duration, overloaded bool) Change {
	switch {
	case overloaded && !s.On:
		*s = Storm{On: true, BeganAt: now, lastOverload: now}
		return StormBegins
	case overloaded:
		s.lastOverload = now
	case s.On && now-s.lastOverload >= stormCalm:
		s.On, s.EndedAt = false, now
		return StormEnds
	}
	return NoChange
}
