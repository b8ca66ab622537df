package pool

import (
	"bytes"

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
		if messageType == pgwire.ReadyForQuery && s.resets {
			s.pass(data[run:position])
			run = position
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

func (s *Server) commandComplete(tag []byte) {
	s.copyIn, s.syncsIgnored = false, false
	s.redefined = s.redefined || redefines(tag)
	switch {
	case len(tag) < len("DISCARD ALL") || tag[0] != 'D':
	case bytes.HasPrefix(tag, []byte("DISCARD ALL\x00")):
		s.settings, s.discarded = nil, true
		s.statementsDropped(true)
	case bytes.HasPrefix(tag, []byte("DEALLOCATE ALL\x00")):
		s.statementsDropped(false)
	}
}

func (s *Server) statementsDropped(everything bool) {
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
		client.OnDiscard(everything)
	}
}

// announceResets lets the client's session say, at the end of a group and in front of
// its ReadyForQuery, what settings that were reset are to the client.
func (s *Server) announceResets(status []byte) {
	g := s.answered()
	if g == nil || g.own || g.client == nil || s.groups.count > 1 {
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
