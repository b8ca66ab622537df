package pool

import (
	"bytes"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file is what an ErrorResponse does to what was expected of the server.

// errorResponse acts on an error: in the extended query protocol the server now
// skips to Sync, so what was expected up to there does not come.
func (s *Server) errorResponse(body []byte) verdict {
	e := pgwire.ParseError(body)
	if e.IsFatal() {
		s.fatal = e // the connection ends; OnClose tells the client
		if s.client == nil && s.groups.count == 0 {
			return verdictFailure // nobody shall be lent it meanwhile
		}
		return verdictDrop
	}
	asked := s.replies.firstAsked()
	switch {
	case asked == nil:
		s.passSynthesized()
		return s.headVerdict()
	case asked.mode == swallow && asked.kind == ReplyQuery:
		s.injectedError = e
		return verdictDrop
	case s.answered() != nil && s.answered().own:
		s.injectedError = e
		s.skipToSync()
		return verdictDrop
	}
	if s.batched() {
		s.batchFailed(e)
		return verdictDrop
	}
	if s.runsAgain(s.groups.head(), asked, e) {
		if !asked.kind.endsGroup() {
			s.skipToSync()
		}
		s.headHasError = false
		s.held = s.held[:0]
		return verdictDrop
	}
	s.substantial = true
	s.passSynthesized()
	s.headHasError = true
	s.numbers.discarded = false // at least not for certain
	if client := s.recipient(); client != nil && retried(e.SQLState) {
		client.OnFailed()
	}
	if asked.kind.endsGroup() {
		s.copyIn = false
		return s.headVerdict()
	}
	substitute, statement := asked.substitute, asked.statement
	told := s.toldFirst(asked, e)
	s.parseFailed = asked.kind == ReplyParse && asked.mode == forward
	s.copyFailed()
	s.skipToSync()
	s.probe()
	s.pass(told)
	client := s.recipient()
	switch {
	case client == nil:
		return verdictDrop
	case substitute != nil:
		s.pass(pgwire.AppendError(nil, substitute))
		return verdictDrop
	case statement != nil && bytes.Contains(body, []byte(statement.Name)) && s.streaming == 0:
		// The client knows the statement by another name.
		quoted := []byte(`"` + client.StatementName(statement) + `"`)
		s.pass(pgwire.AppendMessage(nil, pgwire.ErrorResponse, bytes.ReplaceAll(body, []byte(`"`+statement.Name+`"`), quoted)))
		return verdictDrop
	}
	return verdictPass
}

// toldFirst is what PostgreSQL would have told the client, in front of the error, if it
// had the statement that it refuses to prepare anew for the client's Describe.
func (s *Server) toldFirst(asked *reply, e *pgwire.Error) []byte {
	if asked.kind != ReplyParse || asked.mode != swallow || asked.statement == nil || e.SQLState == pgwire.InFailedTransaction {
		return nil
	}
	if r := s.replies.firstForwarded(); r == nil || r.kind != ReplyDescribe || r.statement != asked.statement {
		return nil
	}
	return asked.statement.parameterDescription(s.pool)
}

// retried reports whether clients try again after such an error.
func retried(code pgwire.SQLState) bool {
	switch code {
	case pgwire.QueryCanceled, "40001", "40P01", "55P03": // serialization, deadlock, lock timeout
		return true
	default:
		return code.Class() == "53" // insufficient resources
	}
}

// skipToSync takes back what the messages up to the next Sync would have done.
func (s *Server) skipToSync() {
	if mutantKeepSkipped {
		return
	}
	skipped, own := 0, 0 // own: of the group that failed
	for skipped < s.replies.count && s.replies.at(skipped).kind != ReplySync {
		skipped++
		if own == 0 && s.replies.at(skipped-1).kind == replyJoined {
			own = skipped
		}
	}
	if own == 0 {
		own = skipped
	}
	lowestTag, client := s.replies.lowestTag(own), s.recipient()
	for i := skipped - 1; i >= 0; i-- { // the last change is undone first
		switch r := s.replies.at(i); {
		case r.purpose == purposeNumbers:
			s.numbers.foreign = true // it has not forgotten them
		case r.statement == nil:
		case r.kind == ReplyParse:
			s.prepared.remove(r.statement)
		case r.kind == ReplyClose:
			s.prepared.add(r.statement, s.lease, r.meaning)
		}
	}
	for range skipped {
		head := s.replies.head()
		if head.kind.endsGroup() { // a query without a Sync before it is skipped too
			s.endIgnored()
		}
		s.confirm(head)
		s.replies.pop()
	}
	if s.alreadyThere != nil {
		s.prepared.markStale(s.alreadyThere)
		s.alreadyThere = nil
	}
	s.description = s.description[:0]
	s.skipping = s.replies.count == 0
	s.answering = max(0, s.headCount()-1)
	if client != nil {
		client.OnGroupError(lowestTag, s.parseFailed)
	}
	s.parseFailed = false
	if s.client != nil { // it may be waiting for Ready
		s.client.OnServerDrain()
	}
	s.throttleEnds()
}
