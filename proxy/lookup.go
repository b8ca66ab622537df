package proxy

import (
	"container/list"
	"time"

	"github.com/billproxy/billproxy/pool/auth"
)

// lookup finds the secrets of users by asking PostgreSQL for them, as PgBouncer's
// auth_query does, and remembers the answers for a moment: those about users who do not
// exist, too, so that neither time nor load tell them from others.
type lookup struct {
	// Static after construction.
	proxy *Proxy

	asker   asker
	answers map[string]*answer // by user
	order   list.List          // of those that have come, the newest at the end
}

const (
	// lookupLifetime is how long an answer is good for a login: not so long that a
	// user who was dropped gets in unduly.
	lookupLifetime = time.Second
	// lookupRest is how long it is good for one who has failed with it, so that a
	// client that guesses does not make the proxy ask all the time.
	lookupRest = 100 * time.Millisecond
	// lookupAnswers bounds the memory.
	lookupAnswers = 10_000
	// maxRoleBytes is the longest name that a role of PostgreSQL can have.
	maxRoleBytes = 63
)

// foundSecret is what is known of a user.
type foundSecret struct {
	secret auth.Secret
	exists bool

	// failed: it could not be found out. The log tells why.
	failed bool

	// remembered: it is the answer to an earlier question.
	remembered bool
}

// answer is what PostgreSQL has said about a user, or is asked for.
type answer struct {
	user     string
	waiting  []func(foundSecret) // who are to be told
	attempts int

	// When it has come.
	found foundSecret
	at    time.Duration
	place *list.Element // in lookup.order; nil before
}

func newLookup(p *Proxy, query AuthQuery) *lookup {
	l := &lookup{proxy: p, answers: map[string]*answer{}}
	l.asker.init(l, query)
	return l
}

// ask calls use with the secret of a user, which is no older than maxAge: now, or when
// PostgreSQL has answered.
func (l *lookup) ask(user string, maxAge time.Duration, use func(foundSecret)) {
	if len(user) > maxRoleBytes {
		use(foundSecret{})
		return
	}
	now := l.proxy.loop.Now()
	l.forgetOld(now)
	switch a := l.answers[user]; {
	case a == nil:
	case a.place == nil:
		a.waiting = append(a.waiting, use)
		return
	case now-a.at < maxAge:
		use(a.found)
		return
	default:
		l.forget(a)
	}
	a := &answer{user: user, waiting: []func(foundSecret){use}}
	l.answers[user] = a
	l.asker.ask(a)
}

// answered tells those who wait what was found out about a user. They are told later in
// the batch: it may be a server of a pool that has brought it.
func (l *lookup) answered(a *answer, found foundSecret) {
	waiting := a.waiting
	a.waiting = nil
	if found.failed {
		delete(l.answers, a.user)
	} else {
		a.found, a.at, a.place = found, l.proxy.loop.Now(), l.order.PushBack(a)
		a.found.remembered = true
		l.proxy.strangers.meet(a.user, found.secret)
	}
	l.proxy.loop.Post(func() {
		for _, use := range waiting {
			use(found)
		}
	})
}

// forgetOld drops the answers that are of no more use, and one more if there are too
// many.
func (l *lookup) forgetOld(now time.Duration) {
	for front := l.order.Front(); front != nil; front = l.order.Front() {
		a := front.Value.(*answer)
		if now-a.at < lookupLifetime && l.order.Len() < lookupAnswers {
			return
		}
		l.forget(a)
	}
}

func (l *lookup) forget(a *answer) {
	delete(l.answers, a.user)
	l.order.Remove(a.place)
}
