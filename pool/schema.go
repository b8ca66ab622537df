package pool

import "bytes"

// This file notices that the schema has changed, so that a Parse is not answered with
// what its text meant before.

// redefines reports whether a command with that tag may change what texts mean. A
// function that does so cannot be told from others: its change shows when a statement
// is used, like one that another way than the proxy led to.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COMMANDCOMPLETE
func redefines(tag []byte) bool {
	if len(tag) == 0 {
		return false
	}
	switch tag[0] {
	case 'A':
		return bytes.HasPrefix(tag, []byte("ALTER "))
	case 'C':
		return bytes.HasPrefix(tag, []byte("CREATE ")) || bytes.HasPrefix(tag, []byte("COMMIT PREPARED\x00"))
	case 'D':
		return bytes.HasPrefix(tag, []byte("DROP ")) || bytes.HasPrefix(tag, []byte("DO\x00"))
	}
	return false
}

// redefinitionEnds acts on the end of a transaction: what it has changed of the
// schema is there for everybody, or for nobody.
func (s *Server) redefinitionEnds() {
	if s.redefined {
		s.redefined = false
		if s.defining {
			s.pool.database.defined()
		}
		s.pool.Registry().Advance()
	}
}

// drifted acts on a statement that returns something else than before: the schema
// has changed in a way that was not noticed.
func (s *Server) drifted(statement *Statement) {
	statement.changed()
	s.pool.Registry().Advance()
}
