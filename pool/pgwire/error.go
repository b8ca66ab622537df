package pgwire

import "cmp"

// Severity is the first field of an ErrorResponse: what the error costs.
type Severity string

const (
	// SeverityNotice costs nothing: it is of a NoticeResponse.
	SeverityNotice Severity = "NOTICE"
	// SeverityError ends the statement; the connection stays.
	SeverityError Severity = "ERROR"
	// SeverityFatal ends the connection.
	SeverityFatal Severity = "FATAL"
	// SeverityPanic ends the connections of every client of the server.
	SeverityPanic Severity = "PANIC"
)

// Error is the content of an ErrorResponse or NoticeResponse as far as billproxy
// reads and writes it.
// See https://www.postgresql.org/docs/current/protocol-error-fields.html
type Error struct {
	Severity Severity
	SQLState SQLState
	Message  string
	Detail   string
	Hint     string
	Routine  string // the function of PostgreSQL's source that raised it
}

// Error implements error: severity, SQLSTATE and message, as psql prints them in
// verbose mode.
func (e *Error) Error() string {
	return string(e.Severity) + " " + string(e.SQLState) + ": " + e.Message
}

// IsFatal reports whether the sender closes the connection after it.
func (e *Error) IsFatal() bool {
	return e.Severity == SeverityFatal || e.Severity == SeverityPanic
}

// ParseError reads the body of an ErrorResponse or NoticeResponse, which may be
// cut off: the fields present are set.
func ParseError(body []byte) *Error {
	e := &Error{Severity: SeverityError}
	localized := Severity("")
	unlocalized := false
	for len(body) > 1 && body[0] != 0 {
		field := body[0]
		value, rest, ok := CString(body[1:])
		if !ok {
			break
		}
		switch field {
		case 'S':
			localized = Severity(value)
		case 'V':
			e.Severity, unlocalized = Severity(value), true
		case 'C':
			e.SQLState = SQLState(value)
		case 'M':
			e.Message = string(value)
		case 'D':
			e.Detail = string(value)
		case 'H':
			e.Hint = string(value)
		case 'R':
			e.Routine = string(value)
		}
		body = rest
	}
	// V, which no locale translates, came with PostgreSQL 9.6.
	if !unlocalized && localized != "" {
		e.Severity = localized
	}
	return e
}

// AppendError appends e as an ErrorResponse.
func AppendError(b []byte, e *Error) []byte { return appendError(b, ErrorResponse, e) }

// AppendNotice appends e as a NoticeResponse. A notice that was not given a severity or a
// code is a plain one.
func AppendNotice(b []byte, e *Error) []byte {
	notice := *e
	notice.Severity = cmp.Or(notice.Severity, SeverityNotice)
	notice.SQLState = cmp.Or(notice.SQLState, SuccessfulCompletion)
	return appendError(b, NoticeResponse, &notice)
}

func appendError(b []byte, messageType byte, e *Error) []byte {
	start := len(b)
	b = append(b, messageType, 0, 0, 0, 0)
	b = appendField(b, 'S', string(e.Severity))
	b = appendField(b, 'V', string(e.Severity))
	b = appendField(b, 'C', string(e.SQLState))
	b = appendField(b, 'M', e.Message)
	b = appendField(b, 'D', e.Detail)
	b = appendField(b, 'H', e.Hint)
	b = appendField(b, 'R', e.Routine)
	b = append(b, 0)
	return endMessage(b, start)
}

func appendField(b []byte, field byte, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, field)
	for i := 0; i < len(value); i++ {
		if c := value[i]; c != 0 { // a zero byte would end the field early
			b = append(b, c)
		}
	}
	return append(b, 0)
}

// endMessage sets the length of the message that begins at b[start].
func endMessage(b []byte, start int) []byte {
	length := len(b) - start - 1
	b[start+1], b[start+2], b[start+3], b[start+4] = byte(length>>24), byte(length>>16), byte(length>>8), byte(length)
	return b
}
