package pool

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// A transaction that may have changed its session is followed, once it has ended, by
// an inspection: a query of our own that asks the server for what is in question. The
// client has had its ReadyForQuery by then; only the end of its lease waits. Because
// PostgreSQL tells what became of savepoints, rollbacks and what functions did, there
// is no model of those here.

// inspection is what a server is asked about its session, and what it has answered.
type inspection struct {
	active bool

	// The question: kinds of state, and settings by name. listing: PostgreSQL lists
	// all settings that the session has changed. contexts: it lists those that not
	// everybody may set. scan: it tells what functions can do. blind: there may be settings
	// of applications that nobody knows to ask for.
	state    StateSet
	names    []string
	listing  bool
	contexts bool
	scan     bool
	blind    bool

	// The answer.
	results   int // complete ones
	found     StateSet
	settings  []Setting // that are defined
	listed    []Setting
	hazards   hazards
	malformed bool
}

// factQueries tells of each kind of state whether there is any.
var factQueries = []struct {
	kind StateSet
	leak bool // a planted bug
	sql  string
}{
	{StateTemporary, mutantLeakTemporary, "EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615 AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"},
	{StateChannels, mutantLeakChannel, "EXISTS(SELECT FROM pg_catalog.pg_listening_channels())"},
	{StateLocks, mutantLeakLock, "EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"},
	{StateCursors, false, "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"},
	{StatePrepared, mutantLeakPrepared, "EXISTS(SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"},
}

const (
	inspectable = StateTemporary | StateChannels | StateLocks | StateCursors | StatePrepared

	listQuery    = ";SELECT name,pg_catalog.current_setting(name) FROM pg_catalog.pg_show_all_settings() WHERE source OPERATOR(pg_catalog.=) 'session'"
	contextQuery = ";SELECT name,context FROM pg_catalog.pg_show_all_settings() WHERE context OPERATOR(pg_catalog.<>) 'user'"
)

// Affect notes what a statement that is sent may do to the session.
func (s *Server) Affect(e *Effects) {
	if e == nil {
		return
	}
	called := s.hazardOf(e)
	switch {
	case called.changesMeaning():
		s.changeMeaning("")
		s.changeReading(ReadingUnknown)
	case e.Meaning:
		s.changeMeaning(e.MeaningKey)
	}
	s.changeReading(e.Reading)
	s.changedBehind = s.changedBehind || called.changesMeaning() || e.Meaning || e.Reading != ReadingSame
	s.beginning = s.beginning || e.Begins
	s.resets = s.resets || e.ResetsAll || len(e.Resets)+len(e.LocalResets) > 0
	if s.pool.config.Mode == ModeSession {
		return
	}
	s.numbers.discarded = s.numbers.discarded || e.State&StateSequences != 0
	if e.Draws || e.Asks {
		s.drawNumbers(e)
	}
	s.suspected |= e.State &^ StateFunctions
	if e.State&StateFunctions != 0 || s.firesUnknown(e) {
		s.suspectFunctions(called)
	} else {
		s.suspectHazard(called)
	}
	if e.Defines {
		s.define(e.Defined)
	}
	for _, name := range e.Names {
		s.suspectName(name)
		s.pool.database.noteSetting(name)
	}
	for _, name := range e.Arguments {
		if s.SuspectSettings() {
			s.suspectName(name)
		}
	}
}

// Suspect reports whether something is in question, so that an inspection follows at the
// end of the transaction.
func (s *Server) Suspect() bool { return s.suspected != 0 || len(s.suspectedNames) > 0 }

// SuspectSettings reports whether any setting is in question, not only those by name.
func (s *Server) SuspectSettings() bool { return s.suspected&StateSettings != 0 }

// inspect asks the server for the state that is in question, between transactions. It
// reports whether the lease has to wait for an answer.
func (s *Server) inspect() bool {
	switch {
	case !s.Suspect(), s.unsentBytes > 0, s.copyIn:
		return false
	case s.pins&StateLongStatement != 0: // a query would take the statement away
		return false
	case s.awaitsScan():
		return true
	}
	q := &s.inspection
	scan := s.scanDue()
	blind := !scan && s.needsScan() && !s.pool.database.hazards.known
	s.resolveFunctions()
	if s.numbers.discarded {
		s.numbers = numbers{}
	}
	s.pins |= s.suspected & (StateHiddenSettings | StateLibraries | StateSeed | StateOther)
	*q = inspection{
		state: s.suspected & inspectable, names: append(q.names[:0], s.suspectedNames...),
		listing: s.suspected&StateSettings != 0, settings: q.settings[:0], listed: q.listed[:0],
		blind: blind,
	}
	s.suspected, s.suspectedNames, s.unverified, s.changedBehind = 0, s.suspectedNames[:0], false, false
	if q.listing = q.listing || s.privileged(q.names); q.listing {
		s.askForUnlisted(q)
	}
	if scan {
		s.beginScan(q)
	}
	sql := s.inspectionQuery(q)
	if sql == "" {
		return false
	}
	q.active = true
	s.inspections++
	if q.results == 0 { // else it is not about the session
		s.pool.stats.Inspections++
	}
	s.inject(sql, purposeInspect)
	return true
}

// privileged reports whether one of the settings is one that not everybody may set:
// then only the list tells whether it was.
func (s *Server) privileged(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return s.pool.contexts[name] != "" })
}

// askForUnlisted adds to the question the settings that PostgreSQL does not list.
func (s *Server) askForUnlisted(q *inspection) {
	add := func(name string) {
		if !slices.Contains(q.names, name) {
			q.names = append(q.names, name)
		}
	}
	add("role")
	add("session_authorization")
	for _, e := range s.settings.all() {
		if strings.Contains(e.Name, ".") {
			add(e.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.pool.database.customSettings)) {
		add(name)
	}
}

// inspectionQuery returns the question in SQL: one row, and lists if need be.
func (s *Server) inspectionQuery(q *inspection) string {
	var sql []byte
	separator := "SELECT "
	for _, name := range q.names {
		sql = append(append(sql, separator...), "pg_catalog.current_setting("...)
		sql = append(appendLiteral(sql, name), ",true)"...)
		separator = ","
	}
	for _, fact := range factQueries {
		if q.state&fact.kind != 0 {
			sql = append(append(sql, separator...), fact.sql...)
			separator = ","
		}
	}
	switch {
	case len(sql) > 0:
	case q.scan:
		q.results = 1 // without the row
		return unblock + scanSettings + hazardQuery
	default:
		return ""
	}
	if q.listing || q.scan || slices.Contains(q.names, deferrable) || s.settings.unblock() != "" {
		sql = append([]byte(unblock), sql...)
	}
	if q.listing {
		sql = append(sql, listQuery...)
	}
	if len(q.names) > 0 && s.pool.contexts == nil {
		q.contexts = true
		sql = append(sql, contextQuery...)
	}
	if q.scan {
		sql = append(append(append(sql, ';'), scanSettings...), hazardQuery...)
	}
	return string(sql)
}

// superuser reports whether the pool's user is one.
func (p *Pool) superuser() bool { return p.parameters.value("is_superuser") == "on" }

// inspected takes a message that belongs to the answer.
func (s *Server) inspected(messageType byte, body []byte) {
	q := &s.inspection
	switch {
	case messageType == pgwire.CommandComplete:
		if bytes.HasPrefix(body, []byte("SELECT ")) {
			q.results++
		}
		return
	case messageType != pgwire.DataRow:
		return
	case s.streaming > 0: // it is cut off
		q.malformed = true
		return
	}
	row, ok := readRow(body)
	q.malformed = q.malformed || !ok
	switch {
	case !ok:
	case q.results == 0:
		q.malformed = q.malformed || !q.readFacts(row)
	case q.results == 1 && q.listing && len(row) == 2:
		q.listed = append(q.listed, Setting{strings.ToLower(string(row[0])), string(row[1])})
	case q.scan && len(row) == 1:
		q.malformed = q.malformed || !q.hazards.add(string(row[0]))
	case q.contexts && len(row) == 2:
		if s.pool.contexts == nil {
			s.pool.contexts = map[string]string{}
		}
		s.pool.contexts[strings.ToLower(string(row[0]))] = string(row[1])
	}
}

// readFacts reads the first row and reports whether it is what was asked for.
func (q *inspection) readFacts(row [][]byte) bool {
	for _, name := range q.names {
		if len(row) == 0 {
			return false
		}
		if row[0] != nil {
			q.settings = append(q.settings, Setting{name, string(row[0])})
		}
		row = row[1:]
	}
	for _, fact := range factQueries {
		switch {
		case q.state&fact.kind == 0:
			continue
		case len(row) == 0 || len(row[0]) != 1:
			return false
		case row[0][0] == 't' && !fact.leak:
			q.found |= fact.kind
		}
		row = row[1:]
	}
	return len(row) == 0
}

// readRow returns the columns of a DataRow; NULL is nil.
func readRow(body []byte) (columns [][]byte, ok bool) {
	if len(body) < 2 {
		return nil, false
	}
	count := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range count {
		if len(body) < 4 {
			return nil, false
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		switch {
		case size == -1:
			columns = append(columns, nil)
		case size < 0 || size > len(body):
			return nil, false
		default:
			columns = append(columns, body[:size:size])
			body = body[size:]
		}
	}
	return columns, len(body) == 0
}

// inspectionDone acts on the answer: the client's settings are those that the server
// has now, and it is pinned by what else there is.
func (s *Server) inspectionDone(refusal *pgwire.Error) {
	q := &s.inspection
	q.active = false
	s.scanEnds()
	failed := refusal != nil || q.malformed || q.results == 0
	switch {
	case q.scan && failed: // without the scan it may not
		s.scanRefused(refusal)
		s.suspected |= StateAny
		return
	case q.scan:
		s.scanDone(&q.hazards)
	}
	if failed {
		s.pins |= q.state | StateSettings
		return
	}
	if s.pins&StateTemporary == 0 {
		s.temporarySince = s.inspections
	}
	for _, e := range q.settings { // not all that were asked for are any
		s.pool.database.noteSetting(e.Name)
	}
	s.pins = s.pins&^q.state | q.found
	switch {
	case len(q.names) == 0:
		s.settleTexts()
		return
	case q.contexts && !q.listing && s.privileged(q.names), // as it turns out
		q.listing && !s.asked(q):
		s.suspected |= StateSettings
		return
	}
	settings := s.settingsFound(q)
	settings.accept(s.parameters, s.pool.parameters)
	s.settings = settings
	if s.movable(settings) && !q.blind {
		s.pins &^= StateSettings
	} else {
		s.pins |= StateSettings
	}
	s.settleTexts()
	if s.client != nil {
		s.client.OnInspected(settings, !s.Suspect())
	}
}

// settleTexts notes that what texts mean, and how they are read, is what the settings say,
// which are known now, though the client may have sent more meanwhile.
func (s *Server) settleTexts() {
	if s.changedBehind {
		return
	}
	if s.pins&StateTemporary == 0 { // else a text may be about a temporary table
		s.privateMeaning = ""
	}
	s.keepReading()
}

// asked reports whether the question was about all settings of applications that are
// known by now.
func (s *Server) asked(q *inspection) bool {
	for name := range s.pool.database.customSettings {
		if !slices.Contains(q.names, name) {
			return false
		}
	}
	return true
}

// settingsFound returns the settings that the server has.
func (s *Server) settingsFound(q *inspection) *Settings {
	var kept, changes []Setting
	for _, e := range s.settings.all() {
		if !q.listing && !slices.Contains(q.names, e.Name) {
			kept = append(kept, e)
		}
	}
	for _, e := range q.settings {
		listed := q.listing && !strings.Contains(e.Name, ".") && e.Name != "role" && e.Name != "session_authorization"
		if !listed && s.pool.settable(e.Name) && !s.isDefault(e) {
			changes = append(changes, s.asGiven(e))
		}
	}
	for _, e := range q.listed {
		if s.pool.settable(e.Name) {
			changes = append(changes, s.asGiven(e))
		}
	}
	return s.pool.Settings(s.pool.Settings(nil, kept...), changes...)
}

// settable reports whether a session can have a setting of its own, beyond a
// transaction.
func (p *Pool) settable(name string) bool {
	switch name {
	case "transaction_isolation", "transaction_read_only", "transaction_deferrable", "seed", "is_superuser":
		return false
	}
	context := p.contexts[name]
	return context == "" || context == "superuser"
}

// isDefault reports whether a role is that of the login.
func (s *Server) isDefault(e Setting) bool {
	return e.Name == "role" && e.Value == "none" || e.Name == "session_authorization" && e.Value == s.pool.User
}

// asGiven returns a setting as the client spelled it if that comes to the same: the
// settings of a client are to be the same object again.
func (s *Server) asGiven(e Setting) Setting {
	given, ok := s.settings.Value(e.Name)
	if shown, known := s.pool.pools.settings.shown[Setting{e.Name, given}]; ok && known && shown == e.Value {
		e.Value = given
	}
	return e
}

// movable reports whether another server can be given the settings.
func (s *Server) movable(settings *Settings) bool {
	foreign := s.parameters.value("client_encoding") != s.parameters.value("server_encoding")
	for _, e := range settings.all() {
		if s.pool.contexts[e.Name] == "superuser" && !s.pool.superuser() || foreign && !isASCII(e.Value) {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
