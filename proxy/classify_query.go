package proxy

// queryReader follows the tokens of a query and looks for what does not only read.
type queryReader struct {
	last, before token // the last token, and the one in front of it

	depth  int                           // parentheses that are open
	levels [maxQueryDepth + 1]queryLevel // of each of them, behind that of the whole

	started  bool // there was more than parentheses
	queryDue bool // the next token must show that last is not the parenthesis of a call

	tableName      bool // last is, or ends, a name where a table is named
	functionTables bool // a function is called where a table is named
	attributes     bool // something is named as a part of something
}

// maxQueryDepth is how many parentheses may be open.
const maxQueryDepth = 64

// queryLevel says what stands in parentheses, but not in others inside.
type queryLevel uint8

const (
	levelOperand queryLevel = 1 << iota // no expression can follow
	levelQuery                          // a query
	levelTables                         // the tables of a query, if last is one of the list
)

// reads reports whether the text, of which t is the first token, is a query that
// does nothing but read, and notes its constants, unless constants is nil.
func (l *lexer) reads(t token, constants *constants) bool {
	var q queryReader
	for ; t&(tokenEnd|tokenSemicolon) == 0; t = l.next() {
		if !q.accept(t) {
			return false
		}
		if constants != nil {
			constants.token(l, t)
		}
	}
	if constants != nil {
		constants.token(l, t)
	}
	// Where x stands for the value of a function, x.f is f(x).
	return q.started && q.depth == 0 && q.last&tokenDot == 0 && (!q.functionTables || !q.attributes) && l.ends(t)
}

// accept reports whether t may follow in a query that only reads.
func (q *queryReader) accept(t token) bool {
	atTable := q.atTable()
	if q.last&tokenDot != 0 {
		t = q.attribute(t)
	}
	switch {
	case t&tokenForbidden != 0,
		!q.started && t&(tokenOpen|tokenSelect) == 0,
		q.queryDue && t&(tokenSelect|tokenWhere) == 0,
		q.last&tokenFor != 0 && t&tokenLock != 0:
		return false
	}
	q.queryDue = false
	switch {
	case t&tokenOpen != 0:
		if q.depth == maxQueryDepth {
			return false
		}
		q.open(atTable)
	case t&tokenClose != 0:
		if q.depth == 0 {
			return false
		}
		if q.levels[q.depth]&levelOperand != 0 {
			t |= tokenOperand
		}
		q.depth--
	case t&tokenName != 0:
		t = q.name(t, atTable)
	}
	if (q.last|t)&tokenDot == 0 {
		q.tableName = atTable && t&(tokenName|tokenQuoted) != 0
	}
	q.last, q.before = t, q.last
	return true
}

// atTable reports whether a name behind last is that of a table or of a function
// that stands for one.
func (q *queryReader) atTable() bool {
	return q.last&tokenJoin != 0 ||
		q.last&(tokenFrom|tokenComma|tokenOpen) != 0 && q.levels[q.depth]&levelTables != 0
}

// name follows a name or keyword, in the place of a table or not, and returns what
// it is there.
func (q *queryReader) name(t token, atTable bool) token {
	level := &q.levels[q.depth]
	switch {
	case t&tokenSelect != 0:
		q.started = true
		*level = *level&^levelTables | levelQuery
		if q.last&tokenOpen != 0 {
			*level |= levelOperand
		}
	case t&tokenFrom != 0:
		// In extract(year from x) it is not that of a query.
		if *level&levelQuery != 0 {
			*level |= levelTables
		}
	case t&tokenBy != 0 && q.last&tokenGroup != 0:
		t |= tokenGroupBy
		*level &^= levelTables
	case t&(tokenWhere|tokenBehindTables) != 0:
		*level &^= levelTables
	case atTable && t&tokenKeyword != 0 && t&tokenJoin == 0:
		q.functionTables = true // current_user, or coalesce(
	}
	return t
}

// open follows a parenthesis, in the place of a table or not.
func (q *queryReader) open(atTable bool) {
	var level queryLevel
	if q.last&(tokenName|tokenQuoted) != 0 && q.last&tokenOn == 0 {
		// Behind DISTINCT ON (...) there is an expression; behind other words and
		// OPERATOR (...), which is forbidden, there is none.
		level = levelOperand
	}
	if atTable {
		level |= levelTables
	}
	if q.tableName && q.last&tokenFunction != 0 {
		q.functionTables = true
	}
	q.queryDue = q.mayCall()
	q.depth++
	q.levels[q.depth] = level
}

// mayCall reports whether a parenthesis behind last may begin the arguments of a
// function that is not known to be harmless. If it does not, neither does SELECT,
// VALUES, TABLE, WITH or WHERE follow it: no argument begins with those.
func (q *queryReader) mayCall() bool {
	switch {
	case q.last&(tokenName|tokenQuoted) == 0, q.last&(tokenKeyword|tokenFunction) != 0:
		return false
	case q.before&(tokenNaming|tokenOperand) != 0:
		return false // a name and its columns, a type and its size, OVER (
	case q.last&tokenRollup != 0 && q.before&tokenGroupBy != 0:
		return false
	}
	return true
}

// attribute returns what t is behind a dot, where no word is a keyword.
//
// There functions are called without parentheses: ('s').nextval, $1.nextval and
// a[1].nextval are nextval('s') and so on. Behind a name that is that of a table,
// the function would have to take a row of it; PostgreSQL brings no harmful ones
// that do.
func (q *queryReader) attribute(t token) token {
	named := q.before&(tokenName|tokenQuoted) != 0
	switch {
	case t&tokenOperator != 0: // t.*
		return t
	case !named, t&(tokenName|tokenQuoted) == 0:
		return tokenForbidden
	case q.before&tokenCatalog != 0 && t&tokenFunction != 0:
		return tokenName | tokenFunction
	}
	q.attributes = true
	return t & (tokenName | tokenQuoted | tokenForbidden)
}
