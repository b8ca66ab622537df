package proxy

import (
	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// parse acts on a Parse message.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PARSE
func (s *session) parse(body []byte) {
	name, definition, ok := pgwire.CString(body)
	if !ok {
		s.failGroup(errorf(pgwire.ProtocolViolation, "invalid string in message"))
		return
	}
	if (s.server.TxStatus() == pgwire.TxFailed || s.partDue()) && !s.statements.long {
		s.server.TryParse(definition) // or is to begin with it to count the time
	}
	if len(name) > 0 && s.statements.get(name) != nil {
		if !s.statements.long { // PostgreSQL reads the text first
			s.server.TryParse(definition)
		}
		s.failGroup(errorf(pgwire.DuplicateStatement, "prepared statement \"%s\" already exists", name))
		return
	}
	if s.statements.long && len(name) == 0 {
		s.statements.long = false
		s.server.PinLongStatement(false)
	}
	// A client that prepares the same text again and again changes nothing.
	registry, reading := s.pool.Registry(), s.reading(definition)
	if current := s.statements.unnamed.statement; len(name) == 0 && current != nil &&
		current.Body == string(definition) && current.Reading == reading && registry.Current(current) {
		s.server.Parse(current, 0)
		return
	}
	statement := registry.Reference(reading, definition)
	s.facts(statement)
	if len(name) > 0 && s.mayHavePrepared() {
		s.server.TryName(name, definition)
	}
	s.alias(statement.Effects)
	s.server.Parse(statement, s.statements.set(name, statement))
}

// parseLong acts on the beginning of a Parse that is too long to be kept, and
// reports whether the rest is to be sent to the server.
func (s *session) parseLong(body []byte, bodyBytes int) bool {
	name, definition, ok := pgwire.CString(body)
	if !ok || len(name) > 0 {
		s.failGroup(errorf(pgwire.ProgramLimitExceeded,
			"named prepared statement of %d bytes is too long: expected at most %d, or an unnamed one", bodyBytes, maxParseBytes))
		return false
	}
	s.statements.dropUnnamed(s.pool.Registry())
	tag := s.statements.set(nil, nil)
	s.statements.long = true
	s.server.PinLongStatement(true)
	s.server.ParseUnnamed(definition, bodyBytes-1, tag)
	return true
}

// bind acts on a Bind message of which body, maybe cut off, is the beginning of
// bodyBytes, and reports whether the rest is to be sent to the server.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND
func (s *session) bind(body []byte, bodyBytes int) bool {
	_, rest, ok := pgwire.CString(body)
	portal := body[:len(body)-len(rest)]
	name, rest, ok2 := pgwire.CString(rest)
	if !ok || !ok2 {
		s.failGroup(errorf(pgwire.ProtocolViolation, "invalid string in message"))
		return false
	}
	named := s.statements.lookup(name)
	if named.statement == nil {
		if e := s.unknownStatement(name); e != nil {
			s.failGroup(e)
			return false
		}
		s.affect(executeEffects)
		s.affectArguments(executeEffects, rest)
		s.changes.unbind(portal)
		s.server.Forward(pgwire.AppendHeader(nil, pgwire.Bind, bodyBytes))
		s.server.Forward(body)
		s.server.Expect(pool.ReplyBind)
		return true
	}
	if named.outdated(named.statement.Epoch, s.asks) || named.relies(s.asks) && s.server.Differs(named.statement, named.meaning) {
		s.failGroup(errPlanChanged)
		return false
	}
	if s.asks && len(name) > 0 && named.portal != named.statement.Epoch {
		s.describePortal(name, named.statement)
	}
	s.facts(named.statement)
	s.alias(named.statement.Effects)
	s.server.Prepare(named.statement) // before it may change what texts mean
	s.affectBound(named.statement, rest)
	s.server.Bind(portal, named.statement, rest, bodyBytes-(len(body)-len(rest)))
	s.changes.unbind(portal)
	e, facts := named.statement.Effects, s.facts(named.statement)
	if facts&factDrops != 0 || e != nil && len(e.Statements) > 0 {
		c := s.change()
		c.bound = append(c.bound, boundStatement{string(portal), named.statement})
	}
	return true
}

// execute acts on an Execute message. Its portal may be of a statement that refers to
// prepared statements, and may take them away, by name or all of them.
func (s *session) execute(message []byte) {
	statement := s.changes.statementOf(message[pgwire.HeaderBytes:])
	if statement != nil {
		s.alias(statement.Effects)
	}
	s.server.Forward(message)
	s.server.Expect(pool.ReplyExecute)
	switch {
	case statement == nil || s.facts(statement)&factDrops == 0:
	case s.statementClass(statement) == classDeallocate:
		s.deallocateBound(statement)
	default:
		s.server.Tag(s.statements.mark())
		if takesAll([]byte(statementText(statement))) {
			s.statements.setNone()
		}
		s.server.DistrustPrepared()
	}
}

// takesAll reports whether a text takes all prepared statements away.
func takesAll(text []byte) bool {
	l := lexer{text: text}
	t := l.next()
	if l.is(t, "deallocate") {
		if t = l.next(); l.is(t, "prepare") {
			t = l.next()
		}
		return l.is(t, "all")
	}
	return l.is(t, "discard") && l.is(l.next(), "all")
}

// deallocateBound acts on the execution of a DEALLOCATE that was bound: it takes away a name
// that the client may have given by a Parse.
func (s *session) deallocateBound(statement *pool.Statement) {
	name, ok := deallocatedName([]byte(statementText(statement)))
	if ok && s.statements.get(name) != nil {
		s.server.Tag(s.statements.set(name, nil))
	}
}

// alias has the server know the statements by name to which SQL refers that the client has
// prepared by a Parse.
func (s *session) alias(e *pool.Effects) {
	if e == nil {
		return
	}
	for _, name := range e.Statements {
		if statement := s.statements.get([]byte(name)); statement != nil {
			s.server.Alias(name, statement)
		}
	}
}

// mayHavePrepared reports whether the client may have statements that SQL has prepared.
func (s *session) mayHavePrepared() bool {
	return s.changes != nil && s.changes.prepared != nil || s.server.Pins()&pool.StatePrepared != 0
}

// errPlanChanged is what PostgreSQL says when a prepared statement, of which the
// client was told what it returns, would return something else. Drivers know by the
// routine that they may prepare it anew.
var errPlanChanged = &pgwire.Error{
	Severity: pgwire.SeverityError, SQLState: pgwire.FeatureNotSupported,
	Message: "cached plan must not change result type", Routine: pool.RoutineRevalidate,
}

// statementReady reports whether the statement that a Bind names, of which b is the
// beginning, is known to the server at hand to return what the client was told.
func (s *session) statementReady(b []byte) bool {
	_, rest, _ := pgwire.CString(b[pgwire.HeaderBytes:])
	name, _, ok := pgwire.CString(rest)
	if !ok {
		return true
	}
	named := s.statements.lookup(name)
	return !named.relies(s.asks) || s.server.Ready(named.statement, named.meaning)
}

// describePortal notes that the client is told what a portal of the statement returns.
func (s *session) describePortal(name []byte, statement *pool.Statement) {
	meaning := s.settings.Meaning()
	if !s.statements.describing(name) { // else the client asks itself
		meaning = s.server.LearnResult(statement)
	}
	s.statements.describePortal(name, meaning)
}

// lookAtBind notes whether every Bind of the lease at hand asks what its portal returns:
// b begins with one, of size bytes, and is what is at hand. A client that does so is
// told of a change in time, however it comes about.
func (s *session) lookAtBind(b []byte, size int) {
	const headAndKind = pgwire.HeaderBytes + 1
	s.asks = s.asks && len(b) >= size+headAndKind && b[size] == pgwire.Describe && b[size+pgwire.HeaderBytes] == pgwire.KindPortal
}

// describeOrClose acts on a Describe or Close message.
func (s *session) describeOrClose(message []byte, messageType byte) {
	kind := pool.ReplyDescribe
	if messageType == pgwire.Close {
		kind = pool.ReplyClose
	}
	body := message[pgwire.HeaderBytes:]
	if len(body) < 2 || body[0] != pgwire.KindStatement {
		if messageType == pgwire.Describe && !s.asks {
			s.statements.describeAnyPortal()
		}
		s.server.Forward(message)
		s.server.Expect(kind)
		return
	}
	name, _, ok := pgwire.CString(body[1:])
	statement := s.statements.get(name)
	switch {
	case !ok:
		s.failGroup(errorf(pgwire.ProtocolViolation, "invalid string in message"))
	case statement != nil && messageType == pgwire.Close:
		s.server.CloseStatement(s.statements.set(name, nil))
	case statement != nil:
		s.describe(name, statement)
	case messageType == pgwire.Close && len(name) == 0 && s.statements.long:
		s.statements.long = false
		s.server.PinLongStatement(false)
		s.server.Forward(message)
		s.server.Expect(kind)
	case messageType == pgwire.Close && pool.ReservedName(name):
		s.server.CloseStatement(0) // not the client's to close
	case messageType == pgwire.Describe && s.unknownStatement(name) != nil:
		s.failGroup(s.unknownStatement(name))
	default:
		s.server.Forward(message)
		s.server.Expect(kind)
	}
}

// describe acts on a Describe of a statement.
func (s *session) describe(name []byte, statement *pool.Statement) {
	s.statements.recent = append(s.statements.recent, describedName{string(name), len(s.statements.changes)})
	told := uint32(len(s.statements.recent))
	s.facts(statement)
	s.alias(statement.Effects)
	switch {
	case statement.Silent: // PostgreSQL does not look whether what it names is still there
		s.server.AnswerDescribe(describeNothing)
	case s.server.TxStatus() != pgwire.TxFailed:
		s.server.DescribeStatement(statement, told)
	case !s.server.DescribeFailed(statement, told):
		s.failGroup(errTransactionAborted)
	}
}

// unknownStatement is the error for a name that the client has not given to a
// statement by a Parse; nil if the server may know it all the same.
func (s *session) unknownStatement(name []byte) *pgwire.Error {
	if len(name) == 0 && s.statements.long || len(name) > 0 && !pool.ReservedName(name) {
		return nil // the server has it, or perhaps PREPARE made it
	}
	return undefinedStatement(name)
}

func undefinedStatement(name []byte) *pgwire.Error {
	if len(name) == 0 {
		return errorf(pgwire.UndefinedStatement, "unnamed prepared statement does not exist")
	}
	return errorf(pgwire.UndefinedStatement, "prepared statement \"%s\" does not exist", name)
}

// errInvalidFormat is what PostgreSQL says to a message whose body is not as long as
// it should be.
var errInvalidFormat = errorf(pgwire.ProtocolViolation, "invalid message format")

// failGroup answers the message at hand with an error, in its turn.
func (s *session) failGroup(e *pgwire.Error) { s.server.Fail(e) }
