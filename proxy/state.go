package proxy

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// sessionChanges is what the statements of a lease may have done to the session, as
// far as the server does not tell of it.
type sessionChanges struct {
	// resetNames are the settings that RESET may have given back, resetsAll all of them:
	// the server's values, where the client is to have those of its login.
	resetNames []string
	resetsAll  bool

	// localNames are those that it may have given back for the transaction.
	localNames []string

	// resetNow: one of them is under way, and the next group has to wait until the
	// client's value has been put in place of the server's. resetGroup is the number of
	// the client's first group that does so: those in front of it may set the same.
	resetNow   bool
	resetGroup uint64

	// scanned is the end of what has been sent of a query that is sent in parts.
	scanned []byte

	// prepared is what the statements do that the client has prepared with PREPARE.
	prepared *pool.Effects

	// bound are the portals of statements that refer to prepared statements, or take all of
	// them away.
	bound []boundStatement
}

// boundStatement is a statement that a portal is of. The portal's name has its terminator.
type boundStatement struct {
	portal    string
	statement *pool.Statement
}

// unbind forgets what the portal of that name was of.
func (c *sessionChanges) unbind(portal []byte) {
	if c != nil && len(c.bound) > 0 {
		c.bound = slices.DeleteFunc(c.bound, func(b boundStatement) bool { return b.portal == string(portal) })
	}
}

// statementOf returns the statement that the portal is of whose name b begins with, if it is
// one of those.
func (c *sessionChanges) statementOf(b []byte) *pool.Statement {
	if c == nil {
		return nil
	}
	for _, bound := range c.bound {
		if bytes.HasPrefix(b, []byte(bound.portal)) {
			return bound.statement
		}
	}
	return nil
}

// change returns the changes, to be added to.
func (s *session) change() *sessionChanges {
	if s.changes == nil {
		s.changes = new(sessionChanges)
	}
	return s.changes
}

// resetsNow reports whether a reset is under way.
func (c *sessionChanges) resetsNow() bool { return c != nil && c.resetNow }

// resetting reports whether the value that the server reports for a setting now is that
// of a reset. answered is how many groups of the client have been answered.
func (c *sessionChanges) resetting(name string, answered uint64) bool {
	return c.resetsNow() && answered >= c.resetGroup && (c.resets(name) || c.resetsLocally(name))
}

// resets reports whether a setting may have been reset.
func (c *sessionChanges) resets(name string) bool {
	return c.resetsAll || slices.Contains(c.resetNames, strings.ToLower(name))
}

// sets notes that settings that were reset have been set since.
func (c *sessionChanges) sets(e *pool.Effects) {
	if c == nil || len(c.resetNames) == 0 {
		return
	}
	c.resetNames = slices.DeleteFunc(c.resetNames, func(name string) bool {
		return slices.Contains(e.Names, name) && !slices.Contains(e.Resets, name)
	})
}

// resetsLocally reports the same of the transaction at hand.
func (c *sessionChanges) resetsLocally(name string) bool {
	return slices.Contains(c.localNames, strings.ToLower(name))
}

// effectsOf tells what the text of a simple query does.
func (s *session) effectsOf(body []byte) *pool.Effects {
	text, _, ok := pgwire.CString(body)
	if !ok {
		return anyEffects
	}
	return effectsOf(text, s.encoding(), standardStrings(s.settings))
}

// standardStrings reports whether a backslash in a string means itself.
func standardStrings(settings *pool.Settings) bool {
	value, ok := settings.Value("standard_conforming_strings")
	return !ok || value == "on"
}

// affect notes what a statement that is sent may do to the session.
func (s *session) affect(e *pool.Effects) {
	if e == nil {
		return
	}
	s.server.Affect(e)
	s.changes.sets(e)
	if s.login != nil && (e.ResetsAll || len(e.Resets)+len(e.LocalResets) > 0) {
		c := s.change()
		c.resetsAll = c.resetsAll || e.ResetsAll
		c.resetNames = append(c.resetNames, e.Resets...)
		c.localNames = append(c.localNames, e.LocalResets...)
		if !c.resetNow {
			c.resetNow, c.resetGroup = true, s.groupsAnswered+uint64(s.server.UnansweredGroups())
		}
	}
	if e.State&pool.StatePrepared != 0 && e.State != pool.StateAny {
		c := s.change()
		if c.prepared == nil {
			c.prepared = &pool.Effects{}
		}
		c.prepared.Add(e)
	}
	if e.Executes && s.changes != nil {
		s.server.Affect(s.changes.prepared)
	}
}

// affectBound notes what a statement does that is bound to parameters, which are in
// rest, the message behind the names of portal and statement. bytes of it may be
// missing.
func (s *session) affectBound(statement *pool.Statement, rest []byte) {
	s.facts(statement)
	e := statement.Effects
	s.affect(e)
	s.affectArguments(e, rest)
	if e == nil || len(e.BoundNames) == 0 {
		return
	}
	named := &pool.Effects{}
	for _, number := range e.BoundNames {
		name, ok := boundParameter(rest, number-1)
		if !ok || !pool.ValidSettingName(name) {
			s.affect(hiddenEffects)
			return
		}
		named.AddName(lowerASCII(name))
		named.Meaning = named.Meaning || pool.ChangesMeaning(lowerASCII(name))
		named.Reading = max(named.Reading, pool.ChangesReading(lowerASCII(name)))
	}
	s.affect(named)
}

// affectArguments notes which parameters may be the names of settings that functions are
// told to set, behind what else the statement does.
func (s *session) affectArguments(e *pool.Effects, rest []byte) {
	if e == nil || e.State&(pool.StateSettings|pool.StateFunctions) == 0 || !s.server.SuspectSettings() {
		return
	}
	named := &pool.Effects{}
	for _, value := range boundParameters(rest) {
		named.AddArgument(value)
	}
	if len(named.Arguments) > 0 {
		s.affect(named)
	}
}

// boundParameter returns a parameter in a Bind message, of which rest is what is
// behind the names.
func boundParameter(rest []byte, index int) (value string, ok bool) {
	for i, value := range boundParameters(rest) {
		if i == index {
			return string(value), value != nil
		}
	}
	return "", false
}

// boundParameters are the parameters in a Bind message, of which rest is what is behind
// the names, as far as it is at hand. Text is the same in either format; NULL is nil.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND
func boundParameters(rest []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		count := func() int {
			if len(rest) < 2 {
				return 0
			}
			n := int(binary.BigEndian.Uint16(rest))
			rest = rest[2:]
			return n
		}
		formats := 2 * count()
		rest = rest[min(formats, len(rest)):]
		for i := range count() {
			if len(rest) < 4 {
				return
			}
			size := int(int32(binary.BigEndian.Uint32(rest)))
			rest = rest[4:]
			switch {
			case size > len(rest):
				return
			case size < 0:
				if !yield(i, nil) {
					return
				}
			default:
				if !yield(i, rest[:size:size]) {
					return
				}
				rest = rest[size:]
			}
		}
	}
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// OnInspected implements pool.Client: what the server says the settings are.
func (s *session) OnInspected(settings *pool.Settings, current bool) {
	before := s.settings
	s.settings = settings
	switch {
	case current:
	case !s.changes.resetsNow() && s.changes != nil: // those are settled that were in front
		s.changes.resetNames, s.changes.resetsAll = nil, false
		return
	default:
		return
	}
	if s.changes.resetsNow() { // the next group, or lease, begins with those of the login
		s.settings = s.pool.Settings(settings, s.resetSettings(settings)...)
		s.conn.Write(s.pool.AppendChanges(nil, before, s.settings))
	}
	switch {
	case s.changes == nil:
	case s.server.Pins()&pool.StatePrepared == 0:
		s.changes = nil
	default:
		*s.changes = sessionChanges{prepared: s.changes.prepared}
	}
}

// OnReset implements pool.Client.
func (s *session) OnReset(status pgwire.TxStatus) {
	if !s.changes.resetsNow() {
		return
	}
	before := s.settings
	s.settings = s.pool.Settings(before, s.resetSettings(nil)...)
	now := s.settings
	if status == pgwire.TxActive {
		now = s.pool.Settings(now, s.localSettings()...)
	}
	s.conn.Write(s.pool.AppendChanges(nil, before, now))
}

// resetSettings returns the settings that were reset and are not among the given, as
// they were at login: to PostgreSQL RESET means what the server has.
func (s *session) resetSettings(given *pool.Settings) (reset []pool.Setting) {
	for _, e := range s.login.All() {
		value, ok := given.Value(e.Name)
		if ok && value == "" && strings.Contains(e.Name, ".") { // what RESET makes of one that is the application's
			ok = false
		}
		if !ok && s.changes.resets(e.Name) && (given != nil || !s.server.WasSet(e.Name)) {
			reset = append(reset, e)
		}
	}
	return reset
}

// localSettings returns the settings that were reset for the transaction, as they were at
// login.
func (s *session) localSettings() (reset []pool.Setting) {
	for _, e := range s.login.All() {
		if s.changes.resetsLocally(e.Name) && !s.server.WasSet(e.Name) {
			reset = append(reset, e)
		}
	}
	return reset
}

// restoreResets puts the settings of the login in place of what RESET has set, in the
// transaction at hand. status is that at the end of the group.
func (s *session) restoreResets(status pgwire.TxStatus) {
	c := s.changes
	if !c.resetsNow() || !s.server.Quiet() {
		return
	}
	local := s.localSettings()
	c.localNames = nil
	if status == pgwire.TxIdle {
		local = nil
		if s.server.Suspect() && (c.resetsAll || len(c.resetNames) > 0) {
			return // an inspection follows
		}
	}
	c.resetNow = false
	if status != pgwire.TxFailed { // else it is as it was before
		s.server.Restore(s.resetSettings(nil), local)
	}
	c.resetNames, c.resetsAll = c.resetNames[:0], false
}

// scan looks for settings in a part of a query that is too long to be read at once.
func (s *session) scan(part []byte) {
	c := s.change()
	text := slices.Concat(c.scanned, part)
	r := effectsReader{}
	r.searchNames(text)
	s.affect(&r.effects)
	c.scanned = append([]byte(nil), text[max(0, len(text)-maxScannedBytes):]...)
}

// maxScannedBytes is how long a call of set_config is looked for across two parts.
const maxScannedBytes = 256

// calledEffects tells what the function does that a function call names: those that
// drivers call so are for large objects.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-FUNCTIONCALL
func calledEffects(body []byte) *pool.Effects {
	if len(body) < 4 {
		return anyEffects
	}
	switch binary.BigEndian.Uint32(body) {
	case 715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172, 3457, 3458, 3459, 3460:
		return nil
	case oidSetConfig:
		return hiddenEffects
	}
	return anyEffects
}

// oidSetConfig is the OID of set_config.
const oidSetConfig = 2078
