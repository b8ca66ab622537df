package shed

import "math"

// deadlines is a heap of all tickets that wait, the one with the earliest deadline
// first.
type deadlines []*Ticket

// first returns the ticket with the earliest deadline, or nil.
func (d deadlines) first() *Ticket {
	if len(d) == 0 {
		return nil
	}
	return d[0]
}

func (d *deadlines) push(t *Ticket) {
	*d = append(*d, t)
	t.place = len(*d)
	d.rise(t.place - 1)
}

func (d *deadlines) remove(t *Ticket) {
	i, last := t.place-1, len(*d)-1
	d.swap(i, last)
	(*d)[last] = nil
	*d = (*d)[:last]
	t.place = 0
	if i < last {
		d.sink(i)
		d.rise(i)
	}
}

// order makes it a heap after deadlines have changed.
func (d *deadlines) order() {
	for i := len(*d)/2 - 1; i >= 0; i-- {
		d.sink(i)
	}
}

func (d *deadlines) rise(i int) {
	for i > 0 && d.before(i, (i-1)/2) {
		d.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (d *deadlines) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(*d) {
			return
		}
		if child+1 < len(*d) && d.before(child+1, child) {
			child++
		}
		if !d.before(child, i) {
			return
		}
		d.swap(i, child)
		i = child
	}
}

func (d *deadlines) before(i, j int) bool { return (*d)[i].due() < (*d)[j].due() }

func (d *deadlines) swap(i, j int) {
	(*d)[i], (*d)[j] = (*d)[j], (*d)[i]
	(*d)[i].place, (*d)[j].place = i+1, j+1
}

// due is the deadline, or the end of time.
func (t *Ticket) due() int64 {
	if t.deadline == 0 {
		return math.MaxInt64
	}
	return int64(t.deadline)
}
