package shed

import (
	"container/list"
	"time"
)

// Logins lets those who log in, by application and user, pass at a rate, by a token
// bucket. Who comes when it is empty is not refused but waits: a client that is refused
// comes back at once. The zero value is ready.
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
	// loginInterval is the time between two logins of one application and user while
	// there is a storm, and calmLoginInterval otherwise: they cost the proxy, and
	// nobody else. loginBurst may come at once.
	loginInterval     = 10 * time.Millisecond
	calmLoginInterval = 500 * time.Microsecond
	loginBurst        = 100

	// MaxLoginDelay bounds the wait, so that it never comes near the patience of a
	// client that connects.
	MaxLoginDelay = 2 * time.Second

	// maxLoginQueues bounds the memory; beyond it the oldest is forgotten.
	maxLoginQueues = 1000
)

// Delay is how long a login has to wait that comes now.
func (l *Logins) Delay(name string, now time.Duration, storm bool) time.Duration {
	interval := calmLoginInterval
	if storm {
		interval = loginInterval
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
