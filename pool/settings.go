package pool

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Setting is a run-time parameter and its value.
type Setting struct {
	Name, Value string
}

// Settings are the run-time parameters in which a session differs from the
// server's defaults. They are interned: equal settings are the same pointer, so a
// server fits a client if the pointers are equal. A nil *Settings is the defaults.
type Settings struct {
	list []Setting // sorted by name, names in lower case
	key  string

	// class is the part of the key that the meaning of a statement depends on. reads:
	// there are settings that decide how a text is read.
	class string
	reads bool

	// private: they are of one statement and not interned.
	private bool

	// accepted is true once a server took the settings; reported is what it
	// reports, different from the defaults, when it has them.
	accepted bool
	reported []Setting

	// patience is what Patience has found out, if patienceKnown.
	patience      time.Duration
	patienceKnown bool
}

// ChangesMeaning reports whether a text names other objects when the parameter has
// another value: PostgreSQL looks them up anew then, for a prepared statement too.
// Those of applications, which have a dot in their name, are values to PostgreSQL; so
// are those of extensions, unless one brings a parser of its own.
func ChangesMeaning(name string) bool {
	switch name {
	case "search_path", "role", "session_authorization":
		return true
	}
	return false
}

// Meaning tells apart the settings under which a text means something else.
func (s *Settings) Meaning() string { return s.meaning() }

// meaning returns the class of the settings; settings of one class are alike to a
// prepared statement.
func (s *Settings) meaning() string {
	if s == nil {
		return ""
	}
	return s.class
}

// Accepted reports whether a server has taken the settings, so that they can be
// given to another without waiting for its answer.
func (s *Settings) Accepted() bool { return s == nil || s.accepted }

// accept notes that a server has taken the settings, and of what it reports now
// what differs from the defaults.
func (s *Settings) accept(now, defaults parameterList) {
	if s == nil || s.accepted {
		return
	}
	s.accepted = true
	for _, parameter := range now {
		if !slices.Contains(defaults, parameter) {
			s.reported = append(s.reported, parameter)
		}
	}
}

// reportedAs returns what a server with the settings reports of a parameter, of which
// the default is given, or what the client has called that.
func (s *Settings) reportedAs(parameter Setting) string {
	if s != nil {
		for _, reported := range s.reported {
			if reported.Name == parameter.Name {
				return reported.Value
			}
		}
	}
	if value, ok := s.Value(parameter.Name); ok && !s.accepted { // as a server has reported it
		return value
	}
	return parameter.Value
}

// Value returns the value of a parameter that the settings contain.
func (s *Settings) Value(name string) (value string, ok bool) {
	if s == nil {
		return "", false
	}
	i, ok := slices.BinarySearchFunc(s.list, strings.ToLower(name), func(e Setting, name string) int { return cmp.Compare(e.Name, name) })
	if !ok {
		return "", false
	}
	return s.list[i].Value, true
}

// All returns the settings, sorted by name.
func (s *Settings) All() []Setting { return s.all() }

func (s *Settings) all() []Setting {
	if s == nil {
		return nil
	}
	return s.list
}

// settingsTable interns settings. An entry lives as long as the table: the
// combinations in use by a fleet of services are few, and maxSettings bounds what a
// client can add on purpose.
type settingsTable struct {
	byKey map[string]*Settings

	// shown is how PostgreSQL shows settings that a client has spelled.
	shown map[Setting]string
}

// maxSettings bounds the table. Beyond it equal settings are no longer shared,
// which costs a switch of settings per lease and nothing else.
const maxSettings = 10_000

// with returns base with the given settings added or replaced.
func (t *settingsTable) with(base *Settings, changes ...Setting) *Settings {
	if len(changes) == 0 {
		return base
	}
	list := slices.Clone(base.all())
	for _, change := range changes {
		change.Name = strings.ToLower(change.Name)
		i, found := slices.BinarySearchFunc(list, change.Name, func(e Setting, name string) int { return cmp.Compare(e.Name, name) })
		if found {
			list[i].Value = change.Value
		} else {
			list = slices.Insert(list, i, change)
		}
	}
	var key, class strings.Builder
	reads := false
	for _, e := range list {
		entry := e.Name + "\x00" + e.Value + "\x00"
		key.WriteString(entry)
		if ChangesMeaning(e.Name) {
			class.WriteString(entry)
		}
		reads = reads || ChangesReading(e.Name) != ReadingSame
	}
	if s, ok := t.byKey[key.String()]; ok {
		return s
	}
	s := &Settings{list: list, key: key.String(), class: class.String(), reads: reads}
	if len(t.byKey) < maxSettings {
		if t.byKey == nil {
			t.byKey = map[string]*Settings{}
		}
		t.byKey[s.key] = s
	}
	return s
}

// learn notes how PostgreSQL shows a setting.
func (t *settingsTable) learn(given Setting, shown string) {
	if t.shown == nil || len(t.shown) >= maxSettings {
		t.shown = map[Setting]string{}
	}
	t.shown[given] = shown
}

// appendSwitch appends the SQL that turns a session with settings from into one
// with settings to, and returns what it sets, in order. It never depends on settings
// itself: every value is an escape string of which only plain characters are spelled
// out.
func appendSwitch(sql []byte, from, to *Settings) ([]byte, []Setting) {
	// Who the session acts as decides what it may set, so that comes off first and
	// goes on last.
	if from != to {
		sql = append(sql, from.unblock()...)
	}
	asOther := from.actsAsOther() && from != to
	if asOther {
		sql = append(sql, "RESET SESSION AUTHORIZATION;RESET ROLE;"...)
	}
	for _, e := range from.all() {
		if _, ok := to.Value(e.Name); !ok && !isIdentity(e.Name) {
			sql = append(append(append(sql, "RESET "...), resetName(e.Name)...), ';')
		}
	}
	var changes []Setting
	for _, e := range to.all() {
		if value, ok := from.Value(e.Name); (!ok || value != e.Value) && !isIdentity(e.Name) {
			changes = append(changes, e)
			if ok && e.Name == "datestyle" { // of which a value may set a part
				sql = append(sql, "RESET datestyle;"...)
			}
		}
	}
	for _, name := range identities {
		value, ok := to.Value(name)
		if current, was := from.Value(name); ok && (asOther || !was || current != value) {
			changes = append(changes, Setting{name, value})
		}
	}
	return appendSet(sql, changes, false), changes
}

// appendSet appends the SQL that sets settings, for the transaction only if local is true.
func appendSet(sql []byte, changes []Setting, local bool) []byte {
	separator, end := "SELECT ", ",false)"
	if local {
		end = ",true)"
	}
	for _, e := range changes {
		sql = append(append(sql, separator...), "pg_catalog.set_config("...)
		sql = appendLiteral(sql, e.Name)
		sql = append(sql, ',')
		sql = appendLiteral(sql, e.Value)
		sql = append(sql, end...)
		separator = ","
	}
	return sql
}

// appendSetAlone appends the SQL that sets one, if possible without a snapshot: behind the
// first one of a transaction its isolation level is fixed.
func appendSetAlone(sql []byte, e Setting, local bool) []byte {
	// Of a list of names, SET takes each for itself.
	if slices.Contains(nameLists, e.Name) && !plainName.MatchString(e.Value) {
		return appendSet(sql, []Setting{e}, local)
	}
	verb := "SET "
	if local {
		verb = "SET LOCAL "
	}
	sql = append(append(append(sql, verb...), resetName(e.Name)...), " TO "...)
	return appendLiteral(sql, e.Value)
}

// nameLists are the settings of sessions that are lists of names, which PostgreSQL quotes.
var nameLists = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

// plainName is a name that PostgreSQL does not quote, unless it is a keyword.
var plainName = regexp.MustCompile(`^[a-z_][a-z_0-9]*$`)

// unblock returns what has to stand in front of a query of the pool's own in a session
// with the settings: a transaction that is serializable, read only and deferrable would
// wait for those of others.
// See https://www.postgresql.org/docs/current/sql-set-transaction.html
func (s *Settings) unblock() string {
	if value, ok := s.Value(deferrable); !ok || value == "off" {
		return ""
	}
	return unblock
}

const (
	deferrable = "default_transaction_deferrable"
	unblock    = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
)

// identities are the settings that say whom the session acts as, in the order in
// which they can be set.
var identities = [...]string{"session_authorization", "role"}

func isIdentity(name string) bool { return slices.Contains(identities[:], name) }

// actsAsOther reports whether a session with the settings acts as somebody else than
// who has logged in.
func (s *Settings) actsAsOther() bool {
	_, authorization := s.Value("session_authorization")
	_, role := s.Value("role")
	return authorization || role
}

// resetName quotes the name of an extension's parameter: a part of it may be a
// keyword.
func resetName(name string) string {
	if !strings.Contains(name, ".") {
		return name
	}
	return `"` + strings.ReplaceAll(name, ".", `"."`) + `"`
}

// appendLiteral appends s as an escape string constant.
// See https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE
func appendLiteral(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, "E'"...)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(" _-+.,:;/()=\"$@", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		}
	}
	return append(b, '\'')
}

// ValidSettingName reports whether name can be a run-time parameter: letters,
// digits, underscores and, for an extension's parameter, dots.
func ValidSettingName(name string) bool {
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '.' || c == '$'):
		default:
			return false
		}
	}
	return name != ""
}

// Settable reports whether a parameter that servers report can be given a value, so
// that another server can be made to report the same.
// See https://www.postgresql.org/docs/current/libpq-status.html#LIBPQ-PQPARAMETERSTATUS
func Settable(name string) bool {
	switch name {
	case "server_version", "server_encoding", "is_superuser", "session_authorization", "integer_datetimes", "in_hot_standby":
		return false
	}
	return true
}
