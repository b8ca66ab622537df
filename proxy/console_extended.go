package proxy

import (
	"encoding/binary"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// consolePortal is a statement that is ready to run, or under way.
type consolePortal struct {
	statement *consoleStatement
	formats   resultFormats

	rows  rows // what is left of them; nil before the first
	over  bool // it was a command
	limit int  // how many rows the client wants now; 0 is all
	sent  int  // of them
}

// suspended reports whether the client has all that it wants for now.
func (p *consolePortal) suspended() bool { return p.limit > 0 && p.sent == p.limit }

// extended acts on a message of the extended protocol, of which PgBouncer's console knows
// nothing.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
func (c *console) extended(messageType byte, body []byte) {
	var e *pgwire.Error
	switch messageType {
	case pgwire.Parse:
		e = c.prepare(body)
	case pgwire.Bind:
		e = c.bind(body)
	case pgwire.Describe:
		e = c.describe(body)
	case pgwire.Close:
		e = c.close(body)
	default:
		e = c.executePortal(body)
	}
	if e != nil {
		c.failed(e)
	}
}

func (c *console) prepare(body []byte) *pgwire.Error {
	name, rest, ok := pgwire.CString(body)
	text, _, ok2 := pgwire.CString(rest)
	if !ok || !ok2 {
		return errInvalidFormat
	}
	statements, e := c.parse(text)
	switch {
	case e != nil:
		return e
	case len(statements) > 1:
		return errorf(pgwire.SyntaxError, "cannot insert multiple commands into a prepared statement")
	case len(name) > 0 && c.statements[string(name)] != nil:
		return errorf(pgwire.DuplicateStatement, `prepared statement "%s" already exists`, name)
	case len(c.statements) >= maxConsoleNames:
		return errorf(pgwire.ProgramLimitExceeded, "too many prepared statements: expected at most %d", maxConsoleNames)
	case len(statements) == 0:
		statements = []*consoleStatement{{}}
	}
	c.statements[string(name)] = statements[0]
	c.writeEmpty(pgwire.ParseComplete)
	return nil
}

func (c *console) bind(body []byte) *pgwire.Error {
	portal, rest, ok := pgwire.CString(body)
	name, rest, ok2 := pgwire.CString(rest)
	if !ok || !ok2 {
		return errInvalidFormat
	}
	statement := c.statements[string(name)]
	if statement == nil {
		return undefinedStatement(name)
	}
	parameterFormats, rest, ok := readFormats(rest)
	if !ok || len(rest) < 2 || len(parameterFormats) > 1 {
		return errInvalidFormat
	}
	if count := binary.BigEndian.Uint16(rest); count > 0 {
		return errorf(pgwire.ProtocolViolation, `bind message supplies %d parameters, but prepared statement "%s" requires 0`, count, name)
	}
	formats, rest, ok := readFormats(rest[2:])
	switch columns := statement.columns(); {
	case !ok || len(rest) > 0:
		return errInvalidFormat
	case len(formats) > 1 && len(formats) != len(columns):
		return errorf(pgwire.ProtocolViolation, "bind message has %d result formats but query has %d columns", len(formats), len(columns))
	case len(c.portals) >= maxConsoleNames:
		return errorf(pgwire.ProgramLimitExceeded, "too many portals: expected at most %d", maxConsoleNames)
	}
	c.portals[string(portal)] = &consolePortal{statement: statement, formats: formats}
	c.writeEmpty(pgwire.BindComplete)
	return nil
}

// readFormats reads a list of format codes.
func readFormats(b []byte) (formats resultFormats, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) < 2*count {
		return nil, nil, false
	}
	for i := range count {
		format := int16(binary.BigEndian.Uint16(b[2*i:]))
		if format != formatText && format != formatBinary {
			return nil, nil, false
		}
		formats = append(formats, format)
	}
	return formats, b[2*count:], true
}

// object returns the statement that a Describe or Close names, and with a portal that.
func (c *console) object(body []byte) (kind byte, name []byte, e *pgwire.Error) {
	if len(body) == 0 || body[0] != pgwire.KindStatement && body[0] != pgwire.KindPortal {
		return 0, nil, errInvalidFormat
	}
	name, _, ok := pgwire.CString(body[1:])
	if !ok {
		return 0, nil, errInvalidFormat
	}
	return body[0], name, nil
}

func (c *console) describe(body []byte) *pgwire.Error {
	kind, name, e := c.object(body)
	if e != nil {
		return e
	}
	var statement *consoleStatement
	var formats resultFormats
	var b []byte
	if kind == pgwire.KindStatement {
		if statement = c.statements[string(name)]; statement == nil {
			return undefinedStatement(name)
		}
		b = pgwire.AppendMessage(b, pgwire.ParameterDescription, []byte{0, 0})
	} else {
		portal := c.portals[string(name)]
		if portal == nil {
			return undefinedPortal(name)
		}
		statement, formats = portal.statement, portal.formats
	}
	if columns := statement.columns(); columns != nil {
		b = appendRowDescription(b, columns, formats)
	} else {
		b = pgwire.AppendEmpty(b, pgwire.NoData)
	}
	c.write(b)
	return nil
}

func (c *console) close(body []byte) *pgwire.Error {
	kind, name, e := c.object(body)
	if e != nil {
		return e
	}
	if kind == pgwire.KindStatement {
		delete(c.statements, string(name))
	} else {
		delete(c.portals, string(name))
	}
	c.writeEmpty(pgwire.CloseComplete)
	return nil
}

func (c *console) executePortal(body []byte) *pgwire.Error {
	name, rest, ok := pgwire.CString(body)
	if !ok || len(rest) != 4 {
		return errInvalidFormat
	}
	portal := c.portals[string(name)]
	if portal == nil {
		return undefinedPortal(name)
	}
	c.execute(portal, max(0, int(int32(binary.BigEndian.Uint32(rest)))))
	return nil
}

func undefinedPortal(name []byte) *pgwire.Error {
	return errorf(pgwire.InvalidCursorName, `portal "%s" does not exist`, name)
}
