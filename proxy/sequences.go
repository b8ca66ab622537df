package proxy

import (
	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// separateNumbers has the server forget the sequence numbers of other clients in front of a
// group, empty if it is not at hand as a whole, behind which PostgreSQL may not have taken a
// snapshot: SET TRANSACTION may follow on that, with what asks for numbers in the same query.
// It reports false while that has to wait for what was sent before.
// See https://www.postgresql.org/docs/current/sql-set-transaction.html
func (s *session) separateNumbers(server *pool.Server, group []byte) bool {
	first := s.server == nil
	if !server.OthersNumbers() || !first && server.TxStatus() != pgwire.TxIdle {
		return true
	}
	plain, begins := s.opening(group)
	switch {
	case first && s.transaction.open():
		server.SeparateNumbers(plain)
	case first:
		server.SeparateNumbers(begins)
	case begins:
		if server.UnansweredGroups() > 0 {
			return false
		}
		server.SeparateNumbers(true)
	}
	return true
}

// opening tells of the first statement of a group whether it is plain, which one that is not
// at hand may be, and whether it begins a transaction.
func (s *session) opening(group []byte) (plain, begins bool) {
	messageType, size, _ := pgwire.PeekFrontend(group)
	if size == 0 || size > len(group) {
		return true, false
	}
	body := group[pgwire.HeaderBytes:size]
	switch messageType {
	case pgwire.Parse:
		_, body, _ = pgwire.CString(body)
	case pgwire.Bind:
		_, body, _ = pgwire.CString(body)
		name, _, _ := pgwire.CString(body)
		statement := s.statements.get(name)
		if statement == nil {
			return true, false
		}
		s.facts(statement)
		return statement.Plain, statement.Plain && beginsTransaction([]byte(statementText(statement)))
	case pgwire.Query:
	default:
		return true, false
	}
	text, _, _ := pgwire.CString(body)
	return isPlain(text), beginsTransaction(text)
}

// beginsTransaction reports whether a text begins with BEGIN or START TRANSACTION.
func beginsTransaction(text []byte) bool {
	l := lexer{text: text}
	first := l.next()
	return l.is(first, "begin") || l.is(first, "start")
}
