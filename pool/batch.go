package pool

import (
	"slices"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// Groups that go to a lane in one write end with one Sync, that of the last of them:
// a batch. PostgreSQL runs them in one transaction and answers them in one write,
// which takes it half the time. The clients cannot tell: each statement has a
// snapshot of its own as ever, the transaction begins after all of them have asked,
// and nobody is told anything before it has ended. If it ends with an error nobody
// hears of it: each group runs again with a Sync of its own.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING

const (
	// maxBatchCount is how many groups make a batch. More gain little, and their
	// clients ask again all at once.
	maxBatchCount = 16

	// maxBatchWork is how much work a batch may be expected to make: its first
	// client waits for its last.
	maxBatchWork = 4 * time.Millisecond

	// batchCaution is how often a statement runs on its own after it has failed in a
	// batch, or had a long reply.
	batchCaution = 64
)

// beginBatch notes that the group that comes next is the first of a batch. While
// PostgreSQL is at another the batch is not sent: more may join it.
func (s *Server) beginBatch(expected time.Duration, joinable bool) {
	s.batchBytes, s.batchWork, s.batchCount = s.conn.BufferedBytes(), expected, 1
	if joinable && s.groups.count > 0 && s.batchBytes == 0 {
		s.conn.Hold(true)
	}
}

// open reports whether a group with so much work may join the one sent last: nothing
// of the batch has been sent.
func (s *Server) open(expected time.Duration) bool {
	last := s.groups.last()
	return last != nil && last.joinable && !s.partial && s.batchCount < maxBatchCount &&
		s.batchWork+expected <= maxBatchWork && s.conn.BufferedBytes() == s.batchBytes
}

// join makes the group that comes next share the Sync of the one sent last, and
// reports whether it can.
func (s *Server) join(expected time.Duration) bool {
	if !s.open(expected) {
		return false
	}
	last := s.groups.last()
	unsaid := pgwire.HeaderBytes // of a Sync
	if last.simple() {
		unsaid = len(last.request)
	}
	if !s.conn.Retract(unsaid) {
		return false
	}
	s.batchBytes -= unsaid
	s.batchWork += expected
	s.batchCount++
	s.replies.removeLast()
	if last.simple() {
		s.extend(last)
	}
	s.replies.push(reply{kind: replyJoined})
	last.joined = true
	return true
}

// Query sends a simple query, message.
func (s *Server) Query(message []byte) {
	if g := s.groups.last(); s.partial && g.joinable && s.batchCount > 1 {
		s.extend(g)
		s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Sync))
		s.Expect(ReplySync)
		return
	}
	s.Forward(message)
	s.Expect(ReplyQuery)
}

// extend sends a simple query of one statement in the extended protocol, which can
// share a Sync. The replies are the same but for two that are dropped.
func (s *Server) extend(g *group) {
	g.extended = true
	text := g.request[pgwire.HeaderBytes:]
	b := append(pgwire.AppendHeader(s.scratch(), pgwire.Parse, 1+len(text)+2), 0) // no name
	b = append(append(b, text...), 0, 0)                                          // no types
	b = append(b, bindExecute...)
	s.write(b)
	s.replies.push(reply{kind: ReplyParse, mode: swallow})
	s.replies.push(reply{kind: ReplyBind, mode: swallow})
	s.replies.push(reply{kind: ReplyDescribe})
	s.replies.push(reply{kind: ReplyExecute})
}

// Execute sends a simple query as an execution of the statement, which returns what the
// query would. parameters is what a Bind has behind the names.
func (s *Server) Execute(statement *Statement, parameters []byte) {
	g := s.groups.last()
	g.extended, g.parameterized = true, statement
	s.pool.stats.ParameterizedReads++
	s.Prepare(statement)
	b := append(pgwire.AppendHeader(s.scratch(), pgwire.Bind, 1+len(statement.Name)+1+len(parameters)), 0) // no portal
	b = append(append(b, statement.Name...), 0)
	b = append(append(b, parameters...), executeSync...)
	s.write(b)
	mode := swallow
	if mutantForwardBind {
		mode = forward
	}
	s.expect(reply{kind: ReplyBind, mode: mode, statement: statement})
	s.expect(reply{kind: ReplyDescribe})
	s.expect(reply{kind: ReplyExecute})
	s.expect(reply{kind: ReplySync})
}

// executeSync is a Describe of the portal without a name, an Execute of all of it and a
// Sync.
var executeSync = slices.Concat(
	pgwire.AppendMessage(nil, pgwire.Describe, []byte{pgwire.KindPortal, 0}),
	pgwire.AppendMessage(nil, pgwire.Execute, make([]byte, 1+4)),
	pgwire.AppendEmpty(nil, pgwire.Sync),
)

// bindExecute is a Bind of the unnamed statement without parameters and with results
// as text, a Describe of the portal and an Execute of all of it.
var bindExecute = slices.Concat(
	pgwire.AppendMessage(nil, pgwire.Bind, make([]byte, 1+1+2+2+2)),
	pgwire.AppendMessage(nil, pgwire.Describe, []byte{pgwire.KindPortal, 0}),
	pgwire.AppendMessage(nil, pgwire.Execute, make([]byte, 1+4)),
)

// simple reports whether the group is a query in the simple protocol, and sent so.
func (g *group) simple() bool {
	return len(g.request) > 0 && g.request[0] == pgwire.Query && !g.extended
}

// answered returns the group whose replies come now, or nil.
func (s *Server) answered() *group {
	if s.groups.count == 0 {
		return nil
	}
	return s.groups.at(s.answering)
}

// batched reports whether the group whose replies come now shares its Sync.
func (s *Server) batched() bool {
	return s.answering > 0 || s.groups.count > 0 && s.groups.at(0).joined
}

// headCount is how many groups end with the next ReadyForQuery.
func (s *Server) headCount() int {
	if s.groups.count == 0 {
		return 0
	}
	count := 1
	for s.groups.at(count - 1).joined {
		count++
	}
	return count
}

// nextAnswered goes on to the next group of the batch when the replies of one are
// complete.
func (s *Server) nextAnswered() {
	for head := s.replies.head(); head != nil && head.kind == replyJoined; head = s.replies.head() {
		s.replies.pop()
		s.groups.at(s.answering).heldEnd = len(s.held)
		s.answering++
		s.substantial = false
	}
}

// holdBatched keeps replies to a group until the batch has ended. If they are too long
// everybody asks again: nothing of a batch is passed on before its end.
func (s *Server) holdBatched(g *group, b []byte) {
	switch {
	case g.again != AgainNot:
	case len(s.held)+len(b) <= maxHeldBytes:
		s.held = append(s.held, b...)
	default:
		g.timed.alone = batchCaution
		s.breakBatch()
	}
}

// breakBatch has every group of the batch run again.
func (s *Server) breakBatch() {
	s.held = s.held[:0]
	for i := range s.headCount() {
		if g := s.groups.at(i); g.again == AgainNot {
			g.again = AgainAlone
		}
	}
}

// batchFailed acts on an error in a batch.
func (s *Server) batchFailed(e *pgwire.Error) {
	s.passSynthesized()
	g, asked := s.answered(), s.replies.firstAsked()
	if g.again == AgainNot {
		if g.again = s.notTheClients(g, asked, e); g.again == AgainNot {
			s.distrust(g)
		}
	}
	s.breakBatch()
	if !asked.kind.endsGroup() {
		s.skipToSync()
	}
}

// batchDone ends the groups of a batch.
func (s *Server) batchDone(head reply, count int) {
	now, begin := s.pool.now(), 0
	share := (now - s.groups.at(0).startedAt) / time.Duration(count)
	s.answering = 0
	for i := range count {
		g := s.groups.pop()
		end := g.heldEnd
		if i == count-1 {
			end = len(s.held)
		}
		if g.client != nil && g.again == AgainNot {
			s.pool.stats.SentBytes += uint64(end - begin)
			g.client.OnReply(s.held[begin:end])
			if i < count-1 {
				g.client.OnReply(readyIdle)
			}
		}
		begin = end
		g.startedAt = now - share
		s.groupDone(head, g)
	}
	s.held = s.held[:0]
}

var readyIdle = pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)
