package reactor

import "time"

// Timer is embedded by value in what it belongs to, so that arming it
// allocates nothing. Fire is set once, before first use; it runs on the loop.
type Timer struct {
	Fire func()

	// Owned by Timers.
	at    time.Duration
	order uint64 // of the Set calls: equal deadlines fire in this order
	index int    // position plus one in the heap, minus that among the due, 0 when not armed
}

// Armed reports whether the timer is going to fire.
func (t *Timer) Armed() bool { return t.index != 0 }

// Timers is a set of armed timers: a binary heap ordered by deadline. It reads
// no clock; a loop advances it. Timers with equal deadlines fire in the order
// in which they were set. The zero value is empty and ready to use.
type Timers struct {
	heap []*Timer
	due  []*Timer // being fired by Advance; nil where stopped or set anew meanwhile
	sets uint64
}

// Set arms t, or moves it if it is armed already.
func (s *Timers) Set(t *Timer, at time.Duration) {
	if t.index < 0 {
		s.Stop(t)
	}
	s.sets++
	t.at, t.order = at, s.sets
	if t.index == 0 {
		s.heap = append(s.heap, t)
		t.index = len(s.heap)
	}
	s.up(t.index - 1)
	s.down(t.index - 1)
}

// Stop disarms t.
func (s *Timers) Stop(t *Timer) {
	switch {
	case t.index > 0:
		s.remove(t.index - 1)
	case t.index < 0:
		s.due[-t.index-1] = nil
		t.index = 0
	}
}

// Next returns the earliest deadline; ok is false when no timer is armed.
func (s *Timers) Next() (at time.Duration, ok bool) {
	if len(s.heap) == 0 {
		return 0, false
	}
	return s.heap[0].at, true
}

// Advance fires, in order of their deadlines, the timers that are due at now.
// A timer set by a Fire to a time not after now fires in the next Advance, so a
// mistaken period of zero cannot hold the loop. It must not be called by a Fire.
func (s *Timers) Advance(now time.Duration) {
	for len(s.heap) > 0 && s.heap[0].at <= now {
		t := s.heap[0]
		s.remove(0)
		s.due = append(s.due, t)
		t.index = -len(s.due)
	}
	for i := range s.due {
		t := s.due[i]
		if t == nil { // stopped or set anew by one that fired before
			continue
		}
		s.due[i] = nil
		t.index = 0
		t.Fire()
	}
	s.due = s.due[:0]
}

func (s *Timers) remove(i int) {
	last := len(s.heap) - 1
	s.swap(i, last)
	s.heap[last].index = 0
	s.heap[last] = nil
	s.heap = s.heap[:last]
	if i < last {
		moved := s.heap[i]
		s.up(i)
		s.down(moved.index - 1)
	}
}

func (s *Timers) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !s.before(i, parent) {
			return
		}
		s.swap(i, parent)
		i = parent
	}
}

func (s *Timers) down(i int) {
	for {
		least, left, right := i, 2*i+1, 2*i+2
		if left < len(s.heap) && s.before(left, least) {
			least = left
		}
		if right < len(s.heap) && s.before(right, least) {
			least = right
		}
		if least == i {
			return
		}
		s.swap(i, least)
		i = least
	}
}

func (s *Timers) before(i, j int) bool {
	a, b := s.heap[i], s.heap[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (s *Timers) swap(i, j int) {
	s.heap[i], s.heap[j] = s.heap[j], s.heap[i]
	s.heap[i].index, s.heap[j].index = i+1, j+1
}
