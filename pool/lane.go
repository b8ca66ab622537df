package pool

import (
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// A shared server, a lane, answers groups of many clients, one behind the other
// without a pause. Only groups that read and stand alone are put on it, and
// PostgreSQL is told to let it do nothing else. It becomes a lane when it is given
// its first group and is free again when it has answered its last.

const (
	// laneWork is how much work a lane may have in front of it before another
	// server is used: less, and servers sleep and wake for every query; more, and
	// queries wait for each other while processors idle.
	laneWork = 8 * time.Millisecond

	// minLanes is how many servers are used before groups are put behind each other
	// at all.
	minLanes = 4

	// maxSharedTime is what a statement may take on average to be put on a lane.
	maxSharedTime = 2 * time.Millisecond

	// slowHead is how long a group may take, while other servers of the pool get on,
	// before those behind it are moved.
	slowHead = 10 * time.Millisecond

	// stuckHead is how long it may take in any case.
	stuckHead = 100 * time.Millisecond

	// lanePeriod is how often the heads of lanes are looked at, while there are
	// any.
	lanePeriod = 2 * time.Millisecond

	// lastLaneWait is how long a client waits for a server of its own before the
	// last lane makes way.
	lastLaneWait = 10 * time.Millisecond

	// MaxSharedReplyBytes is how much of its reply a client may leave unread before
	// its neighbours are moved and the lane is its own.
	MaxSharedReplyBytes = 1 << 20
)

// ShareAtOnce returns a lane for a group of a client with these settings, or nil if there is
// none or the gate has to be asked. joinable is as of Begin.
func (p *Pool) ShareAtOnce(settings *Settings, expected time.Duration, joinable bool) *Server {
	if !p.gate.Calm() {
		return nil
	}
	return p.lane(settings, expected, joinable)
}

// Share returns a lane for a group of a client with these settings, or nil if there is
// none: then w is queued, as by Acquire, and OnLease follows. joinable is as of Begin.
func (p *Pool) Share(w *Waiter, settings *Settings, work shed.Work, joinable bool) *Server {
	t := p.newTicket(w, settings, work)
	t.Shared = true
	var s *Server
	if p.gate.Waiting() == 0 {
		s = p.lane(settings, work.Expected, joinable)
	}
	if p.arrive(t, s != nil) {
		p.endTicket(t)
		return s
	}
	if s != nil {
		s.rest()
	}
	return nil
}

// rest makes an idle server of a lane that has nothing to do.
func (s *Server) rest() {
	if s.groups.count == 0 && s.reserved == 0 {
		s.leaveLane()
		s.recycle()
	}
}

// lane returns the best lane there is or can be made of an idle server.
func (p *Pool) lane(settings *Settings, expected time.Duration, joinable bool) *Server {
	var best, slow *Server
	for _, s := range p.lanes {
		if g := s.groups.head(); g != nil && p.now()-g.startedAt > slowHead {
			if p.now()-g.startedAt <= stuckHead { // else who waits can still be told no, or go
				slow = s
			}
			continue
		}
		if s.sharedFor != settings || s.stopped || s.groups.count+s.reserved >= p.config.SharedDepth || s.crowded() {
			continue
		}
		if joinable && len(p.lanes) >= minLanes && s.open(expected) {
			return s
		}
		if best == nil || s.work < best.work {
			best = s
		}
	}
	if best != nil && len(p.lanes) >= minLanes && best.work+expected <= laneWork {
		return best
	}
	if idle := p.chooseIdle(p.readOnly(settings)); idle >= 0 && (len(p.lanes) == 0 || p.busy() < p.gate.Servers()) {
		s := p.takeIdle(idle)
		s.becomeLane(settings)
		return s
	}
	if best == nil || best.work > 4*laneWork {
		p.openOneMore()
	}
	if best == nil && slow != nil && slow.sharedFor == settings && !slow.stopped && slow.groups.count+slow.reserved < p.config.SharedDepth && !slow.crowded() {
		return slow // rather than wait
	}
	return best
}

// crowded reports that the server does not take what it was sent.
func (s *Server) crowded() bool { return s.conn.BufferedBytes() > reactor.LowWaterBytes }

// openOneMore opens a server for the shared groups if none is coming already.
func (p *Pool) openOneMore() {
	if p.serverCount[stateOpening] == 0 && len(p.servers) < p.config.DefaultPoolSize &&
		!p.closing() && !p.paused() && p.now() >= p.retryAt && p.failureCount == 0 && p.pools.makeRoom(p) {
		p.connect()
	}
}

// readOnly returns the settings of a lane for clients with these.
func (p *Pool) readOnly(settings *Settings) *Settings {
	if lane, ok := p.pools.laneSettings[settings]; ok {
		return lane
	}
	lane := p.Settings(settings, Setting{Name: "default_transaction_read_only", Value: "on"})
	if mutantWritableLane {
		lane = settings
	}
	if p.pools.laneSettings == nil || len(p.pools.laneSettings) > maxSettings {
		p.pools.laneSettings = map[*Settings]*Settings{}
	}
	p.pools.laneSettings[settings] = lane
	return lane
}

// becomeLane makes a lane of an idle server.
func (s *Server) becomeLane(settings *Settings) {
	s.assertClean()
	s.setState(stateShared)
	s.lease++
	s.sharedFor, s.stopped, s.work = settings, false, 0
	s.laneIndex = len(s.pool.lanes)
	s.pool.lanes = append(s.pool.lanes, s)
	if !s.pool.laneTimer.Armed() {
		s.pool.loop.SetTimer(&s.pool.laneTimer, s.pool.now()+lanePeriod)
	}
	s.Adopt(s.pool.readOnly(settings))
}

// leaveLane ends the time as a lane, without saying what comes next.
func (s *Server) leaveLane() {
	lanes := s.pool.lanes
	last := len(lanes) - 1
	lanes[s.laneIndex] = lanes[last]
	lanes[s.laneIndex].laneIndex = s.laneIndex
	lanes[last] = nil
	s.pool.lanes = lanes[:last]
	s.sharedFor, s.cancelFor, s.canceled = nil, nil, false
	s.conn.ResumeRead()
	s.setState(stateResetting)
}

// Begin opens a group on the server: what the client sends next, up to the Sync or
// query that ends it. request is all of its messages, if it may be run again; it
// is copied. timed, if not nil, learns how long the group takes. joinable says that
// on a lane it may share its Sync, its last message, with others.
func (s *Server) Begin(client Client, request []byte, timed *Timing, joinable bool) {
	joinable = joinable && s.state == stateShared && timed != nil && timed.alone == 0
	joined := joinable && s.join(timed.average)
	if s.state == stateShared && !joined {
		s.beginBatch(timed.Expected(), joinable)
	}
	g := s.begin()
	g.client, g.timed, g.joinable = client, timed, joinable
	g.request = append(g.request, request...)
	if timed != nil {
		g.expected = timed.average
	}
	if s.state == stateShared {
		s.lease++
		s.work += g.expected
		s.pool.stats.SharedGroups++
	}
}

// time learns from a group that has ended.
func (s *Server) time(g *group) {
	now := s.pool.now()
	s.pool.progressAt = now
	if !g.own {
		s.pool.stats.QueryTime += now - g.startedAt
		if s.state == stateShared {
			s.pool.stats.SharedTime += now - g.startedAt
		}
	}
	if g.timed != nil && g.again == AgainNot {
		g.timed.learn(now - g.startedAt)
		if s.state != stateShared {
			s.pool.gate.Observe(g.timed.slowness(now-g.startedAt, s.pool.gate.Calm()), now)
		}
	}
	s.work -= g.expected
	if next := s.groups.head(); next != nil {
		next.startedAt = now
	}
}

// sharedDone acts on the end of a group on a lane.
func (s *Server) sharedDone(head reply, g *group, refusal *pgwire.Error) {
	s.conn.Hold(false)
	if refusal != nil {
		s.fatal = refusal
		s.close(ReasonResetFailed)
		return
	}
	s.conn.ResumeRead()
	switch client := g.client; {
	case client == nil:
	case g.again != AgainNot:
		s.pool.stats.GroupsRunAgain++
		client.OnRunAgain(g.request, g.again)
	default:
		client.OnSharedEnd()
	}
	switch {
	case s.state != stateShared:
	case s.groups.count == 0 && s.reserved == 0:
		s.rest()
	case s.pool.gate.WaitingShared() > 0:
		s.pool.dispatch()
	}
}

// reserve keeps a place on a lane for a client that has waited for it.
func (s *Server) reserve(t *ticket) {
	s.pool.admit(t)
	s.reserved++
	s.work += t.Expected
	t.waiter.ticket = t
	t.waiter.Client.OnLease(s)
}

// Claim takes the place that OnLease gave to the client of w on a lane. It reports
// whether the lane is still there.
func (s *Server) Claim(w *Waiter) bool {
	t := w.ticket
	w.ticket, w.flight = nil, t.flight
	s.reserved--
	s.work -= t.Expected
	s.pool.endTicket(t)
	if s.state != stateShared {
		w.disband()
		return false
	}
	return true
}

// Decline gives the place up.
func (s *Server) Decline(w *Waiter) {
	if s.Claim(w) {
		w.disband()
		s.rest()
	}
}

// Shared reports whether the server is a lane.
func (s *Server) Shared() bool { return s.state == stateShared }

// Withdraw takes a client's group off a lane: its replies are dropped, but for those who
// follow the client. It reports whether PostgreSQL may be running the group for nobody.
func (s *Server) Withdraw(client Client) (running bool) {
	for i := range s.groups.count {
		g := s.groups.at(i)
		if g.isOf(client) {
			if g.flight().goOn() {
				return false
			}
			g.client = nil
			if i == s.answering {
				s.streamForward = false
				s.conn.ResumeRead()
			}
			return i < s.headCount()
		}
	}
	return false
}

// CancelShared cancels the group of a client on a lane. If the lane has not come to
// it, its replies will be dropped and true is returned: the client is to be
// answered. Otherwise PostgreSQL is asked; nobody else's group is left for the
// request to hit.
func (s *Server) CancelShared(client Client) (dropped bool) {
	head := s.groups.head()
	if !head.isOf(client) || head.joined || !head.passed && head.flight().followed() {
		s.Withdraw(client)
		return true
	}
	s.cancelFor = head.client
	s.clear()
	s.Cancel()
	return false
}

// clear stops feeding a lane and moves the groups behind the head to other servers,
// and with it those of a batch, of which any may be the slow one. The lane will run
// them all the same, for nobody: reads are repeatable.
func (s *Server) clear() {
	s.stopped = true
	first := 1
	if s.batched() {
		first = 0
	}
	for i := first; i < s.groups.count; i++ {
		g := s.groups.at(i)
		if client := g.client; client != nil {
			g.client = nil
			s.pool.stats.GroupsRunAgain++
			client.OnRunAgain(g.request, AgainSlow)
		}
	}
}

// tendLanes looks for lanes with a head that takes too long.
func (p *Pool) tendLanes() {
	now := p.now()
	for i := len(p.lanes) - 1; i >= 0; i-- {
		if i >= len(p.lanes) {
			continue
		}
		s := p.lanes[i]
		g := s.groups.head()
		if g == nil || now-g.startedAt < max(slowHead, 4*g.expected) {
			continue
		}
		waited := now - g.startedAt
		// Where everything is slow, twice the work would not help.
		if !g.own && (now-p.progressAt < slowHead || waited > stuckHead) {
			if g.timed != nil && !s.batched() {
				g.timed.learn(waited)
			}
			s.clear()
		}
		awaited := s.awaited()
		switch {
		case waited > resetTimeout && !awaited:
			s.close(ReasonStuck)
		case awaited, g.own:
		case s.cancelRepeats == 0:
			s.cancelRepeats = 1
			s.Cancel()
		}
	}
	p.stopLanes()
	if len(p.lanes) > 0 {
		p.loop.SetTimer(&p.laneTimer, now+lanePeriod)
	}
}

// awaited reports whether a client awaits what the lane runs now.
func (s *Server) awaited() bool {
	for i := range s.headCount() {
		if s.groups.at(i).awaited() {
			return true
		}
	}
	return false
}

// stopLanes makes lanes run dry for clients that wait for a server of their own. One
// lane is left for a while, unless it is the only server.
func (p *Pool) stopLanes() {
	coming := p.serverCount[stateOpening] + p.serverCount[stateResetting]
	running := 0
	for _, s := range p.lanes {
		if s.stopped {
			coming++
		} else {
			running++
		}
	}
	wanted := p.gate.Waiting() - p.gate.WaitingShared()
	if wanted == 0 {
		return
	}
	keep := 1
	if len(p.servers) == 1 || p.now()-p.gate.OldestAt() > lastLaneWait {
		keep = 0
	}
	for _, s := range p.lanes {
		if coming >= wanted || running <= keep {
			return
		}
		if !s.stopped {
			s.stopped = true
			coming++
			running--
		}
	}
}

// PauseShared is PauseReplies for a lane whose head is the client's: its neighbours
// are moved first, and who follows it asks again.
func (s *Server) PauseShared() {
	s.clear()
	if f := s.groups.head().flight(); f != nil {
		f.disband(false)
	}
	s.conn.PauseRead()
}

// sharedLost tells the clients of a lane that has gone. Only the first can have been
// passed anything.
func (s *Server) sharedLost(cause *pgwire.Error) {
	for i := range s.groups.count {
		g := s.groups.at(i)
		client := g.client
		switch {
		case client == nil:
		case g.passed:
			client.OnSharedLost(Loss{Cause: cause, GroupCount: 1, FirstHasError: s.headHasError, MidMessage: s.streaming > 0 && s.streamForward})
		default:
			s.pool.stats.GroupsRunAgain++
			client.OnRunAgain(g.request, AgainLost)
		}
		g.client = nil
	}
}

// clientSettings are the settings of the clients that the server works for.
func (s *Server) clientSettings() *Settings {
	if s.state == stateShared {
		return s.sharedFor
	}
	return s.settings
}
