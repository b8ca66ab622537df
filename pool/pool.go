package pool

import (
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// Pool holds the servers of one pair of database and user and lends them to the
// clients that log in with it. It is used on the loop only.
type Pool struct {
	// Static after construction.
	Database string
	User     string
	pools    *Pools
	database *database
	config   *Config
	loop     reactor.Loop

	credential *credential
	hash       shed.Hash // of database and user

	// ClientCount is how many sessions belong to the pool. Owned by them.
	ClientCount int

	lastStale uint64 // the newest server that is to be closed

	servers     []*Server // in no particular order; Server.index is the position
	idle        []*Server // the last one was used last
	serverCount [stateCount]int

	// Those who wait for one.
	gate        *shed.Gate
	waitTimer   reactor.Timer // for the next who has waited too long
	waitTimerAt time.Duration
	tickTimer   reactor.Timer // for the gate

	lanes      []*Server // shared servers, in no particular order
	laneTimer  reactor.Timer
	progressAt time.Duration // when a group ended last, on any server

	// questions are what those who wait for a lane ask, if it is to be asked once.
	questions map[questionKey]*ticket

	// parameters is what servers report at login: a new client is told the same.
	parameters parameterList

	// Connecting after a failure.
	lastFailure  *pgwire.Error // of the last attempt, nil if it succeeded
	failureCount int           // in a row
	retryAt      time.Duration
	retryTimer   reactor.Timer

	// contexts is what PostgreSQL says of the settings that not everybody may set, nil
	// if it has not been asked.
	contexts map[string]string

	// readings are the settings by which texts are read, of all that clients have.
	readings map[readingKey]*Settings

	// asksForNumbers: some client has called currval or lastval.
	asksForNumbers bool
	numbersTimer   reactor.Timer // until a server that is kept for its numbers may be taken back

	stats    Stats
	closedBy [reasonCount]uint64
}

// parameterList is the ParameterStatus messages of a login, in their order.
type parameterList []Setting

func (l *parameterList) set(name, value string) {
	for i := range *l {
		if (*l)[i].Name == name {
			(*l)[i].Value = value
			return
		}
	}
	*l = append(*l, Setting{name, value})
}

// value returns the value of a parameter, "" if it was not reported.
func (l parameterList) value(name string) string {
	for _, e := range l {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// Hash is by what work in this pool is told from that in others.
func (p *Pool) Hash() shed.Hash { return p.hash }

func (p *Pool) now() time.Duration { return p.loop.Now() }

func (p *Pool) closing() bool { return p.pools.closed }

// Known reports whether a server has logged in, so that Welcome can tell a client
// what to expect.
func (p *Pool) Known() bool { return len(p.parameters) > 0 }

// AppendWelcome appends the ParameterStatus messages that a server with the given
// settings would send at login.
func (p *Pool) AppendWelcome(b []byte, settings *Settings) []byte {
	for _, parameter := range p.parameters {
		b = pgwire.AppendParameterStatus(b, parameter.Name, p.reportedAs(settings, parameter))
	}
	return b
}

// reportedAs returns what a server with the settings reports of a parameter, of which
// the default is given.
func (p *Pool) reportedAs(settings *Settings, parameter Setting) string {
	value := settings.reportedAs(parameter)
	if shown, ok := p.pools.settings.shown[Setting{strings.ToLower(parameter.Name), value}]; ok {
		return shown
	}
	return value
}

// AppendChanges appends those of the messages that a client with settings from needs
// to have settings to.
func (p *Pool) AppendChanges(b []byte, from, to *Settings) []byte {
	return p.appendChanges(b, from, to, from.Accepted() && to.Accepted())
}

// AppendSettableChanges is AppendChanges but for parameters that follow from others: the
// server tells of those.
func (p *Pool) AppendSettableChanges(b []byte, from, to *Settings) []byte {
	return p.appendChanges(b, from, to, false)
}

// appendChanges appends the messages. following: of parameters that follow from others, too;
// only servers know how.
func (p *Pool) appendChanges(b []byte, from, to *Settings, following bool) []byte {
	for _, parameter := range p.parameters {
		if !following && !Settable(parameter.Name) {
			continue
		}
		if value := p.reportedAs(to, parameter); value != p.reportedAs(from, parameter) {
			b = pgwire.AppendParameterStatus(b, parameter.Name, value)
		}
	}
	return b
}

// Settings returns base with the given changes.
func (p *Pool) Settings(base *Settings, changes ...Setting) *Settings {
	return p.pools.settings.with(base, changes...)
}

// Registry is where the clients of the pool find statements.
func (p *Pool) Registry() *Registry { return p.pools.registry }

// Mode is the pool mode.
func (p *Pool) Mode() Mode { return p.config.Mode }

// grow opens as many connections as there are waiters without one coming or free, within
// the limits, and not sooner after a failure than the backoff says.
func (p *Pool) grow() {
	if p.closing() || p.paused() {
		return
	}
	for p.serverCount[stateOpening] < p.gate.Waiting()-len(p.idle) && len(p.servers) < p.config.DefaultPoolSize {
		if p.now() < p.retryAt {
			p.loop.SetTimer(&p.retryTimer, p.retryAt)
			return
		}
		if p.failureCount > 0 && p.serverCount[stateOpening] > 0 {
			return // one attempt at a time until one succeeds
		}
		if !p.pools.makeRoom(p) {
			return
		}
		p.connect()
	}
}

// opened takes over a server that has logged in.
func (p *Pool) opened(s *Server) {
	p.lastFailure, p.failureCount, p.retryAt = nil, 0, 0
	s.recycle()
	p.grow()
}

// Bounds of the wait before another attempt to connect, which doubles with every
// failure and of which a random half is taken off, so that the sidecars of a fleet
// do not come back in step.
const (
	minRetryDelay = 50 * time.Millisecond
	maxRetryDelay = 5 * time.Second
)

// openFailed accounts for an attempt that failed. What waiting cannot mend is told
// to the waiters at once, if there is no other server that may serve them.
func (p *Pool) openFailed(s *Server, reason CloseReason, e *pgwire.Error) {
	p.lastFailure = e
	p.failureCount++
	delay := min(maxRetryDelay, minRetryDelay<<min(p.failureCount-1, 10))
	delay -= time.Duration(p.config.Random.Int64N(int64(delay / 2)))
	p.retryAt = p.now() + delay
	p.stats.ServerFailures++
	p.pools.logger.Warn("server login failed", "database", p.Database, "user", p.User,
		"sqlstate", string(e.SQLState), "error", e.Message, "retry_in", delay.Round(time.Millisecond).String())
	p.forget(s, reason)
	if len(p.servers) == 0 && permanent(e.SQLState) {
		p.refuseAll(e)
	}
	p.grow()
}

// permanent reports whether a failed login will fail again: the role, the password
// or the database is wrong.
func permanent(code pgwire.SQLState) bool {
	class := code.Class()
	return class == "28" || class == "3D" || code == pgwire.FeatureNotSupported || code == "42501"
}

// forget takes a server that has ended out of the pool.
func (p *Pool) forget(s *Server, reason CloseReason) {
	if s.state == stateShared {
		s.leaveLane()
	}
	if s.state == stateIdle {
		for i, other := range p.idle {
			if other == s {
				p.idle = append(p.idle[:i], p.idle[i+1:]...)
				break
			}
		}
	}
	if s.state != stateOpening {
		cause := ""
		if s.fatal != nil {
			cause = string(s.fatal.SQLState) + " " + s.fatal.Message
		}
		p.pools.logger.Info("server closed", "database", p.Database, "user", p.User, "pid", s.cancelPID,
			"reason", reason.String(), "cause", cause, "age", (p.now() - s.createdAt).Round(time.Millisecond).String())
	}
	s.setState(stateClosed)
	p.loop.StopTimer(&s.timer)
	p.loop.StopTimer(&s.cancelTimer)
	last := len(p.servers) - 1
	p.servers[s.index] = p.servers[last]
	p.servers[s.index].index = s.index
	p.servers[last] = nil
	p.servers = p.servers[:last]
	p.serverCount[stateClosed]--
	p.pools.serverCount--
	p.closedBy[reason]++
	s.giveBackTicket()
	if p.gate.Waiting() > 0 {
		p.grow()
	}
	p.pools.serveStarving()
}

// CountLogin counts a client that has logged in.
func (p *Pool) CountLogin() { p.stats.LoginCount++ }

// closeIdle closes servers that have been idle or alive for too long, or, when all
// is set, every idle one.
func (p *Pool) closeIdle(now time.Duration, all bool) {
	for i := len(p.idle) - 1; i >= 0; i = min(i, len(p.idle)) - 1 { // closing one may make others close
		s := p.idle[i]
		switch timeout := p.config.ServerIdleTimeout; {
		case all:
			s.close(ReasonShutdown)
		case s.expired(now):
			s.close(ReasonLifetime)
		case timeout > 0 && now-s.idleSince >= timeout:
			s.close(ReasonIdle)
		}
	}
}

// unused reports whether nothing would be lost with the pool.
func (p *Pool) unused() bool {
	return p.ClientCount == 0 && len(p.servers) == 0 && p.gate.Waiting() == 0
}

// Stats returns a copy of the pool's state and counters.
func (p *Pool) Stats() Stats {
	stats := p.stats
	stats.Database, stats.User, stats.Mode = p.Database, p.User, p.config.Mode
	stats.Gate = p.gate.Stats(p.now())
	stats.ClientsWaiting = stats.Gate.Waiting + stats.Gate.Leaving + stats.Gate.Following
	stats.ClientsActive = p.ClientCount - stats.ClientsWaiting
	stats.ServersOpening = p.serverCount[stateOpening]
	stats.ServersIdle = p.serverCount[stateIdle]
	stats.ServersLeased = p.serverCount[stateLeased]
	stats.ServersShared = p.serverCount[stateShared]
	stats.ServersResetting = p.serverCount[stateResetting]
	stats.ServersCanceling = p.serverCount[stateCanceling]
	stats.MaxServers = p.config.DefaultPoolSize
	stats.OldestWait = stats.Gate.OldestWait
	stats.ClientsPinned = map[string]int{}
	for _, s := range p.servers {
		if s.pins != 0 {
			stats.ServersPinned++
		}
		for _, reason := range s.pins.Names() {
			stats.ClientsPinned[reason]++
		}
	}
	stats.ServersClosed = map[string]uint64{}
	for reason, count := range p.closedBy {
		if count > 0 {
			stats.ServersClosed[CloseReason(reason).String()] = count
		}
	}
	return stats
}
