package proxy

import (
	"encoding/binary"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// maxLocalParses is how many Parse messages a group may have that is answered
// without a server.
const maxLocalParses = 8

// localGroup is the attempt to answer a group without a server.
type localGroup struct {
	session     *session
	transaction transaction // as it would be afterwards
	reply       []byte
	done        bool // nothing may follow but Sync
	refused     bool // an error ends the group

	parsed         [maxLocalParses]localParse
	parsedCount    int
	described      [maxLocalParses][]byte // names
	describedCount int
	bound          *pool.Statement
}

// localParse is a name that the group gives to a statement, or, if that is nil,
// takes away.
type localParse struct {
	name      []byte
	statement *pool.Statement
	body      []byte
}

// answerLocally answers a complete group without a server if that is certain to be
// what a server would say: Parse and Describe of what a server has accepted, Close,
// and the begin of a transaction or the end of one that has not reached a server.
func (s *session) answerLocally(group []byte) bool {
	if len(group) == 0 || s.pool.Mode() == pool.ModeSession {
		return false
	}
	switch group[0] {
	case pgwire.Query, pgwire.Parse, pgwire.Bind, pgwire.Describe, pgwire.Close:
	default:
		return false
	}
	l := localGroup{session: s, transaction: s.transaction, reply: s.proxy.scratch[:0]}
	for messageType, body := range messages(group) {
		if !l.message(messageType, body) {
			return false
		}
	}
	l.apply()
	return true
}

func (l *localGroup) message(messageType byte, body []byte) bool {
	switch {
	case messageType == pgwire.Sync, l.refused:
		return true
	case l.transaction.failed:
		if e := l.aborted(messageType, body); e != nil {
			l.reply = pgwire.AppendError(l.reply, e)
			l.refused = true
			return true
		}
	}
	switch messageType {
	case pgwire.Query:
		text, _, ok := pgwire.CString(body)
		class := l.session.classOf(text)
		if class == classRead || class == classExclusive {
			return false // before its text is kept
		}
		return ok && l.execute(class, l.session.proxy.intern(text))
	case pgwire.Parse:
		return l.parse(body)
	case pgwire.Describe:
		return l.describe(body)
	case pgwire.Close:
		return l.close(body)
	case pgwire.Bind:
		return l.bind(body)
	case pgwire.Execute:
		portal, _, ok := pgwire.CString(body)
		if !ok || len(portal) > 0 || l.bound == nil {
			return false
		}
		return l.execute(l.session.statementClass(l.bound), statementText(l.bound))
	}
	return false
}

// aborted returns what PostgreSQL says to a message in a failed transaction, nil if
// it takes it: only what ends the transaction, and what does nothing.
func (l *localGroup) aborted(messageType byte, body []byte) *pgwire.Error {
	s := l.session
	switch messageType {
	case pgwire.Query, pgwire.Parse:
		if messageType == pgwire.Parse {
			_, body, _ = pgwire.CString(body)
		}
		text, _, _ := pgwire.CString(body)
		if class := s.classOf(text); class == classCommit || class == classRollback || class == classEmpty {
			return nil
		}
	case pgwire.Bind:
		_, rest, _ := pgwire.CString(body)
		name, _, _ := pgwire.CString(rest)
		statement := l.statement(name)
		if statement == nil {
			return undefinedStatement(name)
		}
		if class := s.statementClass(statement); class == classCommit || class == classRollback {
			return nil
		}
	case pgwire.Describe:
		if len(body) > 0 && body[0] == pgwire.KindStatement {
			name, _, _ := pgwire.CString(body[1:])
			statement := l.statement(name)
			if statement == nil {
				return undefinedStatement(name)
			}
			if l.accepted(statement) || pool.ReturnsNothing(s.description(statement)) {
				return nil
			}
		} else if l.bound != nil {
			return nil
		}
	case pgwire.Execute:
		if l.bound != nil {
			return nil
		}
	case pgwire.Close:
		return nil
	}
	return errTransactionAborted
}

// statement returns what the name stands for at this point of the group.
func (l *localGroup) statement(name []byte) *pool.Statement {
	for i := l.parsedCount - 1; i >= 0; i-- {
		if p := &l.parsed[i]; string(p.name) == string(name) {
			return p.statement
		}
	}
	return l.session.statements.get(name)
}

func (l *localGroup) parse(body []byte) bool {
	s := l.session
	name, definition, ok := pgwire.CString(body)
	if !ok || s.statements.long || l.parsedCount == maxLocalParses || len(name) > 0 && l.statement(name) != nil {
		return false
	}
	statement := s.lookup(definition)
	if text, types, _ := pgwire.CString(definition); statement == nil && string(types) == "\x00\x00" && l.own(s.classOf(text)) {
		statement = s.pool.Registry().Intern(s.reading(definition), definition)
	}
	if statement == nil || !l.accepted(statement) {
		return false
	}
	l.parsed[l.parsedCount] = localParse{name, statement, definition}
	l.parsedCount++
	l.reply = pgwire.AppendEmpty(l.reply, pgwire.ParseComplete)
	return true
}

// accepted reports whether PostgreSQL would accept a Parse of the statement.
func (l *localGroup) accepted(statement *pool.Statement) bool {
	s := l.session
	class := s.statementClass(statement)
	if l.transaction.failed {
		return class == classCommit || class == classRollback || class == classEmpty
	}
	return l.own(class) || s.pool.Parsed(statement, s.settings)
}

// own reports whether a statement of that class may be answered without a server:
// one that begins or ends a transaction or gives up a prepared statement, or an
// empty one in a failed transaction.
func (l *localGroup) own(class statementClass) bool {
	return class.isTransaction() || class == classDeallocate || class == classEmpty && l.transaction.failed
}

// describeNothing is what PostgreSQL answers to a Describe of a statement that has
// no parameters and returns nothing.
var describeNothing = pgwire.AppendEmpty(pgwire.AppendMessage(nil, pgwire.ParameterDescription, []byte{0, 0}), pgwire.NoData)

func (l *localGroup) describe(body []byte) bool {
	if len(body) < 2 {
		return false
	}
	name, _, ok := pgwire.CString(body[1:])
	if body[0] == pgwire.KindPortal {
		if !ok || len(name) > 0 || l.bound == nil {
			return false
		}
		l.reply = pgwire.AppendEmpty(l.reply, pgwire.NoData) // only transaction statements are bound
		return true
	}
	statement := l.statement(name)
	if !ok || statement == nil {
		return false
	}
	description := l.session.description(statement)
	if l.own(l.session.statementClass(statement)) {
		description = describeNothing
	}
	accepted := l.accepted(statement) || l.transaction.failed && pool.ReturnsNothing(description)
	// PostgreSQL looks whether what it names is still there, unless it returns nothing.
	current := l.session.pool.Registry().Current(statement) || pool.ReturnsNothing(description)
	if description == nil || !accepted || !current || l.describedCount == maxLocalParses {
		return false
	}
	l.described[l.describedCount] = name
	l.describedCount++
	l.reply = append(l.reply, description...)
	return true
}

func (l *localGroup) close(body []byte) bool {
	if len(body) < 2 || body[0] != pgwire.KindStatement || l.parsedCount == maxLocalParses {
		return false
	}
	name, _, ok := pgwire.CString(body[1:])
	if !ok || l.statement(name) == nil {
		return false
	}
	l.parsed[l.parsedCount] = localParse{name: name}
	l.parsedCount++
	l.reply = pgwire.AppendEmpty(l.reply, pgwire.CloseComplete)
	return true
}

// bind accepts a statement that begins or ends a transaction, without parameters.
func (l *localGroup) bind(body []byte) bool {
	portal, rest, ok := pgwire.CString(body)
	name, rest, ok2 := pgwire.CString(rest)
	if !ok || !ok2 || len(portal) > 0 || len(rest) < 4 {
		return false
	}
	formatBytes := 2 * int(binary.BigEndian.Uint16(rest))
	if len(rest) < 4+formatBytes || binary.BigEndian.Uint16(rest[2+formatBytes:]) != 0 {
		return false
	}
	l.bound = l.statement(name)
	if l.bound == nil {
		return false
	}
	if !l.own(l.session.statementClass(l.bound)) {
		return false
	}
	l.reply = pgwire.AppendEmpty(l.reply, pgwire.BindComplete)
	return true
}

// execute begins a transaction, or ends one of which no server knows.
func (l *localGroup) execute(class statementClass, text string) bool {
	if l.done {
		return false
	}
	l.done = true
	t := &l.transaction
	switch {
	case class == classBegin && t.begin == "" && l.session.pool.Mode() == pool.ModeTransaction:
		t.begin = text
		l.complete(beginTag(text))
		return true
	case class == classCommit && t.begin != "" && !t.failed:
		l.complete("COMMIT")
	case (class == classRollback || class == classCommit) && t.begin != "":
		l.complete("ROLLBACK")
	case class == classEmpty && t.failed:
		l.reply = pgwire.AppendEmpty(l.reply, pgwire.EmptyQueryResponse)
		return true
	case class == classDeallocate && !t.failed:
		return l.deallocate([]byte(text))
	default:
		return false
	}
	*t = transaction{}
	return true
}

// deallocate forgets a statement that the client has prepared with Parse.
func (l *localGroup) deallocate(text []byte) bool {
	name, ok := deallocatedName(text)
	if !ok || l.statement(name) == nil || l.parsedCount == maxLocalParses {
		return false
	}
	l.parsed[l.parsedCount] = localParse{name: name}
	l.parsedCount++
	l.complete("DEALLOCATE")
	return true
}

func (l *localGroup) complete(tag string) {
	l.reply = append(append(pgwire.AppendHeader(l.reply, pgwire.CommandComplete, len(tag)+1), tag...), 0)
}

// apply does what the group says and sends the answer.
func (l *localGroup) apply() {
	s := l.session
	registry := s.pool.Registry()
	for _, p := range l.parsed[:l.parsedCount] {
		if p.statement != nil {
			s.statements.set(p.name, registry.Reference(p.statement.Reading, p.body))
		} else {
			s.statements.set(p.name, nil)
		}
	}
	for _, name := range l.described[:l.describedCount] {
		if s.statements.get(name) != nil {
			s.statements.describe(name, s.settings.Meaning())
		}
	}
	s.statements.settle(registry)
	s.transaction = l.transaction
	s.proxy.scratch = l.reply
	s.conn.Write(l.reply)
	s.answerReady()
	if s.transaction.begin != "" {
		s.armTimer()
	}
}

// beginTag is PostgreSQL's command tag for a statement that begins a transaction.
func beginTag(text string) string {
	l := lexer{text: []byte(text)}
	if l.is(l.next(), "start") {
		return "START TRANSACTION"
	}
	return "BEGIN"
}
