package pool

import (
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file takes back what a session has left on a server whose client is gone.

// remains is the kinds of state that the server has, or may have, of a client.
func (s *Server) remains() StateSet {
	remains := s.pins&^StateSequences | s.suspected
	if remains&StateFunctions != 0 {
		remains = remains&^StateFunctions | s.pool.database.functionState()&StateAny
	}
	if len(s.suspectedNames) > 0 {
		remains |= StateSettings
	}
	if s.inspection.active {
		remains |= s.inspection.state
		if len(s.inspection.names) > 0 {
			remains |= StateSettings
		}
	}
	return remains
}

// resetAll undoes settings. It comes first and alone, because they may limit what
// follows.
const resetAll = "RESET ROLE;RESET SESSION AUTHORIZATION;RESET ALL"

// cleaners undo the other kinds of state.
var cleaners = []struct {
	kinds StateSet
	sql   string
}{
	{StateCursors, "CLOSE ALL"},
	{StatePrepared, "DEALLOCATE ALL"},
	{StateChannels, "UNLISTEN *"},
	{StateLocks, "SELECT pg_catalog.pg_advisory_unlock_all()"},
	{StateTemporary, "DISCARD TEMP"},
}

// clean undoes what the client has left: all of its session where the pool mode gives
// it the server as a whole, else what it has, or may have, made.
func (s *Server) clean() {
	switch remains := s.remains(); {
	case s.txStatus != pgwire.TxIdle:
		s.inject("ROLLBACK", purposeRollback)
	case s.dirty:
		s.inject("DISCARD ALL", purposeDiscard)
	default:
		if s.settings != nil { // its timeouts, for instance
			remains |= StateSettings
		}
		if remains&(StateSettings|StateHiddenSettings) != 0 {
			s.settings = nil
			s.inject(resetAll, purposeClean)
		}
		var sql []string
		for _, cleaner := range cleaners {
			if remains&cleaner.kinds != 0 {
				sql = append(sql, cleaner.sql)
			}
		}
		if len(sql) > 0 {
			s.inject(strings.Join(sql, ";"), purposeClean)
		}
		s.suspected, s.suspectedNames, s.pins = 0, s.suspectedNames[:0], 0
		if s.groups.count == 0 { // a long statement, which nobody can name now
			s.recycle()
		}
	}
}
