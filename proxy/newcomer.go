package proxy

import (
	"container/list"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// newcomers are the clients that have not proved yet who they are. Whoever can reach
// the proxy can be one, so they make room for each other: when there are too many, the
// one that has kept the proxy waiting longest goes. To refuse the newest instead, as
// PostgreSQL does, would let few clients that say nothing lock out all others until
// CLIENT_LOGIN_TIMEOUT; to take the oldest whatever it waits for would end logins that
// are under way, which under load is all of them.
type newcomers struct {
	count   int
	waiting list.List // of *session: the proxy waits for what they say next, longest first

	// Those refused since the last line in the log about it.
	refused int
	logAt   time.Duration // not before, the next
}

// newcomer is what a session keeps until its client has proved who it is.
type newcomer struct {
	place *list.Element // in newcomers.waiting; nil while the client waits for the proxy
	since time.Duration // when it was given that place
}

// newcomerPatience is for how long a newcomer may keep the proxy waiting before it has
// to go for another: less would hit clients that are only far away.
const newcomerPatience = time.Second

// newcomerLogPeriod is how often refusals before a login are logged: they may be many.
const newcomerLogPeriod = time.Second

// makeRoom reports whether there is room for one more newcomer, after the one that has
// kept the proxy waiting longest has made it if that is what it takes. What
// MaxClientConn says is for the startup message to find out: until then the client may
// be one that only wants to cancel.
func (p *Proxy) makeRoom() bool {
	limit := p.config.MaxLoginConn
	full := limit > 0 && p.newcomers.count >= limit
	if !full && len(p.sessions) < p.config.MaxClientConn {
		return true
	}
	front := p.newcomers.waiting.Front()
	if front == nil {
		return !full
	}
	s := front.Value.(*session)
	if p.loop.Now()-s.newcomer.since < newcomerPatience {
		return !full
	}
	s.fatal(endMadeRoom, fatalf(pgwire.TooManyConnections, "sorry, too many clients already: this one has not logged in"))
	return true
}

// refuseNewcomer tells a client that there is no room for it to log in.
func (p *Proxy) refuseNewcomer(conn reactor.Conn) {
	p.stats.ClientsRefused++
	conn.Write(pgwire.AppendError(nil, fatalf(pgwire.TooManyConnections, "sorry, too many clients already: %d are logging in", p.newcomers.count)))
	n := &p.newcomers
	n.refused++
	if now := p.loop.Now(); now >= n.logAt {
		p.logger.Warn("clients refused, too many are logging in", "client", conn.RemoteAddr(), "count", n.refused, "limit", p.config.MaxLoginConn)
		n.refused, n.logAt = 0, now+newcomerLogPeriod
	}
}

// arrives makes the session a newcomer that has to say something.
func (s *session) arrives() {
	s.newcomer = &newcomer{}
	s.proxy.newcomers.count++
	s.awaitClient()
}

// awaitClient notes that the newcomer has been told all it needs to go on.
func (s *session) awaitClient() {
	s.newcomer.since = s.proxy.loop.Now()
	s.newcomer.place = s.proxy.newcomers.waiting.PushBack(s)
}

// letWait notes that the newcomer waits for the proxy.
func (s *session) letWait() {
	if place := s.newcomer.place; place != nil {
		s.proxy.newcomers.waiting.Remove(place)
		s.newcomer.place = nil
	}
}

// settles makes the session one whose client is known, or gone.
func (s *session) settles() {
	if s.newcomer != nil {
		s.letWait()
		s.newcomer = nil
		s.proxy.newcomers.count--
	}
}
