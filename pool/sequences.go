package pool

import (
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// currval and lastval tell what nextval has returned in the session, and nextval hides
// in the defaults of columns. So a server notes whose numbers it may have, and forgets
// them, by DISCARD SEQUENCES, before it is asked by somebody else. A client keeps the
// server on which it has drawn numbers if it, or somebody in the pool, is known to ask
// for them. Against clients that wait it does so for numbersTime if it has asked before,
// for those drawn last, and otherwise not at all: rather than let those starve, it will be
// told that there is no current value (55000).
// See https://www.postgresql.org/docs/current/functions-sequence.html

// numbers is whose sequence numbers a server may have.
type numbers struct {
	of      Client // who has drawn last, nil if nobody has
	foreign bool   // others than the client of the lease have
	own     bool   // the client of the lease has
	named   bool   // with a statement that names nextval
	unasked bool   // and has not asked for them since

	discarded bool // by the client, if what it has sent succeeds

	keptUntil time.Duration // against clients that wait
}

// numbersTime is how long a client keeps its numbers while others wait: it asks for them,
// if at all, as the next thing that it does.
const numbersTime = 100 * time.Millisecond

// lend notes that another lease begins.
func (n *numbers) lend(client Client) {
	n.foreign = n.foreign || n.of != nil && n.of != client
	n.own, n.named = n.of == client, false
}

// drawNumbers acts on a statement that may draw numbers, or ask for those drawn last.
func (s *Server) drawNumbers(e *Effects) {
	n := &s.numbers
	n.discarded = n.discarded && !e.Draws
	if e.AsksByName {
		s.pool.asksForNumbers = true
		s.waiter.asksForNumbers = true
	}
	if n.foreign && (s.asksForNumbers(e) || e.DrawsByName && !n.named) {
		s.discardNumbers()
	}
	n.unasked = e.Draws && !e.AsksByName
	if e.Draws {
		n.of, n.own = s.client, true
		n.named = n.named || e.DrawsByName
	}
}

// asksForNumbers reports whether a statement may call currval or lastval.
func (s *Server) asksForNumbers(e *Effects) bool {
	onlyFunctions := e.State&StateFunctions != 0 && e.State&StateAny != StateAny && !e.AsksByName
	return e.Asks && (!onlyFunctions || s.hazardOf(e).state&StateSequences != 0)
}

// SeparateNumbers makes sure, at the beginning of a lease, that the client is not told
// of the numbers of others. early: the client may yet send SET TRANSACTION together with
// what asks for numbers, and in its transaction nothing may stand in front of that.
func (s *Server) SeparateNumbers(early bool) {
	if s.numbers.foreign && (s.pool.asksForNumbers || early) {
		s.discardNumbers()
	}
}

// OthersNumbers reports whether the server may have numbers of other clients.
func (s *Server) OthersNumbers() bool { return s.numbers.foreign }

// discardNumbers has the server forget all numbers, in the middle of a group too.
func (s *Server) discardNumbers() {
	const discard = "DISCARD SEQUENCES"
	s.numbers = numbers{}
	s.inFront(func() {
		switch {
		case s.partial:
			s.sendUnnoticed(discard, purposeNumbers)
		case s.txStatus != pgwire.TxIdle:
			s.injectUnnoticed(discard, purposeNumbers)
		default:
			s.inject(discard, purposeClean)
		}
	})
}

// keepNumbers pins the client to the server that has its numbers, at the end of a
// transaction, if it may ask for them.
func (s *Server) keepNumbers() {
	s.pins &^= StateSequences
	n := &s.numbers
	if !n.own || !n.named && !s.pool.asksForNumbers {
		return
	}
	n.keptUntil = 0
	if n.unasked && s.waiter.asksForNumbers {
		n.keptUntil = s.pool.now() + numbersTime
	}
	switch {
	case s.pool.gate.Waiting() == 0:
		s.pins |= StateSequences
	case n.keptUntil > 0:
		s.pins |= StateSequences
		s.pool.releaseNumbers() // of others, or later
	}
}

// releaseNumbers takes back a server that is only kept for its numbers, for each client
// that waits.
func (p *Pool) releaseNumbers() {
	next := time.Duration(0)
	for i := 0; i < len(p.servers) && p.gate.Waiting() > 0; i++ {
		s := p.servers[i]
		switch until := s.numbers.keptUntil; {
		case s.state != stateLeased || s.pins != StateSequences || !s.Quiet() || s.txStatus != pgwire.TxIdle || s.unsentBytes > 0 || s.copyIn:
		case s.Suspect(): // what else it is kept for is not known yet
		case until <= p.now():
			s.pins = 0
			s.Release()
		case next == 0 || until < next:
			next = until
		}
	}
	if next > 0 && p.gate.Waiting() > 0 {
		p.loop.SetTimer(&p.numbersTimer, next)
	}
}
