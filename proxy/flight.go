package proxy

import (
	"bytes"
	"encoding/binary"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file is how a session that has to wait for a place on a shared server follows one
// that waits to ask the same, and does with the answer what it would have done with its
// own.

// following is what a session keeps for that. Its group stays in front of the input.
type following struct {
	group      uint64 // the one for which it has followed last, as counted by groupsAnswered
	groupBytes int
	statement  *pool.Statement // that is bound, nil if it is a simple query
	epoch      uint32          // of the statement

	failed   bool // so it is not to follow for that again
	answered bool // the group at hand has been, and is not consumed yet
}

// hasFollowed reports whether the session has followed another for the group at hand.
func (s *session) hasFollowed() bool {
	return s.following != nil && s.following.group == s.groupsAnswered+1
}

// isAnswered reports whether the answer to the group at hand has come from another's.
func (s *session) isAnswered() bool { return s.following != nil && s.following.answered }

// askForPlace returns the shared server for a group; nil if the session has to wait for
// that, or for the answer to another.
func (s *session) askForPlace(group []byte, work groupWork) *pool.Server {
	told, joinable := s.announce(group, work), s.joinable(group)
	if server := s.pool.ShareAtOnce(s.settings, told.Expected, joinable); server != nil {
		return server
	}
	question := s.question(group, work)
	if len(question) > 0 && s.pool.Follow(&s.waiter, s.settings, told, question) {
		if s.following == nil {
			s.following = new(following)
		}
		f := s.following
		f.group, f.groupBytes, f.statement, f.failed = s.groupsAnswered+1, len(group), nil, false
		if group[0] != pgwire.Query {
			f.statement, f.epoch = work.statement, work.statement.Epoch
		}
		return nil
	}
	server := s.pool.Share(&s.waiter, s.settings, told, joinable)
	if len(question) > 0 && s.waiter.Waiting() {
		s.pool.Lead(&s.waiter, question)
	}
	return server
}

// question returns what a group that may share a server asks, so that whoever asks the
// same with the same settings gets the same answer, and knows the same when it has come;
// nil if that is not certain. It is valid until scratch is used.
func (s *session) question(group []byte, work groupWork) []byte {
	if !s.proxy.config.CoalesceReads || s.runs > 0 || s.hasFollowed() && s.following.failed || len(group) > pool.MaxQuestionBytes {
		return nil
	}
	question, last := s.proxy.scratch[:0], byte(0)
	for messageType, body := range messages(group) {
		switch {
		case messageType == pgwire.Query && last == 0:
			if samples(body) || s.effectsOf(body) != nil {
				return nil
			}
		case messageType == pgwire.Parse && last == 0 && isUnnamed(body):
			body = nil // the statement tells
		case messageType == pgwire.Bind && (last == 0 || last == pgwire.Parse) && isUnnamed(body):
			name, parameters, ok := pgwire.CString(body[1:])
			if !ok || last == pgwire.Parse && len(name) > 0 || !s.mayFollowWith(name, work.statement) {
				return nil
			}
			question = binary.BigEndian.AppendUint64(question, uint64(work.statement.ID))
			body = parameters
		case messageType == pgwire.Describe && last == pgwire.Bind && string(body) == unnamedPortal:
		case messageType == pgwire.Execute && (last == pgwire.Bind || last == pgwire.Describe):
		case messageType == pgwire.Sync && last == pgwire.Execute:
		default:
			return nil
		}
		question = binary.BigEndian.AppendUint32(append(question, messageType), uint32(len(body)))
		question = append(question, body...)
		last = messageType
	}
	s.proxy.scratch = question
	return question
}

// isUnnamed reports whether a message is about the statement, or portal, without a name.
func isUnnamed(body []byte) bool { return len(body) > 0 && body[0] == 0 }

// unnamedPortal is the body of a Describe of the portal without a name.
const unnamedPortal = string(pgwire.KindPortal) + "\x00"

// mayFollowWith reports whether what the client has been told of the statement of that
// name, if it relies on it, is so.
func (s *session) mayFollowWith(name []byte, statement *pool.Statement) bool {
	s.facts(statement)
	named := s.statements.lookup(name)
	return statement.Effects == nil && !samples([]byte(statementText(statement))) &&
		(!named.relies(false) || named.meaning == s.settings.Meaning() && !named.outdated(named.statement.Epoch, false))
}

// samples reports whether a text may choose rows by chance. What else does, no text of
// classRead calls.
// See https://www.postgresql.org/docs/current/sql-select.html#SQL-FROM
func samples(text []byte) bool {
	for {
		i := bytes.IndexAny(text, "tT")
		if i < 0 {
			return false
		}
		if text = text[i:]; hasFold(text, "tablesample") {
			return true
		}
		text = text[1:]
	}
}

// OnAnswer implements pool.Client. There is room for the reply: a client that does not read
// asks for nothing.
func (s *session) OnAnswer(reply []byte) (taken bool) {
	f := s.following
	if f.statement != nil && f.statement.Epoch != f.epoch {
		return false // what it returns has changed
	}
	f.answered = true
	s.OnReply(reply)
	s.OnSharedEnd()
	return true
}

// OnAlone implements pool.Client.
func (s *session) OnAlone(failed bool) {
	s.following.failed = failed
	s.wake()
}

// consumeAnswered consumes the group at the beginning of b, to which the answer has come,
// and notes what it has changed.
func (s *session) consumeAnswered(b []byte) int {
	f := s.following
	f.answered = false
	registry := s.pool.Registry()
	var name []byte
	for messageType, body := range messages(b[:f.groupBytes]) {
		switch messageType {
		case pgwire.Query:
			s.statements.dropUnnamed(registry)
		case pgwire.Parse:
			definition := body[1:]
			if s.statements.unnamed.statement != f.statement {
				statement := registry.Reference(s.reading(definition), definition)
				s.facts(statement)
				s.statements.set(nil, statement)
				s.statements.settle(registry)
			}
		case pgwire.Bind:
			name, _, _ = pgwire.CString(body[1:])
		case pgwire.Describe:
			if len(name) > 0 {
				s.statements.toldPortal(name, f.epoch, s.settings.Meaning())
			}
		}
	}
	f.statement = nil
	return f.groupBytes
}
