package proxy

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// messages yields the messages of a complete group, whose framing has been
// checked: type and body.
func messages(group []byte) iter.Seq2[byte, []byte] {
	return func(yield func(byte, []byte) bool) {
		for len(group) >= pgwire.HeaderBytes {
			size := 1 + int(binary.BigEndian.Uint32(group[1:]))
			if !yield(group[0], group[pgwire.HeaderBytes:size]) {
				return
			}
			group = group[size:]
		}
	}
}

// groupWork is what is known of a group before it is run.
type groupWork struct {
	// timing is of its one statement, nil if it has more or is not known.
	timing *pool.Timing

	// readOnly: it is one statement that reads, and may be run twice.
	readOnly bool

	statement *pool.Statement

	// parameterized: it is a simple query, to be sent as an execution of the statement.
	parameterized bool
}

// examine finds out what a complete group does, and whether it may share a server:
// one statement that only reads, all of it asked for, and known to be fast.
func (s *session) examine(group []byte) (work groupWork, shareable bool) {
	if len(group) == 0 {
		return groupWork{}, false
	}
	executions, queries, binds, plain := 0, 0, 0, true
	var parsed *pool.Statement
	var parsedName, portal []byte
	hasParse := false
	for messageType, body := range messages(group) {
		switch messageType {
		case pgwire.Query:
			executions++
			queries++
			text, rest, _ := pgwire.CString(body)
			if s.classOf(text) != classRead {
				continue
			}
			work.readOnly = true
			if work.statement = s.parameterized(text, rest); work.statement != nil {
				work.parameterized = s.runs == 0 && !work.statement.Timing.AsWritten()
			} else {
				work.timing = &s.proxy.queryKinds.of(text).timing
			}
		case pgwire.Parse:
			name, definition, _ := pgwire.CString(body)
			plain = plain && !hasParse && (len(name) == 0 || s.statements.get(name) == nil)
			hasParse, parsedName, parsed = true, name, s.lookup(definition)
		case pgwire.Bind:
			binds++
			var rest []byte
			portal, rest, _ = pgwire.CString(body)
			name, _, _ := pgwire.CString(rest)
			named := s.statements.lookup(name)
			work.statement = named.statement
			plain = plain && (!named.relies(false) || named.meaning == s.settings.Meaning())
			if hasParse && string(parsedName) == string(name) {
				work.statement = parsed
			}
		case pgwire.Execute:
			executions++
			executed, limit, _ := pgwire.CString(body)
			plain = plain && len(limit) == 4 && binary.BigEndian.Uint32(limit) == 0 && string(executed) == string(portal)
		case pgwire.Describe, pgwire.Sync:
		default:
			plain = false
		}
	}
	queryAlone := group[0] == pgwire.Query && binds == 0
	if executions != 1 || !queryAlone && (queries > 0 || binds != 1 || work.statement == nil) {
		return groupWork{}, false
	}
	if statement := work.statement; statement != nil {
		work.timing, work.readOnly = &statement.Timing, s.statementClass(statement) == classRead
	}
	if !work.readOnly || !plain || work.timing == nil || !s.mayShare() {
		return work, false
	}
	return work, work.timing.Fast()
}

// mayShare reports whether the session is one whose groups may share a server now.
func (s *session) mayShare() bool {
	return s.proxy.config.Pool.SharedReads && s.pool.Mode() != pool.ModeSession && !s.alone && !s.transaction.open() && !s.statements.long
}

// joinable reports whether a group that may share a server may share its Sync too. A
// simple query is then sent in the extended protocol, in which $1 has a meaning.
func (s *session) joinable(group []byte) bool {
	if s.runs > 0 || group[0] != pgwire.Query {
		return s.runs == 0
	}
	text, rest, _ := pgwire.CString(group[pgwire.HeaderBytes:])
	return len(rest) == 0 && bytes.IndexByte(text, '$') < 0
}

// takePlace returns the server that the session was given after a wait, if it still
// serves.
func (s *session) takePlace(shareable bool) *pool.Server {
	place := s.place
	s.place = nil
	switch {
	case place == nil:
	case !s.placeShared:
		return place
	case !shareable:
		place.Decline(&s.waiter)
	case place.Claim(&s.waiter):
		return place
	}
	return nil
}

// giveUpPlace gives back the server that the session was given, for one that ends.
func (s *session) giveUpPlace() {
	place := s.place
	s.place = nil
	switch {
	case place == nil:
	case s.placeShared:
		place.Decline(&s.waiter)
	default:
		place.Orphan(false)
	}
}

// lease takes over a server for a transaction, which begins with the group, empty
// if it is not at hand as a whole.
func (s *session) lease(server *pool.Server, group []byte, work groupWork) {
	server.Adopt(s.settings)
	s.separateNumbers(server, group)
	s.server, s.asks = server, true
	s.scannedBytes = 0
	alone := !s.transaction.open()
	s.transaction.start(server)
	if len(group) > 0 && alone {
		server.Begin(s, group, work.timing, false)
	}
	s.armTimer()
}

// share sends a group on a shared server.
func (s *session) share(server *pool.Server, group []byte, work groupWork) {
	s.server, s.scannedBytes, s.asks = server, 0, true
	server.Begin(s, group, work.timing, s.joinable(group))
	server.Carry(&s.waiter)
	rest := group
	if work.parameterized {
		s.sendParameterized(group, work.statement)
		rest = nil
	}
	for len(rest) > 0 {
		size := 1 + int(binary.BigEndian.Uint32(rest[1:]))
		if rest[0] == pgwire.Bind {
			s.lookAtBind(rest, size)
		}
		s.send(rest[:size], rest[0])
		rest = rest[size:]
	}
	s.server, s.shared = nil, server
	s.armTimer()
}

// OnSharedEnd implements pool.Client.
func (s *session) OnSharedEnd() {
	s.shared = nil
	s.workDone()
	s.groupsAnswered++
	s.runs, s.alone = 0, false
	s.repliesPaused = false
	s.activeAt = s.proxy.loop.Now()
	s.statements.settle(s.pool.Registry())
	if s.proxy.draining {
		s.fatal(endShutdown, errShutdown)
		return
	}
	s.wake()
}

// OnSharedLost implements pool.Client.
func (s *session) OnSharedLost(loss pool.Loss) {
	s.shared = nil
	s.repliesPaused = false
	if loss.MidMessage {
		s.conn.Abort()
		s.end(endServerLost, loss.Cause.Message)
		return
	}
	s.answerLoss(loss)
}

// maxRuns is how often a group is run before its client is told that it failed.
const maxRuns = 3

func (s *session) mayRunAgain() bool { return s.runs < maxRuns }

// OnRunAgain implements pool.Client.
func (s *session) OnRunAgain(request []byte, reason pool.AgainReason) {
	s.shared = nil
	s.repliesPaused = false
	if reason == pool.AgainWrites {
		if work, _ := s.examine(request); work.timing != nil {
			work.timing.Writes()
		}
		s.alone = true
	}
	if !s.mayRunAgain() {
		s.answerLoss(pool.Loss{
			Cause:      fatalf(pgwire.ConnectionFailure, "query was interrupted %d times by failures of the server", maxRuns),
			GroupCount: 1,
			LowestTag:  1,
		})
		return
	}
	s.runAgain(request)
}

// runAgain puts a group in front of the client's input.
func (s *session) runAgain(request []byte) {
	s.runs++
	s.alone = s.alone || s.runs > 1
	s.statements.undo(s.pool.Registry(), 1)
	s.again = append(s.again[:0], request...)
	s.scannedBytes = 0
	s.proxy.loop.Post(s.resume)
}

// cancelShared cancels the session's group on a shared server.
func (s *session) cancelShared() {
	s.OnFailed()
	if !s.shared.CancelShared(s) {
		return
	}
	s.shared = nil
	s.statements.undo(s.pool.Registry(), 1)
	s.answerError(errCanceled)
	s.answerReady()
	if s.state == stateReady {
		s.wake()
	}
}

// OnDescribed implements pool.Client.
func (s *session) OnDescribed(statement *pool.Statement, told, epoch uint32, meaning string) {
	s.statements.told(statement, told, epoch, meaning)
}

// StatementName implements pool.Client.
func (s *session) StatementName(statement *pool.Statement) string {
	for name, named := range s.statements.named {
		if named.statement == statement {
			return name
		}
	}
	return ""
}

// Described implements pool.Client.
func (s *session) Described(statement *pool.Statement, epoch uint32) bool {
	return s.statements.describedBefore(statement, epoch, s.asks)
}
