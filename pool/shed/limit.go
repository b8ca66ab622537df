package shed

import (
	"math"
	"time"
)

// Limit says how many servers are used at a time. More than the processors and disks
// of the machine can feed make each other slow: then a statement takes longer than it
// has been seen to take, and the limit goes down as long as no less gets done than with
// all servers. Statements may be slow for many reasons that fewer servers do not mend:
// locks, a disk, a proxy that is short of processor time itself.
// After the Gradient2 limit of https://github.com/Netflix/concurrency-limits.
type Limit struct {
	most  int
	value float64

	// Of this period.
	periodAt time.Duration
	slowness float64 // sum
	count    int

	full     float64       // done per second with all servers, 0 if that is not known
	done     float64       // done per second of late
	frozen   time.Duration // until when there is no step down
	rampUpTo time.Duration // until when it goes up after a stall
}

const (
	limitPeriod  = 100 * time.Millisecond
	minLimit     = 2
	minSamples   = 10
	maxSlowness  = 4.0 // of one sample: few that wait for a lock do not make all slow
	toleratedBy  = 2.0 // how much slower than usual is nothing to act on
	limitSmooth  = 0.2
	limitLoss    = 0.95             // of what all servers do: with less, all of them are used again
	limitFreeze  = 10 * time.Second // and stay so
	rampFraction = 0.6              // of all servers, at the end of a stall
	rampStep     = 0.2              // per period
)

// set gives the number of servers that there may be.
func (l *Limit) set(most int) {
	if l.most != most {
		l.most, l.value = most, float64(most)
	}
}

// Servers is how many servers may be used.
func (l *Limit) Servers() int {
	return max(1, min(l.most, max(minLimit, int(math.Round(l.value)))))
}

// observe learns from work that has been done how much longer it took than usual.
func (l *Limit) observe(slowness float64, now time.Duration) {
	l.slowness += min(slowness, maxSlowness)
	l.count++
	l.advance(now)
}

// ramp goes down to a part of the servers at the end of a stall, and then up in steps:
// what has piled up anywhere does not hit PostgreSQL all at once.
func (l *Limit) ramp(now time.Duration) {
	l.value = min(l.value, rampFraction*float64(l.most))
	l.periodAt, l.slowness, l.count, l.full = now, 0, 0, 0
	l.rampUpTo = now + time.Duration((1-rampFraction)/rampStep+1)*limitPeriod
}

// advance ends the period under way, if it is over.
func (l *Limit) advance(now time.Duration) {
	length := now - l.periodAt
	if length < limitPeriod {
		return
	}
	switch {
	case now < l.rampUpTo:
		l.value = min(float64(l.most), l.value+rampStep*float64(l.most)*float64(length/limitPeriod))
	case l.rampUpTo > 0:
		l.value, l.rampUpTo = float64(l.most), 0
	case l.count >= minSamples:
		l.step(now, length)
	case l.count == 0:
		l.value, l.full = float64(l.most), 0 // what was known is old
	}
	l.periodAt, l.slowness, l.count = now, 0, 0
}

func (l *Limit) step(now, length time.Duration) {
	most := float64(l.most)
	done := float64(l.count) / length.Seconds()
	if l.full == 0 {
		l.full, l.done = done, done
	}
	l.done += (done - l.done) / 4
	switch {
	case l.value == most:
		l.full += (done - l.full) / 8
	case l.done < limitLoss*l.full:
		l.value, l.frozen = most, now+limitFreeze
		return
	}
	slowness := l.slowness / float64(l.count)
	gradient := min(1, max(0.5, toleratedBy/slowness))
	next := l.value*gradient + math.Sqrt(l.value)
	next = l.value*(1-limitSmooth) + next*limitSmooth
	next = min(most, max(minLimit, next))
	if next < l.value && now < l.frozen {
		return
	}
	l.value = next
}
