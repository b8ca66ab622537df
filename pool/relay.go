package pool

import (
	"bytes"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// maxWholeBytes is up to what size a message from a server is collected before it
// is passed on. Of a longer one the beginning is looked at and the rest streamed.
const maxWholeBytes = 64 << 10

// OnData implements reactor.Handler: it relays replies to the client in as few
// writes as possible. Bytes between run and position are the client's and not yet
// passed on.
func (s *Server) OnData(data []byte) (consumed int) {
	run, position := 0, 0
	if s.state == stateOpening {
		if position = s.logIn(data); s.state == stateOpening {
			return position
		}
		run = position
	}
	for position < len(data) && s.state != stateClosed {
		if s.streaming > 0 {
			n := min(s.streaming, len(data)-position)
			s.streaming -= n
			position += n
			if !s.streamForward {
				run = position
			}
			if s.streaming == 0 && s.streamVerdict != 0 {
				s.pass(data[run:position])
				run = position
				s.act(s.streamVerdict)
			}
			continue
		}
		messageType, size, err := pgwire.PeekBackend(data[position:])
		if err != nil {
			s.pass(data[run:position])
			s.protocolFailure = err.Error()
			s.act(verdictFailure)
			break
		}
		if size == 0 {
			break
		}
		end := position + size
		if end > len(data) {
			if size <= maxWholeBytes {
				break
			}
			end = len(data)
		}
		if messageType == pgwire.ReadyForQuery && (s.discarded || s.resets) {
			s.pass(data[run:position])
			run = position
			s.announceDiscard()
			s.announceResets(data[position+pgwire.HeaderBytes : end])
		}
		if head := s.replies.head(); messageType == pgwire.ErrorResponse || head != nil && head.mode == synthesize && answersInTurn(messageType) {
			s.pass(data[run:position])
			run = position
			if messageType != pgwire.ErrorResponse {
				s.passSynthesized()
			}
		}
		s.streaming = size - (end - position)
		verdict := s.receive(messageType, data[position+pgwire.HeaderBytes:end])
		s.streamForward = verdict&verdictPass != 0
		if !s.streamForward {
			s.pass(data[run:position])
			run = end
		}
		position = end
		if verdict&verdictDone != 0 {
			verdict |= s.replyDone()
		}
		switch after := verdict &^ (verdictPass | verdictDone); {
		case s.streaming > 0:
			s.streamVerdict = after
		case after != 0:
			s.pass(data[run:position])
			run = position
			s.act(after)
		}
	}
	if s.state == stateClosed {
		return len(data)
	}
	s.pass(data[run:position])
	return position
}

// verdict is what becomes of a message, as bits. What follows on it may write to
// the client or end the lease, and waits until the client has been passed all that
// came before, and the rest of the message if it is streamed.
type verdict uint8

const (
	verdictDrop       verdict = 0
	verdictPass       verdict = 1 << 0 // the client gets it
	verdictDone       verdict = 1 << 1 // it completes the reply at the head
	verdictGroupEnd   verdict = 1 << 2 // follow with the end of the group
	verdictSynthesize verdict = 1 << 3 // follow with replies of our own
	verdictFailure    verdict = 1 << 4 // follow with the end of the server
	verdictNext       verdict = 1 << 5 // follow with the next group of the batch
)

// recipient is the client that gets what the server says now. While it answers the
// pool it may have news for the client that holds it.
func (s *Server) recipient() Client {
	if g := s.answered(); g != nil && !g.own {
		return g.client
	}
	return s.client
}

func (s *Server) pass(b []byte) {
	if len(b) == 0 {
		return
	}
	client := s.client
	if g := s.answered(); g != nil && !g.own {
		client = g.client
		switch {
		case client == nil:
			return
		case s.batched():
			s.holdBatched(g, b)
			return
		}
		s.substantial = s.substantial || len(s.held)+len(b) > maxHeldBytes
		if !s.substantial && len(g.request) > 0 {
			s.held = append(s.held, b...)
			return
		}
		g.passed = true
	}
	if client == nil {
		return
	}
	s.pool.stats.SentBytes += uint64(len(s.held) + len(b))
	if len(s.held) > 0 {
		client.OnReply(s.held)
		s.held = s.held[:0]
	}
	client.OnReply(b)
}

// maxHeldBytes bounds what is held back of a group that may yet be run again.
const maxHeldBytes = 16 << 10

// headVerdict is verdictPass if the reply at the head is for a client.
func (s *Server) headVerdict() verdict {
	head := s.replies.head()
	if head != nil && head.mode == swallow || s.recipient() == nil {
		return verdictDrop
	}
	if g := s.answered(); g != nil && g.again != AgainNot && !mutantPassAgain {
		return verdictDrop
	}
	return verdictPass
}

// receive accounts for one message. body may be cut off when the message is
// longer than maxWholeBytes.
func (s *Server) receive(messageType byte, body []byte) verdict {
	switch head := s.replies.head(); {
	case head == nil:
	case head.purpose == purposeInspect:
		s.inspected(messageType, body)
	case head.purpose == purposeSettings && messageType == pgwire.DataRow:
		s.learnShown(body)
	case head.purpose == purposeReading && head.statement != nil && messageType == pgwire.DataRow:
		s.learnReading(head.statement, body)
	}
	switch messageType {
	case pgwire.DataRow, pgwire.CopyData:
		s.substantial = true
		return s.headVerdict()
	case pgwire.NoticeResponse:
		if head := s.replies.head(); head != nil && head.kind == ReplyQuery && s.state != stateShared {
			s.substantial = true // it is under way
		}
		return s.headVerdict()
	case pgwire.NotificationResponse:
		if s.recipient() == nil {
			return verdictDrop
		}
		return verdictPass
	case pgwire.ParameterStatus:
		return s.parameterStatus(body)
	case pgwire.ErrorResponse:
		return s.errorResponse(body)
	}
	head := s.replies.head()
	if head == nil && s.uncertain && messageType == pgwire.ReadyForQuery {
		return verdictDrop // of a Sync that PostgreSQL has not ignored
	}
	if head == nil || !answers(messageType, head.kind) {
		return s.fail("unexpected message from server")
	}
	v := s.headVerdict()
	switch messageType {
	case pgwire.ReadyForQuery:
		if len(body) != 1 {
			return s.fail("malformed ReadyForQuery from server")
		}
		if s.copyIn {
			return s.fail("unexpected ReadyForQuery from server, which awaits data")
		}
		if head.purpose == purposeProbe && !s.probeAnswered {
			return verdictDrop // of a Sync that PostgreSQL has not ignored
		}
		s.txStatus = pgwire.TxStatus(body[0])
		s.substantial = true
		return v | verdictGroupEnd
	case pgwire.CopyInResponse:
		s.substantial = true
		s.copyInBegins(head)
	case pgwire.CopyOutResponse, pgwire.CopyBothResponse, pgwire.FunctionCallResponse:
		s.substantial = true
	case pgwire.CommandComplete:
		s.substantial = true
		s.commandComplete(body)
		if head.kind == ReplyExecute {
			return v | verdictDone
		}
	case pgwire.EmptyQueryResponse:
		s.substantial = true
		s.probeAnswered = head.purpose == purposeProbe
		if head.kind == ReplyExecute {
			return v | verdictDone
		}
	case pgwire.RowDescription:
		s.describe(head, messageType, body)
		if head.kind == ReplyDescribe {
			return v | verdictDone
		}
	case pgwire.ParameterDescription, pgwire.NoData:
		s.describe(head, messageType, body)
		if messageType == pgwire.NoData {
			return v | verdictDone
		}
	case pgwire.PortalSuspended:
		s.substantial = true
		return v | verdictDone
	case pgwire.ParseComplete, pgwire.BindComplete, pgwire.CloseComplete:
		return v | verdictDone
	}
	return v
}

// answersInTurn reports whether a message of this type answers what was asked, so
// that what was asked before it must have been answered. An error is looked at
// first: perhaps the client never hears of it.
func answersInTurn(messageType byte) bool {
	switch messageType {
	case pgwire.NoticeResponse, pgwire.NotificationResponse, pgwire.ParameterStatus, pgwire.ErrorResponse:
		return false
	}
	return true
}

// answers reports whether the message may be part of a reply of that kind.
func answers(messageType byte, kind ReplyKind) bool {
	switch messageType {
	case pgwire.ParseComplete:
		return kind == ReplyParse
	case pgwire.BindComplete:
		return kind == ReplyBind
	case pgwire.CloseComplete:
		return kind == ReplyClose
	case pgwire.ParameterDescription, pgwire.NoData:
		return kind == ReplyDescribe
	case pgwire.RowDescription:
		return kind == ReplyDescribe || kind == ReplyQuery
	case pgwire.PortalSuspended:
		return kind == ReplyExecute
	case pgwire.CommandComplete, pgwire.EmptyQueryResponse,
		pgwire.CopyInResponse, pgwire.CopyOutResponse, pgwire.CopyBothResponse, pgwire.CopyDone:
		return kind == ReplyExecute || kind == ReplyQuery
	case pgwire.FunctionCallResponse:
		return kind == ReplyFunctionCall
	case pgwire.ReadyForQuery:
		return kind.endsGroup()
	}
	return false
}

// replyDone takes the reply at the head off the queue. Replies of our own behind it
// wait for the server's next, unless the client has asked for them.
func (s *Server) replyDone() verdict {
	s.learn(s.replies.head())
	s.replies.pop()
	s.throttleEnds()
	switch head := s.replies.head(); {
	case head == nil:
	case head.kind == replyJoined:
		return verdictNext
	case s.eager && head.mode == synthesize:
		return verdictSynthesize
	}
	return 0
}

// act follows up on a message.
func (s *Server) act(after verdict) {
	s.streamVerdict = 0
	switch {
	case after&verdictFailure != 0:
		reason := ReasonLost
		if s.protocolFailure != "" {
			reason = ReasonProtocol
			s.fatal = &pgwire.Error{Severity: pgwire.SeverityFatal, SQLState: pgwire.ConnectionFailure, Message: s.protocolFailure}
		}
		s.close(reason)
	case after&verdictNext != 0:
		s.nextAnswered()
	case after&verdictSynthesize != 0:
		s.passSynthesized()
	case after&verdictGroupEnd != 0:
		head := *s.replies.head()
		s.replies.pop()
		s.headHasError, s.discarded, s.substantial = false, false, false
		s.eager = s.eager && s.groups.count > s.headCount() // the Flush was sent behind this group
		if count := s.headCount(); count > 1 {
			s.batchDone(head, count)
			return
		}
		s.held = s.held[:0]
		s.groupDone(head, s.groups.pop())
		if s.eager {
			s.passSynthesized()
		}
	}
}

// throttleEnds lets a client go on that was told by Congested to wait.
func (s *Server) throttleEnds() {
	if s.throttled && s.replies.count <= maxReplies/2 {
		s.throttled = false
		s.OnDrain()
	}
}

// passSynthesized passes on our own replies that have come to the head.
func (s *Server) passSynthesized() {
	for head := s.replies.head(); head != nil && head.mode == synthesize; head = s.replies.head() {
		s.pass(head.synthesizedReply())
		s.replies.pop()
		s.nextAnswered()
	}
}

func (s *Server) commandComplete(tag []byte) {
	s.copyIn, s.syncsIgnored = false, false
	s.redefined = s.redefined || redefines(tag)
	switch {
	case len(tag) < len("DISCARD ALL") || tag[0] != 'D':
	case bytes.HasPrefix(tag, []byte("DISCARD ALL\x00")):
		s.settings, s.discarded = nil, true
		s.statementsDropped()
	case bytes.HasPrefix(tag, []byte("DEALLOCATE ALL\x00")):
		s.statementsDropped()
	}
}

func (s *Server) statementsDropped() {
	s.prepared.clear()
	for i := range s.replies.count { // what was sent behind
		switch r := s.replies.at(i); {
		case r.statement == nil || r.mode == synthesize:
		case r.kind == ReplyParse:
			s.prepared.add(r.statement, s.lease, r.meaning)
		case r.kind == ReplyClose:
			s.prepared.remove(r.statement)
		}
	}
	if client := s.recipient(); client != nil {
		client.OnDeallocateAll()
	}
}

// announceDiscard lets the client's session say, at the end of a group and in front of
// its ReadyForQuery, what the settings are behind a DISCARD ALL. PostgreSQL does not report
// what has been set again to what it was.
func (s *Server) announceDiscard() {
	client := s.recipient()
	if !s.discarded || client == nil {
		return
	}
	var since []Setting
	for _, usual := range s.pool.parameters {
		if Settable(usual.Name) && s.WasSet(usual.Name) {
			since = append(since, Setting{usual.Name, s.parameters.value(usual.Name)})
		}
	}
	client.OnDiscard(since)
}

// WasSet reports whether PostgreSQL has told of another value of the setting than the one
// that RESET gives it.
func (s *Server) WasSet(name string) bool {
	for _, usual := range s.pool.parameters {
		if strings.EqualFold(usual.Name, name) {
			return s.parameters.value(usual.Name) != usual.Value
		}
	}
	return false
}

// announceResets lets the client's session say, at the end of a group and in front of
// its ReadyForQuery, what settings that were reset are to the client.
func (s *Server) announceResets(status []byte) {
	g := s.answered()
	if !s.resets || g == nil || g.own || g.client == nil || s.groups.count > 1 {
		return
	}
	s.resets = false
	if !s.headHasError && len(status) == 1 {
		g.client.OnReset(pgwire.TxStatus(status[0]))
	}
}

// parameterStatus acts on the report of a changed setting. What our own switch of
// settings causes is not news to the client; what comes while nobody holds the
// server is a new default.
func (s *Server) parameterStatus(body []byte) verdict {
	name, rest, ok := pgwire.CString(body)
	value, _, ok2 := pgwire.CString(rest)
	if !ok || !ok2 {
		return s.fail("malformed ParameterStatus from server")
	}
	s.parameters.set(string(name), string(value))
	head, client := s.replies.head(), s.recipient()
	switch {
	case s.discarded && Settable(string(name)) && s.pool.parameters.value(string(name)) == string(value), head != nil && head.mode == swallow && head.purpose != purposeRollback && head.purpose != purposeRestore:
		return verdictDrop
	case s.state == stateIdle && s.settings == nil:
		s.pool.parameters.set(string(name), string(value))
		return verdictDrop
	case client == nil:
		// A client that is gone has changed it, or a rollback has: which settings
		// the server has is no longer known.
		if s.state == stateResetting && s.pool.config.Mode != ModeSession {
			s.suspected |= StateSettings
		}
		return verdictDrop
	}
	if !client.OnParameterStatus(name, value) {
		return verdictDrop
	}
	return verdictPass
}

// fail marks the server as one that says what it should not; act closes it.
func (s *Server) fail(message string) verdict {
	s.protocolFailure = message
	return verdictFailure
}

// OnDrain implements reactor.Handler.
func (s *Server) OnDrain() {
	if s.client != nil {
		s.client.OnServerDrain()
	}
}
