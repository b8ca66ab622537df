package proxy

import (
	"maps"
	"slices"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// statementNames is what a client calls its prepared statements. Changes take
// effect at once, because the messages behind them rely on it, and are undone if
// an error makes PostgreSQL skip the message that made them.
type statementNames struct {
	named   map[string]namedStatement // nil until the first one
	unnamed namedStatement

	// long: the unnamed statement is too long to be kept and lives on the pinned
	// server only.
	long bool

	changes []statementChange

	// recent are the Describes under way. The number of each is its position plus one.
	recent []describedName
}

// count is how many statements the client has prepared.
func (n *statementNames) count() int {
	if n.unnamed.statement != nil || n.long {
		return len(n.named) + 1
	}
	return len(n.named)
}

// describedName is a name of which a Describe is under way, and how many changes there
// were in front of it.
type describedName struct {
	name    string
	changes int
}

// namedStatement is what a name stands for.
type namedStatement struct {
	statement *pool.Statement

	// described is the statement's epoch when the client was last told what the
	// statement returns, 0 if it was not. portal is that when it was last told what a
	// portal of it returns, which it may rely on in executions that do not ask.
	described, portal uint32

	// meaning is that of the settings at that time.
	meaning string
}

// relies reports whether the client relies on what it was told. asks: it asks anew what
// its portal returns.
func (n *namedStatement) relies(asks bool) bool {
	return n.described != 0 || !asks && n.portal != 0
}

// outdated reports whether the client was told something before the given epoch that
// it relies on.
func (n *namedStatement) outdated(epoch uint32, asks bool) bool {
	return n.described != 0 && n.described < epoch || !asks && n.portal != 0 && n.portal < epoch
}

// statementChange is one change that is not certain yet. Its tag is its position
// plus one.
type statementChange struct {
	name     string
	previous namedStatement

	// all: it is none of a name, but the execution of a statement that may take all names
	// away, and those that are given behind it stay. done: it has.
	all, done bool
}

// get returns the statement of that name, or nil.
func (n *statementNames) get(name []byte) *pool.Statement {
	return n.lookup(name).statement
}

// set makes the name stand for a statement, or for none if it is nil, and returns
// the tag of the change. The reference of what it stood for is kept until settle.
func (n *statementNames) set(name []byte, statement *pool.Statement) (tag uint32) {
	change := statementChange{name: string(name), previous: n.lookup(name)}
	n.put(change.name, namedStatement{statement: statement})
	n.changes = append(n.changes, change)
	return uint32(len(n.changes))
}

// setNone makes all names stand for nothing.
func (n *statementNames) setNone() {
	for _, name := range slices.Sorted(maps.Keys(n.named)) {
		n.set([]byte(name), nil)
	}
}

// mark notes that a statement is executed that may take all names away, and returns the
// tag of that.
func (n *statementNames) mark() (tag uint32) {
	n.changes = append(n.changes, statementChange{all: true})
	return uint32(len(n.changes))
}

func (n *statementNames) put(name string, statement namedStatement) {
	switch {
	case name == "":
		n.unnamed = statement
	case statement.statement == nil:
		delete(n.named, name)
	default:
		if n.named == nil {
			n.named = map[string]namedStatement{}
		}
		n.named[name] = statement
	}
}

// describe notes that the client is told what the statement returns.
func (n *statementNames) describe(name []byte, meaning string) {
	if len(name) == 0 {
		n.unnamed.described, n.unnamed.meaning = n.unnamed.statement.Epoch, meaning
		return
	}
	named := n.named[string(name)]
	named.described, named.meaning = named.statement.Epoch, meaning
	n.named[string(name)] = named
}

// told notes that the Describe with that number has been answered, with
// what the statement returned in that epoch under settings with that meaning.
func (n *statementNames) told(statement *pool.Statement, number, epoch uint32, meaning string) {
	if number == 0 || int(number) > len(n.recent) {
		return
	}
	recent := n.recent[number-1]
	tell := func(named *namedStatement) {
		if named.statement == statement { // else the name stands for another by now
			named.described, named.meaning = epoch, meaning
		}
	}
	for i := min(recent.changes, len(n.changes)); i < len(n.changes); i++ {
		if change := &n.changes[i]; change.name == recent.name && !change.all { // which may yet be undone
			tell(&change.previous)
			return
		}
	}
	if named := n.lookup([]byte(recent.name)); named.statement != nil {
		tell(&named)
		n.put(recent.name, named)
	}
}

// describing reports whether a Describe of the name is under way.
func (n *statementNames) describing(name []byte) bool {
	return slices.ContainsFunc(n.recent, func(d describedName) bool { return d.name == string(name) })
}

// lookup returns what the name stands for.
func (n *statementNames) lookup(name []byte) namedStatement {
	if len(name) == 0 {
		return n.unnamed
	}
	return n.named[string(name)]
}

// describePortal notes that the client is told what portals of the statement return.
// A client that does not name its statement parses it before it relies on that.
func (n *statementNames) describePortal(name []byte, meaning string) {
	n.toldPortal(name, n.named[string(name)].statement.Epoch, meaning)
}

// toldPortal notes that the client was told what portals of the statement returned in that
// epoch, under settings with that meaning.
func (n *statementNames) toldPortal(name []byte, epoch uint32, meaning string) {
	named := n.named[string(name)]
	named.portal = epoch
	if named.described == 0 {
		named.meaning = meaning
	}
	n.named[string(name)] = named
}

// describeAnyPortal notes that the client is told what a portal of any statement
// returns.
func (n *statementNames) describeAnyPortal() {
	for name, named := range n.named {
		named.portal = named.statement.Epoch
		n.named[name] = named
	}
}

// describedBefore reports whether the client relies, by any name, on what it was told
// of the statement before the given epoch. asks: it asks anew what its portals return.
func (n *statementNames) describedBefore(statement *pool.Statement, epoch uint32, asks bool) bool {
	for _, named := range n.named {
		if named.statement == statement && named.outdated(epoch, asks) {
			return true
		}
	}
	return n.unnamed.statement == statement && n.unnamed.outdated(epoch, asks)
}

// unsettled reports whether there are changes that may yet be undone.
func (n *statementNames) unsettled() bool { return len(n.changes) > 0 }

// undo takes back the changes with tags of at least lowestTag; 0 stands for none.
func (n *statementNames) undo(registry *pool.Registry, lowestTag uint32) {
	if lowestTag == 0 {
		return
	}
	for i := len(n.changes) - 1; i >= int(lowestTag)-1; i-- {
		change := n.changes[i]
		n.changes[i] = statementChange{}
		n.changes = n.changes[:i]
		if change.all {
			continue
		}
		if current := n.lookup([]byte(change.name)).statement; current != nil {
			registry.Release(current)
		}
		n.put(change.name, change.previous)
		n.long = n.long && change.name != ""
	}
}

// settle makes the changes final.
func (n *statementNames) settle(registry *pool.Registry) {
	n.recent = nil
	if len(n.changes) == 0 {
		return
	}
	for _, change := range n.changes {
		if change.previous.statement != nil {
			registry.Release(change.previous.statement)
		}
	}
	clear(n.changes)
	n.changes = n.changes[:0]
	if cap(n.changes) > maxIdleChanges {
		n.changes = nil
	}
}

// maxIdleChanges is how many changes a client that is idle keeps room for.
const maxIdleChanges = 4

// dropUnnamed forgets the unnamed statement.
func (n *statementNames) dropUnnamed(registry *pool.Registry) {
	if n.unnamed.statement != nil {
		registry.Release(n.unnamed.statement)
	}
	n.unnamed, n.long = namedStatement{}, false
}

// drop forgets every statement but those that were prepared behind the one that drops
// them, and keeps the numbers of the changes under way.
func (n *statementNames) drop(registry *pool.Registry) {
	changes, kept := n.changes, map[string]namedStatement{}
	drops := func(change statementChange) bool { return change.all && !change.done }
	if i := slices.IndexFunc(changes, drops); i >= 0 {
		changes[i].done = true
		for _, change := range changes[i+1:] {
			if named := n.lookup([]byte(change.name)); !change.all && named.statement != nil && kept[change.name].statement == nil {
				registry.Retain(named.statement)
				kept[change.name] = named
			}
		}
	}
	n.changes = append([]statementChange(nil), changes...)
	n.releaseAll(registry)
	for i := range changes {
		changes[i].previous = namedStatement{}
	}
	n.changes = changes
	for name, named := range kept {
		n.put(name, named)
	}
}

// releaseAll forgets every statement.
func (n *statementNames) releaseAll(registry *pool.Registry) {
	n.settle(registry)
	for _, named := range n.named {
		registry.Release(named.statement)
	}
	n.dropUnnamed(registry)
	*n = statementNames{}
}

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
