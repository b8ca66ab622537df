package shed

import (
	"container/list"
	"time"
)

// Logins lets those who log in pass at a rate while they would do harm, by a token bucket
// for each application and user. Who comes when it is empty is not refused but waits: a
// client that is refused comes back at once. The zero value is ready.
type Logins struct {
	queues map[string]*list.Element
	order  list.List // of *loginQueue, the one that grew last at the end
}

// loginQueue is those of one application and user.
type loginQueue struct {
	name  string
	nexts time.Duration // when the next may pass
}

const (
	// loginInterval is the time between two logins of one application and user in a
	// storm: who has logged in asks next. loginBurst may come at once.
	loginInterval = 10 * time.Millisecond
	loginBurst    = 100

	// crowdInterval is it while more than loginCrowd clients log in at a time, which costs
	// the proxy, and those who are there, time. Fewer pass as they come: clients that
	// connect for each transaction are no crowd, since each is let in before it is back.
	crowdInterval = 500 * time.Microsecond
	loginCrowd    = 500

	// MaxLoginDelay bounds the wait, so that it never comes near the patience of a
	// client that connects.
	MaxLoginDelay = 2 * time.Second

	// maxLoginQueues bounds the memory; beyond it the oldest is forgotten.
	maxLoginQueues = 1000
)

// Delay is how long a login has to wait that comes now, while so many others are under
// way.
func (l *Logins) Delay(name string, now time.Duration, storm bool, others int) time.Duration {
	interval := crowdInterval
	switch {
	case storm:
		interval = loginInterval
	case others < loginCrowd:
		return 0
	}
	q := l.queue(name, now)
	q.nexts = min(max(q.nexts, now-loginBurst*interval)+interval, now+MaxLoginDelay)
	return max(0, q.nexts-now)
}

// queue returns the queue of that name.
func (l *Logins) queue(name string, now time.Duration) *loginQueue {
	if element, ok := l.queues[name]; ok {
		l.order.MoveToBack(element)
		return element.Value.(*loginQueue)
	}
	if l.queues == nil {
		l.queues = map[string]*list.Element{}
	}
	for front := l.order.Front(); front != nil; front = l.order.Front() {
		oldest := front.Value.(*loginQueue)
		if len(l.queues) < maxLoginQueues && oldest.nexts > now-loginBurst*loginInterval {
			break
		}
		delete(l.queues, oldest.name)
		l.order.Remove(front)
	}
	q := &loginQueue{name: name, nexts: now - loginBurst*loginInterval}
	l.queues[name] = l.order.PushBack(q)
	return q
}
