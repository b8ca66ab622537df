package sim

import (
	"bytes"
	"maps"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// twin is the session that a client would have without a proxy, undisturbed and
// without delay. It is fed one message of the client at a time, when all that was
// expected before has come, so that what really happened to the earlier ones is
// known.
type twin struct {
	backend  *Backend
	expected []expectedMessage
	first    int

	// The message fed last, whether something of its answer has come, and what it did
	// to the prepared statements: the name that it gave or took, what that stood for
	// before, all that it dropped.
	fed      sentMessage
	seen     bool
	names    bool
	name     string
	replaced *prepared
	dropped  map[string]*prepared

	// The unnamed statement that PostgreSQL dropped, at a simple query or at a
	// Parse that it refused. A pooler may keep it.
	ghost         *prepared
	replacedGhost *prepared // by the message fed last
}

// expectedMessage is a message that the client should get.
type expectedMessage struct {
	bytes  []byte
	during pgwire.TxStatus // the transaction status when its statement began
	shape  *shape          // what the client knows of the rows, if it is about rows
}

// sentMessage is a message that the client has sent.
type sentMessage struct {
	group *group
	bytes []byte
}

func newTwin(user string) *twin {
	t := &twin{backend: newBackend(nil, user)}
	t.backend.twin = t
	return t
}

// record notes a message of the backend.
func (t *twin) record(message []byte, told *shape) {
	if message[0] == pgwire.ParameterStatus {
		return // may come at any time; the client compares values instead
	}
	t.expected = append(t.expected, expectedMessage{append([]byte(nil), message...), t.backend.during, told})
}

// head returns the next expected message, or nil.
func (t *twin) head() *expectedMessage {
	if t.first == len(t.expected) {
		return nil
	}
	return &t.expected[t.first]
}

// pop takes it away: it came.
func (t *twin) pop() {
	t.seen = true
	t.first++
	if t.first == len(t.expected) {
		t.expected, t.first = t.expected[:0], 0
	}
}

// drop takes back what is expected.
func (t *twin) drop() { t.expected, t.first = t.expected[:0], 0 }

// feed gives the next message to the backend.
func (t *twin) feed(m sentMessage) {
	t.fed, t.seen, t.names, t.name, t.replaced, t.replacedGhost = m, false, false, "", nil, t.ghost
	t.dropped = nil
	body := m.bytes[pgwire.HeaderBytes:]
	switch m.bytes[0] {
	case pgwire.Parse:
		name, _, _ := pgwire.CString(body)
		t.names, t.name, t.replaced = true, string(name), t.backend.statements[string(name)]
	case pgwire.Close:
		if body[0] == pgwire.KindStatement {
			t.names, t.name = true, string(body[1:len(body)-1])
			t.replaced = t.backend.statements[t.name]
		}
	case pgwire.Query:
		if bytes.HasSuffix(body, []byte(" all\x00")) {
			t.dropped = maps.Clone(t.backend.statements)
		}
	}
	t.backend.handle(m.bytes[0], body)
	t.backend.work()
	closed := m.bytes[0] == pgwire.Close && body[0] == pgwire.KindStatement && t.name == ""
	if t.backend.statements[""] != nil || closed {
		t.ghost = nil
	}
}

// revive brings the ghost back, if the message fed last is about it, and feeds that
// message again.
func (t *twin) revive() bool {
	body := t.fed.bytes[pgwire.HeaderBytes:]
	switch t.fed.bytes[0] {
	case pgwire.Bind:
		_, rest, _ := pgwire.CString(body)
		if name, _, _ := pgwire.CString(rest); len(name) > 0 {
			return false
		}
	case pgwire.Describe:
		if len(body) != 2 || body[0] != pgwire.KindStatement {
			return false
		}
	default:
		return false
	}
	t.drop()
	t.backend.statements[""] = t.ghost
	t.backend.skipping = false
	t.feed(t.fed)
	return true
}

// undo takes back what the message fed last, whose reply did not come, did to the
// prepared statements.
func (t *twin) undo() {
	switch {
	case t.seen:
	case t.dropped != nil:
		t.backend.statements = t.dropped
		t.backend.dropUnnamed()
	case !t.names:
	case t.replaced != nil:
		t.backend.statements[t.name] = t.replaced
		t.ghost = t.replacedGhost
	default:
		delete(t.backend.statements, t.name)
		t.ghost = t.replacedGhost
	}
}

// interrupt makes the twin's statement fail, as the real one did, where the next
// expected message has not come.
func (t *twin) interrupt(reported map[string]string) {
	t.unhold()
	b := t.backend
	status := b.txStatus
	if head := t.head(); head != nil {
		status = head.during
	}
	t.undo()
	t.drop()
	b.txStatus = status
	b.simple = t.fed.group != nil && t.fed.group.simple
	b.fail()
	if status == pgwire.TxIdle {
		t.adopt(reported)
	}
	b.work()
}

// adopt gives the twin the settings that the client was told of last.
func (t *twin) adopt(reported map[string]string) {
	b := t.backend
	b.saved = b.saved[:0]
	for i := range b.settings {
		if s := &b.settings[i]; s.reported {
			s.value, s.sent = reported[s.display], reported[s.display]
		}
	}
}

// lose makes the twin forget everything that ends with a server outside a
// transaction. Of the settings, those count that were reported.
func (t *twin) lose(reported map[string]string) {
	t.undo()
	t.unhold()
	t.drop()
	b := t.backend
	b.txStatus = pgwire.TxIdle
	b.simple, b.rest, b.current, b.copyIn, b.skipping = false, nil, nil, false, false
	t.adopt(reported)
	clear(b.portals)
}

// usedStatement returns the prepared statement that the Bind or Describe fed last
// is about, nil if it is neither.
func (t *twin) usedStatement() *prepared {
	body := t.fed.bytes[pgwire.HeaderBytes:]
	switch {
	case t.fed.bytes[0] == pgwire.Bind:
		_, rest, _ := pgwire.CString(body)
		name, _, _ := pgwire.CString(rest)
		return t.backend.statements[string(name)]
	case t.fed.bytes[0] == pgwire.Describe && body[0] == pgwire.KindStatement:
		return t.backend.statements[string(body[1:len(body)-1])]
	}
	return nil
}

// drift makes the Bind or Describe that was fed last fail, because its statement
// returns other columns by now. It reports whether it is one that may.
func (t *twin) drift(versions *[16]int) bool {
	p := t.usedStatement()
	if p == nil || p.statement.kind != kindSelect || versions[p.statement.variant.number] == 0 {
		return false
	}
	t.drop()
	t.backend.simple = false
	t.backend.fail()
	return true
}

// refuse makes the Bind or Describe that was fed last fail, if its transaction has
// failed: a pooler may have to prepare the statement first, which PostgreSQL then
// refuses. What ends the transaction has to work.
func (t *twin) refuse() bool {
	p := t.usedStatement()
	if t.backend.txStatus != pgwire.TxFailed || p == nil || p.statement.endsTransaction() {
		return false
	}
	t.drop()
	t.backend.skipping = true
	return true
}

// refuseEmpty makes an empty query fail, if its transaction has failed. PostgreSQL
// answers it even then.
func (t *twin) refuseEmpty() bool {
	if t.backend.txStatus != pgwire.TxFailed || t.head().bytes[0] != pgwire.EmptyQueryResponse {
		return false
	}
	t.pop()
	if !t.fed.group.simple {
		t.backend.skipping = true
	}
	return true
}

// refuseGroup makes the whole group at hand fail at its first message, if its
// transaction has failed: a pooler need not look for the message that PostgreSQL
// would stumble over. What ends the transaction has to work.
func (t *twin) refuseGroup() bool {
	if t.backend.txStatus != pgwire.TxFailed || t.fed.group.simple || t.fed.group.leaves || t.fed.group.answers > 0 {
		return false
	}
	t.undo()
	t.drop()
	t.backend.skipping = true
	return true
}

// acceptParse makes a Parse that the twin refused, because its transaction has
// failed, succeed: a pooler may answer it without asking the server. What uses the
// statement is refused all the same.
func (t *twin) acceptParse() {
	body := t.fed.bytes[pgwire.HeaderBytes:]
	name, rest, _ := pgwire.CString(body)
	text, _, _ := pgwire.CString(rest)
	statements, _ := parseSQL(string(text))
	p := &prepared{text: string(text), statement: &statement{}}
	if len(statements) > 0 {
		p.statement = statements[0]
	}
	t.backend.statements[string(name)] = p
	t.backend.skipping = false
	t.drop()
}
