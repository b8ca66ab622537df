package pooltest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// Postgres answers every dial of a world as PostgreSQL does, for the statements
// that it understands (see execute).
type Postgres struct {
	world *World

	// Sessions are those that have been opened, in order, the ended included.
	Sessions []*Session

	// CancelPIDs are the process ids of the cancel requests that came.
	CancelPIDs []uint32

	// Login, if it is set, answers a startup packet in place of a welcome; an
	// empty answer leaves it unanswered.
	Login func(user, database string) []string

	// Version is that of the server, 15.0 if it is empty.
	Version string

	// Column is the name of the column that statements return: a change of it is
	// one of their result type.
	Column string

	// Hazards is what functions of the database can do, in the words of the pool's
	// question. NoHazards: the question is refused. HoldHazards: it is not read before
	// Resume.
	Hazards     []string
	NoHazards   bool
	HoldHazards bool

	// BadText is a text that is refused when it is parsed, besides "bad".
	BadText string

	// Lookup answers the statement "lookup", which has a parameter, with rows or an
	// error: "D|name|secret", "E|ERROR|sqlstate|message", or "wait". LookupColumns is
	// what the statement returns, "T|name|secret" unless it is set.
	Lookup        func(parameter string) []string
	LookupColumns string

	// HoldCancels keeps the connections of cancel requests open until
	// EndCancels.
	HoldCancels bool
	heldCancels []*Conn
}

// NewPostgres makes a world's dials end at a new server.
func NewPostgres(w *World) *Postgres {
	p := &Postgres{world: w, Column: "c"}
	w.OnDial = func(d *Dial) {
		c := d.Connect()
		s := &Session{postgres: p, Conn: c}
		c.OnSent = s.receive
		c.OnEnd = s.leave
	}
	return p
}

// Open returns the sessions that are alive.
func (p *Postgres) Open() []*Session {
	var open []*Session
	for _, s := range p.Sessions {
		if !s.gone {
			open = append(open, s)
		}
	}
	return open
}

// EndCancels closes the connections of cancel requests.
func (p *Postgres) EndCancels() {
	for _, c := range p.heldCancels {
		c.End(EOF)
	}
	p.heldCancels = nil
}

// welcome is what a server tells at login, behind its version.
var welcome = []string{"S|TimeZone|Etc/UTC", "S|application_name|"}

// start acts on a startup packet.
func (s *Session) start() {
	packet, size, err := pgwire.ParseStartup(s.input)
	if err != nil {
		panic("BUG: malformed startup packet: " + err.Error())
	}
	p := s.postgres
	switch packet.Kind {
	case pgwire.StartupIncomplete:
		return
	case pgwire.StartupCancel:
		p.cancel(packet.CancelPID)
		s.input = nil
		if p.HoldCancels {
			p.heldCancels = append(p.heldCancels, s.Conn)
			return
		}
		s.Conn.End(EOF)
		return
	default:
	}
	user, database := "", ""
	for _, parameter := range packet.Parameters {
		switch string(parameter.Name) {
		case "user":
			user = string(parameter.Value)
		case "database":
			database = string(parameter.Value)
		}
	}
	s.input = s.input[size:]
	p.Sessions = append(p.Sessions, s)
	s.PID = uint32(len(p.Sessions))
	s.Database, s.User = database, user
	s.begin()
	if p.Login != nil {
		if words := p.Login(user, database); words != nil {
			s.Reply(words...)
			return
		}
	}
	s.Reply("R")
	s.Reply("S|server_version|" + cmp.Or(p.Version, "15.0"))
	s.Reply(welcome...)
	s.Reply(fmt.Sprintf("K|%d|key%d", s.PID, s.PID), "Z|I")
	s.work()
}

// cancel ends the statement that waits in the session with that process id.
func (p *Postgres) cancel(pid uint32) {
	p.CancelPIDs = append(p.CancelPIDs, pid)
	for _, s := range p.Sessions {
		if s.PID == pid && s.waiting != "" {
			s.waiting = ""
			s.fail("57014", "canceling statement due to user request")
			if !s.extended {
				s.ready()
			}
			s.work()
		}
	}
}

// execute runs a statement. Texts are "select 1", of which some words behind select
// mean more ("slow": it waits until Session.Go; "half": so, when it has sent a row;
// "big 1000": a row of so many bytes; "hidden": it writes), "rows 3 100" (rows,
// bytes), "insert", "begin", "commit", "rollback", "set name=value", "fail" (when it
// is executed), "bad" (when it is parsed), "wait", "notice", "copy in", "copy out",
// "lookup" (see Lookup), "create function", "do", "discard all", "deallocate all" and what the pool injects.
func (s *Session) execute(text string) (ok bool) {
	s.Executed = append(s.Executed, text)
	verb, argument, _ := strings.Cut(text, " ")
	if text != "" && s.aborted(text) {
		return false
	}
	if text == s.Refuse && text != "" {
		s.fail("25006", "cannot set transaction read-write mode during recovery")
		return false
	}
	switch verb {
	case "select", "insert":
		return s.read(verb, argument)
	case "lookup":
		return s.lookup(argument)
	case "rows":
		count, width := 0, 0
		fmt.Sscan(argument, &count, &width)
		row := Backend(fmt.Sprintf("D|*%d", width))
		for range count {
			s.Conn.Feed(row)
		}
		s.Reply(fmt.Sprintf("C|SELECT %d", count))
	case "begin", "BEGIN":
		s.tx, s.saved = 'T', maps.Clone(s.settings)
		s.Reply("C|BEGIN")
	case "commit":
		if s.tx == 'E' {
			s.settings = s.saved
		}
		s.tx = 'I'
		s.Reply("C|COMMIT")
	case "rollback", "ROLLBACK":
		if s.tx != 'I' {
			s.settings = s.saved
		}
		s.tx = 'I'
		s.Reply("C|ROLLBACK")
	case "set":
		name, value, _ := strings.Cut(argument, "=")
		s.settings[strings.ToLower(name)] = value
		s.Reply("C|SET")
	case "create", "do":
		s.Reply("C|" + strings.ToUpper(text))
	case "alter":
		s.postgres.Column = argument
		s.Reply("C|ALTER TABLE")
	case "fetch":
		s.Reply("C|FETCH 0")
	case "notice":
		s.Reply("N|hear", "C|DO")
	case "fail":
		s.fail("22012", "division by zero")
		return false
	case "wait":
		s.waiting = text
		return false
	case "copy":
		return s.copy(argument)
	case "discard", "DISCARD":
		if argument == "TEMP" || argument == "SEQUENCES" {
			s.clean(text)
			break
		}
		s.begin()
		s.Reply("C|DISCARD ALL")
	case "deallocate":
		clear(s.statements)
		s.Reply("C|DEALLOCATE ALL")
	case "RESET", "SELECT":
		return s.switchSettings(text)
	case "CLOSE", "UNLISTEN", "DEALLOCATE":
		s.clean(text)
	case "":
		s.Reply("I")
	default:
		s.fail("42601", "syntax error at "+verb)
		return false
	}
	return true
}

// read runs "select" and "insert".
func (s *Session) read(verb, argument string) (ok bool) {
	word, rest, _ := strings.Cut(argument, " ")
	switch {
	case (verb == "insert" || word == "hidden") && s.settings["default_transaction_read_only"] == "on" && s.tx == 'I':
		s.fail("25006", "cannot execute INSERT in a read-only transaction")
		return false
	case verb == "insert":
		s.Reply("C|INSERT 0 1")
	case word == "slow":
		s.waiting = argument
		return false
	case word == "half":
		s.Reply("D|half")
		s.waiting = argument
		return false
	case word == "big":
		s.Reply("D|*"+rest, "C|SELECT 1")
	default:
		s.Reply("D|"+argument, "C|SELECT 1")
	}
	return true
}

// lookup runs "lookup".
func (s *Session) lookup(parameter string) (ok bool) {
	words := s.postgres.Lookup(parameter)
	for _, word := range words {
		f := strings.Split(word, "|")
		switch f[0] {
		case "E":
			s.fail(f[2], f[3])
			return false
		case "wait":
			s.waiting = word
			return false
		}
	}
	s.Reply(words...)
	s.Reply(fmt.Sprintf("C|SELECT %d", len(words)))
	return true
}

func (s *Session) copy(direction string) bool {
	switch direction {
	case "in":
		s.copying = true
		s.Reply("G")
		return false
	default:
		s.Reply("H", "d|1\n", "d|2\n", "c", "C|COPY 2")
		return true
	}
}

// defaultSettings are those of a session that has changed none.
var defaultSettings = map[string]string{"timezone": "Etc/UTC", "application_name": ""}

// begin makes the session as it is after login.
func (s *Session) begin() {
	s.statements, s.portals = map[string]statement{}, map[string]string{}
	s.settings = maps.Clone(defaultSettings)
	s.State = map[string]int{}
	if s.reported == nil {
		s.reported = maps.Clone(s.settings)
	}
	s.tx = 'I'
}

// reportedNames are the names of the settings that are reported, as they are told.
var reportedNames = map[string]string{"timezone": "TimeZone", "application_name": "application_name"}

// ready sends ReadyForQuery, and in front of it what has changed, as PostgreSQL does
// since version 14.
func (s *Session) ready() {
	for _, name := range slices.Sorted(maps.Keys(reportedNames)) {
		if s.settings[name] != s.reported[name] {
			s.reported[name] = s.settings[name]
			s.Reply("S|" + reportedNames[name] + "|" + s.settings[name])
		}
	}
	for name, text := range s.portals {
		if s.tx == 'I' || text == spent { // no other outlives its transaction
			delete(s.portals, name)
		}
	}
	s.Reply("Z|" + string(rune(s.tx)))
}

func messageSize(b []byte) int {
	if len(b) < pgwire.HeaderBytes {
		return 0
	}
	size := 1 + int(binary.BigEndian.Uint32(b[1:]))
	if len(b) < size {
		return 0
	}
	return size
}
