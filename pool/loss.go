package pool

import (
	"errors"
	"fmt"
	"io"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file is the end of a server.

// OnClose implements reactor.Handler: the server has gone.
func (s *Server) OnClose(err error) {
	if s.state == stateClosed { // by another handler, while the loop ended
		return
	}
	if s.fatal == nil {
		message := "server closed the connection unexpectedly"
		if err != nil && !errors.Is(err, io.EOF) {
			message = "connection to server lost: " + err.Error()
		}
		s.fatal = &pgwire.Error{Severity: pgwire.SeverityFatal, SQLState: pgwire.ConnectionFailure, Message: message}
		if s.state == stateOpening && s.negotiation.state == negotiationEncrypting {
			s.fatal = loginError(pgwire.CannotConnect, fmt.Sprintf("cannot encrypt the connection to server %s: %v", s.pool.config.Upstream, err))
		}
	}
	if s.state == stateOpening {
		s.loginFailed(s.fatal)
		return
	}
	s.gone(ReasonLost)
}

// close ends the connection, politely where the protocol allows it.
func (s *Server) close(reason CloseReason) {
	if s.state == stateClosed {
		return
	}
	s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Terminate))
	s.conn.Close()
	s.gone(reason)
}

// gone forgets the server and tells the clients, if there are any, what they lost.
func (s *Server) gone(reason CloseReason) {
	cause := s.fatal
	if cause == nil {
		cause = &pgwire.Error{Severity: pgwire.SeverityFatal, SQLState: pgwire.ConnectionFailure, Message: reason.String()}
	}
	s.redefined = s.redefined || s.defining // for all that is known
	s.redefinitionEnds()
	s.definitionEnds()
	s.scanEnds()
	shared := s.state == stateShared
	s.pool.forget(s, reason)
	if shared {
		s.sharedLost(cause)
		return
	}
	client := s.client
	s.client = nil
	if client == nil {
		return
	}
	loss := Loss{
		Cause:         cause,
		InTransaction: s.txStatus != pgwire.TxIdle,
		State:         s.pins&^StateSequences != 0 || s.unverified || s.inspection.active,
		GroupCount:    s.UnansweredGroups(),
		Partial:       s.partial,
		FirstHasError: s.headHasError,
		LowestTag:     s.replies.lowestTag(s.replies.count),
		MidMessage:    s.MidMessage(),
	}
	if len(s.held) > 0 {
		loss.LowestTag = 1 // it has been told of nothing in the group
	}
	client.OnServerLost(loss)
}

// UnansweredGroups is how many groups of a client have been sent as a whole and are
// without their ReadyForQuery.
func (s *Server) UnansweredGroups() (count int) {
	for i := range s.groups.count {
		if s.groups.at(i).client != nil { // else it is the pool's own
			count++
		}
	}
	if s.partial {
		count--
	}
	return count
}
