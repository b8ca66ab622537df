package proxy

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// A read in the simple protocol costs PostgreSQL more for parsing and planning than for
// running. So one that shares a server is sent as the execution of a statement that is
// prepared once, with the constants of its comparisons as parameters. A client cannot
// tell: the parameters have the types of the constants, and what fails before its first
// row is run again as it is written.

// constant is where a number or string stands in a text.
type constant struct{ begin, end int }

// Bounds of what is parameterized.
const (
	maxConstants            = 16
	maxParameterizedBytes   = 4 << 10
	maxConstantNumberDigits = 18 // of any bigint
)

// constants are the constants in a query that may be parameters: each is all that
// stands on the right of a comparison.
type constants struct {
	list  [maxConstants]constant
	count int
	many  bool // there are more

	// Of the tokens read last.
	operator       constant
	behindOperator bool
	undecided      bool // whether the constant behind those in the list is an operand
}

// token follows the tokens of a query. l has just returned t.
func (c *constants) token(l *lexer, t token) {
	if c.undecided {
		c.undecided = false
		if l.endsOperand(t) {
			c.count++
		}
	}
	behindOperator := c.behindOperator
	c.behindOperator = t&tokenOperator != 0
	switch {
	case c.behindOperator:
		if !behindOperator || l.start != c.operator.end {
			c.operator.begin = l.start
		}
		c.operator.end = l.at
	case behindOperator && isComparison(l.text[c.operator.begin:c.operator.end]) && isConstant(l.text[l.start:l.at]):
		if c.many = c.many || c.count == maxConstants; !c.many {
			c.list[c.count] = constant{l.start, l.at}
			c.undecided = true
		}
	}
}

// endsOperand reports whether what stands in front of t, which next has just returned,
// is an operand as a whole.
func (l *lexer) endsOperand(t token) bool {
	switch {
	case t&(tokenEnd|tokenSemicolon|tokenClose) != 0:
		return true
	case t&tokenName == 0:
		return false
	}
	switch string(l.word[:l.wordBytes]) {
	case "and", "or", "group", "order", "limit", "offset", "having", "union":
		return true
	}
	return false
}

func isComparison(operator []byte) bool {
	switch string(operator) {
	case "=", "<", ">", "<=", ">=", "<>", "!=":
		return true
	}
	return false
}

// isConstant reports whether a token is an integer or a string whose value is plain to
// see.
func isConstant(token []byte) bool {
	if token[0] == '\'' {
		return true // the lexer refuses those with a backslash
	}
	for _, c := range token {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(token) <= maxConstantNumberDigits
}

// query is the text of a query with what the lexer has found in it.
type query struct {
	text      []byte
	encoding  encodingKind
	class     statementClass
	constants constants
}

// read makes q that of the text. Of the text that it was read from last it knows all: a
// group is looked at more than once before it is sent.
func (q *query) read(text []byte, encoding encodingKind) {
	if q.text != nil && q.encoding == encoding && bytes.Equal(q.text, text) {
		return
	}
	if cap(q.text) > maxParameterizedBytes {
		q.text = nil
	}
	q.text = append(q.text[:0], text...)
	q.encoding = encoding
	q.constants = constants{}
	q.class = classify(text, encoding, &q.constants)
}

// isParameterizable reports whether the query can be sent with parameters. A parameter of
// its own would be an error, or mean something.
func (q *query) isParameterizable() bool {
	return q.class == classRead && !q.constants.many && len(q.text) <= maxParameterizedBytes && bytes.IndexByte(q.text, '$') < 0
}

// Types of parameters. A string has none of its own, as in the text: what it is
// compared with decides.
const (
	oidUnspecified = 0
	oidInt4        = 23
	oidInt8        = 20
)

// appendDefinition appends what a Parse message has behind the name of the statement.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-PARSE
func (q *query) appendDefinition(b []byte) []byte {
	at := 0
	list := q.constants.list[:q.constants.count]
	for i, c := range list {
		b = append(append(b, q.text[at:c.begin]...), '$')
		b = strconv.AppendInt(b, int64(i+1), 10)
		if c.end < len(q.text) && foldedBytes[q.text[c.end]] != 0 {
			b = append(b, ' ') // a word may touch a string, but not a parameter
		}
		at = c.end
	}
	b = append(append(b, q.text[at:]...), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
	for _, c := range list {
		b = binary.BigEndian.AppendUint32(b, typeOf(q.text[c.begin:c.end]))
	}
	return b
}

func typeOf(constant []byte) uint32 {
	if constant[0] == '\'' {
		return oidUnspecified
	}
	value := 0
	for _, digit := range constant {
		value = value*10 + int(digit-'0')
	}
	if value <= math.MaxInt32 {
		return oidInt4
	}
	return oidInt8
}

// appendParameters appends what a Bind message has behind the names: every parameter as
// text, and every column.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND
func (q *query) appendParameters(b []byte) []byte {
	list := q.constants.list[:q.constants.count]
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
	for _, c := range list {
		lengthAt := len(b)
		b = append(b, 0, 0, 0, 0)
		b = appendValue(b, q.text[c.begin:c.end])
		binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-lengthAt-4))
	}
	return append(b, 0, 0)
}

// appendValue appends the value of a constant.
func appendValue(b, constant []byte) []byte {
	if constant[0] != '\'' {
		return append(b, constant...)
	}
	constant = constant[1 : len(constant)-1]
	for {
		i := bytes.IndexByte(constant, '\'')
		if i < 0 {
			return append(b, constant...)
		}
		b = append(b, constant[:i+1]...)
		constant = constant[i+2:] // quotes in it come in pairs
	}
}

// parameterized returns the statement that a read, with what is behind its text in the
// message, is with its constants as parameters; nil if it cannot be sent so, or has not
// come often enough: perhaps it never comes again.
func (s *session) parameterized(text, rest []byte) *pool.Statement {
	p := s.proxy
	p.query.read(text, s.encoding())
	if !p.config.ParameterizedReads || !s.mayShare() || len(rest) > 0 || !p.query.isParameterizable() {
		return nil
	}
	p.scratch = p.query.appendDefinition(p.scratch[:0])
	statement := s.lookup(p.scratch)
	if statement == nil {
		kind := p.queryKinds.of(text)
		if !kind.recurs(p.scratch) {
			return nil
		}
		statement = s.pool.Registry().Intern(s.reading(p.scratch), p.scratch)
		statement.Timing = kind.timing
	}
	return statement
}

// sendParameterized sends a query, message, as the execution of a statement.
func (s *session) sendParameterized(message []byte, statement *pool.Statement) {
	body := message[pgwire.HeaderBytes:]
	text, _, _ := pgwire.CString(body)
	p := s.proxy
	p.query.read(text, s.encoding())
	s.dropUnnamed()
	p.scratch = p.query.appendParameters(p.scratch[:0])
	s.server.Execute(statement, p.scratch)
}
