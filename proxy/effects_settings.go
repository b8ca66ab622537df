package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/pool"
)

// characteristics are the settings behind SET SESSION CHARACTERISTICS.
var characteristics = []string{"default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"}

// set reads a SET.
// See https://www.postgresql.org/docs/current/sql-set.html
func (r *effectsReader) set() {
	begin := r.start
	r.advance()
	local := r.word("local")
	if local {
		r.advance()
	} else if r.word("session") {
		r.advance()
		switch {
		case r.word("characteristics"):
			for _, name := range characteristics {
				r.names(name)
			}
			return
		case r.word("authorization"):
			r.setTo(begin, local, "session_authorization", "role")
			return
		}
	}
	if r.word("transaction") || r.word("constraints") {
		return
	}
	name, ok := r.settingName()
	if !ok {
		r.affects(pool.StateSettings | pool.StateHiddenSettings)
		return
	}
	r.setTo(begin, local, name)
}

// setTo reads the rest of a SET of the settings that began there.
func (r *effectsReader) setTo(begin int, local bool, names ...string) {
	defaults := false
	for ; !r.ended(); r.advance() {
		defaults = r.word("default") || names[0] == "timezone" && r.word("local")
	}
	for _, name := range names {
		r.changes(name, string(r.text[begin:r.start]))
		switch {
		case local && defaults:
			r.any = true
			r.effects.LocalResets = append(r.effects.LocalResets, name)
		case local:
			r.effects.LocalResets = without(r.effects.LocalResets, name)
		case defaults:
			r.names(name)
			r.resets(name)
		default:
			r.names(name)
			r.effects.Resets = without(r.effects.Resets, name)
		}
	}
}

// without returns the names but for one, which has been set since.
func without(names []string, name string) []string {
	return slices.DeleteFunc(names, func(other string) bool { return other == name })
}

// resets notes that a setting may get the value back that it had at login.
func (r *effectsReader) resets(name string) {
	r.affects(pool.StateSettings)
	r.effects.Resets = append(r.effects.Resets, name)
}

// settingName reads what SET, RESET and SHOW call a setting, up to the token behind
// the name.
func (r *effectsReader) settingName() (name string, ok bool) {
	alias := ""
	switch {
	case r.word("time"):
		alias = "timezone"
	case r.word("names"):
		alias = "client_encoding"
	case r.word("schema"):
		alias = "search_path"
	case r.word("xml"):
		alias = "xmloption"
	case r.word("session"):
		alias = "session_authorization"
	}
	var parts []string
	for r.token&(tokenName|tokenQuoted) != 0 {
		parts = append(parts, r.identifier())
		r.advance()
		if r.token&tokenDot == 0 {
			break
		}
		r.advance()
	}
	plain := strings.ToLower(strings.Join(parts, "."))
	behindName := r.text[r.start:r.at]
	switch {
	case len(parts) == 0:
		return "", false
	case alias == "", bytes.Equal(behindName, []byte("=")), r.word("to"):
		return plain, true
	}
	return alias, true
}

// identifier returns the name that the current token is.
func (r *effectsReader) identifier() string {
	name := r.text[r.start:r.at]
	if r.token&tokenQuoted != 0 {
		name = bytes.ReplaceAll(name[1:len(name)-1], []byte(`""`), []byte(`"`))
	}
	return string(name)
}

// reset reads a RESET.
// See https://www.postgresql.org/docs/current/sql-reset.html
func (r *effectsReader) reset() {
	r.advance()
	if r.word("all") {
		r.affects(pool.StateSettings)
		r.effects.ResetsAll = true
		return
	}
	begin := r.start
	name, ok := r.settingName()
	switch {
	case !ok:
		r.affects(pool.StateSettings | pool.StateHiddenSettings)
		return
	case name == "transaction_isolation" || name == "transaction":
		return
	}
	names := []string{name}
	if name == "session_authorization" {
		names = append(names, "role")
	}
	for _, name := range names {
		r.names(name)
		r.resets(name)
		r.changes(name, "reset "+string(r.text[begin:r.start]))
	}
}

// setConfig looks at the arguments of a call of set_config, behind the current token.
func (r *effectsReader) setConfig() {
	l := r.lexer
	if l.next()&tokenOpen == 0 {
		return // no call
	}
	t := l.next()
	argument := l.text[l.start:l.at]
	t2 := l.next()
	if t2&tokenOther != 0 { // a cast
		l.next()
		l.next()
		t2 = l.next()
	}
	if t&tokenOther == 0 || t2&tokenComma == 0 {
		r.affects(pool.StateSettings | pool.StateHiddenSettings)
		return
	}
	local := l.isLocal()
	var name string
	switch {
	case argument[0] == '\'' && !bytes.ContainsAny(argument, `\`):
		name = strings.ToLower(string(bytes.ReplaceAll(argument[1:len(argument)-1], []byte("''"), []byte("'"))))
	case argument[0] == '$' && isDigit(argument[len(argument)-1]):
		if number, err := strconv.Atoi(string(argument[1:])); err == nil && !local {
			r.any = true
			if !slices.Contains(r.effects.BoundNames, number) {
				r.effects.BoundNames = append(r.effects.BoundNames, number)
			}
		}
		return
	default:
		r.affects(pool.StateSettings | pool.StateHiddenSettings)
		return
	}
	r.changes(name, "")
	if !local {
		r.names(name)
	}
}

// isLocal reports whether the last argument of set_config, of which the first and a
// comma have been read, is true.
func (l *lexer) isLocal() bool {
	for depth := 0; ; {
		t := l.next()
		switch {
		case t&(tokenEnd|tokenForbidden|tokenSemicolon) != 0:
			return false
		case t&tokenOpen != 0:
			depth++
		case t&tokenClose != 0:
			if depth--; depth < 0 {
				return false
			}
		case t&tokenComma != 0 && depth == 0:
			return l.is(l.next(), "true") && l.next()&tokenClose != 0
		}
	}
}

// searchNames looks for settings in a text that is not read token by token, such as
// the body of a DO: anything that looks like SET or set_config counts.
func (r *effectsReader) searchNames(text []byte) {
	for i := 0; i+3 <= len(text); i++ {
		if text[i]|' ' != 's' || text[i+1]|' ' != 'e' || text[i+2]|' ' != 't' || i > 0 && foldedBytes[text[i-1]] != 0 {
			continue
		}
		rest := text[i+3:]
		if len(rest) >= len("_config") && strings.EqualFold(string(rest[:len("_config")]), "_config") {
			r.searchSetConfig(rest[len("_config"):])
			continue
		}
		r.searchSet(text[max(0, i-maxUpdateBytes):i], rest)
	}
}

// searchArguments looks for strings that may be names of an application's settings, for a
// text that calls functions which may set what they are told.
func (r *effectsReader) searchArguments(text []byte) {
	if r.effects.State&(pool.StateSettings|pool.StateFunctions) == 0 {
		return
	}
	for {
		i := bytes.IndexByte(text, '\'')
		if i < 0 {
			return
		}
		text = text[i+1:]
		n := 0
		for n < len(text) && (foldedBytes[text[n]] != 0 || text[n] == '.') {
			n++
		}
		if n < len(text) && text[n] == '\'' {
			r.effects.AddArgument(text[:n])
		}
	}
}

// maxUpdateBytes is how far in front of SET the UPDATE is looked for that it belongs to.
const maxUpdateBytes = 200

// searchSetConfig looks at what follows set_config somewhere in a text.
func (r *effectsReader) searchSetConfig(rest []byte) {
	rest = bytes.TrimLeft(rest, "\"( \t\r\n\f'")
	n := 0
	for n < len(rest) && (foldedBytes[rest[n]] != 0 || rest[n] == '.') {
		n++
	}
	if n == 0 || n == len(rest) || rest[n] != '\'' {
		r.affects(pool.StateSettings | pool.StateHiddenSettings)
		return
	}
	r.names(strings.ToLower(string(rest[:n])))
}

// searchSet looks at what follows SET somewhere in a text, and at what comes before.
func (r *effectsReader) searchSet(before, rest []byte) {
	l := lexer{text: rest, standardStrings: true}
	t := l.next()
	if l.start == 0 {
		return // a part of a word
	}
	if l.is(t, "session") || l.is(t, "local") {
		t = l.next()
	}
	if t&(tokenName|tokenQuoted) == 0 {
		if t&(tokenOther|tokenOperator) != 0 && !bytes.Contains(bytes.ToLower(before), []byte("update")) {
			r.affects(pool.StateSettings | pool.StateHiddenSettings) // the name is put in at run time
		}
		return
	}
	first := l.text[l.start:l.at]
	if l.next()&tokenDot == 0 || l.next()&(tokenName|tokenQuoted) == 0 {
		return // one that PostgreSQL lists
	}
	second := l.text[l.start:l.at]
	name := strings.ToLower(strings.ReplaceAll(string(first)+"."+string(second), `"`, ""))
	if pool.ValidSettingName(name) {
		r.effects.AddName(name)
	}
}
