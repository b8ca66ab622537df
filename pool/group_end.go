package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// This file is what a server does at the end of a group: who is told, and whether the
// lease ends with it.

// groupDone acts on the end of a group, which was asked for with head.
func (s *Server) groupDone(head reply, g *group) {
	refusal := s.injectedError
	s.injectedError = nil
	if s.txStatus == pgwire.TxIdle {
		s.redefinitionEnds()
		if s.groups.count == 0 {
			s.definitionEnds()
		}
	}
	switch head.purpose {
	case purposeSettings:
		s.settingsDone(refusal)
	case purposeInspect:
		s.inspectionDone(refusal)
	case purposeProbe:
		s.uncertain, s.probing, s.probeAnswered = false, false, false
	case purposeBegin:
		s.beginPending = false
		if s.cancelDeferred {
			s.cancelDeferred = false
			s.Cancel()
		}
	default:
	}
	if s.groups.count == 0 {
		s.beginning = false // the status tells
		if s.readingChange == ReadingReported {
			s.readingChange = ReadingSame
		}
	}
	s.time(g)
	if s.state == stateShared {
		s.sharedDone(head, g, refusal)
		return
	}
	if s.client == nil {
		s.cleaned(head, refusal)
		return
	}
	lease := s.lease
	switch {
	case head.purpose == purposeSettings, head.purpose == purposeBegin && refusal != nil:
		s.client.OnSettings(refusal)
	case head.purpose == purposeProbe, head.purpose == purposeInspect, head.purpose == purposeRestore, head.purpose == purposeAlias:
		s.client.OnServerDrain()
	case head.purpose != purposeClient:
	case g.again != AgainNot && s.txStatus == pgwire.TxIdle:
		s.pool.stats.GroupsRunAgain++
		s.client.OnRunAgain(g.request, g.again)
	default:
		s.unverified = s.unverified || s.Suspect()
		s.client.OnGroupEnd(s.txStatus)
	}
	if s.client == nil || s.lease != lease {
		return // it was released, and perhaps lent again
	}
	s.throttleEnds()
	switch head.purpose {
	case purposeClient, purposeProbe, purposeInspect, purposeRestore, purposeAlias:
		s.releaseIfDone()
	default: // the client has yet to send its group
	}
}

// learnShown learns how the server shows the settings that it has been given.
func (s *Server) learnShown(body []byte) {
	row, ok := readRow(body)
	if !ok || len(row) != len(s.switching) {
		return
	}
	for i, given := range s.switching {
		s.pool.pools.settings.learn(given, string(row[i]))
	}
}

// settingsDone acts on the outcome of a switch of settings.
func (s *Server) settingsDone(refusal *pgwire.Error) {
	if refusal == nil {
		s.settings.accept(s.parameters, s.pool.parameters)
		return
	}
	// Settings that were accepted before may have been half used by now.
	s.uncertain = s.uncertain || s.settings.Accepted()
	s.settings = s.previousSettings
}

// releaseIfDone ends the lease at the end of a transaction, or when the pool mode
// says so.
func (s *Server) releaseIfDone() {
	if mutantReleaseEarly && s.groups.count == 1 && !s.partial {
		s.groups.pop()
	}
	if s.txStatus != pgwire.TxIdle || !s.Quiet() {
		return
	}
	s.lease++
	if s.pool.config.Mode == ModeSession || s.inspect() {
		return
	}
	s.keepNumbers()
	if s.pins&StateTemporary == 0 { // else a text may be about a temporary table
		s.privateMeaning = ""
	}
	if !s.Suspect() {
		s.keepReading()
	}
	if s.releasable() {
		s.Release()
	}
}

func (s *Server) releasable() bool {
	return s.Quiet() && !s.copyIn && s.pins == 0 && s.unsentBytes == 0
}

// cleaned acts on the end of a group that no client awaits any more.
func (s *Server) cleaned(head reply, refusal *pgwire.Error) {
	switch head.purpose {
	case purposeRollback, purposeDiscard, purposeClean:
		if refusal != nil {
			s.close(ReasonResetFailed)
			return
		}
		s.dirty = s.dirty && head.purpose != purposeDiscard
	default:
	}
	switch {
	case s.groups.count == 0:
		s.recycle()
	case s.cancelRepeats > 0:
		s.Cancel() // what was pipelined behind
	}
}
