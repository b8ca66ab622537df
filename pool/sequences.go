package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// currval and lastval tell what nextval has returned in the session, and nextval hides
// in the defaults of columns. So a server notes whose numbers it may have, and forgets
// them, by DISCARD SEQUENCES, before it is asked by somebody else. A client keeps the
// server on which it has drawn numbers if it, or somebody in the pool, is known to ask
// for them; but not against clients that wait: rather than let those starve, it will
// be told that there is no current value (55000).
// See https://www.postgresql.org/docs/current/functions-sequence.html

// numbers is whose sequence numbers a server may have.
type numbers struct {
	of      Client // who has drawn last, nil if nobody has
	foreign bool   // others than the client of the lease have
	own     bool   // the client of the lease has
	named   bool   // with a statement that names nextval
}

// lend notes that another lease begins.
func (n *numbers) lend(client Client) {
	n.foreign = n.foreign || n.of != nil && n.of != client
	n.own, n.named = n.of == client, false
}

// drawNumbers acts on a statement that may draw numbers, or ask for those drawn last.
func (s *Server) drawNumbers(e *Effects) {
	n := &s.numbers
	if e.AsksByName {
		s.pool.asksForNumbers = true
	}
	if n.foreign && (e.Asks || e.DrawsByName && !n.named) {
		s.discardNumbers()
	}
	if e.Draws {
		n.of, n.own = s.client, true
		n.named = n.named || e.DrawsByName
	}
}

// SeparateNumbers makes sure, at the beginning of a lease, that the client is not told
// of the numbers of others.
func (s *Server) SeparateNumbers() {
	if s.pool.asksForNumbers && s.numbers.foreign {
		s.discardNumbers()
	}
}

// discardNumbers has the server forget all numbers, in the middle of a group too.
func (s *Server) discardNumbers() {
	const discard = "DISCARD SEQUENCES"
	s.numbers = numbers{}
	switch {
	case s.partial:
		s.sendUnnoticed(discard, purposeNumbers)
	case s.txStatus != pgwire.TxIdle:
		s.injectUnnoticed(discard, purposeNumbers)
	default:
		s.inject(discard, purposeClean)
	}
}

// keepNumbers pins the client to the server that has its numbers, at the end of a
// transaction, if it may ask for them.
func (s *Server) keepNumbers() {
	s.pins &^= StateSequences
	if s.numbers.own && (s.numbers.named || s.pool.asksForNumbers) && s.pool.waiters.count == 0 {
		s.pins |= StateSequences
	}
}

// releaseNumbers takes back a server that is only kept for its numbers, for a client
// that waits.
func (p *Pool) releaseNumbers() {
	for _, s := range p.servers {
		if s.state == stateLeased && s.pins == StateSequences && s.Quiet() && s.txStatus == pgwire.TxIdle && s.unsentBytes == 0 && !s.copyIn {
			s.pins = 0
			s.Release()
			return
		}
	}
}
