package pooltest

import (
	"cmp"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// statement is a prepared statement: its text, and the column that it returns.
type statement struct {
	text, column string
}

// spent is the text of a portal that has begun or ended a transaction. In PostgreSQL
// it is there until the transaction ends, but cannot be run any more; here it goes
// with its sync group.
const spent = "spent"

// Session is one connection to a Postgres.
type Session struct {
	postgres *Postgres

	// Conn is the connection as the code under test has it.
	Conn           *Conn
	PID            uint32
	Database, User string

	// Received is the messages that came, as words; Executed the statements that
	// ran.
	Received []string
	Executed []string

	// Inspected counts the inspections, which are in neither.
	Inspected int

	// State counts what the session has of each kind: "temporary", "listen", "lock",
	// "cursor", "prepared".
	State map[string]int

	// Refuse is a text that is refused, because the server only reads.
	Refuse string

	input      []byte
	statements map[string]statement
	portals    map[string]string
	settings   map[string]string
	saved      map[string]string // settings at BEGIN
	reported   map[string]string
	tx         byte
	skipping   bool   // until Sync
	extended   bool   // the message at hand is of the extended query protocol
	copying    bool   // reads COPY data
	waiting    string // the statement that runs until Go
	gone       bool
}

// Reply sends messages.
func (s *Session) Reply(words ...string) { s.Conn.Feed(Backend(words...)) }

// Setting returns the value of a parameter.
func (s *Session) Setting(name string) string { return s.settings[name] }

// Statements returns the names of the prepared statements, except the unnamed.
func (s *Session) Statements() int {
	n := len(s.statements)
	if _, ok := s.statements[""]; ok {
		n--
	}
	return n
}

// Forget makes the session lose its prepared statements, as a reset by somebody else
// does.
func (s *Session) Forget() { clear(s.statements) }

// Waiting reports whether the session runs a statement that waits for Go.
func (s *Session) Waiting() bool { return s.waiting != "" }

// Go lets the statement "wait" end.
func (s *Session) Go() {
	if s.waiting == "" {
		panic("BUG: Go without a statement that waits")
	}
	s.waiting = ""
	s.Reply("D|waited", "C|SELECT 1")
	if !s.extended {
		s.ready()
	}
	s.work()
}

// Resume lets the session go on that was held back by HoldHazards.
func (s *Session) Resume() { s.work() }

// Terminate ends the session as pg_terminate_backend does.
func (s *Session) Terminate() {
	s.Reply("E|FATAL|57P01|terminating connection due to administrator command")
	s.Conn.End(EOF)
	s.leave()
}

func (s *Session) leave() { s.gone = true }

func (s *Session) receive(b []byte) {
	if s.gone {
		return
	}
	s.input = append(s.input, b...)
	if s.PID == 0 {
		s.start()
		return
	}
	s.work()
}

// work handles the messages that came, as far as no statement waits.
func (s *Session) work() {
	for s.waiting == "" && !s.gone {
		size := messageSize(s.input)
		if size == 0 {
			return
		}
		m := s.input[:size]
		word := FrontendWords(m)[0]
		if s.postgres.HoldHazards && isInspection(word) && strings.Contains(word, scanSettings) {
			return
		}
		if isInspection(word) {
			s.Inspected++
		} else {
			s.Received = append(s.Received, word)
		}
		s.handle(m[0], m[5:], strings.Split(word, "|"))
		s.input = s.input[size:]
	}
}

func (s *Session) handle(messageType byte, body []byte, f []string) {
	switch {
	case messageType == 'X':
		s.Conn.End(EOF)
		s.leave()
		return
	case s.copying:
		s.copyMessage(messageType, string(body))
		return
	case messageType == 'S':
		s.skipping, s.extended = false, false
		s.ready()
		return
	case s.skipping, messageType == 'd', messageType == 'c', messageType == 'f', messageType == 'H':
		return
	}
	s.extended = messageType != 'Q' && messageType != 'F'
	switch messageType {
	case 'Q':
		s.query(strings.SplitN(string(body), "\x00", 2)[0])
	case 'F':
		s.Reply("V|*4")
		s.ready()
	case 'P':
		s.parse(f[1], strings.SplitN(string(body[len(f[1])+1:]), "\x00", 2)[0])
	case 'B':
		s.bind(f[1], f[2], strings.Join(f[3:], "|"))
	case 'D':
		s.describe(f[0][1], f[1])
	case 'C':
		if f[0] == "CS" {
			delete(s.statements, f[1])
		} else {
			delete(s.portals, f[1])
		}
		s.Reply("3")
	case 'E':
		text, ok := s.portals[f[1]]
		if !ok {
			s.fail("34000", "portal \""+f[1]+"\" does not exist")
			return
		}
		if text == "begin" || endsTransaction(text) {
			s.portals[f[1]] = spent
		}
		if text == spent {
			s.fail("34000", "portal \""+f[1]+"\" does not exist")
			return
		}
		s.execute(text)
	}
}

// query runs a simple query: statements with semicolons between, but for what the
// pool injects.
func (s *Session) query(text string) {
	delete(s.statements, "")
	delete(s.portals, "")
	texts := []string{text}
	if isInspection("Q|" + text) {
		s.inspect(text)
		return
	}
	if !strings.Contains(text, "set_config") && !strings.HasPrefix(text, "RESET") {
		texts = strings.Split(text, ";")
	}
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if text == "bad" {
			s.fail("42601", "syntax error")
			break
		}
		if returnsRows(text) && s.tx != 'E' {
			s.Reply("T|" + s.postgres.Column)
		}
		if !s.execute(text) {
			break
		}
	}
	if s.waiting == "" && !s.copying {
		s.ready()
	}
}

// aborted refuses what has no place in a failed transaction.
func (s *Session) aborted(text string) bool {
	if s.tx != 'E' || endsTransaction(text) {
		return false
	}
	s.fail("25P02", "current transaction is aborted, commands ignored until end of transaction block")
	return true
}

func endsTransaction(text string) bool {
	return text == "commit" || text == "rollback" || text == "ROLLBACK"
}

func (s *Session) parse(name, text string) {
	if name == "" {
		delete(s.statements, "")
	}
	_, exists := s.statements[name]
	switch {
	case text == "bad", text == s.postgres.BadText && text != "":
		s.fail("42601", "syntax error")
	case text != "" && s.aborted(text):
	case exists:
		s.fail("42P05", "prepared statement \""+name+"\" already exists")
	default:
		s.statements[name] = statement{text, s.postgres.Column}
		s.Reply("1")
	}
}

// find returns a prepared statement, or says that there is none.
func (s *Session) find(name string) (statement, bool) {
	prepared, ok := s.statements[name]
	switch {
	case ok:
	case name == "":
		s.fail("26000", "unnamed prepared statement does not exist")
	default:
		s.fail("26000", "prepared statement \""+name+"\" does not exist")
	}
	return prepared, ok
}

func (s *Session) bind(portal, name, parameter string) {
	prepared, ok := s.find(name)
	switch {
	case !ok, s.aborted(prepared.text):
	case parameter == "bad":
		s.fail("22P02", "invalid input syntax")
	case returnsRows(prepared.text) && prepared.column != s.postgres.Column:
		s.Conn.Feed(pgwire.AppendError(nil, &pgwire.Error{
			Severity: pgwire.SeverityError, SQLState: pgwire.FeatureNotSupported,
			Message: "cached plan must not change result type", Routine: "RevalidateCachedQuery",
		}))
		s.failed()
	default:
		s.portals[portal] = prepared.text
		if prepared.text == "lookup" {
			s.portals[portal] = "lookup " + parameter
		}
		s.Reply("2")
	}
}

func (s *Session) describe(kind byte, name string) {
	text, ok := s.portals[name]
	if kind == 'S' {
		var prepared statement
		prepared, ok = s.find(name)
		text = prepared.text
	} else if !ok {
		s.fail("34000", "portal \""+name+"\" does not exist")
	}
	if !ok || returnsRows(text) && s.aborted(text) {
		return
	}
	if kind == 'S' {
		s.Reply("t")
	}
	switch {
	case strings.HasPrefix(text, "lookup"):
		s.Reply(cmp.Or(s.postgres.LookupColumns, "T|name|secret"))
	case returnsRows(text), strings.HasPrefix(text, "fetch"): // of a cursor, at this time
		s.Reply("T|" + s.postgres.Column)
	default:
		s.Reply("n")
	}
}

func returnsRows(text string) bool {
	return strings.HasPrefix(text, "select") || strings.HasPrefix(text, "rows")
}

// copyMessage acts on a message while COPY data is read.
func (s *Session) copyMessage(messageType byte, body string) {
	switch messageType {
	case 'S', 'H':
		return
	case 'd':
		if strings.HasPrefix(body, "bad") {
			s.copying = false
			s.fail("22P02", "invalid input syntax")
			break
		}
		return
	case 'c':
		s.copying = false
		s.Reply("C|COPY 1")
	case 'f':
		s.copying = false
		s.fail("57014", "COPY from stdin failed")
	default:
		s.Reply("E|FATAL|08P01|terminating connection because protocol synchronization was lost")
		s.Conn.End(EOF)
		s.leave()
		return
	}
	if !s.extended {
		s.ready()
	}
}

// fail sends an error with its consequences.
func (s *Session) fail(code, message string) {
	s.Reply("E|ERROR|" + code + "|" + message)
	s.failed()
}

func (s *Session) failed() {
	if s.tx == 'T' {
		s.tx = 'E'
	}
	s.skipping = s.extended
}

var (
	resetPattern     = regexp.MustCompile(`RESET ([^;]*)`)
	setConfigPattern = regexp.MustCompile(`set_config\(E'([^']*)',E'([^']*)',false\)`)
)

// switchSettings runs the statements with which the pool gives a session other
// settings. The value "bad" is refused.
func (s *Session) switchSettings(text string) bool {
	if strings.Contains(text, "pg_advisory_unlock_all") {
		s.clean(text)
		return true
	}
	saved := s.settings
	s.settings = map[string]string{}
	for name, value := range saved {
		s.settings[name] = value
	}
	for _, m := range resetPattern.FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(m[1], `"`, "")
		switch value, ok := defaultSettings[name]; {
		case ok:
			s.settings[name] = value
		case name == "ALL":
			s.settings = maps.Clone(defaultSettings)
		default:
			delete(s.settings, name)
		}
		s.Reply("C|RESET")
	}
	changes := setConfigPattern.FindAllStringSubmatch(text, -1)
	if len(changes) == 0 {
		return true
	}
	if !s.extended {
		s.Reply("T|set_config")
	}
	for _, m := range changes {
		name, value := unescape(m[1]), unescape(m[2])
		if value == "bad" {
			s.settings = saved
			s.fail("22023", "invalid value for parameter \""+name+"\"")
			return false
		}
		s.settings[name] = value
	}
	s.Reply("D|x", "C|SELECT 1")
	return true
}

// unescape reads the inside of an escape string with \xNN escapes only.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		n, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		b.WriteByte(byte(n))
		i += 3
	}
	return b.String()
}
