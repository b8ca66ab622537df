package proxy

import (
	"bytes"

	"github.com/billproxy/billproxy/pool"
)

// query reads a query or a command that changes rows, of which the current token is
// the first. All functions that it calls have to be known.
func (r *effectsReader) query() {
	var q queryReader
	q.started = true
	q.levels[0] = levelQuery
	var atTable bool       // in the place of a table
	var tables, harms bool // a table is the value of a function; behind a dot is the name of one that harms
	for !r.ended() {
		t := r.token
		if t&tokenName != 0 && q.last&tokenDot == 0 {
			var fed bool
			if t, fed = r.command(&q); fed {
				continue
			}
			if r.ended() {
				break
			}
		}
		if t&tokenName != 0 {
			t = r.knownName(t)
		} else if t&tokenQuoted != 0 {
			t &^= tokenForbidden
		}
		if q.queryDue && t&(tokenSelect|tokenWhere) == 0 {
			r.calls()
			q.queryDue = false
			tables = tables || atTable
		}
		atTable = q.tableName
		if !q.accept(t) {
			r.unknown()
			return
		}
		if t&(tokenName|tokenQuoted) != 0 {
			r.reads()
			harms = harms || r.harms && q.before&tokenDot != 0
		}
		r.advance()
	}
	if tables && q.attributes {
		r.effects.Functions = nil // any may stand behind a dot
	}
	if r.conflicts > 0 || q.functionTables && q.attributes || tables && harms || r.settingsView && r.updates {
		r.unknown()
	}
}

// command follows the words of commands that change rows, which need more than one
// token of context. It returns what the current token is to the query reader, or fed
// if that has been told enough.
func (r *effectsReader) command(q *queryReader) (t token, fed bool) {
	t = r.token
	switch {
	case r.word("insert"):
		r.draws()
		r.writes()
		r.inserts = true
		return r.insert(q)
	case (r.word("update") || r.word("delete") || r.word("merge")) && r.callsNext():
		return t, false
	case r.word("update"):
		return r.update(q)
	case r.word("delete"), r.word("merge"):
		r.writes()
		if r.word("merge") {
			r.draws()
		}
		q.levels[q.depth] |= levelQuery
		r.advance()
		if r.word("into") {
			r.advance()
		}
		return 0, true
	case r.word("into"):
		r.affects(pool.StateTemporary) // SELECT INTO TEMPORARY, or by search_path
		r.advance()
		return 0, true
	case r.word("conflict"):
		if r.inserts && q.last&tokenOn != 0 {
			r.conflicts++
			return t | tokenKeyword, false
		}
	case r.word("do"):
		r.conflicts = max(0, r.conflicts-1)
	case q.last&tokenFor != 0 && (r.word("key") || r.word("no") || r.word("share")):
		return t &^ tokenLock, false
	}
	return t, false
}

// callsNext reports whether a parenthesis follows the current token.
func (r *effectsReader) callsNext() bool {
	ahead := r.lexer
	return ahead.next()&tokenOpen != 0
}

// namesState reports whether the current token is a name among stateNames.
func (r *effectsReader) namesState() bool {
	if r.token&tokenQuoted != 0 {
		return wordTokens.find(r.text[r.start+1:r.at-1])&tokenState != 0
	}
	return r.token&tokenState != 0
}

// draws notes that defaults may be computed.
func (r *effectsReader) draws() {
	r.any, r.effects.Draws = true, true
}

// writes notes that rows may change, and what that brings about.
func (r *effectsReader) writes() {
	r.any, r.effects.Writes = true, true
}

// insert reads the beginning of an INSERT, up to behind its list of columns.
func (r *effectsReader) insert(q *queryReader) (t token, fed bool) {
	r.advance()
	if !r.word("into") {
		r.name, r.harms = nameToken{text: []byte("insert")}, false
		q.last, q.before = tokenName, q.last // of a MERGE, or a name
		return 0, true
	}
	r.advance()
	r.qualifiedName()
	if r.word("as") {
		r.advance()
		r.advance()
	}
	if r.token&tokenOpen != 0 {
		ahead := r.lexer
		if t := ahead.next(); t&(tokenSelect|tokenOpen) == 0 {
			if !r.skipParentheses() {
				r.unknown()
			}
		}
	}
	q.levels[q.depth] |= levelQuery
	q.last = tokenOther
	return 0, true
}

// qualifiedName skips a name and those that qualify it.
func (r *effectsReader) qualifiedName() {
	for r.token&(tokenName|tokenQuoted) != 0 {
		if r.isServerSetting() {
			r.settingsView = true
		}
		r.advance()
		if r.token&tokenDot == 0 {
			return
		}
		r.advance()
	}
}

// isServerSetting reports whether the current token is the view of the settings, an
// update of which sets them.
func (r *effectsReader) isServerSetting() bool {
	return r.token&tokenForbidden != 0 && r.identifierIs("pg_settings")
}

func (r *effectsReader) identifierIs(name string) bool {
	text := r.text[r.start:r.at]
	if r.token&tokenQuoted != 0 {
		return string(text) == `"`+name+`"`
	}
	return r.word(name)
}

// update reads the beginning of an UPDATE, up to SET; of ON CONFLICT DO UPDATE; or of
// FOR UPDATE.
func (r *effectsReader) update(q *queryReader) (t token, fed bool) {
	if q.last&(tokenFor|tokenLock) != 0 {
		q.last = tokenName
		r.advance()
		return 0, true
	}
	r.draws()
	r.writes()
	r.updates = true
	r.advance()
	if !r.word("set") {
		if r.word("only") {
			r.advance()
		}
		r.qualifiedName()
		for r.token&(tokenOperator|tokenName|tokenQuoted) != 0 && !r.word("set") {
			r.advance()
		}
		if !r.word("set") {
			r.unknown()
			return 0, true
		}
	}
	q.levels[q.depth] |= levelQuery
	q.last = tokenName | tokenKeyword
	r.advance()
	return 0, true
}

// knownName returns what a name is to the query reader, and notes what a function of
// that name does. A word that is a function to PostgreSQL is taken for its call.
func (r *effectsReader) knownName(t token) token {
	if t&tokenForbidden != 0 {
		if r.isServerSetting() {
			r.settingsView = true
		}
		if !r.word("treat") && !r.word("operator") && !r.word("uescape") {
			t &^= tokenForbidden
		}
	}
	switch {
	case t&tokenHarmless != 0:
		return t | tokenFunction
	case t&tokenState == 0:
		return t
	}
	switch {
	case r.word("set_config"):
		r.setConfig()
	case r.word("setseed"):
		r.affects(pool.StateSeed)
	case r.word("nextval"), r.word("setval"):
		r.draws()
		r.effects.DrawsByName = true
	case r.word("currval"), r.word("lastval"):
		r.any, r.effects.Asks, r.effects.AsksByName = true, true, true
	case bytes.EqualFold(r.text[r.start:r.start+len("pg_")], []byte("pg_")):
		r.affects(pool.StateLocks)
	default:
		r.unknown() // it runs SQL
	}
	return t | tokenFunction
}
