package pool

import "time"

// group is one sync group under way on a server: from its first message until its
// ReadyForQuery has come.
type group struct {
	// client gets the replies; nil if nobody awaits them.
	client Client

	// own: it is a query of the pool's.
	own bool

	// request is the client's messages, complete, if the group may be run again:
	// nothing of a transaction comes before it. Its storage is kept for the next
	// group in the same slot.
	request []byte

	// joinable: others may share its Sync. joined: it shares that of the group behind
	// it, and its replies end at heldEnd of those that the server holds back.
	joinable bool
	joined   bool
	heldEnd  int

	// extended: a simple query that was sent in the extended protocol; as an execution
	// of parameterized, unless that is nil.
	extended      bool
	parameterized *Statement

	// passed: the client has been sent a part of the replies.
	passed bool

	// again: what befell the group is not the client's business; at its end it is
	// run again.
	again AgainReason

	// timed is what to learn the service time for, expected what it should be.
	timed    *Timing
	expected time.Duration

	// startedAt is when the server could begin with it: when it was sent, or when
	// the group before it ended.
	startedAt time.Duration
}

// AgainReason is why a group is run again.
type AgainReason uint8

// The reasons.
const (
	AgainNot       AgainReason = iota
	AgainPlan                  // a statement's result type changed, or the server lost it
	AgainWrites                // a group that was taken for a read is not
	AgainCanceled              // a cancel request for another client hit it
	AgainLost                  // the server went before it answered
	AgainSlow                  // the group in front of it takes too long
	AgainAlone                 // one that shared its Sync failed, or had a long reply
	AgainAsWritten             // it failed with parameters in the place of its constants
)

// groupQueue is a ring of groups, oldest first, that keeps its storage.
type groupQueue struct {
	ring  []group
	first int
	count int
}

// push adds a group and returns it, empty. It stays in place until the next push.
func (q *groupQueue) push() *group {
	if q.count == len(q.ring) {
		grown := make([]group, max(4, 2*len(q.ring)))
		for i := range q.count {
			grown[i] = *q.at(i)
		}
		q.ring, q.first = grown, 0
	}
	q.count++
	g := q.at(q.count - 1)
	*g = group{request: g.request[:0]}
	if cap(g.request) > maxKeptRequestBytes {
		g.request = nil
	}
	return g
}

// maxKeptRequestBytes bounds the storage that a slot keeps for the next group.
const maxKeptRequestBytes = 16 << 10

func (q *groupQueue) at(i int) *group { return &q.ring[(q.first+i)&(len(q.ring)-1)] }

// head returns the group whose replies come next, or nil.
func (q *groupQueue) head() *group {
	if q.count == 0 {
		return nil
	}
	return q.at(0)
}

// last returns the group pushed last, or nil.
func (q *groupQueue) last() *group {
	if q.count == 0 {
		return nil
	}
	return q.at(q.count - 1)
}

// allOwn reports whether all of them are the pool's.
func (q *groupQueue) allOwn() bool {
	for i := range q.count {
		if !q.at(i).own {
			return false
		}
	}
	return true
}

// takeLast takes out the group pushed last.
func (q *groupQueue) takeLast() group {
	g := *q.last()
	q.last().request = nil // which is g's
	q.count--
	return g
}

// pop takes the head out; what it returns is valid until the next push.
func (q *groupQueue) pop() *group {
	g := q.at(0)
	q.first = (q.first + 1) & (len(q.ring) - 1)
	q.count--
	return g
}

// mergeSecond makes one group of the first two: PostgreSQL ignored the end of the
// first. It reports whether there was a second.
func (q *groupQueue) mergeSecond() bool {
	if q.count < 2 {
		return false
	}
	head, second := *q.at(0), q.at(1)
	head.request = second.request[:0] // a group of which PostgreSQL ignored the end is not run again
	*second = head
	q.pop()
	return true
}

// Timing is the service time that a statement, or a kind of query, has been seen
// to take on a server: an average that follows changes. Zero is not known yet.
type Timing struct {
	average time.Duration
	writes  bool // PostgreSQL has refused it on a server that only reads

	// How often it is still to share no Sync, because it failed or had a long reply,
	// and how often to be sent as it is written, because it failed with parameters.
	alone, asWritten uint8

	// usual is what it takes while nobody waits for a server, known from how many
	// times.
	usual time.Duration
	known uint8
}

// slowness notes how long it took once, outside a lane, and returns how many times as
// long as usual that is; 0 if it is not known what is usual. calm tells that nobody
// waits for a server: else what it takes now may be the load's doing.
func (t *Timing) slowness(took time.Duration, calm bool) float64 {
	if t.known < minKnown {
		t.known++
		t.usual += (took - t.usual) / time.Duration(t.known)
		return 0
	}
	slowness := float64(took) / float64(max(1, t.usual))
	if calm || took < t.usual {
		t.usual += (took - t.usual) / 64
	}
	return slowness
}

// minKnown is after how many times it is known what is usual.
const minKnown = 16

// AsWritten reports whether a query is to be sent with its constants in place.
func (t *Timing) AsWritten() bool { return t.asWritten > 0 }

// learn takes one more observation into the average. A slow one weighs more than a
// fast one, because it costs others more.
func (t *Timing) learn(took time.Duration) {
	if t.alone > 0 {
		t.alone--
	}
	if t.asWritten > 0 {
		t.asWritten--
	}
	switch {
	case t.average == 0:
		t.average = max(took, 1)
	case took > t.average:
		t.average += (took - t.average) / 4
	default:
		t.average -= (t.average - took) / 16
	}
}

// Expected is the service time to reckon with, 0 if it is not known.
func (t *Timing) Expected() time.Duration {
	if t == nil {
		return 0
	}
	return t.average
}

// Fast reports whether the service time is known to be low enough for a shared
// server, and nothing speaks against one.
func (t *Timing) Fast() bool { return t.average > 0 && t.average <= maxSharedTime && !t.writes }

// Writes notes that what is timed writes, whatever its text says.
func (t *Timing) Writes() { t.writes = true }
