package proxy

import (
	"bytes"

	"github.com/billproxy/billproxy/pool"
)

// effectsOf tells what the text of a query may do to its session that outlives the
// transaction, nil if it does nothing. It goes by the text alone and takes for
// possible what that does not rule out: PostgreSQL is asked afterwards what was done.
// standardStrings is the value of standard_conforming_strings.
//
// As for classify, there are functions that no text shows: triggers, defaults and
// views run some, and the catalog tells which of them matter behind a write.
func effectsOf(text []byte, encoding encodingKind, standardStrings bool) *pool.Effects {
	r := effectsReader{lexer: lexer{text: text, standardStrings: standardStrings}}
	if encoding == encodingUnsafe && !isASCII(text) {
		r.obscure(text)
		r.searchArguments(text)
		return r.found()
	}
	for r.advance(); r.token&tokenEnd == 0; r.advance() {
		if r.token&tokenSemicolon == 0 {
			r.statement()
			r.skipStatement()
		}
		if r.broken {
			r.obscure(text)
			break
		}
		if r.token&tokenEnd != 0 {
			break
		}
	}
	r.searchArguments(text)
	return r.found()
}

// found returns the effects, the same object where there is one for them.
func (r *effectsReader) found() *pool.Effects {
	switch e := &r.effects; {
	case !r.any:
		return nil
	case len(e.Names)+len(e.BoundNames)+len(e.Arguments)+len(e.Statements)+len(e.LocalResets)+len(e.Functions) > 0 || e.Defines || e.ResetsAll || e.Executes || e.MeaningKey != "":
	case e.State == 0 && !e.Meaning && e.Reading == pool.ReadingSame && !e.Asks && !e.DrawsByName && (!e.Begins || !e.Draws && !e.Writes):
		switch {
		case e.Begins:
			return beginEffects
		case !e.Writes:
			return drawEffects
		case e.Draws:
			return writeEffects
		}
		return deleteEffects
	case e.Begins:
	case !e.Draws || !e.Asks || e.DrawsByName || e.AsksByName:
	case e.State == pool.StateAny:
		return anyEffects
	}
	found := r.effects
	return &found
}

var (
	// drawEffects is of a statement that does nothing but perhaps call nextval.
	drawEffects = &pool.Effects{Draws: true}

	// writeEffects is of one that does nothing but write, and deleteEffects of one that has
	// no use for defaults.
	writeEffects  = &pool.Effects{Draws: true, Writes: true}
	deleteEffects = &pool.Effects{Writes: true}

	// beginEffects is of one that does nothing but begin a transaction.
	beginEffects = &pool.Effects{Begins: true}

	// anyEffects is of one of which nothing is known.
	anyEffects = &pool.Effects{State: pool.StateAny, Meaning: true, Reading: pool.ReadingUnknown, Draws: true, Asks: true}

	// obscureEffects is of one that is not read.
	obscureEffects = &pool.Effects{State: pool.StateAny, Meaning: true, Reading: pool.ReadingUnknown, Draws: true, Asks: true, Defines: true, Begins: true}

	// executeEffects is of one that only the server knows.
	executeEffects = &pool.Effects{State: pool.StateAny, Meaning: true, Reading: pool.ReadingUnknown, Executes: true, Draws: true, Asks: true}

	// hiddenEffects is of one that may set anything besides.
	hiddenEffects = &pool.Effects{
		State: pool.StateAny | pool.StateHiddenSettings, Meaning: true, Reading: pool.ReadingUnknown, Draws: true, Asks: true,
	}
)

// effectsReader collects the effects of the statements of a text.
type effectsReader struct {
	lexer
	token   token // the current one
	broken  bool  // it is none: what comes behind is of no use
	any     bool  // there is some effect
	effects pool.Effects

	inserts, updates bool // the statement has such a command
	conflicts        int  // ON CONFLICT ( without their DO
	settingsView     bool // it names pg_settings

	name  nameToken // the last one in a query
	harms bool      // PostgreSQL has a function of that name that changes the session
}

// advance goes on to the next token.
func (r *effectsReader) advance() {
	r.token = r.next()
	r.broken = r.token == tokenForbidden
}

// word reports whether the current token is that word.
func (r *effectsReader) word(word string) bool { return r.is(r.token, word) }

// ended reports whether the statement ends here.
func (r *effectsReader) ended() bool { return r.token&(tokenEnd|tokenSemicolon) != 0 || r.broken }

// skipStatement goes on to the end of the statement.
func (r *effectsReader) skipStatement() {
	for !r.ended() {
		r.advance()
	}
}

// affects notes that kinds of state may change.
func (r *effectsReader) affects(kinds pool.StateSet) {
	r.any = true
	r.effects.State |= kinds
	if kinds&(pool.StateSettings|pool.StateHiddenSettings|pool.StateTemporary) != 0 {
		r.changesMeaning("")
	}
	if kinds&(pool.StateSettings|pool.StateHiddenSettings) != 0 {
		r.effects.Reading = pool.ReadingUnknown
	}
}

// changesMeaning notes that texts may mean something else behind the statement; key
// tells what, if it is not empty.
func (r *effectsReader) changesMeaning(key string) {
	r.any = true
	r.effects.Add(&pool.Effects{Meaning: true, MeaningKey: key})
}

// changes notes that a setting may change, if only in the transaction; key, if it is not
// empty, tells how.
func (r *effectsReader) changes(name, key string) {
	if pool.ChangesMeaning(name) {
		r.changesMeaning(key)
	}
	if change := pool.ChangesReading(name); change != pool.ReadingSame {
		r.any = true
		r.effects.Reading = max(r.effects.Reading, change)
	}
}

// unknown notes that a statement may do anything.
func (r *effectsReader) unknown() {
	r.affects(pool.StateAny)
	r.effects.Draws, r.effects.Asks = true, true
}

// obscure notes that the text is not understood, but searched for what it may set.
func (r *effectsReader) obscure(text []byte) {
	r.unknown()
	r.effects.Defines, r.effects.Begins = true, true
	r.searchNames(text)
}

// calls notes that the function is called whose name was read last. It is one of the
// database, or leaves the session alone, unless PostgreSQL has one of that name that
// changes it.
func (r *effectsReader) calls() {
	if r.harms {
		r.unknown()
		return
	}
	r.any = true
	r.effects.AddFunction(r.calledName())
	r.effects.Draws, r.effects.Asks = true, true
}

// calledName is the name that was read last, as PostgreSQL takes it.
func (r *effectsReader) calledName() string {
	name := r.name.identifier()
	return name[:min(len(name), maxNameBytes)]
}

// reads notes that the current token is a name.
func (r *effectsReader) reads() {
	r.harms = r.namesState()
	r.name = nameToken{r.text[r.start:r.at], r.token&tokenQuoted != 0}
}

// nameToken is a name as it is written.
type nameToken struct {
	text   []byte
	quoted bool
}

// identifier is the name as PostgreSQL takes it, but for its length.
func (n nameToken) identifier() string {
	if n.quoted {
		return string(bytes.ReplaceAll(n.text[1:len(n.text)-1], []byte(`""`), []byte(`"`)))
	}
	return lowerASCII(string(n.text))
}

// names notes that a setting may change.
func (r *effectsReader) names(name string) {
	r.any = true
	switch {
	case name == "seed":
		r.affects(pool.StateSeed)
	case !pool.ValidSettingName(name):
		r.affects(pool.StateHiddenSettings)
	default:
		r.effects.AddName(name)
	}
}

// statement reads a statement, of which the current token is the first, to its end or
// a part of it.
func (r *effectsReader) statement() {
	r.inserts, r.updates, r.conflicts, r.settingsView = false, false, 0, false
	switch {
	case r.token&(tokenOpen|tokenSelect) != 0, r.word("insert"), r.word("update"), r.word("delete"), r.word("merge"):
		r.query()
	case r.word("begin"), r.word("start"):
		r.any, r.effects.Begins = true, true
	case r.word("end"), r.word("savepoint"), r.word("release"),
		r.word("show"), r.word("notify"), r.word("lock"), r.word("fetch"), r.word("move"), r.word("checkpoint"):
	case r.word("commit"), r.word("rollback"), r.word("abort"):
		r.end()
	case r.word("set"):
		r.set()
	case r.word("reset"):
		r.reset()
	case r.word("discard"):
		r.discard()
	case r.word("listen"), r.word("unlisten"):
		r.affects(pool.StateChannels)
	case r.word("load"):
		r.affects(pool.StateLibraries)
	case r.word("close"):
		r.affects(pool.StateCursors)
	case r.word("declare"):
		r.declare()
	case r.word("prepare"):
		r.prepare()
	case r.word("deallocate"):
		r.affects(pool.StatePrepared)
		r.advance()
		if r.word("prepare") {
			r.advance()
		}
		if !r.word("all") {
			r.namesStatement()
		}
	case r.word("execute"):
		r.execute()
	case r.word("explain"):
		r.explain()
	case r.word("copy"):
		r.copy()
	case r.word("create"), r.word("drop"), r.word("alter"):
		r.define()
	case r.word("call"):
		r.advance()
		r.query()
	case r.word("do"):
		r.unknown()
		r.searchNames(r.rest())
		r.effects.Defines = r.effects.Defines || definesInBlock(r.rest())
	default:
		r.affects(pool.StateAny)
		r.draws()
	}
}

// rest is the text from the current token on.
func (r *effectsReader) rest() []byte { return r.text[r.start:] }

// end reads the end of a transaction or of a part of one: behind ROLLBACK TO, texts
// mean what they meant before.
func (r *effectsReader) end() {
	for r.advance(); !r.ended(); r.advance() {
		switch {
		case r.word("to"):
			r.changesMeaning("")
			r.effects.Reading = pool.ReadingUnknown
		case r.word("prepared"):
			r.any, r.effects.Defines = true, true
		}
	}
}

// discard reads a DISCARD.
// See https://www.postgresql.org/docs/current/sql-discard.html
func (r *effectsReader) discard() {
	r.advance()
	switch {
	case r.word("temp"), r.word("temporary"):
		r.affects(pool.StateTemporary)
	case r.word("sequences"):
		r.affects(pool.StateSequences)
	case r.word("plans"):
	default:
		r.affects(pool.StateAny | pool.StateSequences)
		r.effects.ResetsAll = true
	}
}

// declare reads the declaration of a cursor: what its query does comes later, but in
// the same transaction.
func (r *effectsReader) declare() {
	for r.advance(); !r.ended() && !r.word("for"); r.advance() {
		if r.word("hold") {
			r.affects(pool.StateCursors)
		}
	}
	if !r.ended() {
		r.advance()
		r.query()
	}
}

// prepare reads a PREPARE: what its statement does is done by EXECUTE.
func (r *effectsReader) prepare() {
	r.advance()
	if r.word("transaction") {
		return
	}
	r.affects(pool.StatePrepared)
	r.namesStatement()
	for !r.ended() && !r.word("as") {
		r.advance()
	}
	if !r.ended() {
		r.advance()
		r.query()
	}
}

// execute reads an EXECUTE.
func (r *effectsReader) execute() {
	r.unknown()
	r.effects.Executes = true
	r.advance()
	r.namesStatement()
}

// namesStatement notes that the current token is the name of a prepared statement.
func (r *effectsReader) namesStatement() {
	if r.token&(tokenName|tokenQuoted) == 0 {
		return
	}
	name := nameToken{r.text[r.start:r.at], r.token&tokenQuoted != 0}
	r.effects.Statements = append(r.effects.Statements, name.identifier())
}

// explain reads an EXPLAIN, which may run its statement.
func (r *effectsReader) explain() {
	r.advance()
	if r.token&tokenOpen != 0 {
		r.skipParentheses()
	}
	for r.word("analyze") || r.word("analyse") || r.word("verbose") {
		r.advance()
	}
	switch {
	case r.ended():
	case r.token&tokenOpen != 0 && r.token&tokenSelect == 0:
		r.query()
	default:
		r.statement()
	}
}

// skipParentheses goes on behind the parentheses that begin here, and reports whether
// there are none inside.
func (r *effectsReader) skipParentheses() (flat bool) {
	flat = true
	for depth := 0; !r.broken && r.token&tokenEnd == 0; {
		switch {
		case r.token&tokenOpen != 0:
			depth++
			flat = flat && depth == 1
		case r.token&tokenClose != 0:
			depth--
		}
		r.advance()
		if depth == 0 {
			return flat
		}
	}
	return false
}

// copy reads a COPY.
// See https://www.postgresql.org/docs/current/sql-copy.html
func (r *effectsReader) copy() {
	r.advance()
	if r.token&tokenOpen != 0 {
		r.query()
		return
	}
	for ; !r.ended(); r.advance() {
		switch {
		case r.word("from"):
			r.draws()
			r.writes()
		case r.word("where"):
			r.unknown()
		}
	}
}

// define reads a CREATE, DROP or ALTER. Expressions in it may be computed at once.
func (r *effectsReader) define() {
	r.affects(pool.StateTemporary)
	creates := r.word("create")
	if !r.definesData() {
		r.effects.Defines = true
		var body effectsReader
		body.searchNames(r.rest())
		r.effects.Defined = append(r.effects.Defined, body.effects.Names...)
	}
	table, depth := false, 0
	for r.advance(); !r.ended(); r.advance() {
		switch {
		case r.token&tokenOpen != 0:
			depth++
		case r.token&tokenClose != 0:
			depth--
		case creates && depth == 0 && (r.word("function") || r.word("procedure")) && !table:
			return
		case depth == 0 && (r.word("table") || r.word("materialized")):
			table = true
		case creates && depth == 0 && r.word("as"):
			if !table {
				return // a view, a sequence: nothing is run
			}
			r.advance()
			if r.word("execute") {
				r.execute()
				return
			}
			r.query()
			return
		case creates:
		case r.word("default"), r.word("using"), r.word("check"), r.word("generated"):
			r.affects(pool.StateAny)
			r.draws()
		}
	}
}

// definesData reports whether a CREATE, DROP or ALTER, of which the current token is the
// first, is of something that no function calls.
func (r *effectsReader) definesData() bool {
	ahead := r.lexer
	for t := ahead.next(); t&tokenName != 0; t = ahead.next() {
		switch string(ahead.word[:ahead.wordBytes]) {
		case "table", "index", "sequence", "role", "user", "group", "database", "tablespace", "publication", "subscription", "statistics":
			return true
		case "temp", "temporary", "local", "global", "unlogged", "foreign", "unique":
		default:
			return false
		}
	}
	return false
}

// definesInBlock reports whether the code of a DO, of which the text is that behind the
// word, may define functions.
func definesInBlock(text []byte) bool {
	text = bytes.ToLower(text)
	for _, word := range []string{"create", "alter", "execute", "language", `u&"`} {
		if bytes.Contains(text, []byte(word)) {
			return true
		}
	}
	return false
}
