package pool

import (
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// What a text says is fixed when it is parsed: where a string ends, which characters it
// has, and the values of the constants in it, for which PostgreSQL asks their types at
// once. So a statement belongs to the settings by which it was read, wherever it is
// prepared and whatever the client has set since. Only what its names stand for is
// looked up anew: see meaning.go.

// textTraits is what there is in a text that settings may matter to.
type textTraits uint8

const (
	traitString    textTraits = 1 << iota // a constant in quotes
	traitBackslash                        // which may escape something
	traitForeign                          // a byte that is not ASCII
	traitCast                             // of numbers to text, for instance
	traitNull                             // which may be compared with =
)

type readingSetting struct {
	name   string
	traits textTraits
}

// readingSettings are the settings by which a text is read, in the order of their names,
// with the traits that they matter to. Casts may be computed when a statement is planned,
// which is done once if it has no parameters.
var readingSettings = []readingSetting{
	{"array_nulls", traitString},
	{"backslash_quote", traitBackslash},
	{"bytea_output", traitString | traitCast},
	{"client_encoding", traitBackslash | traitForeign},
	{"datestyle", traitString},
	{"extra_float_digits", traitString | traitCast},
	{"intervalstyle", traitString | traitCast},
	{"lc_monetary", traitString},
	{"standard_conforming_strings", traitString | traitBackslash},
	{"timezone", traitString},
	{"timezone_abbreviations", traitString},
	{"transform_null_equals", traitNull},
	{"xmloption", traitString},
}

// ReadingChange is whether a text is read as before.
type ReadingChange uint8

// The changes, the last of which includes the others.
const (
	ReadingSame     ReadingChange = iota
	ReadingReported               // not, but the server reports how at the end of the group
	ReadingUnknown                // perhaps not
)

// ChangesReading tells whether a text is read in another way when the parameter has
// another value.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
func ChangesReading(name string) ReadingChange {
	switch name {
	case "client_encoding", "datestyle", "intervalstyle", "standard_conforming_strings", "timezone":
		return ReadingReported
	}
	if slices.ContainsFunc(readingSettings, func(e readingSetting) bool { return e.name == name }) {
		return ReadingUnknown
	}
	return ReadingSame
}

// traitsOf returns the traits of a text, or more.
func traitsOf[T string | []byte](text T) (traits textTraits) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'':
			traits |= traitString
		case c == '$' && (i+1 == len(text) || text[i+1] < '0' || text[i+1] > '9'): // not a parameter
			traits |= traitString
		case c == '\\':
			traits |= traitBackslash
		case c >= 0x80:
			traits |= traitForeign
		case c == ':', (c|' ') == 'c' && hasWord(text[i:], "cast"):
			traits |= traitCast
		case (c|' ') == 'n' && hasWord(text[i:], "null"):
			traits |= traitNull
		}
	}
	return traits
}

// hasWord reports whether a text begins with a word, given in lower case.
func hasWord[T string | []byte](text T, word string) bool {
	if len(text) < len(word) {
		return false
	}
	for i := range len(word) {
		if text[i]|' ' != word[i] {
			return false
		}
	}
	return true
}

// readingKey is what a reading depends on.
type readingKey struct {
	settings *Settings
	traits   textTraits
}

// Reading returns by which settings a server reads a text, if it has those given:
// definition is the text with its terminator, and whatever is behind that.
func (p *Pool) Reading(settings *Settings, definition []byte) *Settings {
	if settings == nil || !settings.reads {
		return nil
	}
	text, _, _ := pgwire.CString(definition)
	return p.reading(settings, traitsOf(text))
}

// reading returns by which of these settings a text with the traits is read.
func (p *Pool) reading(settings *Settings, traits textTraits) *Settings {
	if settings == nil || !settings.reads || traits == 0 {
		return nil
	}
	key := readingKey{settings, traits}
	reading, ok := p.readings[key]
	if !ok {
		var list []Setting
		for _, e := range readingSettings {
			value, set := settings.Value(e.name)
			if set && e.traits&traits != 0 && !p.isDefault(Setting{e.name, value}) {
				list = append(list, Setting{e.name, value})
			}
		}
		reading = p.Settings(nil, list...)
		if p.readings == nil || len(p.readings) >= maxSettings {
			p.readings = map[readingKey]*Settings{}
		}
		p.readings[key] = reading
	}
	return reading
}

// isDefault reports whether a setting is what servers report at login. Those by which the
// proxy reads texts too are kept in any case.
func (p *Pool) isDefault(e Setting) bool {
	if e.Name == "client_encoding" || e.Name == "standard_conforming_strings" {
		return false
	}
	return slices.ContainsFunc(p.parameters, func(reported Setting) bool {
		return strings.EqualFold(reported.Name, e.Name) && reported.Value == e.Value
	})
}

// Reading returns by which settings the server reads a text that it is sent now. Where
// that is not known they are settings of their own, which it tells when it is sent the
// statement.
func (s *Server) Reading(definition []byte) *Settings {
	if s.readingChange == ReadingSame {
		return s.pool.Reading(s.clientSettings(), definition)
	}
	if text, _, _ := pgwire.CString(definition); traitsOf(text) == 0 {
		return nil
	}
	return &Settings{private: true}
}

// AsksReading reports whether a statement may have to be sent with questions of the pool's own
// in front, for how it is read is not certain.
func (s *Server) AsksReading() bool { return s.readingChange != ReadingSame }

// changeReading notes that the client's statement may have changed how texts are read.
func (s *Server) changeReading(change ReadingChange) {
	s.readingChange = max(s.readingChange, change)
	s.readingChanged = s.readingChanged || change != ReadingSame
}

// keepReading notes that texts are read as the settings say.
func (s *Server) keepReading() { s.readingChange, s.readingChanged = ReadingSame, false }

// otherReading returns the settings, with their values, that the server has to have for
// the statement to be read as it was, and may not have now. A value of the server's own
// is NULL in SQL.
func (s *Server) otherReading(statement *Statement) (names, values []string) {
	now := s.pool.reading(s.clientSettings(), statement.traits)
	certain := s.readingChange == ReadingSame
	if certain && now == statement.Reading || statement.Plain || statement.Reading.unlearned() {
		return nil, nil
	}
	for _, e := range readingSettings {
		if e.traits&statement.traits == 0 {
			continue
		}
		value, set := statement.Reading.Value(e.name)
		if current, has := now.Value(e.name); certain && has == set && current == value {
			continue
		}
		literal := "NULL"
		if set {
			literal = string(appendLiteral(nil, value))
		}
		names, values = append(names, e.name), append(values, literal)
	}
	return names, values
}

// isPrivate reports whether the settings are those of one statement.
func (s *Settings) isPrivate() bool { return s != nil && s.private }

// ReadingKnown reports whether the settings are known by which the statement is read.
func (s *Statement) ReadingKnown() bool { return !s.Reading.unlearned() }

// unlearned reports whether the server has yet to say what the settings are.
func (s *Settings) unlearned() bool { return s.isPrivate() && s.list == nil }

// beginReading has the server read what follows by the settings of the statement, if it
// may have others, and reports whether that has to be ended. One query does both, with a
// row each, so that what the server had before need not be known: not in the middle of
// a transaction, nor of a group that sets it.
func (s *Server) beginReading(statement *Statement) bool {
	names, values := s.otherReading(statement)
	if len(names) == 0 {
		return false
	}
	sql := []byte("WITH had AS MATERIALIZED (SELECT ")
	for i, name := range names {
		sql = append(appendSeparator(sql, i), "pg_catalog.current_setting(E'"+name+"') AS "+name...)
	}
	sql = append(sql, ") SELECT "...)
	for i, name := range names {
		sql = append(appendSeparator(sql, i), "pg_catalog.set_config(E'"+name+"',CASE WHEN reads THEN "+values[i]+" ELSE "+name+" END,true)"...)
	}
	sql = append(sql, " FROM had,(VALUES(true),(false)) AS step(reads)"...)
	s.begin()
	s.openOwn(string(sql), purposeReading)
	s.executeOwn(1, reply{purpose: purposeReading})
	return true
}

func appendSeparator(sql []byte, i int) []byte {
	if i > 0 {
		sql = append(sql, ',')
	}
	return sql
}

// endReading has the server read as it did before.
func (s *Server) endReading() {
	s.executeOwn(0, reply{purpose: purposeReading})
	s.closeOwn(purposeReading)
}

// askReading asks the server by which settings it is about to read the statement.
func (s *Server) askReading(statement *Statement) {
	if statement.asked || !statement.Reading.unlearned() || s.pool.config.Mode == ModeSession {
		return
	}
	statement.asked = true
	sql := []byte("SELECT ")
	for i, e := range readingSettings {
		sql = append(appendSeparator(sql, i), "pg_catalog.current_setting(E'"+e.name+"')"...)
	}
	s.begin()
	s.openOwn(string(sql), purposeReading)
	s.executeOwn(0, reply{purpose: purposeReading, statement: statement})
	s.closeOwn(purposeReading)
}

// learnReading takes the answer.
func (s *Server) learnReading(statement *Statement, body []byte) {
	row, ok := readRow(body)
	if !ok || statement == nil || len(row) != len(readingSettings) {
		return
	}
	for i, e := range readingSettings {
		if e.traits&statement.traits != 0 {
			statement.Reading.list = append(statement.Reading.list, Setting{e.name, string(row[i])})
		}
	}
}
