package proxy

import (
	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// maxParseBytes is how long a Parse may be that is kept to be shared; a longer one
// is streamed to a server that the client then keeps.
const maxParseBytes = 1 << 20

// relay sends the message at the beginning of b to the server that the session
// holds, as far as it is at hand. It returns 0 if it has to wait.
func (s *session) relay(b []byte, messageType byte, size int) int {
	server := s.server
	if server.Congested() {
		return 0
	}
	if server.Skipping() && messageType != pgwire.Sync {
		return s.drop(b, size)
	}
	if server.BetweenGroups() && messageType != pgwire.CopyData && messageType != pgwire.CopyDone && messageType != pgwire.CopyFail {
		if s.statements.unsettled() || server.Unconfirmed() || s.discarding || s.changes.resetsNow() || server.Contended() && server.TxStatus() == pgwire.TxIdle {
			return 0
		}
		if !server.Quiet() && server.TxStatus() == pgwire.TxIdle && s.comesInParts(b) {
			return 0
		}
		if server.Quiet() && server.TxStatus() == pgwire.TxIdle {
			server.Adopt(s.settings) // other than the server's if some were reset
		}
		if !s.separateNumbers(server, b) {
			return 0
		}
	}
	if inTransaction := s.transaction.open() || server.InTransaction(); inTransaction && messageType == pgwire.Parse && server.AsksReading() && server.UnansweredGroups() > 0 {
		return 0 // what is asked in front of it would fail if one of those does
	}
	if server.CopyIn() && !belongsInCopy(messageType) {
		s.answerError(errorf(pgwire.ProtocolViolation, "unexpected message type 0x%02X during COPY from stdin", messageType))
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "terminating connection because protocol synchronization was lost"))
		return 0
	}
	if messageType == pgwire.Bind {
		s.lookAtBind(b, size)
		if !s.statementReady(b) {
			return 0
		}
	}
	if len(b) < size || messageType == pgwire.Parse && size > maxParseBytes {
		return s.relayPart(b[:min(len(b), size)], messageType, size)
	}
	s.send(b[:size], messageType)
	return size
}

// belongsInCopy reports whether PostgreSQL takes such a message while it reads COPY
// data.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func belongsInCopy(messageType byte) bool {
	switch messageType {
	case pgwire.CopyData, pgwire.CopyDone, pgwire.CopyFail, pgwire.Flush, pgwire.Sync:
		return true
	}
	return false
}

// send sends a whole message to the server at hand.
func (s *session) send(message []byte, messageType byte) {
	server := s.server
	body := message[pgwire.HeaderBytes:]
	switch messageType {
	case pgwire.Query:
		if !s.deallocate(body) {
			s.query(body)
			server.Query(message)
			server.EndAliases()
		}
	case pgwire.FunctionCall:
		s.affect(calledEffects(body))
		server.Forward(message)
		server.Expect(pool.ReplyFunctionCall)
	case pgwire.Parse:
		s.parse(body)
	case pgwire.Bind:
		s.bind(body, len(body))
	case pgwire.Describe, pgwire.Close:
		s.describeOrClose(message, messageType)
	case pgwire.Execute:
		s.execute(message)
	case pgwire.Sync:
		server.Forward(message)
		server.Expect(pool.ReplySync)
		server.EndAliases()
	case pgwire.Flush:
		if len(body) > 0 {
			s.failGroup(errInvalidFormat)
			return
		}
		server.Flush()
	case pgwire.CopyDone, pgwire.CopyFail:
		server.CopyEnd()
		server.Forward(message)
	case pgwire.CopyData:
		server.Forward(message)
	}
}

// relayPart begins to send a message that is not at hand as a whole. Short ones are
// waited for.
func (s *session) relayPart(b []byte, messageType byte, size int) int {
	switch {
	case messageType == pgwire.Parse && size <= maxParseBytes, size <= maxInputBytes:
		return 0
	case len(b) < maxInputBytes && len(b) < size && messageType != pgwire.CopyData:
		return 0 // names are looked for in what is at hand
	}
	server, body := s.server, b[pgwire.HeaderBytes:]
	switch messageType {
	case pgwire.Query:
		s.affect(obscureEffects)
		s.change().scanned = nil
		s.scan(body)
		server.Forward(b)
		server.Expect(pool.ReplyQuery)
	case pgwire.FunctionCall:
		s.affect(calledEffects(body))
		server.Forward(b)
		server.Expect(pool.ReplyFunctionCall)
	case pgwire.CopyData:
		server.Forward(b)
	case pgwire.Parse:
		if !s.parseLong(body, size-pgwire.HeaderBytes) {
			return s.drop(b, size)
		}
	case pgwire.Bind:
		if !s.bind(body, size-pgwire.HeaderBytes) {
			return s.drop(b, size)
		}
	}
	s.streamBytes, s.streamDropped, s.streamQuery = size-len(b), false, messageType == pgwire.Query
	server.Unsent(messageType, s.streamBytes)
	return len(b)
}

// OnLease implements pool.Client.
func (s *session) OnLease(server *pool.Server) {
	if s.state == stateLoggingIn {
		s.server = server
		s.proxy.loop.Post(s.loginLeased)
		return
	}
	s.place, s.placeShared = server, server.Shared()
	s.wake()
}

// OnRefused implements pool.Client.
func (s *session) OnRefused(refusal *pgwire.Error) {
	if s.state == stateLoggingIn {
		s.fatal(endRefused, refusal)
		return
	}
	s.OnFailed()
	s.refusal = asError(refusal)
	s.wake()
}

// asError returns e with the severity that leaves the client connected.
func asError(e *pgwire.Error) *pgwire.Error {
	told := *e
	told.Severity = pgwire.SeverityError
	return &told
}

// OnReply implements pool.Client.
func (s *session) OnReply(b []byte) {
	s.conn.Write(b)
	s.writtenBytes += uint64(len(b))
	if s.repliesPaused || s.conn.BufferedBytes() <= reactor.HighWaterBytes {
		return
	}
	s.activeAt, s.takenBytes = s.proxy.loop.Now(), s.writtenBytes-uint64(s.conn.BufferedBytes())
	switch {
	case s.server != nil:
		s.repliesPaused = true
		s.server.PauseReplies()
	case s.shared != nil && s.conn.BufferedBytes() > pool.MaxSharedReplyBytes:
		s.repliesPaused = true
		s.shared.PauseShared()
	}
}

// OnParameterStatus implements pool.Client: the client has set a parameter that
// PostgreSQL reports. One that was reset is the client's own, of its login.
func (s *session) OnParameterStatus(name, value []byte) (pass bool) {
	if s.server == nil || !pool.Settable(string(name)) {
		return true
	}
	now := pool.Setting{Name: string(name), Value: string(value)}
	before := s.settings
	if s.server.Failing() || !s.changes.resetting(now.Name, s.groupsAnswered) || s.server.WasSet(now.Name) {
		s.settings = s.pool.Settings(before, now)
		s.server.SettingsChanged(s.settings)
		return len(s.pool.AppendChanges(nil, before, s.settings)) > 0 // else it has been told
	}
	if login, ok := s.login.Value(now.Name); ok {
		now.Value = login
	}
	s.settings = s.pool.Settings(before, now)
	s.conn.Write(s.pool.AppendChanges(nil, before, s.settings))
	return false
}

// OnDeallocateAll implements pool.Client.
func (s *session) OnDeallocateAll() {
	s.statements.drop(s.pool.Registry())
	if s.server != nil {
		s.server.PinLongStatement(false)
	}
}

// OnDiscard implements pool.Client.
func (s *session) OnDiscard(since []pool.Setting) {
	before := s.settings
	s.settings = s.pool.Settings(s.login, since...)
	if s.server != nil && len(since) > 0 {
		s.server.SettingsChanged(s.settings)
	}
	if s.settings != before {
		s.conn.Write(s.pool.AppendSettableChanges(nil, before, s.settings))
	}
}

// OnGroupError implements pool.Client.
func (s *session) OnGroupError(lowestTag uint32, parseFailed bool) {
	unnamed := parseFailed && lowestTag > 0 && int(lowestTag) <= len(s.statements.changes) && s.statements.changes[lowestTag-1].name == ""
	s.statements.undo(s.pool.Registry(), lowestTag)
	if unnamed { // PostgreSQL drops the old one before it looks at the new one
		s.statements.dropUnnamed(s.pool.Registry())
	}
	if s.server != nil {
		s.server.PinLongStatement(s.statements.long)
	}
}

// OnGroupEnd implements pool.Client.
func (s *session) OnGroupEnd(status pgwire.TxStatus) {
	s.groupsAnswered++
	s.runs, s.alone = 0, false
	s.activeAt = s.proxy.loop.Now()
	s.transaction.settle()
	s.settle()
	if status == pgwire.TxIdle {
		s.workDone()
	}
	s.restoreResets(status)
	switch {
	case status != pgwire.TxIdle && s.pool.Mode() == pool.ModeStatement:
		s.fatal(endPoolMode, fatalf(pgwire.FeatureNotSupported, "transaction blocks are not allowed in statement pooling mode"))
	case s.proxy.draining && status == pgwire.TxIdle && s.server.Quiet():
		s.fatal(endShutdown, errShutdown)
	default:
		s.wake()
	}
}

// OnSettings implements pool.Client.
func (s *session) OnSettings(refusal *pgwire.Error) {
	switch {
	case refusal != nil:
		s.fatal(endSettings, refusal)
	case s.state == stateLoggingIn:
		s.welcomeFrom(s.server)
	}
}

// OnReleased implements pool.Client.
func (s *session) OnReleased() {
	s.server = nil
	s.repliesPaused = false
	if s.proxy.draining {
		s.drain()
	}
	if s.state == stateReady {
		s.wake()
	}
}

// OnServerLost implements pool.Client. Outside a transaction the client is told in
// answer to each query under way, and keeps its connection; inside one the
// transaction is lost, and with it the connection.
func (s *session) OnServerLost(loss pool.Loss) {
	if s.place != nil { // it was not used yet
		s.place = nil
		s.wake()
		return
	}
	s.server = nil
	s.repliesPaused = false
	switch {
	case s.state != stateReady:
		s.fatal(endRefused, loss.Cause)
		return
	case loss.MidMessage:
		s.conn.Abort() // an error in the middle of a message would be read as part of it
		s.end(endServerLost, loss.Cause.Message)
		return
	case loss.InTransaction, loss.State, s.transaction.open(), s.pool.Mode() == pool.ModeSession:
		s.fatal(endServerLost, loss.Cause)
		return
	}
	s.answerLoss(loss)
}

// answerLoss answers the groups that were under way.
func (s *session) answerLoss(loss pool.Loss) {
	s.OnFailed()
	s.discarding, s.changes = false, nil
	s.statements.undo(s.pool.Registry(), loss.LowestTag)
	s.statements.settle(s.pool.Registry())
	s.statements.long = false
	s.streamDropped = true
	e := asError(loss.Cause)
	for i := range loss.GroupCount {
		if i > 0 || !loss.FirstHasError {
			s.answerError(e)
		}
		s.groupsAnswered++
		s.conn.Write(pgwire.AppendReadyForQuery(s.proxy.scratch[:0], pgwire.TxIdle))
	}
	if loss.Partial {
		if loss.GroupCount > 0 || !loss.FirstHasError {
			s.answerError(e)
		}
		s.skipToSync = true
	}
	if s.proxy.draining {
		s.fatal(endShutdown, errShutdown)
		return
	}
	s.wake()
}

// settle makes final what the groups of a lease have changed, when the server owes
// nothing any more.
func (s *session) settle() {
	if s.server == nil || !s.server.Quiet() {
		return
	}
	s.statements.settle(s.pool.Registry())
	s.discarding = false
	if s.changes != nil && s.server.TxStatus() == pgwire.TxIdle { // portals end with their transaction
		s.changes.bound = nil
	}
}

// OnServerDrain implements pool.Client.
func (s *session) OnServerDrain() {
	s.settle()
	s.wake()
}
