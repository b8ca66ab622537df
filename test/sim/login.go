package sim

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// login is how a client introduces itself.
type login struct {
	asksEncryption bool
	version        pgwire.ProtocolVersion
	negotiates     bool // asks for more than there is
	parameters     []string
	database       string
	application    string
	refused        string // SQLSTATE with which PostgreSQL refuses its settings
}

// connect opens the client's connection.
func (c *Client) connect() {
	w := c.world
	if w.shutdown {
		c.phase = phaseEnded // the listener is gone
		return
	}
	c.drawLogin()
	c.peer = w.connect(c.name, c)
	conn := c.peer.conn
	c.startedAt, c.activeAt = w.now, w.now
	w.Post(func() {
		w.opened(conn)
		if conn.handler = w.proxy.Accept(conn); conn.handler == nil {
			conn.Close()
		}
		conn.markReady()
	})
	c.twin = newTwin("app")
	if w.scenario.Garbage && w.chance(2) {
		c.misbehave()
		return
	}
	if w.scenario.Timeouts && w.chance(8) {
		c.misbehaves = true // says nothing at all
		c.phase = phaseRunning
		return
	}
	c.phase = phaseAsksEncryption
	if c.login.asksEncryption {
		code := uint32(1234<<16 | 5679)
		if w.chance(3) {
			code++
		}
		c.peer.Send(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code))
		return
	}
	c.sendStartup()
}

func (c *Client) drawLogin() {
	w := c.world
	l := &c.login
	l.asksEncryption = w.chance(4)
	l.version = pgwire.Version30
	switch w.random.IntN(6) {
	case 0:
		l.version, l.negotiates = pgwire.Version32, true // which servers of that age do not speak
	case 1:
		l.version, l.negotiates = 3<<16|9999, true
	}
	l.database = "db" + strconv.Itoa(1+w.random.IntN(w.scenario.Databases))
	l.parameters = []string{"user", "app", "database", l.database}
	if w.chance(8) {
		l.parameters = append(l.parameters, "_pq_.novelty", "1")
		l.negotiates = true
	}
	if !w.scenario.Settings {
		return
	}
	if w.chance(2) {
		l.application = "app-" + strconv.Itoa(1+w.random.IntN(3))
		l.parameters = append(l.parameters, "application_name", l.application)
	}
	switch w.random.IntN(5) {
	case 0:
		l.parameters = append(l.parameters, "options", "-c geqo=off --DateStyle=SQL")
	case 1:
		l.parameters = append(l.parameters, "DateStyle", "iso")
	case 2:
		if w.chance(3) {
			l.parameters, l.refused = append(l.parameters, "DateStyle", "bogus"), "22023"
		}
	}
	c.setsItself = w.chance(2)
}

func (c *Client) encryptionRefused() {
	if c.in.len() == 0 || c.in.bytes()[0] == pgwire.ErrorResponse {
		c.phase = phaseLogin // an error, instead of the answer
		return
	}
	if in := c.in.bytes(); in[0] != 'N' || len(in) > 1 && in[1] != pgwire.ErrorResponse {
		c.world.fail("%s asked for encryption and got %q", c.name, c.in.bytes())
	}
	c.in.consume(1)
	c.sendStartup()
}

func (c *Client) sendStartup() {
	c.phase = phaseLogin
	c.peer.Send(pgwire.AppendStartupMessage(nil, c.login.version, c.login.parameters...))
}

// loginMessage acts on a message before the first ReadyForQuery.
func (c *Client) loginMessage(m []byte) {
	w := c.world
	body := m[pgwire.HeaderBytes:]
	switch m[0] {
	case pgwire.NegotiateProtocolVersion:
		if !c.login.negotiates {
			w.fail("%s got %s without need", c.name, show(m))
		}
		c.login.negotiates = false
	case pgwire.Authentication:
		if c.login.negotiates || c.login.refused != "" {
			w.fail("%s was let in with parameters %q", c.name, c.login.parameters)
		}
	case pgwire.ParameterStatus:
		c.parameter(m)
	case pgwire.BackendKeyData:
		c.pid = binary.BigEndian.Uint32(body)
		c.key = append([]byte(nil), body[4:]...)
		if len(c.key) != 4 {
			w.fail("%s got a key of %d bytes for protocol %v", c.name, len(c.key), c.login.version)
		}
	case pgwire.ReadyForQuery:
		c.loggedIn(m)
	case pgwire.ErrorResponse:
		c.loginError(m)
	default:
		w.fail("%s got %s during login", c.name, show(m))
	}
}

// loggedIn checks what the client was told and begins its program.
func (c *Client) loggedIn(m []byte) {
	w := c.world
	if c.key == nil || m[pgwire.HeaderBytes] != byte(pgwire.TxIdle) {
		w.fail("%s got %s too early", c.name, show(m))
	}
	for _, other := range w.clients {
		if other != c && other.phase >= phaseRunning && other.pid == c.pid && string(other.key) == string(c.key) {
			w.fail("%s and %s have the same cancel key", c.name, other.name)
		}
	}
	for i := 0; i < len(c.login.parameters); i += 2 {
		switch name, value := c.login.parameters[i], c.login.parameters[i+1]; name {
		case "user", "database", "_pq_.novelty":
		case "options":
			c.twin.backend.set("geqo", "off")
			c.twin.backend.set("DateStyle", "SQL")
		default:
			c.twin.backend.set(name, value)
		}
	}
	c.twin.backend.keepDefaults()
	c.twin.backend.reportAll()
	for _, s := range c.twin.backend.settings {
		if s.reported && c.reported[s.display] != s.value {
			w.fail("%s was told %s = %q at login, want %q", c.name, s.display, c.reported[s.display], s.value)
		}
	}
	c.phase = phaseRunning
	w.coverage.Logins++
}

// loginError acts on the refusal of a login.
func (c *Client) loginError(m []byte) {
	w, s := c.world, c.world.scenario
	e := pgwire.ParseError(m[pgwire.HeaderBytes:])
	code := string(e.SQLState)
	waited := w.now - c.startedAt
	allowed := false
	switch {
	case !e.IsFatal():
	case code == c.login.refused:
		allowed = true
	case code == "53300":
		allowed = s.MaxClientConn < len(w.clients)*2 || s.MaxLoginConn > 0
	case code == "57P03", code == "57P01":
		allowed = w.shutdown
	case code == "53400":
		allowed = s.QueryWaitTimeout > 0 && waited >= s.QueryWaitTimeout || s.Shed.MaxWaiters > 0
	case code == "08001":
		allowed = (s.QueryWaitTimeout > 0 && waited >= s.QueryWaitTimeout || s.Shed.MaxWaiters > 0) && w.connectFailedSince(c.startedAt)
	case code == "08P01":
		allowed = waited >= s.ClientLoginTimeout
	}
	if lostCodes[code] && w.faultSince(faultServer, c.startedAt-lossEcho) {
		allowed = true
	}
	if !allowed {
		w.fail("%s was refused: %s", c.name, show(m))
	}
	c.fatal = code
	w.coverage.Refused++
}

// parameter takes note of a reported setting.
func (c *Client) parameter(m []byte) {
	name, rest, ok := pgwire.CString(m[pgwire.HeaderBytes:])
	value, rest, ok2 := pgwire.CString(rest)
	if !ok || !ok2 || len(rest) > 0 {
		c.world.fail("%s got a malformed ParameterStatus %q", c.name, m)
	}
	c.reported[string(name)] = string(value)
}

// misbehave sends what no client should.
func (c *Client) misbehave() {
	w := c.world
	c.misbehaves = true
	c.phase = phaseRunning
	w.coverage.Garbage++
	startup := pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app", "database", "db1")
	b := startup
	switch w.random.IntN(10) {
	case 0:
		b = []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	case 1:
		b = make([]byte, 1+w.random.IntN(200))
		for i := range b {
			b[i] = byte(w.random.Uint32())
		}
	case 2:
		b = []byte{0, 0, 0, 8, 0, 2, 0, 0}
	case 3: // plain text behind an encryption request
		b = append([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}, startup...)
	case 4: // cut off
		b = startup[:w.random.IntN(len(startup))]
	case 5: // password out of turn
		b = append(b, "p\x00\x00\x00\x08abc\x00"...)
	case 6: // a backend message
		b = append(b, "T\x00\x00\x00\x04"...)
	case 7:
		b = append(b, "Q\x7f\xff\xff\xff"...)
	default: // malformed bodies
		b = append(b, c.malformed()...)
		b = append(b, "S\x00\x00\x00\x04"...)
	}
	c.peer.Send(b)
	w.after(w.between(0, 500*time.Millisecond), func() {
		if c.phase != phaseEnded {
			c.leave()
		}
	})
}

// malformed is a message whose header is right and whose body is not.
func (c *Client) malformed() []byte {
	w := c.world
	bodies := []string{
		"", "\x00", "S", "P", "S\x00x", "name", "name\x00", "\x00text", "\x00\x00", "\x00\x00\x00",
		"\x00select 1\x00\xff\xff", "\x00\x00\x00\x01", "x\x00\x00\x00\x00\x00\xff", strings.Repeat("y", 300),
	}
	var b []byte
	for range 1 + w.random.IntN(4) {
		types := "PBDECPBDECHQFdcf"
		b = pgwire.AppendMessage(b, types[w.random.IntN(len(types))], []byte(bodies[w.random.IntN(len(bodies))]))
	}
	return b
}
