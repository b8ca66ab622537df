package proxy

import (
	"bytes"
	"strings"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// What the text of a statement says is found out once and kept in the statement's
// Class: its statementClass plus one, and whether it may drop prepared statements.
// Zero is not known yet.
const factDrops = 1 << 7

func factsOf(class statementClass) uint8 { return uint8(class) + 1 }

// isTransaction reports whether a statement of that class begins or ends a
// transaction and does nothing else.
func (c statementClass) isTransaction() bool {
	return c == classBegin || c == classCommit || c == classRollback
}

// isPlain reports whether a statement has no constants that PostgreSQL reads at once, nor
// names that it looks up: some of them it takes in a failed transaction, and others in
// front of the first snapshot of one.
func isPlain(text []byte) bool {
	l := lexer{text: text}
	t := l.next()
	if t&(tokenEnd|tokenSemicolon) != 0 {
		return true
	}
	if t&tokenName == 0 {
		return false
	}
	switch string(l.word[:l.wordBytes]) {
	case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "set", "reset", "show", "discard",
		"deallocate", "close", "fetch", "move", "lock", "listen", "unlisten", "notify", "load", "checkpoint":
		return true
	}
	return false
}

// statementText is the text of a prepared statement.
func statementText(statement *pool.Statement) string {
	text, _, _ := strings.Cut(statement.Body, "\x00")
	return text
}

func (s *session) facts(statement *pool.Statement) uint8 {
	if statement.Class == 0 {
		text := []byte(statementText(statement))
		encoding, standard := encodingUnsafe, false
		if statement.ReadingKnown() {
			encoding, standard = encodingOfSettings(statement.Reading), standardStrings(statement.Reading)
		}
		statement.Class = factsOf(classify(text, encoding, nil))
		if dropsStatements(text) {
			statement.Class |= factDrops
		}
		statement.Momentary = isMomentary(text)
		statement.Plain = isPlain(text)
		statement.Parameterless = !hasParameters(statement.Body, standard)
		nothing := returnsNothing(text, standard)
		statement.Silent, statement.Unclear = nothing && statement.Parameterless, nothing && !statement.Parameterless || isCall(text)
		statement.Effects = effectsOf(text, encoding, standard)
		readStatement(statement)
	}
	return statement.Class
}

// isMomentary reports whether what the text returns is what something else does that the
// session has at the time.
func isMomentary(text []byte) bool {
	l := lexer{text: text}
	first := l.next()
	return l.is(first, "fetch") || l.is(first, "execute")
}

// isCall reports whether the text calls a procedure, which returns a row if it has
// parameters for output.
func isCall(text []byte) bool {
	l := lexer{text: text}
	return l.is(l.next(), "call")
}

// description is the answer to a Describe of the statement, nil if it is not known.
func (s *session) description(statement *pool.Statement) []byte {
	if s.facts(statement); statement.Silent {
		return describeNothing
	}
	return s.pool.Description(statement, s.settings)
}

// hasParameters reports whether a statement with that definition may have parameters.
func hasParameters(definition string, standardStrings bool) bool {
	text, types, _ := strings.Cut(definition, "\x00")
	l := lexer{text: []byte(text), standardStrings: standardStrings}
	for t := l.next(); ; t = l.next() {
		switch {
		case t&tokenEnd != 0:
			return types != "\x00\x00"
		case t == tokenForbidden, l.text[l.start] == '$' && isDigit(l.byteAt(l.start+1)):
			return true
		}
	}
}

// returnsNothing reports whether the statement is known by its text to return no rows.
func returnsNothing(text []byte, standardStrings bool) bool {
	l := lexer{text: text, standardStrings: standardStrings}
	var t, last token
	with, begun, depth := false, false, 0
	for {
		last, t = t, l.next()
		switch {
		case t == tokenForbidden:
			return false
		case t&tokenEnd != 0:
			return begun || last == 0
		case t&tokenOpen != 0:
			if !begun && !with {
				return false
			}
			depth++
		case t&tokenClose != 0:
			depth--
		case t&tokenName == 0, depth > 0:
		case begun:
			if l.is(t, "returning") {
				return false
			}
		case with && last&tokenClose == 0: // a name
		case l.is(t, "with"):
			with = true
		case t&tokenSelect != 0, l.is(t, "show"), l.is(t, "fetch"), l.is(t, "execute"), l.is(t, "explain"), l.is(t, "call"):
			return false
		case !with, l.is(t, "insert"), l.is(t, "update"), l.is(t, "delete"), l.is(t, "merge"):
			begun = true
		}
	}
}

// statementClass is the class of a prepared statement.
func (s *session) statementClass(statement *pool.Statement) statementClass {
	return statementClass(s.facts(statement)&^factDrops) - 1
}

// classOf is the class of the text of a simple query.
func (s *session) classOf(text []byte) statementClass {
	s.proxy.query.read(text, s.encoding())
	return s.proxy.query.class
}

// encoding tells whether the bytes of the client's texts can be read one by one.
func (s *session) encoding() encodingKind {
	p := s.proxy
	if p.encodingFor != s.settings {
		p.encodingFor, p.encodingNow = s.settings, encodingOfSettings(s.settings)
	}
	return p.encodingNow
}

// encodingOfSettings tells the same of texts that are read by the settings.
func encodingOfSettings(settings *pool.Settings) encodingKind {
	if name, ok := settings.Value("client_encoding"); ok {
		return encodingOf(name)
	}
	return encodingSafe // it is the database's, and none of those is unsafe
}

// reading returns the settings by which a Parse of the definition is read now, of those
// that matter to it.
func (s *session) reading(definition []byte) *pool.Settings {
	var reading *pool.Settings
	if s.server != nil {
		reading = s.server.Reading(definition)
	} else {
		reading = s.pool.Reading(s.settings, definition)
	}
	if reading == nil {
		return nil
	}
	text, _, _ := pgwire.CString(definition)
	if isPlain(text) {
		return nil
	}
	return reading
}

// lookup returns the statement that a Parse of the definition would make now, nil if
// there is none yet.
func (s *session) lookup(definition []byte) *pool.Statement {
	return s.pool.Registry().Lookup(s.reading(definition), definition)
}

// dropsStatements reports whether the text may contain DISCARD or DEALLOCATE, after
// which the server may lack what it was thought to have.
func dropsStatements(text []byte) bool {
	for {
		i := bytes.IndexAny(text, "dD")
		if i < 0 {
			return false
		}
		text = text[i:]
		if hasFold(text, "discard") || hasFold(text, "deallocate") {
			return true
		}
		text = text[1:]
	}
}

func hasFold(text []byte, word string) bool {
	return len(text) >= len(word) && strings.EqualFold(string(text[:len(word)]), word)
}

// queryKinds is what is known of simple queries, by a hash of their text without its
// numbers and strings. Of two kinds that fall into one slot, the later one takes it.
type queryKinds struct {
	slots [4096]queryKind
}

type queryKind struct {
	hash   uint64
	timing pool.Timing // how long they take

	// The statement that the last one is with its constants as parameters, by a hash
	// of its definition, and how often it came in a row.
	definition uint64
	repeated   uint8
}

func (q *queryKinds) of(text []byte) *queryKind {
	hash := fingerprint(text)
	slot := &q.slots[hash%uint64(len(q.slots))]
	if slot.hash != hash {
		*slot = queryKind{hash: hash}
	}
	return slot
}

// recurs notes that a query is the statement with that definition, and reports whether
// that is worth preparing: it has come several times, and no other in between.
func (k *queryKind) recurs(definition []byte) bool {
	hash := fnv1a(definition)
	if k.definition != hash {
		k.definition, k.repeated = hash, 0
	}
	k.repeated = min(k.repeated+1, repeatsToPrepare)
	return k.repeated == repeatsToPrepare
}

// repeatsToPrepare is how often a query is sent as it is written first.
const repeatsToPrepare = 3

// The parameters of FNV-1a, a hash for short texts.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv1a(b []byte) uint64 {
	hash := uint64(fnvOffset)
	for _, c := range b {
		hash = (hash ^ uint64(c)) * fnvPrime
	}
	return hash
}

// fingerprint hashes a text such that texts which differ only in numbers and
// strings have the same hash: FNV-1a over all but those.
func fingerprint(text []byte) uint64 {
	hash := uint64(fnvOffset)
	inWord, inString := false, false
	for _, c := range text {
		switch {
		case c == '\'':
			inString = !inString
		case inString, !inWord && c >= '0' && c <= '9', c <= ' ':
			continue
		}
		inWord = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || inWord && c >= '0' && c <= '9'
		hash = (hash ^ uint64(c)) * fnvPrime
	}
	return hash
}

// intern returns text as a string, the one of last time if it is the same.
func (p *Proxy) intern(text []byte) string {
	if p.lastText != string(text) {
		p.lastText = string(text)
	}
	return p.lastText
}

// query acts on a simple query: PostgreSQL drops the unnamed statement.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
func (s *session) query(body []byte) {
	s.dropUnnamed()
	e := s.effectsOf(body)
	s.alias(e)
	s.affect(e)
	s.discarding = s.discarding || dropsStatements(body)
}

func (s *session) dropUnnamed() {
	if s.statements.unnamed.statement != nil || s.statements.long {
		s.statements.dropUnnamed(s.pool.Registry())
		s.server.PinLongStatement(false)
	}
}

// deallocate acts on a DEALLOCATE of a statement that the client has prepared with
// Parse: servers know it by another name.
func (s *session) deallocate(body []byte) bool {
	text, _, _ := pgwire.CString(body)
	if len(text) == 0 || text[0]|0x20 != 'd' || s.classOf(text) != classDeallocate || s.server.TxStatus() == pgwire.TxFailed {
		return false
	}
	name, ok := deallocatedName(text)
	if !ok || s.statements.get(name) == nil {
		return false
	}
	s.server.Deallocate(s.statements.set(name, nil))
	return true
}
