package shed

import "time"

// Work is what is known of a piece of work when it arrives: of a transaction, or of a
// group that is one by itself.
type Work struct {
	// Tenant is whom it is charged to.
	Tenant *Tenant

	// Patience is for how long, from now, its client waits for the answer; 0 if that
	// is not known. Expected is how long the work takes, 0 if that is not known.
	Patience, Expected time.Duration

	// Critical work goes before all other.
	Critical bool

	// Login: it is one, and is told no only if it has waited as long as it may.
	Login bool

	// Retry: it has been tried before.
	Retry bool
}

// Ticket is work at a gate, until its end. Whoever asks for servers keeps tickets and
// uses them again.
type Ticket struct {
	Work

	// Owner is whose it is. The gate does not look at it.
	Owner any

	// Shared: it takes no server of its own.
	Shared bool

	// Heir, if any, is a follower of this one, which stands in the queue, and takes its
	// place there when it leaves without a server.
	Heir *Ticket

	// Owned by the gate.
	since    time.Duration // when it arrived
	deadline time.Duration // when it is told no; 0 is never
	hurried  bool          // which is sooner than if there were no overload
	leaving  bool          // it has waited for too long, and gets no server any more
	cost     time.Duration // that its tenant was charged
	next     *Ticket       // of its tenant and class, that came later
	prev     *Ticket
	place    int  // in the heap of deadlines, from 1; 0 if it does not wait
	follows  bool // that is the heap of followers
	open     bool
}

// Waiting reports whether the ticket stands in the queue, or follows one that does.
func (t *Ticket) Waiting() bool { return t.place > 0 }

// Since is when the ticket arrived.
func (t *Ticket) Since() time.Duration { return t.since }

// spared reports whether it is refused in no overload.
func (t *Ticket) spared() bool { return t.Critical || t.Login }

// class is the index of its kind of work.
func (t *Ticket) class() int {
	if t.Critical {
		return critical
	}
	return ordinary
}

const (
	critical = iota
	ordinary
	classCount
)

// line is the tickets of one tenant and class, oldest first.
type line struct {
	oldest, newest *Ticket
	count          int
	place          int // of the tenant in the ring of the class, from 1; 0 if it is empty
}

func (l *line) push(t *Ticket) {
	t.prev, t.next = l.newest, nil
	if l.newest != nil {
		l.newest.next = t
	} else {
		l.oldest = t
	}
	l.newest = t
	l.count++
}

func (l *line) remove(t *Ticket) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.oldest = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.newest = t.prev
	}
	t.next, t.prev = nil, nil
	l.count--
}

// replace puts heir, which is in no line, in the place of t.
func (l *line) replace(t, heir *Ticket) {
	heir.prev, heir.next = t.prev, t.next
	if heir.prev != nil {
		heir.prev.next = heir
	} else {
		l.oldest = heir
	}
	if heir.next != nil {
		heir.next.prev = heir
	} else {
		l.newest = heir
	}
	t.next, t.prev = nil, nil
}
