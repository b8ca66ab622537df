package shed

import "time"

// overload finds out whether more work arrives than servers do, and how fast they do
// it. A wait alone does not tell: sixteen servers for sixty-four clients that ask again
// when they are answered always let some wait, and nobody is helped if those are told
// no. What tells is that the queue grows, for longer than the interval, while there are
// clients enough to make waits too long, or that waits come near what they put up with.
type overload struct {
	config *Config

	clients int // that may ask, 0 if that is not known
	servers int

	on      bool
	stalled bool // it is one because nothing is served at all

	goodAt    time.Duration // when so few waited that they would within the target
	servedAt  time.Duration // when somebody was served last
	endedAt   time.Duration // when some work ended last
	refusedAt time.Duration // when somebody was told no because of it

	// The slice of time under way. An interval is slicesPerInterval of them.
	sliceAt  time.Duration
	arrivals int
	served   int
	emptied  bool // nobody waited for a moment

	// Of slices in a row in each of which more arrived than was served.
	growing       int
	grown, shrunk int // by how much more, and of how many served

	rate float64 // how many are served per second, while somebody waits; 0 is not known

	// stretch is by how much more may wait than the target says, because the queue ran dry
	// though somebody was told no: what happens comes in bursts. 0 is 1.
	stretch float64
}

const (
	slicesPerInterval = 4

	// calmIntervals is for how long nobody has to have been told no before an overload
	// is over.
	calmIntervals = 4

	// The queue is made longer twofold for each slice in which it ran dry, and shorter by
	// shrink for each other: up to one for each server, which is what it takes if all of
	// them become free at the same moment, or twice the target.
	shrink     = 0.95
	maxStretch = 64

	// minBacklog is how many may wait in any case, so that no server has to: fewer are no
	// overload, however long they wait.
	minBacklog = 4
)

// arrive notes that there is more work, of which waiting is in the queue and the
// oldest arrived at oldestAt. Work usually takes as long as usual.
func (o *overload) arrive(now time.Duration, waiting int, oldestAt, usual time.Duration) {
	o.advance(now)
	o.arrivals++
	switch {
	case o.config.Target == 0, waiting < minBacklog:
	case now-max(oldestAt, o.servedAt) > o.stallAfter(usual):
		o.on, o.stalled = true, true
	case o.predicted(waiting) > o.config.patience()/2:
		o.on = true
	}
}

// stallAfter is for how long nobody has to be served for that to be a stall: half of what
// clients put up with, or as little as half of that if servers become free far more often.
func (o *overload) stallAfter(usual time.Duration) time.Duration {
	most := o.config.patience() / 2
	return min(most, max(most/2, stallTurns*usual/time.Duration(max(1, o.servers))))
}

// stallTurns is in how many times the usual time between two servers that become free one
// will, whatever they are at.
const stallTurns = 32

// abandon notes that there is less work: of a client that has gone.
func (o *overload) abandon() { o.arrivals-- }

// end notes that some work has ended, and reports whether none had for long.
func (o *overload) end(now time.Duration) (resumed bool) {
	resumed = o.stalled && now-o.endedAt >= longStall
	o.endedAt = now
	return resumed
}

// longStall is for how long nothing has to have ended for what is waiting elsewhere to
// have piled up.
const longStall = time.Second

// serve notes that work has been given a server after a wait.
func (o *overload) serve(now time.Duration, waiting int) {
	o.advance(now)
	o.served++
	o.servedAt = now
	if o.predicted(waiting) <= o.config.Target {
		o.goodAt = now
	}
	if !o.stalled {
		return
	}
	// What has piled up is all there is to know now; whether it is an overload besides,
	// the next interval tells.
	o.stalled = false
	if o.predicted(waiting) <= o.config.patience()/2 {
		o.on, o.growing, o.goodAt = false, 0, now
	}
}

// pass notes that work has arrived, or ended, while nobody waits.
func (o *overload) pass(now time.Duration) {
	o.goodAt, o.servedAt, o.emptied, o.stalled = now, now, true, false
}

// refuse notes that work has been told no because the queue is full.
func (o *overload) refuse(now time.Duration) { o.refusedAt = now }

// advance ends the slice of time under way, if it is over.
func (o *overload) advance(now time.Duration) {
	length := now - o.sliceAt
	if length < o.config.Interval/slicesPerInterval || o.config.Target == 0 {
		return
	}
	if o.served > 0 && !o.emptied {
		rate := float64(o.served) / length.Seconds()
		if o.rate == 0 {
			o.rate = rate
		}
		o.rate += (rate - o.rate) / 8
	}
	o.adapt()
	if o.arrivals > o.served && !o.emptied && length < o.config.Interval {
		o.growing++
		o.grown += o.arrivals - o.served
		o.shrunk += o.served
	} else {
		o.growing, o.grown, o.shrunk = 0, 0, 0
	}
	standing := now - o.goodAt
	switch {
	case !o.on:
		o.on = o.dangerous() && o.grows(standing)
	case o.stalled:
	case o.harmless(), standing < o.config.Interval && now-o.refusedAt >= calmIntervals*o.config.Interval:
		o.on, o.growing = false, 0
	}
	o.sliceAt, o.arrivals, o.served, o.emptied = now, 0, 0, false
}

// grows reports whether the queue, which has not been short for that long, has grown for
// the interval; if twice as much arrives as is served, half of that is enough.
func (o *overload) grows(standing time.Duration) bool {
	slices := slicesPerInterval
	if o.grown > o.shrunk {
		slices /= 2
	}
	return o.growing >= slices && standing >= o.config.Interval*time.Duration(slices)/slicesPerInterval &&
		o.shrunk > 0 && o.grown > o.shrunk/4+minBacklog
}

// dangerous reports whether waits would become too long if every client asked at once.
func (o *overload) dangerous() bool {
	return o.clients == 0 || o.predicted(o.clients) > o.config.patience()/2
}

// harmless reports whether it is known that they would not.
func (o *overload) harmless() bool { return o.clients > 0 && o.rate > 0 && !o.dangerous() }

// predicted is how long work waits that has so much in front of it, 0 if that is not
// known.
func (o *overload) predicted(waiting int) time.Duration {
	if o.rate == 0 {
		return 0
	}
	return time.Duration(float64(waiting) / o.rate * float64(time.Second))
}

// adapt makes the queue longer if servers had nothing to do while work was refused.
func (o *overload) adapt() {
	switch {
	case !o.on:
		o.stretch = 1
	case o.emptied && o.refusedAt >= o.sliceAt:
		o.stretch = min(2*o.stretch, maxStretch)
	default:
		o.stretch = max(1, shrink*o.stretch)
	}
}

// room is how many may wait during an overload: in a stall as few as can be, for each of
// them waits in vain.
func (o *overload) room() int {
	if o.stalled {
		return minBacklog
	}
	most := max(float64(o.servers), 2*o.rate*o.config.Target.Seconds())
	room := max(minBacklog, o.rate*o.config.Target.Seconds()) * max(1, o.stretch)
	return int(max(minBacklog, min(room, most)))
}

// patience is after what wait work is given up during an overload.
func (o *overload) patience() time.Duration {
	return max(2*o.config.Target, 2*o.predicted(o.room()))
}
