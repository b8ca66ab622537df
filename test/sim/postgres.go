package sim

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// upstream is the address of the scripted PostgreSQL.
var upstream = reactor.Address{Network: "tcp", Address: "postgres:5432"}

// Postgres is the scripted server: it accepts connections, logs them in, and
// finds the backend that a cancel request means.
type Postgres struct {
	world    *World
	nextPID  uint32
	backends []*Backend      // alive
	versions [16]int         // of what selects with each variant select from
	number   int             // of connections so far
	told     map[string]bool // databases of which the proxy has been told what functions do

	// What is wrong with it at present.
	refuses  bool // connections are refused
	starting bool // logins are answered with 57P03
	silent   bool // dials are not answered
}

// functionsKnown reports whether the proxy has been told what the functions of a
// database do. Until then it cannot know what a call has left in the session.
func (pg *Postgres) functionsKnown(database string) bool {
	for _, b := range pg.backends {
		p := b.conn.peer
		if b.toldFunctions && p.unsent.len()+p.conn.arrived.len()+p.conn.in.len() == 0 {
			pg.told[b.database] = true
		}
	}
	return pg.told[database]
}

// errRefused is what a dial gets when nobody listens.
var errRefused = errors.New("connect: connection refused")

// errTimeout is what a dial gets that is not answered.
var errTimeout = errors.New("connect: i/o timeout")

// dial answers a dial of the proxy.
func (pg *Postgres) dial(timeout time.Duration, done func(*Peer, error)) {
	w := pg.world
	delay := w.latency()
	refused, silent := pg.refuses, pg.silent
	if s := w.scenario; s.DialFaults && w.faultsOn() {
		refused = refused || w.percent(10)
		silent = silent || w.percent(5)
		if w.percent(10) {
			delay += w.between(0, 500*time.Millisecond)
		}
	}
	switch {
	case silent && timeout > 0:
		w.fault(faultConnect, "dial is not answered")
		w.after(timeout, func() { done(nil, errTimeout) })
	case refused:
		w.fault(faultConnect, "dial is refused")
		w.after(delay, func() { done(nil, errRefused) })
	default:
		w.after(delay, func() {
			pg.number++
			c := &serverConn{postgres: pg}
			c.peer = w.connect("server "+strconv.Itoa(pg.number), c)
			done(c.peer, nil)
		})
	}
}

// serverConn is a connection that PostgreSQL has accepted: before its startup
// packet, a session's, or a cancel request's.
type serverConn struct {
	postgres *Postgres
	peer     *Peer
	in       buffer
	started  bool
	backend  *Backend // nil for a cancel request, and before the login
}

func (c *serverConn) receive(b []byte) {
	c.in.append(b)
	if !c.started {
		c.start()
	}
	if c.backend != nil {
		c.backend.work()
	}
}

func (c *serverConn) drained() {
	if c.backend != nil {
		c.backend.drained()
	}
}

func (c *serverConn) ended(error) {
	if c.backend != nil {
		c.backend.leave()
	}
	c.peer.Close()
}

// start acts on the startup packet.
func (c *serverConn) start() {
	pg, w := c.postgres, c.postgres.world
	s, size, err := pgwire.ParseStartup(c.in.bytes())
	if err != nil {
		w.fail("PostgreSQL got a malformed startup packet: %v", err)
	}
	switch s.Kind {
	case pgwire.StartupIncomplete:
		return
	case pgwire.StartupSSL, pgwire.StartupGSS:
		c.in.consume(size)
		c.peer.Send([]byte{'N'})
		c.start()
		return
	case pgwire.StartupCancel:
		c.started = true
		pid, key := s.CancelPID, bytes.Clone(s.CancelKey)
		c.in.consume(size)
		w.after(w.latency(), func() {
			pg.cancel(pid, key)
			c.peer.Close()
		})
		return
	case pgwire.StartupMessage:
		c.startSession(s.Parameters)
		c.in.consume(size)
	}
}

// startSession acts on a startup message: the login follows, or fails.
func (c *serverConn) startSession(asked []pgwire.Parameter) {
	pg, w := c.postgres, c.postgres.world
	c.started = true
	parameters := map[string]string{}
	var names []string
	for _, p := range asked {
		names = append(names, string(p.Name))
		parameters[string(p.Name)] = string(p.Value)
	}
	if w.scenario.LoginFaults && w.faultsOn() && w.percent(15) {
		c.failLogin()
		return
	}
	if pg.starting {
		w.fault(faultConnect, "starting up")
		c.refuse("57P03", "the database system is starting up")
		return
	}
	w.after(w.latency(), func() { c.logIn(names, parameters) })
}

// failLogin lets a login go wrong in one of the ways there are.
func (c *serverConn) failLogin() {
	w := c.postgres.world
	switch w.random.IntN(4) {
	case 0:
		w.fault(faultConnect, "too many connections")
		c.refuse("53300", "sorry, too many clients already")
	case 1:
		w.fault(faultConnect, "login is not answered")
	case 2:
		w.fault(faultConnect, "login is reset")
		c.peer.Send(pgwire.AppendAuthenticationOk(nil))
		c.peer.Reset()
	case 3:
		w.fault(faultConnect, "starting up")
		c.refuse("57P03", "the database system is starting up")
	}
}

func (c *serverConn) refuse(code, message string) {
	c.peer.Send(appendError(nil, "FATAL", code, message))
	c.peer.Close()
}

// logIn makes the connection a session.
func (c *serverConn) logIn(names []string, parameters map[string]string) {
	pg := c.postgres
	if c.peer.closing {
		return
	}
	b := newBackend(pg, parameters["user"])
	pg.nextPID++
	b.conn, b.pid, b.database, b.name = c, pg.nextPID, parameters["database"], c.peer.conn.name
	for _, name := range names {
		if name == "user" || name == "database" {
			continue
		}
		if code := b.set(name, parameters[name]); code != "" {
			c.refuse(code, "invalid value for parameter \""+name+"\"")
			return
		}
	}
	b.keepDefaults()
	c.backend = b
	pg.backends = append(pg.backends, b)
	out := pgwire.AppendAuthenticationOk(nil)
	for _, s := range b.settings {
		if s.reported {
			out = pgwire.AppendParameterStatus(out, s.display, s.value)
		}
	}
	b.reportAll()
	out = pgwire.AppendBackendKeyData(out, b.pid, b.key())
	c.peer.Send(pgwire.AppendReadyForQuery(out, pgwire.TxIdle))
	b.work()
}

// cancel acts on a cancel request.
func (pg *Postgres) cancel(pid uint32, key []byte) {
	for _, b := range pg.backends {
		if b.pid == pid && bytes.Equal(key, b.key()) {
			pg.world.trace.add(pg.world.now, traceState, b.name, 0, []byte("cancel request arrives"))
			b.cancel()
			return
		}
	}
}

// left takes a backend out of the list of the living.
func (pg *Postgres) left(b *Backend) {
	for i, other := range pg.backends {
		if other == b {
			pg.backends = append(pg.backends[:i], pg.backends[i+1:]...)
			return
		}
	}
}

// terminate ends a session as pg_terminate_backend or a shutdown does.
func (pg *Postgres) terminate(b *Backend, code string) {
	b.emitError("FATAL", code, "terminating connection due to administrator command")
	b.end()
}

// reset ends a session without a word.
func (pg *Postgres) reset(b *Backend) {
	b.leave()
	if pg.world.chance(2) {
		b.flush()
	}
	b.conn.peer.Reset()
}

var _ endpoint = (*serverConn)(nil)

// appendError appends an ErrorResponse with more fields than the proxy itself ever
// writes.
func appendError(out []byte, severity, code, message string) []byte {
	return appendReport(out, pgwire.ErrorResponse, severity, code, message, "sim")
}

func appendReport(out []byte, messageType byte, severity, code, message, routine string) []byte {
	start := len(out)
	out = append(out, messageType, 0, 0, 0, 0)
	for _, field := range [...]struct {
		code  byte
		value string
	}{{'S', severity}, {'V', severity}, {'C', code}, {'M', message}, {'F', "sim.c"}, {'L', "1"}, {'R', routine}} {
		out = append(append(append(out, field.code), field.value...), 0)
	}
	out = append(out, 0)
	putLength(out[start:])
	return out
}

// putLength sets the length of the only message in b.
func putLength(b []byte) {
	n := len(b) - 1
	b[1], b[2], b[3], b[4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}
