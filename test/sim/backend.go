package sim

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// Backend is one session of the scripted PostgreSQL: the state machine of the
// protocol. It is the server of a connection of the proxy or, without one, the
// twin of a client.
// See https://www.postgresql.org/docs/current/protocol-flow.html
type Backend struct {
	// Static after login.
	postgres *Postgres
	twin     *twin       // of a client; nil for a server
	conn     *serverConn // of a server
	name     string
	database string
	user     string
	pid      uint32

	// What it is doing.
	dead      bool
	working   bool
	waiting   bool         // for a delay or for the client to read
	congested bool         // for the client to read
	frozen    bool         // a fault: it does nothing
	current   *execution   // the statement that runs
	simple    bool         // a simple query runs
	rest      []*statement // of it
	copyIn    bool         // current reads COPY data
	skipping  bool         // an error came: skip to Sync
	txStatus  pgwire.TxStatus
	readOnly  bool            // the transaction at hand may only read
	during    pgwire.TxStatus // txStatus when the statement at hand began
	shape     *shape          // of the rows or columns that are emitted
	out       []byte          // not flushed
	scratch   []byte

	// The session.
	statements map[string]*prepared
	portals    map[string]*portal
	settings   []backendSetting
	saved      []backendSetting // as of the beginning of the transaction, if one is open
	held       held
	savedHeld  held // likewise

	toldFunctions bool // what functions can do, perhaps with the answer on its way

	// Before the simple query at hand.
	heldBefore     held
	settingsBefore []backendSetting

	// Whom it works for, by the tags of what it executes.
	groupClient int  // in the sync group at hand, the last one; 0 is nobody
	groupWrites bool // something in it does more than read
	txClient    int  // in the transaction block at hand
}

// prepared is a prepared statement.
type prepared struct {
	text      string
	statement *statement
	version   int // of what it selects from, when it was prepared
	shape     shape
}

// portal is a bound statement and how far it has run.
type portal struct {
	statement *statement
	run       run
	version   int
	shape     *shape
	started   bool
	row       int
	done      bool
	had       []setting // of a kindReading, before it
}

// backendSetting is a run-time parameter of a session.
type backendSetting struct {
	name, display string
	value         string
	initial       string // what RESET returns to
	reported      bool
	sent          string // the value last reported
}

// newBackend returns a session just after its login.
func newBackend(pg *Postgres, user string) *Backend {
	b := &Backend{
		postgres: pg, user: user, txStatus: pgwire.TxIdle, during: pgwire.TxIdle,
		statements: map[string]*prepared{}, portals: map[string]*portal{},
	}
	b.settings = []backendSetting{
		{display: "application_name", reported: true},
		{display: "client_encoding", value: "UTF8", reported: true},
		{display: "DateStyle", value: "ISO, MDY", reported: true},
		{display: "default_transaction_read_only", value: "off", reported: true},
		{display: "server_version", value: "15.8", reported: true},
		{display: "TimeZone", value: "Etc/UTC", reported: true},
		{display: "geqo", value: "on"},
		{display: "extra_float_digits", value: "1"},
	}
	for i := range b.settings {
		b.settings[i].name = strings.ToLower(b.settings[i].display)
	}
	return b
}

// keepDefaults makes the settings as they are what RESET returns to.
func (b *Backend) keepDefaults() {
	for i := range b.settings {
		b.settings[i].initial = b.settings[i].value
	}
}

// reportAll notes that every setting has been reported.
func (b *Backend) reportAll() {
	for i := range b.settings {
		b.settings[i].sent = b.settings[i].value
	}
}

// set changes a setting and returns the SQLSTATE of what is wrong with that.
func (b *Backend) set(name, value string) (code string) {
	for i := range b.settings {
		s := &b.settings[i]
		if s.name != strings.ToLower(name) {
			continue
		}
		if s.name == "datestyle" {
			switch strings.ToLower(value) {
			case "iso", "iso, mdy":
				value = "ISO, MDY"
			case "sql", "sql, mdy":
				value = "SQL, MDY"
			default:
				return "22023"
			}
		}
		s.value = value
		return ""
	}
	return "42704"
}

// setting returns the value of a setting.
func (b *Backend) setting(name string) (value string, ok bool) {
	for i := range b.settings {
		if b.settings[i].name == strings.ToLower(name) {
			return b.settings[i].value, true
		}
	}
	return "", false
}

// key is the secret for cancel requests.
func (b *Backend) key() []byte {
	return binary.BigEndian.AppendUint32(nil, b.pid*2654435761)
}

// leave ends the session.
func (b *Backend) leave() {
	if !b.dead && b.postgres != nil {
		b.postgres.left(b)
	}
	b.dead = true
}

// end ends the session and closes its connection.
func (b *Backend) end() {
	b.leave()
	if b.conn != nil {
		b.flush()
		b.conn.peer.Close()
	}
}

// work goes on until there is nothing to do or something to wait for.
func (b *Backend) work() {
	if b.working {
		return
	}
	b.working = true
	for !b.dead && !b.frozen && !b.waiting {
		switch {
		case b.current != nil && !b.copyIn:
			b.proceed()
		case b.simple && b.current == nil:
			b.nextOfQuery()
		case !b.nextMessage():
			b.working = false
			return
		}
	}
	b.working = false
}

// nextMessage handles the next message that the proxy sent. It reports false if
// none is there.
func (b *Backend) nextMessage() bool {
	if b.conn == nil {
		return false
	}
	in := b.conn.in.bytes()
	messageType, size, err := pgwire.PeekFrontend(in)
	if err != nil {
		b.world().fail("%s got what is no message: %v", b.name, err)
	}
	if size == 0 || len(in) < size {
		return false
	}
	w := b.world()
	w.trace.add(w.now, traceBackend, b.name, size, in[:size])
	b.handle(messageType, in[pgwire.HeaderBytes:size])
	b.conn.in.consume(size)
	return true
}

func (b *Backend) world() *World { return b.postgres.world }

// handle acts on one message.
func (b *Backend) handle(messageType byte, body []byte) {
	if b.copyIn {
		b.copyMessage(messageType, body)
		return
	}
	if b.skipping && messageType != pgwire.Sync && messageType != pgwire.Terminate {
		return
	}
	b.during = b.txStatus
	switch messageType {
	case pgwire.Query:
		b.query(body)
	case pgwire.FunctionCall:
		b.functionCall(body)
	case pgwire.Parse:
		b.parse(body)
	case pgwire.Bind:
		b.bind(body)
	case pgwire.Describe:
		b.describe(body)
	case pgwire.Execute:
		b.execute(body)
	case pgwire.Close:
		b.close(body)
	case pgwire.Flush:
		b.flush()
	case pgwire.Sync:
		b.skipping = false
		b.ready()
	case pgwire.CopyData, pgwire.CopyDone, pgwire.CopyFail:
		// Left over from a COPY that failed: ignored, as the manual says.
	case pgwire.Terminate:
		b.end()
	default:
		b.world().fail("%s got a message of type %q", b.name, messageType)
	}
}

func (b *Backend) query(body []byte) {
	text, rest, ok := pgwire.CString(body)
	b.simple, b.heldBefore = true, b.held
	b.settingsBefore = append(b.settingsBefore[:0], b.settings...)
	if !ok || len(rest) != 0 {
		b.raise("08P01", "invalid message format")
		return
	}
	b.dropUnnamed() // by a simple query
	delete(b.portals, "")
	statements, ok := parseSQL(string(text))
	switch {
	case !ok:
		b.raise("42601", "syntax error at or near \""+strings.ToValidUTF8(firstWord(text), "")+"\"")
	case len(statements) == 0:
		b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.EmptyQueryResponse))
		b.simple = false
		b.ready()
	default:
		b.rest = statements
	}
}

// dropUnnamed drops the unnamed statement.
func (b *Backend) dropUnnamed() {
	if p := b.statements[""]; p != nil && b.twin != nil {
		b.twin.ghost = p
	}
	delete(b.statements, "")
}

func firstWord(text []byte) string {
	word, _, _ := bytes.Cut(text, []byte{' '})
	return string(word[:min(len(word), 20)])
}

// nextOfQuery begins the next statement of a simple query, or ends it.
func (b *Backend) nextOfQuery() {
	if len(b.rest) == 0 {
		b.simple = false
		b.ready()
		return
	}
	s := b.rest[0]
	b.rest = b.rest[1:]
	b.during = b.txStatus
	if s.parameterCount > 0 {
		b.raise("42P02", "there is no parameter $1")
		return
	}
	b.begin(&execution{portal: &portal{statement: s, run: s.resolve(nil), version: b.version(s), shape: &shape{}}, simple: true})
}

func (b *Backend) functionCall(body []byte) {
	if b.txStatus == pgwire.TxFailed {
		b.simple = true
		b.raise("25P02", abortedMessage)
		return
	}
	b.emit(append(pgwire.AppendHeader(b.buffer(), pgwire.FunctionCallResponse, 4), 0xff, 0xff, 0xff, 0xff))
	b.ready()
}

const abortedMessage = "current transaction is aborted, commands ignored until end of transaction block"

// ready ends a sync group.
func (b *Backend) ready() {
	if b.txStatus == pgwire.TxIdle {
		clear(b.portals)
		b.txClient = 0
		b.saved = b.saved[:0]
	}
	b.groupClient, b.groupWrites = 0, false
	for i := range b.settings {
		if s := &b.settings[i]; s.reported && s.value != s.sent {
			s.sent = s.value
			b.emit(pgwire.AppendParameterStatus(b.buffer(), s.display, s.value))
		}
	}
	b.emit(pgwire.AppendReadyForQuery(b.buffer(), b.txStatus))
	b.flush()
}

// raise raises an error.
func (b *Backend) raise(code, message string) {
	b.emitError("ERROR", code, message)
	b.flush() // send_message_to_frontend flushes
	b.fail()
}

// fail is what an error does to the state.
func (b *Backend) fail() {
	b.current, b.copyIn, b.waiting, b.congested = nil, false, false, false
	if b.txStatus == pgwire.TxActive {
		b.txStatus = pgwire.TxFailed
	}
	if b.txStatus == pgwire.TxIdle {
		b.restore() // what came before in the implicit transaction
	}
	if b.simple {
		b.rest = nil
		return // nextOfQuery ends the query
	}
	b.skipping = true
}

// restore takes back the settings that the transaction at hand has changed.
func (b *Backend) restore() {
	if len(b.saved) > 0 {
		b.restoreHeld()
	}
	for i := range b.saved { // what was reported stays
		b.settings[i].value = b.saved[i].value
	}
	b.saved = b.saved[:0]
}

// cancel interrupts what runs; between statements it does nothing.
func (b *Backend) cancel() {
	if b.current == nil || b.dead {
		return
	}
	w := b.world()
	w.cancelHit(b, b.current.portal.run.tag)
	b.raise("57014", "canceling statement due to user request")
	b.work()
}

// buffer returns an empty slice to build a message in.
func (b *Backend) buffer() []byte { return b.scratch[:0] }

// emit sends a message, at the latest with the next flush.
func (b *Backend) emit(message []byte) {
	b.scratch = message
	told := b.shape
	b.shape = nil
	if b.twin != nil {
		b.twin.record(message, told)
		return
	}
	b.out = append(b.out, message...)
	if len(b.out) >= 8<<10 {
		b.flush()
	}
}

func (b *Backend) emitError(severity, code, message string) {
	b.emit(appendError(b.buffer(), severity, code, message))
}

// flush hands what was emitted to the network.
func (b *Backend) flush() {
	if len(b.out) > 0 {
		b.conn.peer.Send(b.out)
		b.out = b.out[:0]
	}
}

// drained goes on when the network has taken enough.
func (b *Backend) drained() {
	if b.congested && b.conn.peer.unsent.len() < congestedBytes/2 {
		b.congested, b.waiting = false, false
		b.work()
	}
}

// congestedBytes is how much a backend sends ahead of a client that does not read.
const congestedBytes = 32 << 10
