package pool

import (
	"encoding/binary"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/shed"
)

// Of clients that wait for a place on a lane to ask the same, one asks for all: the
// leader, whom the others follow. They make a flight. Whoever comes may follow until the
// leader is given its place, so that nobody gets an answer that is older than its
// question, and none misses what its own client has written before.
//
// Only the answer to a query that succeeds is for all: if it fails each follower asks by
// itself. What befalls the leader otherwise is its own business: then the others ask
// again, of whom one may lead once more. If the leader goes, or cancels, while it waits, a
// follower takes its place; if it does later, its group goes on for the others.
type flight struct {
	Client // the leader, for whom the group is run

	pool      *Pool
	leader    *ticket // while it waits
	followers []*ticket

	reply []byte // as far as it has come
}

const (
	// maxFlightReplyBytes bounds the reply that is kept for followers. Who asks for
	// more asks by itself.
	maxFlightReplyBytes = 256 << 10

	// MaxQuestionBytes bounds the questions that are compared.
	MaxQuestionBytes = 4 << 10

	// maxKeptQuestionBytes bounds the storage that a ticket keeps for the next question.
	maxKeptQuestionBytes = 256
)

// questionKey is by what a question is found. Of two with the same key the later one is
// followed by nobody.
type questionKey struct {
	settings *Settings
	hash     shed.Hash
}

func keyOf(settings *Settings, question []byte) questionKey {
	if mutantFollowAnybody {
		question = nil
	}
	return questionKey{settings, shed.HashSeed.Add(question)}
}

// Follow has w wait for the answer to the same question of another client with the same
// settings, if there is one that waits for a lane: OnAnswer or OnAlone follows, or what
// follows on Acquire.
func (p *Pool) Follow(w *Waiter, settings *Settings, work shed.Work, question []byte) bool {
	leader := p.questions[keyOf(settings, question)]
	if leader == nil || string(leader.question) != string(question) && !mutantFollowAnybody {
		return false
	}
	t := p.newTicket(w, settings, work)
	t.Shared = true
	if !p.gate.Follow(&t.Ticket, &leader.Ticket, p.now()) {
		p.endTicket(t)
		return false
	}
	w.ticket = t
	if leader.flight == nil {
		leader.flight = &flight{pool: p, leader: leader}
	}
	leader.flight.add(t)
	p.armWaitTimer()
	return true
}

// Lead lets others follow w, which Share has queued, for the answer to the question.
func (p *Pool) Lead(w *Waiter, question []byte) {
	key := keyOf(w.ticket.settings, question)
	if p.questions[key] != nil {
		return
	}
	if p.questions == nil {
		p.questions = map[questionKey]*ticket{}
	}
	w.ticket.question = append(w.ticket.question, question...)
	p.questions[key] = w.ticket
}

// leaveFlight acts on a ticket that has left the queue. The flight of a leader goes on
// with the follower that has taken its place.
func (p *Pool) leaveFlight(t *ticket) {
	f := t.flight
	switch {
	case t.seat > 0:
		f.remove(t)
	case len(t.question) == 0:
	case f == nil || len(f.followers) == 0:
		p.closeQuestion(t)
	default:
		heir := f.followers[0]
		f.leader = heir
		f.remove(heir)
		heir.flight = f
		heir.question, t.question = t.question, heir.question
		p.questions[keyOf(heir.settings, heir.question)] = heir
	}
}

// closeQuestion lets nobody follow t any more.
func (p *Pool) closeQuestion(t *ticket) {
	delete(p.questions, keyOf(t.settings, t.question))
	t.question = t.question[:0]
}

// depart lets in those who follow t, which is about to be given a place.
func (p *Pool) depart(t *ticket) {
	if len(t.question) == 0 {
		return
	}
	p.closeQuestion(t)
	t.Heir = nil
	f := t.flight
	if f == nil || len(f.followers) == 0 {
		t.flight = nil
		return
	}
	f.leader = nil
	for _, follower := range f.followers {
		p.gate.AdmitFollower(&follower.Ticket, p.now())
		p.stats.WaitTime += p.now() - follower.Since()
	}
}

// add adds a follower.
func (f *flight) add(t *ticket) {
	f.followers = append(f.followers, t)
	t.flight, t.seat = f, len(f.followers)
	f.nameHeir()
}

// remove takes a follower out.
func (f *flight) remove(t *ticket) {
	last := len(f.followers) - 1
	f.followers[t.seat-1] = f.followers[last]
	f.followers[t.seat-1].seat = t.seat
	f.followers[last] = nil
	f.followers = f.followers[:last]
	t.flight, t.seat = nil, 0
	f.nameHeir()
}

// nameHeir tells the gate who takes the place of the leader if it goes.
func (f *flight) nameHeir() {
	switch {
	case f.leader == nil:
	case len(f.followers) == 0:
		f.leader.Heir = nil
	default:
		f.leader.Heir = &f.followers[0].Ticket
	}
}

// release lets a follower go whose leader has been let in.
func (f *flight) release(t *ticket) Client {
	client := t.waiter.Client
	f.remove(t)
	t.waiter.ticket = nil
	f.pool.endTicket(t)
	return client
}

// Carry has the group that a client has just begun be for those, too, who follow it.
func (s *Server) Carry(w *Waiter) {
	if f := w.flight; f != nil {
		w.flight = nil
		f.Client = w.Client
		s.groups.last().client = f
	}
}

// flight returns for whom the group is run, nil if that is at most one client.
func (g *group) flight() *flight {
	f, _ := g.client.(*flight)
	return f
}

// isOf reports whether the group is the client's.
func (g *group) isOf(client Client) bool {
	if f := g.flight(); f != nil {
		return f.Client == client
	}
	return g.client == client
}

// awaited reports whether a client awaits the answer to the group.
func (g *group) awaited() bool {
	if f := g.flight(); f != nil && f.Client == (absent{}) {
		return f.followed()
	}
	return g.client != nil
}

// followed reports whether somebody follows the leader.
func (f *flight) followed() bool { return f != nil && len(f.followers) > 0 }

// goOn has the group go on without the leader, if there is somebody for whom.
func (f *flight) goOn() bool {
	if !f.followed() {
		return false
	}
	f.Client = absent{}
	return true
}

// OnReply implements Client.
func (f *flight) OnReply(b []byte) {
	f.Client.OnReply(b)
	switch {
	case !f.followed():
	case len(f.reply)+len(b) > maxFlightReplyBytes:
		f.disband(true)
	default:
		f.reply = append(f.reply, b...)
	}
}

// OnSharedEnd implements Client.
func (f *flight) OnSharedEnd() {
	f.Client.OnSharedEnd()
	if !isAnswer(f.reply) {
		f.disband(true)
	}
	for f.followed() {
		client := f.release(f.followers[len(f.followers)-1])
		if !client.OnAnswer(f.reply) {
			client.OnAlone(false)
			continue
		}
		f.pool.stats.CoalescedReads++
		f.pool.stats.QueryCount++
		f.pool.stats.SentBytes += uint64(len(f.reply))
	}
}

// OnSharedLost implements Client.
func (f *flight) OnSharedLost(loss Loss) {
	f.Client.OnSharedLost(loss)
	f.disband(false)
}

// OnRunAgain implements Client.
func (f *flight) OnRunAgain(request []byte, reason AgainReason) {
	f.Client.OnRunAgain(request, reason)
	f.disband(false)
}

// disband has every follower ask again.
func (f *flight) disband(failed bool) {
	for f.followed() {
		f.release(f.followers[len(f.followers)-1]).OnAlone(failed)
	}
	f.reply = nil
}

// disband disbands the flight that the client led, if its group is not to be begun.
func (w *Waiter) disband() {
	if w.flight != nil {
		w.flight.disband(false)
		w.flight = nil
	}
}

// isAnswer reports whether the reply to a group is the answer to a query that has
// succeeded, with nothing besides that is news for one session.
func isAnswer(reply []byte) bool {
	complete := false
	for len(reply) >= pgwire.HeaderBytes {
		size := 1 + int(binary.BigEndian.Uint32(reply[1:]))
		if size > len(reply) {
			return false
		}
		switch reply[0] {
		case pgwire.CommandComplete:
			complete = true
		case pgwire.ParseComplete, pgwire.BindComplete, pgwire.RowDescription, pgwire.NoData, pgwire.DataRow:
		case pgwire.ReadyForQuery:
			return complete && size == len(reply)
		default:
			return false
		}
		reply = reply[size:]
	}
	return false
}
