package pool

import (
	"slices"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// To PostgreSQL, statements that were prepared by Parse and by PREPARE have one
// namespace, which is the session's. So while a client's SQL refers to one that it has
// prepared by Parse, the server knows that by the client's own name too: an alias, from
// in front of the message until behind the end of its group.
// See https://www.postgresql.org/docs/current/sql-execute.html

// Alias makes the server know the statement by the client's name for it. Outside of a
// group that is done for a simple query, in front of it: an error in the middle of a
// group would have PostgreSQL skip the query.
func (s *Server) Alias(name string, statement *Statement) {
	if s.txStatus == pgwire.TxFailed || slices.Contains(s.aliases, name) {
		return
	}
	s.aliases = append(s.aliases, name)
	s.ownGroup(purposeAlias, func() {
		s.write(pgwire.AppendClose(s.scratch(), pgwire.KindStatement, name))
		s.replies.push(reply{kind: ReplyClose, mode: swallow, purpose: purposeAlias})
		otherReading := s.beginReading(statement)
		s.writeParse(name, statement.Body)
		s.replies.push(reply{kind: ReplyParse, mode: swallow, purpose: purposeAlias})
		if otherReading {
			s.endReading()
		}
	})
}

// EndAliases makes the server forget them, behind the end of a group.
func (s *Server) EndAliases() {
	if len(s.aliases) == 0 {
		return
	}
	s.ownGroup(purposeAlias, func() {
		for _, name := range s.aliases {
			s.write(pgwire.AppendClose(s.scratch(), pgwire.KindStatement, name))
			s.replies.push(reply{kind: ReplyClose, mode: swallow, purpose: purposeAlias})
		}
	})
	s.aliases = s.aliases[:0]
}

// TryName has the server refuse a Parse by that name if SQL has prepared a statement of
// the name, which the client is told in place of what its own message is answered with.
func (s *Server) TryName(name, body []byte) {
	s.begin()
	s.fresh = false
	s.writeParse(string(name), string(body))
	s.write(pgwire.AppendClose(s.scratch(), pgwire.KindStatement, string(name)))
	s.replies.push(reply{kind: ReplyParse, mode: swallow, purpose: purposeAlias})
	s.replies.push(reply{kind: ReplyClose, mode: swallow, purpose: purposeAlias})
}

// Tag gives the message sent last the client's number for a change that it makes.
func (s *Server) Tag(tag uint32) { s.replies.last().tag = tag }
