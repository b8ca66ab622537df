package proxy

import (
	"bytes"
)

// statementClass is what the text of a query is known to do.
type statementClass uint8

const (
	// classExclusive: nothing is known. It may write, lock, change the session,
	// fail to parse, or be more than one statement.
	classExclusive statementClass = iota

	// classRead: exactly one statement, which only reads, may be run twice or once
	// for two clients that ask the same, takes no lock that outlives it and changes
	// no session state.
	classRead

	// classBegin: BEGIN or START TRANSACTION, maybe with modes. On a primary it
	// cannot fail; on a standby READ WRITE and SERIALIZABLE do.
	classBegin

	// classCommit: COMMIT or END, with neither AND [NO] CHAIN nor PREPARED.
	classCommit

	// classRollback: ROLLBACK or ABORT of the whole transaction, with none of
	// TO SAVEPOINT, AND [NO] CHAIN and PREPARED.
	classRollback

	// classEmpty: space, comments and at most a semicolon: EmptyQueryResponse.
	classEmpty

	// classDeallocate: DEALLOCATE of one name, which deallocatedName tells.
	classDeallocate
)

// classify tells what the text of a query does. It goes by the text alone: what
// that does not prove is classExclusive. Of a read it notes the constants, unless
// constants is nil. It does not allocate.
//
// The tokens are those of PostgreSQL's scanner, under either value of
// standard_conforming_strings and for every version since 13. There is no parser:
// a text that PostgreSQL rejects may be of any class, and what is accepted is told
// apart by the words that only dangerous statements have and by the names in front
// of parentheses, of which those in words alone are known to be harmless.
//
// Some functions of the user's no text shows: those behind operators, casts, types,
// views, row security and checks of domains, t.f if f takes a row of t, and one with
// a known name that fits its arguments better. It is for the servers on which reads
// are shared to refuse the writes in them: they run with
// default_transaction_read_only = on. Nor does a text tell temporary tables from
// others, unless by their schema; but they pin a session to its server, so that its
// statements are not shared.
func classify(text []byte, encoding encodingKind, constants *constants) statementClass {
	if bytes.IndexByte(text, 0) >= 0 || encoding == encodingUnsafe && !isASCII(text) {
		return classExclusive
	}
	l := lexer{text: text}
	t := l.next()
	switch {
	case l.ends(t):
		return classEmpty
	case t&(tokenOpen|tokenSelect) != 0:
		if l.reads(t, constants) {
			return classRead
		}
	case l.is(t, "begin"):
		t = l.skipTransactionWord(l.next())
		if l.transactionModes(t) {
			return classBegin
		}
	case l.is(t, "start"):
		if t = l.next(); l.is(t, "transaction") && l.transactionModes(l.next()) {
			return classBegin
		}
	case l.is(t, "commit"), l.is(t, "end"):
		if t = l.skipTransactionWord(l.next()); l.ends(t) {
			return classCommit
		}
	case l.is(t, "rollback"), l.is(t, "abort"):
		if t = l.skipTransactionWord(l.next()); l.ends(t) {
			return classRollback
		}
	case l.is(t, "deallocate"):
		if _, ok := l.deallocateName(); ok {
			return classDeallocate
		}
	}
	return classExclusive
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// is reports whether t, which next has just returned, is that word.
func (l *lexer) is(t token, word string) bool {
	return t&tokenName != 0 && string(l.word[:l.wordBytes]) == word
}

// ends reports whether t, which next has just returned, ends the only statement.
func (l *lexer) ends(t token) bool {
	return t&tokenEnd != 0 || t&tokenSemicolon != 0 && l.next()&tokenEnd != 0
}

// skipTransactionWord returns t, or if it is a noise word the token behind it.
func (l *lexer) skipTransactionWord(t token) token {
	if l.is(t, "transaction") || l.is(t, "work") {
		return l.next()
	}
	return t
}

// transactionModes reports whether the rest of the text, of which t is the first
// token, is a list of transaction modes, none of them twice.
// See https://www.postgresql.org/docs/current/sql-set-transaction.html
func (l *lexer) transactionModes(t token) bool {
	var isolation, access, deferrable bool
	if l.ends(t) {
		return true
	}
	for {
		var seen *bool
		switch {
		case l.is(t, "isolation"):
			if t = l.next(); !l.is(t, "level") || !l.isolationLevel(l.next()) {
				return false
			}
			seen = &isolation
		case l.is(t, "read"):
			if t = l.next(); !l.is(t, "only") && !l.is(t, "write") {
				return false
			}
			seen = &access
		case l.is(t, "not"):
			if t = l.next(); !l.is(t, "deferrable") {
				return false
			}
			seen = &deferrable
		case l.is(t, "deferrable"):
			seen = &deferrable
		default:
			return false
		}
		if *seen {
			return false
		}
		*seen = true
		if t = l.next(); l.ends(t) {
			return true
		}
		if t&tokenComma != 0 {
			t = l.next()
		}
	}
}

// isolationLevel reports whether t and maybe the next token are an isolation level.
func (l *lexer) isolationLevel(t token) bool {
	switch {
	case l.is(t, "serializable"):
		return true
	case l.is(t, "repeatable"):
		return l.is(l.next(), "read")
	case l.is(t, "read"):
		t = l.next()
		return l.is(t, "committed") || l.is(t, "uncommitted")
	}
	return false
}

// maxNameBytes is what PostgreSQL keeps of a name: NAMEDATALEN - 1.
const maxNameBytes = 63

// deallocateName returns the name, as it is written, in a text of which DEALLOCATE
// has been read, if it is one that PostgreSQL takes as it is.
// See https://www.postgresql.org/docs/current/sql-deallocate.html
func (l *lexer) deallocateName() (name []byte, ok bool) {
	t := l.next()
	prepare := l.is(t, "prepare")
	name, ok = l.text[l.start:l.at], l.isPlainName(t)
	if t = l.next(); !prepare || l.ends(t) {
		return name, ok && l.ends(t)
	}
	name, ok = l.text[l.start:l.at], l.isPlainName(t)
	return name, ok && l.ends(l.next())
}

// isPlainName reports whether t, which next has just returned, can be the name of
// something, and is spelled so that folding it takes neither a locale nor a limit.
func (l *lexer) isPlainName(t token) bool {
	name := l.text[l.start:l.at]
	if t&tokenQuoted != 0 {
		return len(name) > len(`""`) && len(name) <= maxNameBytes+len(`""`)
	}
	return t&tokenName != 0 && t&tokenReserved == 0 && len(name) <= maxNameBytes && isASCII(name)
}

// deallocatedName returns the name in a text of classDeallocate as PostgreSQL
// knows it, and ok if it is of that class. The name may be a part of text.
func deallocatedName(text []byte) (name []byte, ok bool) {
	l := lexer{text: text}
	if !l.is(l.next(), "deallocate") {
		return nil, false
	}
	name, ok = l.deallocateName()
	switch {
	case !ok:
		return nil, false
	case name[0] == '"':
		return bytes.ReplaceAll(name[1:len(name)-1], []byte(`""`), []byte(`"`)), true
	}
	return bytes.ToLower(name), true
}
