package proxy

import (
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// armTimer makes the timer look at the session in time. It is not moved with every
// message: when it fires, it looks at what has happened since.
func (s *session) armTimer() {
	if s.timer.Armed() {
		return
	}
	if next := s.nextLook(); next > 0 {
		s.proxy.loop.SetTimer(&s.timer, s.proxy.loop.Now()+next)
	}
}

// nextLook is the shortest time after which a client that holds a server may have
// to be closed, 0 if there is none.
func (s *session) nextLook() time.Duration {
	stall, idle := s.proxy.config.ClientStallTimeout, s.proxy.config.IdleTransactionTimeout
	if stall == 0 || idle > 0 && idle < stall {
		return idle
	}
	return stall
}

// timedOut closes a client that has not done its part for too long.
func (s *session) timedOut() {
	config := &s.proxy.config
	if s.state < stateReady {
		s.fatal(endLoginTimeout, fatalf(pgwire.ProtocolViolation, "login did not complete within %s", config.ClientLoginTimeout))
		return
	}
	if s.shared == nil && !s.waiter.Waiting() && s.partDue() {
		s.wake()
	}
	if s.server == nil && s.shared == nil && s.transaction.status() == pgwire.TxIdle {
		return // armed again with the next lease
	}
	if taken := s.writtenBytes - uint64(s.conn.BufferedBytes()); s.conn.BufferedBytes() > 0 && taken != s.takenBytes {
		s.takenBytes = taken
		s.activeAt = s.proxy.loop.Now()
	}
	waited := s.proxy.loop.Now() - s.activeAt
	switch {
	case s.conn.BufferedBytes() > 0 && overdue(waited, config.ClientStallTimeout):
		s.conn.Abort() // it would not read the message
		s.end(endStalled, "client does not read")
		return
	case s.conn.BufferedBytes() > 0, s.shared != nil:
	case s.server == nil && !overdue(waited, config.IdleTransactionTimeout):
	case s.server == nil || s.server.Quiet() && s.server.TxStatus() != pgwire.TxIdle && overdue(waited, config.IdleTransactionTimeout):
		s.fatal(endIdleTransaction, fatalf(pgwire.IdleInTransactionTimeout, "idle transaction timeout of %s", config.IdleTransactionTimeout))
		return
	case s.server.AwaitsClient() && overdue(waited, config.ClientStallTimeout):
		s.fatal(endStalled, fatalf(pgwire.ProtocolViolation, "client sent part of a query and no more for %s", config.ClientStallTimeout))
		return
	}
	if next := s.nextLook(); next > 0 {
		s.proxy.loop.SetTimer(&s.timer, max(s.activeAt+next, s.proxy.loop.Now()+next/4))
	}
}

func overdue(waited, limit time.Duration) bool { return limit > 0 && waited >= limit }
