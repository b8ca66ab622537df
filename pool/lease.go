package pool

import (
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// This file is what a client may do with the server that it holds. Every message
// to the server is announced in the expected-reply queue in the order in which it
// is written.

// maxReplies bounds the expected-reply queue: what a client may pipeline before
// the server answers.
const maxReplies = 64 << 10

// Congested reports that the server should not be sent more for now: it does not
// read, or owes too many replies. OnServerDrain follows.
func (s *Server) Congested() bool {
	s.throttled = s.throttled || s.replies.count >= maxReplies
	return s.throttled || s.conn.BufferedBytes() > reactor.HighWaterBytes
}

// Skipping reports that an error came for the group at hand: the server drops
// what it is sent until Sync, so the client need not send it.
func (s *Server) Skipping() bool { return s.skipping }

// Failing reports that an error came for the group that is being answered: what it has set is
// as it was before.
func (s *Server) Failing() bool { return s.headHasError }

// CopyIn reports that the server is reading COPY data from the client.
func (s *Server) CopyIn() bool { return s.copyIn }

// TxStatus is the transaction status in the last ReadyForQuery.
func (s *Server) TxStatus() pgwire.TxStatus { return s.txStatus }

// InTransaction reports that the client is in a transaction block, or may be when the server
// comes to what it is sent next.
func (s *Server) InTransaction() bool { return s.txStatus != pgwire.TxIdle || s.beginning }

// Quiet reports that the server owes nothing and is between groups.
func (s *Server) Quiet() bool { return s.groups.count == 0 }

// PinLongStatement keeps the server with the client across transactions while on is
// true, for an unnamed statement that is too long to be kept.
func (s *Server) PinLongStatement(on bool) {
	s.pins &^= StateLongStatement
	if on {
		s.pins |= StateLongStatement
	}
}

// PID is the process id of the server.
func (s *Server) PID() uint32 { return s.cancelPID }

// Pins is what keeps the client on the server across transactions.
func (s *Server) Pins() StateSet { return s.pins }

// BetweenGroups reports that every message sent so far belongs to a group that is
// complete.
func (s *Server) BetweenGroups() bool { return !s.partial }

// Unconfirmed reports that the next group has to wait: an error in those under way
// would change which statements the server has, or one of them is to be run again.
func (s *Server) Unconfirmed() bool {
	g := s.groups.head()
	return s.unconfirmed > 0 || g != nil && g.again != AgainNot
}

// AwaitsClient reports that the server can do nothing before the client sends more:
// the rest of a message, of a group, or of the data of a COPY.
func (s *Server) AwaitsClient() bool {
	return s.conn.BufferedBytes() == 0 && (s.unsentBytes > 0 || s.copyIn || s.partial && s.replies.count == 0)
}

// MidMessage reports that a part of a message has been passed on to the client.
func (s *Server) MidMessage() bool { return s.streaming > 0 && s.streamForward && !s.batched() }

// Contended reports that others wait while this lease has had a fair share of
// groups: the client should start no new one that is not part of a transaction.
func (s *Server) Contended() bool {
	last := s.groups.last()
	return last != nil && (last.client != nil || s.inspection.active) && s.pool.gate.Waiting() > 0 && s.pool.config.Mode != ModeSession && s.pins&^StateSequences == 0
}

// PauseReplies and ResumeReplies stop and start reading from the server, for a
// client that does not take what it gets.
func (s *Server) PauseReplies() { s.conn.PauseRead() }

// ResumeReplies undoes PauseReplies.
func (s *Server) ResumeReplies() { s.conn.ResumeRead() }

// Forward sends bytes of frontend messages as they are: one whole message, or a
// part of one. What answers it has to be announced with Expect.
func (s *Server) Forward(b []byte) {
	s.conn.Write(b)
	s.batchBytes += len(b)
	s.pool.stats.ReceivedBytes += uint64(len(b))
}

// Unsent tells that restBytes are to come of a message of which the beginning has
// been sent. They follow with ForwardRest; until then the lease does not end.
func (s *Server) Unsent(messageType byte, restBytes int) {
	s.unsentType, s.unsentBytes = messageType, restBytes
}

// ForwardRest sends more of a message that was begun. The lease may end in it.
func (s *Server) ForwardRest(b []byte) {
	s.Forward(b)
	s.unsentBytes -= len(b)
	s.releaseIfDone()
}

// Expect announces what the message just sent is answered with.
func (s *Server) Expect(kind ReplyKind) {
	if kind == ReplySync && s.copyIn {
		return // PostgreSQL ignores a Sync while it reads COPY data
	}
	s.expect(reply{kind: kind})
}

func (s *Server) expect(r reply) {
	s.begin()
	s.fresh = false
	s.replies.push(r)
	if r.statement != nil && r.mode != synthesize && (r.kind == ReplyParse || r.kind == ReplyClose) {
		s.unconfirmed++
	}
	if r.kind.endsGroup() {
		s.partial, s.skipping = false, false
		s.pool.stats.QueryCount++
		s.probe()
	}
}

// begin makes sure that what is sent next belongs to a group.
func (s *Server) begin() *group {
	if !s.partial {
		s.partial, s.fresh = true, true
		if s.readingChanged && s.groups.count > 0 { // the group in front may end the transaction
			s.changeReading(ReadingReported)
		}
		g := s.groups.push()
		g.client, g.startedAt = s.client, s.pool.now()
		s.served = s.served || s.client != nil
	}
	return s.groups.last()
}

// Flush sends a Flush, which nothing answers.
func (s *Server) Flush() {
	s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Flush))
	s.eager = true
	if s.streaming == 0 {
		s.passSynthesized()
	}
}

// CopyEnd announces that the client has ended the COPY with the CopyDone or
// CopyFail that is being forwarded.
func (s *Server) CopyEnd() {
	if last := s.replies.last(); !s.copyIn && last != nil {
		last.copyEnded = true
	}
	s.copyIn = false
}

// Adopt gives the server the client's settings if it has others. The queries it
// takes are pipelined in front of what the client sends next; it reports whether
// there are any. OnSettings tells how they went.
func (s *Server) Adopt(settings *Settings) bool {
	if s.settings == settings {
		return false
	}
	sql, changes := appendSwitch(nil, s.settings, settings)
	if len(sql) == 0 {
		s.settings = settings
		return false
	}
	s.previousSettings, s.settings, s.switching = s.settings, settings, nil
	if !settings.Accepted() {
		s.switching = changes
	}
	s.inject(string(sql), purposeSettings)
	return true
}

// Restore gives the server settings of the client's login that the client has reset, the
// local ones for the transaction.
func (s *Server) Restore(settings, local []Setting) {
	switch {
	case len(settings)+len(local) == 0:
	case s.txStatus == pgwire.TxIdle:
		s.inject(string(appendSet(nil, settings, false)), purposeRestore)
	default:
		s.ownGroup(purposeRestore, func() {
			for _, e := range local {
				s.sendUnnoticed(string(appendSetAlone(nil, e, true)), purposeRestore)
			}
			for _, e := range settings {
				s.sendUnnoticed(string(appendSetAlone(nil, e, false)), purposeRestore)
			}
		})
	}
}

// BeginTransaction sends the BEGIN that the client was answered before it had a
// server, in front of what it sends next.
func (s *Server) BeginTransaction(text string) {
	if mutantForgetBegin {
		return
	}
	s.beginPending = true
	s.inject(text, purposeBegin)
}

// SettingsChanged tells that the settings which the server has are now these,
// because the client's own statement changed them.
func (s *Server) SettingsChanged(settings *Settings) { s.settings = settings }

// Parse prepares a statement for the client, whose name for it is kept by the
// client. A server that has it already is not asked. tag is the client's number
// for the change.
func (s *Server) Parse(statement *Statement, tag uint32) {
	s.pool.stats.ParseCount++
	s.prepared.renew(statement)
	known := s.prepared.use(statement, s.lease, s.meaning()) ||
		s.txStatus != pgwire.TxFailed && statement.knownTo(s.pool, s.meaning()) != nil
	if known {
		s.expect(reply{kind: ReplyParse, mode: synthesize, tag: tag})
		return
	}
	s.sendParse(statement, reply{kind: ReplyParse, tag: tag, statement: statement})
}

// TryParse has the server parse a statement that it may know, for the error that it may
// have, which the client is told in place of what its own message is answered with: in a
// transaction that has failed most are refused.
func (s *Server) TryParse(body []byte) {
	b := append(pgwire.AppendHeader(s.scratch(), pgwire.Parse, 1+len(body)), 0)
	s.write(append(b, body...))
	s.expect(reply{kind: ReplyParse, mode: swallow})
}

// CloseStatement answers a Close for a statement that the client has given up;
// the server keeps it for others.
func (s *Server) CloseStatement(tag uint32) {
	s.expect(reply{kind: ReplyClose, mode: synthesize, tag: tag})
}

// ParseUnnamed begins to send a Parse of the server's own unnamed statement, for a
// text too long to be kept: body is what is at hand of bodyBytes, the message
// without header and name. The rest is sent with Forward.
func (s *Server) ParseUnnamed(body []byte, bodyBytes int, tag uint32) {
	s.write(append(pgwire.AppendHeader(s.scratch(), pgwire.Parse, 1+bodyBytes), 0))
	s.Forward(body)
	s.pool.stats.ParseCount++
	s.pool.stats.ServerParseCount++
	s.expect(reply{kind: ReplyParse, tag: tag})
}

// Deallocate answers a query that gave up a statement in SQL; the server keeps it
// for others.
func (s *Server) Deallocate(tag uint32) {
	s.expect(reply{kind: ReplyExecute, mode: synthesize, tag: tag})
	s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Sync))
	s.expect(reply{kind: ReplySync})
}

// Bind sends a Bind of the statement, which Prepare has prepared: the portal's name with its terminator, and
// as much of what follows the statement's name as is at hand, of restBytes in
// all. The rest is sent with Forward.
func (s *Server) Bind(portal []byte, statement *Statement, rest []byte, restBytes int) {
	b := pgwire.AppendHeader(s.scratch(), pgwire.Bind, len(portal)+len(statement.Name)+1+restBytes)
	b = append(b, portal...)
	b = append(append(b, statement.Name...), 0)
	s.write(b)
	s.Forward(rest)
	s.pool.stats.BindCount++
	s.expect(reply{kind: ReplyBind, statement: statement})
}

// DescribeStatement sends a Describe of the statement. told is the client's number
// for it.
func (s *Server) DescribeStatement(statement *Statement, told uint32) {
	s.prepared.renew(statement)
	s.Prepare(statement)
	s.sendDescribe(statement, reply{kind: ReplyDescribe, statement: statement, told: told, epoch: s.prepared.epoch(statement)})
}

// AnswerDescribe answers a Describe without the server.
func (s *Server) AnswerDescribe(description []byte) {
	s.expect(reply{kind: ReplyDescribe, mode: synthesize, description: string(description)})
}

// DescribeFailed answers a Describe of the statement in a transaction that has failed,
// where PostgreSQL prepares nothing and describes only what returns no rows. It reports false
// if the statement returns rows, or nobody knows that it does not.
func (s *Server) DescribeFailed(statement *Statement, told uint32) bool {
	if s.prepared.has(statement) {
		s.sendDescribe(statement, reply{kind: ReplyDescribe, statement: statement, told: told, epoch: s.prepared.epoch(statement)})
		return true
	}
	description := statement.describedOnce(s.pool, s.clientSettings().meaning())
	if !ReturnsNothing(description) {
		return false
	}
	s.AnswerDescribe(description)
	return true
}

// LearnResult makes sure that what the statement returns will be known, because a
// client is about to rely on it, and returns what the settings mean to it.
func (s *Server) LearnResult(statement *Statement) (meaning string) {
	s.Prepare(statement)
	if s.describing == 0 && statement.described(s.pool, s.meaning()) == nil {
		s.sendOwnDescribe(reply{statement: statement})
	}
	return s.meaning()
}

// Ready makes sure that the server has a statement of which the client was told, under
// settings with that meaning, what it returns, and knows what that is now: PostgreSQL
// would not let it change. While it reports false the client waits for OnServerDrain.
func (s *Server) Ready(statement *Statement, told string) bool {
	s.Prepare(statement)
	if told != s.meaning() && s.prepared.compare(statement, told) {
		s.sendOwnDescribe(reply{statement: statement, compared: true, meaning: told})
	}
	if s.describing > 0 && !s.describeFlushed {
		s.describeFlushed = true
		s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Flush))
	}
	return s.describing == 0
}

// Differs reports whether the statement, which is Ready, returns something else than
// what the client was told.
func (s *Server) Differs(statement *Statement, told string) bool {
	known, _ := s.prepared.lru.Peek(statement.ID)
	return told != s.meaning() && known.differs && known.comparedWith == told
}

func (s *Server) sendDescribe(statement *Statement, r reply) {
	if !r.compared {
		r.meaning = s.meaning()
	}
	b := append(pgwire.AppendHeader(s.scratch(), pgwire.Describe, len(statement.Name)+2), pgwire.KindStatement)
	s.write(append(append(b, statement.Name...), 0))
	s.expect(r)
}

// Prepare sends the statement in front of a message that needs it, unless the server has
// it. If PostgreSQL refuses it, that is the answer to the client's message.
func (s *Server) Prepare(statement *Statement) {
	if s.keeps(statement) || s.prepared.use(statement, s.lease, s.meaning()) {
		return
	}
	mode := swallow
	if mutantForwardInjected {
		mode = forward
	}
	s.sendParse(statement, reply{kind: ReplyParse, mode: mode, statement: statement})
}

func (s *Server) sendParse(statement *Statement, r reply) {
	if s.prepared.takeStale(statement) {
		s.sendClose(statement, unknownMeaning)
	}
	named := (s.pins|s.suspected)&StateTemporary != 0 // a new one would be about other tables
	for evicted := s.prepared.evictable(s.lease, named); evicted != nil; evicted = s.prepared.evictable(s.lease, named) {
		meaning := s.prepared.meaning(evicted)
		s.prepared.remove(evicted)
		s.sendClose(evicted, meaning)
	}
	s.askReading(statement)
	otherReading := s.beginReading(statement)
	s.writeParse(statement.Name, statement.Body)
	r.meaning = s.meaning()
	s.prepared.add(statement, s.lease, r.meaning)
	s.noteStay(statement)
	s.pool.stats.ServerParseCount++
	s.expect(r)
	if otherReading {
		s.endReading()
	}
	// If somebody was told what it returns that must not change unnoticed. A transaction that
	// has failed, in which nothing is prepared, may have to be told that it is nothing.
	if statement.Unclear || statement.described(s.pool, s.meaning()) != nil {
		s.sendOwnDescribe(reply{statement: statement})
	}
}

// writeParse writes a Parse message.
func (s *Server) writeParse(name, body string) {
	b := pgwire.AppendHeader(s.scratch(), pgwire.Parse, len(name)+1+len(body))
	b = append(append(b, name...), 0)
	s.write(append(b, body...))
}

// sendOwnDescribe asks what a statement returns, for nobody in particular.
func (s *Server) sendOwnDescribe(r reply) {
	r.kind, r.mode = ReplyDescribe, swallow
	s.sendDescribe(r.statement, r)
	s.describing++
	s.describeFlushed = false
}

// sendClose makes the server forget a statement, prepared under that meaning.
func (s *Server) sendClose(statement *Statement, meaning string) {
	s.write(pgwire.AppendClose(s.scratch(), pgwire.KindStatement, statement.Name))
	s.expect(reply{kind: ReplyClose, mode: swallow, statement: statement, meaning: meaning})
}

// DistrustPrepared has every statement that the server has closed before it is prepared
// again: the client's may have taken it away.
func (s *Server) DistrustPrepared() {
	for _, id := range s.prepared.lru.Keys() {
		known, _ := s.prepared.lru.Peek(id)
		s.prepared.markStale(known.statement)
	}
}

// Fail makes the group at hand fail with e, in order and with every effect of an
// error on the transaction, for a message that PostgreSQL would refuse but that
// cannot be sent to it as it is: a message that PostgreSQL refuses for certain goes
// in its place.
func (s *Server) Fail(e *pgwire.Error) {
	b := append(pgwire.AppendHeader(s.scratch(), pgwire.Describe, len(refusedPortal)+2), pgwire.KindPortal)
	s.write(append(append(b, refusedPortal...), 0))
	s.expect(reply{kind: ReplyDescribe, substitute: e})
}

// refusedPortal is the name of a portal that does not exist.
const refusedPortal = "bp_refused"

// inject sends a query of the pool's own.
func (s *Server) inject(sql string, purpose purpose) {
	s.write(pgwire.AppendQuery(s.scratch(), sql))
	g := s.groups.push()
	g.own, g.startedAt = true, s.pool.now()
	s.replies.push(reply{kind: ReplyQuery, mode: swallow, purpose: purpose})
}

// injectUnnoticed sends a query of the pool's own that leaves the client's unnamed
// portal alone, which a simple query drops.
func (s *Server) injectUnnoticed(sql string, purpose purpose) {
	s.ownGroup(purpose, func() { s.sendUnnoticed(sql, purpose) })
}

// inFront sends something in front of the client's group at hand, if nothing has been sent
// of that.
func (s *Server) inFront(send func()) {
	if !s.partial || !s.fresh {
		send()
		return
	}
	g := s.groups.takeLast()
	s.partial = false
	send()
	*s.groups.push() = g
	s.partial, s.fresh = true, true
}

// ownGroup sends messages of the pool's own: as a group, unless the client is in the
// middle of one.
func (s *Server) ownGroup(purpose purpose, send func()) {
	s.inFront(func() { s.ownGroupHere(purpose, send) })
}

func (s *Server) ownGroupHere(purpose purpose, send func()) {
	if s.partial {
		send()
		return
	}
	g := s.groups.push()
	g.own, g.startedAt = true, s.pool.now()
	s.partial = true
	send()
	s.partial = false
	s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Sync))
	s.replies.push(reply{kind: ReplySync, mode: swallow, purpose: purpose})
}

// sendUnnoticed sends a statement of the pool's own in the middle of a group.
func (s *Server) sendUnnoticed(sql string, purpose purpose) {
	s.openOwn(sql, purpose)
	s.executeOwn(0, reply{purpose: purpose})
	s.closeOwn(purpose)
}

// ownName is the name of a statement of the pool's own, and of its portal.
const ownName = "bp_own"

// openOwn opens a portal of a statement of the pool's own.
func (s *Server) openOwn(sql string, purpose purpose) {
	s.fresh = false
	b := pgwire.AppendClose(s.scratch(), pgwire.KindStatement, ownName) // an error may have kept the last one
	b = pgwire.AppendMessage(b, pgwire.Parse, []byte(ownName+"\x00"+sql+"\x00\x00\x00"))
	s.write(pgwire.AppendMessage(b, pgwire.Bind, []byte(ownName+"\x00"+ownName+"\x00\x00\x00\x00\x00\x00\x00")))
	for _, kind := range []ReplyKind{ReplyClose, ReplyParse, ReplyBind} {
		s.replies.push(reply{kind: kind, mode: swallow, purpose: purpose})
	}
}

// executeOwn runs it for as many rows, 0 for all. r is what is known of the reply.
func (s *Server) executeOwn(rows byte, r reply) {
	s.write(pgwire.AppendMessage(s.scratch(), pgwire.Execute, append([]byte(ownName), 0, 0, 0, 0, rows)))
	r.kind, r.mode = ReplyExecute, swallow
	s.replies.push(r)
}

// closeOwn closes the portal, which would be there until the transaction ends.
func (s *Server) closeOwn(purpose purpose) {
	s.write(pgwire.AppendClose(s.scratch(), pgwire.KindPortal, ownName))
	s.replies.push(reply{kind: ReplyClose, mode: swallow, purpose: purpose})
}

// scratch is an empty slice to build a message in; it is valid until the next
// call.
func (s *Server) scratch() []byte { return s.pool.pools.scratch[:0] }

// write sends what was built in scratch, and keeps its storage if it has grown.
func (s *Server) write(b []byte) {
	s.conn.Write(b)
	s.batchBytes += len(b)
	if cap(b) <= maxScratchBytes {
		s.pool.pools.scratch = b
	}
}

const maxScratchBytes = 64 << 10
