package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// This file decides when an error is no business of the client whose group it
// ended. The limits are strict: the group came to nothing, the client has been
// passed nothing of it, no transaction is open, and the group is run again once the
// server has said ReadyForQuery. Nothing inside a transaction and no COMMIT is ever
// sent twice.

// RoutineRevalidate is the function of PostgreSQL that finds that a prepared
// statement's result type has changed: it tells this 0A000 from all others in any
// language.
const RoutineRevalidate = "RevalidateCachedQuery"

// runsAgain reports whether the group at the head is to be run again instead of
// being answered with e, the error to what was asked. It takes note of what the
// error says about the server in any case.
func (s *Server) runsAgain(g *group, asked *reply, e *pgwire.Error) bool {
	reason := s.notTheClients(g, asked, e)
	if g != nil && g.again != AgainNot {
		return true // it has been decided
	}
	if g != nil && reason == AgainNot && g.mayBeMisrepresented(e) {
		s.distrust(g)
		reason = AgainAsWritten
	}
	if reason == AgainNot || g == nil || g.client == nil || g.passed || len(g.request) == 0 || g.again != AgainNot {
		return false
	}
	if s.state != stateShared && s.groups.count > 1 {
		return false // what the client sent behind it would come first
	}
	g.again = reason
	return true
}

func (s *Server) notTheClients(g *group, asked *reply, e *pgwire.Error) AgainReason {
	statement := asked.statement
	switch e.SQLState {
	case pgwire.FeatureNotSupported:
		if e.Routine != RoutineRevalidate || statement == nil {
			return AgainNot
		}
		if s.prepared.epoch(statement) == statement.Epoch {
			s.drifted(statement)
		}
		s.prepared.markStale(statement)
		if g == nil || g.client == nil || g.client.Described(statement, statement.Epoch) {
			return AgainNot
		}
		return AgainPlan
	case pgwire.UndefinedStatement:
		if statement == nil || asked.kind == ReplyParse {
			return AgainNot
		}
		s.prepared.remove(statement)
		return AgainPlan
	case pgwire.ReadOnlyTransaction:
		if s.state == stateShared {
			return AgainWrites
		}
	case pgwire.QueryCanceled:
		if s.state == stateShared && s.canceled && g != nil && s.cancelFor != g.client {
			return AgainCanceled
		}
	case pgwire.DuplicateStatement:
		if asked.kind == ReplyParse && statement != nil {
			s.alreadyThere = statement
			return AgainPlan
		}
	default:
	}
	return AgainNot
}

// mayBeMisrepresented reports whether the error may be one that the query, as it is
// written, would not have, or with another position.
func (g *group) mayBeMisrepresented(e *pgwire.Error) bool {
	if g.parameterized == nil {
		return false
	}
	class := e.SQLState.Class()
	return class == "0A" || class == "22" || class == "42"
}

// distrust has what failed run alone and as it is written for some time. Its statement
// may have types of parameters that no longer fit.
func (s *Server) distrust(g *group) {
	g.timed.alone = batchCaution
	if g.parameterized != nil {
		g.timed.asWritten = batchCaution
		s.prepared.markStale(g.parameterized)
	}
}
