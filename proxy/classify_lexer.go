package proxy

import (
	"bytes"
)

// token says what a token is and what may be concluded from it: a set.
type token uint32

const (
	tokenEnd       token = 1 << iota
	tokenForbidden       // nothing is known of a text with this; also what is no token at all
	tokenName            // a name without quotes, or a keyword
	tokenQuoted          // a name in quotes
	tokenOther           // a literal, a parameter, a bracket or a colon
	tokenOperator        // one byte of an operator, or *
	tokenOpen
	tokenClose
	tokenDot
	tokenComma
	tokenSemicolon

	// What a tokenClose may be besides.
	tokenOperand // no expression follows

	// What a tokenName may be besides.
	tokenReserved // cannot name a table or a prepared statement
	tokenKeyword  // with a parenthesis behind it, is not the call of a function
	tokenFunction // with a parenthesis behind it, is the call of a harmless one
	tokenNaming   // a name and a parenthesis behind it are not the call of a function
	tokenSelect   // begins a query
	tokenFrom
	tokenJoin // a table follows, or a function that stands for one, or the next such word
	tokenWhere
	tokenBehindTables // ends a list of tables, as tokenWhere and tokenGroupBy do
	tokenOn
	tokenFor
	tokenLock // behind FOR, asks for row locks
	tokenGroup
	tokenBy
	tokenGroupBy // the second word of it
	tokenRollup  // behind GROUP BY and with a parenthesis behind it, is not the call of a function
	tokenCatalog // the schema of the functions that PostgreSQL brings

	// For effectsOf only.
	tokenHarmless // with a parenthesis behind it, is the call of a function that changes no session
	tokenState    // so, but of one that does
)

// lexer splits the text of a query into tokens as PostgreSQL does. With nothing
// set but a text it is at its beginning.
// See https://www.postgresql.org/docs/current/sql-syntax-lexical.html
type lexer struct {
	text []byte

	// standardStrings: a backslash in a string is nothing special. Otherwise it is not
	// known whether it is.
	standardStrings bool

	start, at int // where the token that next has just returned begins and ends

	// If that is a tokenName of at most maxWordBytes: its length, otherwise 0, and
	// its bytes in lower case.
	wordBytes int
	word      [maxWordBytes]byte
}

// next returns the next token, and tokenEnd when there is none. What comes behind
// a tokenForbidden is of no use.
func (l *lexer) next() token {
	for l.at < len(l.text) {
		l.start = l.at
		c := l.text[l.at]
		switch byteKinds[c] {
		case byteSpace:
			l.at++
		case byteWord:
			return l.name()
		case byteOperator:
			end, ok := l.comment()
			switch {
			case !ok:
				return tokenForbidden
			case end == l.at:
				l.at++
				return tokenOperator
			}
			l.at = end
		case byteQuote:
			return l.plainString(l.at + 1)
		case byteDoubleQuote:
			return l.quotedName()
		case byteDigit:
			return l.number()
		case byteDollar:
			return l.dollar()
		case byteDot:
			if isDigit(l.byteAt(l.at + 1)) {
				return l.number()
			}
			l.at++
			return tokenDot
		case byteSingle:
			l.at++
			return singleTokens[c]
		default:
			return tokenForbidden
		}
	}
	l.start = l.at
	return tokenEnd
}

// byteAt returns a byte of the text, and behind its end one that is in no token.
func (l *lexer) byteAt(i int) byte {
	if i < len(l.text) {
		return l.text[i]
	}
	return 0
}

func isDigit(c byte) bool { return byteKinds[c] == byteDigit }

// comment returns the end of the comment that begins here, which is here if none
// does, and whether it has one. Both kinds of comment end an operator, too.
func (l *lexer) comment() (end int, ok bool) {
	next := l.byteAt(l.at + 1)
	switch c := l.text[l.at]; {
	case c == '-' && next == '-':
		end = l.at + 2
		for end < len(l.text) && l.text[end] != '\n' && l.text[end] != '\r' {
			end++
		}
		return end, true
	case c != '/' || next != '*':
		return l.at, true
	}
	depth := 1
	for end = l.at + 2; end+1 < len(l.text); end++ {
		switch {
		case l.text[end] == '/' && l.text[end+1] == '*':
			depth++
			end++
		case l.text[end] == '*' && l.text[end+1] == '/':
			depth--
			end++
			if depth == 0 {
				return end + 1, true
			}
		}
	}
	return end, false
}

// name scans a name or keyword, or a string that begins with a letter.
func (l *lexer) name() token {
	rest := l.text[l.at:]
	hash, n := uint32(0), 0
	for ; n < len(rest); n++ {
		c := foldedBytes[rest[n]]
		if c == 0 {
			break
		}
		if n < maxWordBytes {
			l.word[n] = c
		}
		hash = nextWordHash(hash, c)
	}
	l.wordBytes = n
	end := l.at + n
	if n == 1 {
		switch next := l.byteAt(end); {
		case next == '\'':
			switch l.word[0] {
			case 'e':
				return l.escapeString(end + 1)
			case 'b', 'n', 'x':
				return l.plainString(end + 1)
			}
		case next == '&' && l.word[0] == 'u':
			switch l.byteAt(end + 1) {
			case '\'':
				return l.unicodeString(end + 2)
			case '"':
				return tokenForbidden // which name it is takes decoding
			}
		}
	}
	l.at = end
	if n > maxWordBytes {
		l.wordBytes = 0
		return tokenName
	}
	word := l.word[:n]
	if isServerState(word) {
		return tokenName | tokenForbidden
	}
	return tokenName | wordTokens.of(word, hash)
}

// isServerState reports whether the name, as PostgreSQL knows it, is of something
// that belongs to the session of a server, and that therefore no other server can
// stand in for.
func isServerState(name []byte) bool {
	if len(name) < len("pg_temp") || name[0] != 'p' || name[1] != 'g' || name[2] != '_' {
		return false
	}
	switch string(name) {
	case "pg_cursors", "pg_prepared_statements", "pg_settings":
		return true
	}
	return bytes.HasPrefix(name, []byte("pg_temp"))
}

// quotedName scans a name in quotes.
func (l *lexer) quotedName() token {
	begin := l.at + 1
	end, ok := l.closing(begin, '"')
	if !ok {
		return tokenForbidden
	}
	l.at = end + 1
	if end == begin || isServerState(l.text[begin:end]) {
		return tokenQuoted | tokenForbidden
	}
	return tokenQuoted
}

// closing returns where the quote is that ends what begins at a place, and whether
// there is one: quotes in pairs end nothing.
func (l *lexer) closing(at int, quote byte) (end int, ok bool) {
	for ; at < len(l.text); at++ {
		if l.text[at] != quote {
			continue
		}
		if l.byteAt(at+1) != quote {
			return at, true
		}
		at++
	}
	return at, false
}

// plainString scans the rest of a string in which a backslash is an escape or not
// according to standard_conforming_strings: with one it is forbidden. If a string
// goes on in another line, that is a string of its own here.
func (l *lexer) plainString(begin int) token {
	end, ok := l.closing(begin, '\'')
	if !ok || !l.standardStrings && bytes.IndexByte(l.text[begin:end], '\\') >= 0 {
		return tokenForbidden
	}
	l.at = end + 1
	return tokenOther
}

// unicodeString scans the rest of a string in which a backslash escapes no quote:
// unless standard_conforming_strings is on, PostgreSQL rejects it.
func (l *lexer) unicodeString(begin int) token {
	end, ok := l.closing(begin, '\'')
	if !ok {
		return tokenForbidden
	}
	l.at = end + 1
	return tokenOther
}

// escapeString scans the rest of a string in which a backslash is an escape.
func (l *lexer) escapeString(at int) token {
	for ; at < len(l.text); at++ {
		switch l.text[at] {
		case '\\':
			at++
		case '\'':
			if l.byteAt(at+1) != '\'' {
				l.at = at + 1
				return tokenOther
			}
			at++
		}
	}
	return tokenForbidden
}

// dollar scans a parameter or a string in dollar quotes.
func (l *lexer) dollar() token {
	end := l.at + 1
	if isDigit(l.byteAt(end)) {
		return l.endNumber(l.digits(end))
	}
	for byteKinds[l.byteAt(end)] == byteWord || end > l.at+1 && isDigit(l.byteAt(end)) {
		end++
	}
	if l.byteAt(end) != '$' {
		return tokenForbidden
	}
	end++
	tag := l.text[l.at:end]
	bodyBytes := bytes.Index(l.text[end:], tag)
	if bodyBytes < 0 {
		return tokenForbidden
	}
	l.at = end + bodyBytes + len(tag)
	return tokenOther
}

// number scans a number as any version spells it.
func (l *lexer) number() token {
	at := l.at
	if l.text[at] == '0' {
		switch l.byteAt(at+1) | ' ' {
		case 'b', 'o', 'x':
			for at += 2; isHexDigit(l.byteAt(at)) || l.byteAt(at) == '_'; {
				at++
			}
			return l.endNumber(at)
		}
	}
	at = l.digits(at)
	if l.byteAt(at) == '.' {
		at = l.digits(at + 1)
	}
	if l.byteAt(at)|' ' == 'e' {
		exponent := at + 1
		if c := l.byteAt(exponent); c == '+' || c == '-' {
			exponent++
		}
		if isDigit(l.byteAt(exponent)) {
			at = l.digits(exponent)
		}
	}
	return l.endNumber(at)
}

// digits returns the end of the digits at a place, and of the underscores between.
func (l *lexer) digits(at int) int {
	for isDigit(l.byteAt(at)) || l.byteAt(at) == '_' {
		at++
	}
	return at
}

// endNumber ends a number or parameter, which nothing may follow that could go on
// a name: where one version has 0x1f$a$ as a number and the beginning of a string,
// an older one has a number and a name.
func (l *lexer) endNumber(at int) token {
	if foldedBytes[l.byteAt(at)] != 0 {
		return tokenForbidden
	}
	l.at = at
	return tokenOther
}

func isHexDigit(c byte) bool {
	return isDigit(c) || c|' ' >= 'a' && c|' ' <= 'f'
}
