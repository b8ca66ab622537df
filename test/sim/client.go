package sim

import (
	"bytes"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// Client is a scripted client of the proxy. It knows what it may be answered.
type Client struct {
	// Static after construction.
	world *World
	id    int
	name  string
	login login

	peer  *Peer
	in    buffer
	out   []byte // messages to be sent together
	phase clientPhase

	// What it does next.
	ops       []op
	stepsLeft int
	believes  beliefs

	// What it has sent and not seen answered, in groups and in messages.
	groups []*group
	sent   []sentMessage
	twin   *twin

	// What it has seen.
	status   pgwire.TxStatus // of the last ReadyForQuery
	reported map[string]string
	faulted  *group // had an error that a fault caused; its ReadyForQuery is due
	fatal    string // the SQLSTATE of a FATAL error: the end of the connection is due
	key      []byte
	pid      uint32

	// What it did that excuses something.
	sequence    int
	repeatable  map[int]bool // sequence numbers of tags in prepared statements
	cancels     int
	startedAt   time.Duration
	activeAt    time.Duration // when it last sent or got something
	wokeAt      time.Duration // when it last did after a long time
	sleptFor    time.Duration
	wasPartial  bool // sent part of a group and paused
	stalled     bool
	everStalled bool
	misbehaves  bool // sent what no client should
	setsItself  bool // changes its settings as it goes
	holds       bool // may have state on its server
	mayEndTwice bool // it lost a COPY whose first Sync PostgreSQL ignores, if it has come
	changed     bool // a group since it last had no answers to come may have changed the session
	unverified  bool // and whether it has is perhaps not known yet
	blind       bool // it called what may change the session before the proxy knew what functions do
}

type clientPhase uint8

const (
	phaseNew clientPhase = iota
	phaseAsksEncryption
	phaseLogin
	phaseRunning
	phaseIdle  // its program has ended and it stays
	phaseEnded // the connection has ended, or the client is dead
)

// group is a sync group: the messages that one ReadyForQuery answers.
type group struct {
	simple    bool
	changes   bool // it may change the session
	sentAt    time.Duration
	owed      bool // its end was sent: ReadyForQuery is due
	copies    bool // the COPY of the group awaits data
	copied    bool // it did
	answers   int  // messages that came for it
	leaves    bool // it ends a transaction
	syncAhead bool // a Sync was sent with the Execute of a COPY
	failed    bool // an error of the server's own came
	done      bool // it is answered

	reads hotRead // what it reads, if many do
}

// addClient makes a client; it connects a little later.
func (w *World) addClient(id int) {
	c := &Client{
		world: w, id: id, name: "client " + Tag{id, 0}.String(), status: pgwire.TxIdle,
		reported: map[string]string{}, repeatable: map[int]bool{}, stepsLeft: 1 + w.random.IntN(w.scenario.StepsPerClient),
	}
	c.believes.named = map[string]int{}
	w.clients = append(w.clients, c)
	w.after(w.between(0, 30*time.Millisecond), c.connect)
	if w.scenario.ClientDeath && w.percent(40) {
		w.after(w.between(0, 200*time.Millisecond), func() { c.die(w.chance(2)) })
	}
}

// receive implements endpoint.
func (c *Client) receive(b []byte) {
	if c.phase == phaseEnded {
		return
	}
	if c.misbehaves {
		c.checkOwn(b)
		return
	}
	c.in.append(b)
	if c.phase == phaseAsksEncryption {
		c.encryptionRefused()
	}
	for c.phase != phaseEnded {
		in := c.in.bytes()
		_, size, err := pgwire.PeekBackend(in)
		if err != nil {
			c.world.fail("%s got what is no message: %v: %.100q", c.name, err, in)
		}
		if size == 0 || len(in) < size {
			break
		}
		m := in[:size]
		c.world.trace.add(c.world.now, traceClient, c.name, size, m)
		if c.phase == phaseLogin {
			c.loginMessage(m)
		} else {
			c.message(m)
		}
		c.in.consume(size)
		if c.fatal == "" {
			c.awake()
		}
	}
	c.advance()
}

// drained implements endpoint.
func (c *Client) drained() {}

// message compares a message with what the twin answers.
func (c *Client) message(m []byte) {
	switch {
	case c.fatal != "":
		c.world.fail("%s got %s behind a FATAL error", c.name, show(m))
	case m[0] == pgwire.ParameterStatus:
		c.parameter(m)
		return
	case c.faulted != nil:
		c.messageAfterFault(m)
		return
	}
	expected := c.expect()
	switch {
	case expected != nil && c.equal(expected, m):
		c.twin.pop()
		c.matched(m)
	case expected != nil && m[0] == pgwire.ParseComplete && c.twin.fed.bytes[0] == pgwire.Parse && isError(expected.bytes, "25P02"):
		c.twin.acceptParse()
	case expected != nil && c.twin.ghost != nil && isError(expected.bytes, "26000") && !isFault(m) && c.twin.revive():
		c.message(m)
	case expected != nil && isError(m, "25P02") && (c.twin.refuse() || c.twin.refuseEmpty() || c.twin.refuseGroup()):
	case expected != nil && isError(m, "0A000") && c.twin.drift(&c.world.postgres.versions):
		c.groups[0].failed = true
		c.world.coverage.DriftShown++
	case expected != nil && m[0] == pgwire.ReadyForQuery && expected.bytes[0] == pgwire.ReadyForQuery && c.lostBehindError(m):
	case m[0] == pgwire.ReadyForQuery && c.mayEndTwice && m[pgwire.HeaderBytes] == byte(c.status):
		c.mayEndTwice = false
	case m[0] == pgwire.ErrorResponse:
		c.deviation(m, expected)
	case expected == nil:
		c.world.fail("%s got %s, which nothing asks for", c.name, show(m))
	default:
		c.world.fail("%s got %s, want %s", c.name, show(m), show(expected.bytes))
	}
}

// expect returns the message that should come next, nil if none is due.
func (c *Client) expect() *expectedMessage {
	for c.twin.head() == nil && len(c.sent) > 0 {
		m := c.sent[0]
		c.sent = c.sent[1:]
		c.twin.feed(m)
	}
	return c.twin.head()
}

// equal reports whether the messages are the same. The wording of an error may be
// the proxy's, but must not give away a name that only the proxy uses.
func (c *Client) equal(expected *expectedMessage, got []byte) bool {
	want := expected.bytes
	if bytes.Equal(want, got) {
		c.told(expected.shape, got)
		return true
	}
	if expected.shape != nil && len(want) == len(got) {
		at := versionAt(got)
		if bytes.Equal(want[:at], got[:at]) && bytes.Equal(want[at+1:], got[at+1:]) {
			c.told(expected.shape, got)
			return true
		}
	}
	if want[0] != pgwire.ErrorResponse || got[0] != pgwire.ErrorResponse {
		return false
	}
	a, b := pgwire.ParseError(want[pgwire.HeaderBytes:]), pgwire.ParseError(got[pgwire.HeaderBytes:])
	if strings.Contains(b.Message+b.Detail+b.Hint, "bp_") {
		c.world.fail("%s is told a name of the proxy's: %s", c.name, show(got))
	}
	c.checkOwn(got)
	if b.SQLState == pgwire.DuplicateStatement && c.twin.replaced != nil && c.twin.name != "" {
		return true // PostgreSQL looks at the text first, the proxy at the name
	}
	if b.SQLState == "25P02" && c.twin.backend.txStatus == pgwire.TxFailed {
		return true // whatever else is wrong
	}
	return a.Severity == b.Severity && a.SQLState == b.SQLState
}

// versionAt is where a RowDescription or DataRow of a select tells the version: the
// last column's name is followed by a zero byte and 18 bytes of properties.
func versionAt(m []byte) int {
	if m[0] == pgwire.RowDescription {
		return len(m) - 20
	}
	return len(m) - 1
}

// told checks that rows are of the kind that the client was told last.
func (c *Client) told(s *shape, m []byte) {
	if s == nil {
		return
	}
	version := m[versionAt(m)]
	if m[0] == pgwire.DataRow && s.known && s.version != version {
		c.world.fail("%s was told of rows of version %c and got %s", c.name, s.version, show(m))
	}
	s.known, s.version = true, version
}

// matched acts on a message that is as expected.
func (c *Client) matched(m []byte) {
	g := c.twin.fed.group
	g.answers++
	switch m[0] {
	case pgwire.ReadyForQuery:
		c.answered(g, pgwire.TxStatus(m[pgwire.HeaderBytes]))
	case pgwire.CopyInResponse:
		g.copies, g.copied = true, true
		if g.syncAhead {
			g.owed = false // PostgreSQL ignores the Sync that came with the Execute
		}
	case pgwire.ErrorResponse:
		g.copies, g.failed = false, true
	case pgwire.CommandComplete:
		g.copies = false
	case pgwire.NoticeResponse:
		c.world.coverage.Notices++
	case pgwire.PortalSuspended:
		c.world.coverage.Suspended++
	}
}

// answered notes that a group is done with.
func (c *Client) answered(g *group, status pgwire.TxStatus) {
	if len(c.groups) == 0 || c.groups[0] != g || !g.owed {
		c.world.fail("%s got a ReadyForQuery that is not due", c.name)
	}
	c.groups = c.groups[1:]
	g.done, g.copies = true, false
	if c.faulted == nil && !g.failed {
		c.world.checkFresh(c, g)
	}
	if len(c.groups) == 0 && status == pgwire.TxIdle {
		c.unverified, c.changed = c.changed, false
	}
	c.status = status
	c.world.coverage.Groups++
	for _, s := range c.twin.backend.settings {
		if s.reported && c.faulted == nil && c.reported[s.display] != s.value && s.name != "server_version" {
			c.world.fail("%s was told %s = %q, but its session has %q", c.name, s.display, c.reported[s.display], s.value)
		}
	}
}

// messageAfterFault takes the end of a group that a fault has touched.
func (c *Client) messageAfterFault(m []byte) {
	if m[0] != pgwire.ReadyForQuery || m[pgwire.HeaderBytes] != byte(pgwire.TxIdle) {
		if m[0] == pgwire.ErrorResponse && pgwire.ParseError(m[pgwire.HeaderBytes:]).IsFatal() {
			c.deviation(m, nil)
			return
		}
		c.world.fail("%s got %s behind an error, want ReadyForQuery I", c.name, show(m))
	}
	g := c.faulted
	c.answered(g, pgwire.TxIdle)
	c.faulted, c.mayEndTwice = nil, g.syncAhead
	c.world.coverage.Survived++
}

// ended implements endpoint: the proxy has closed the connection.
func (c *Client) ended(err error) {
	if c.phase == phaseEnded {
		return
	}
	w := c.world
	w.trace.add(w.now, traceEnd, c.name, c.in.len(), []byte("client sees "+err.Error()))
	midMessage := c.in.len() > 0 && w.faultSince(faultServer, c.activeAt-lossEcho-10*time.Second)
	switch {
	case c.fatal != "", c.misbehaves:
	case c.everStalled:
		w.coverage.StallsClosed++
	case midMessage:
	default:
		w.fail("the connection of %s was closed without a word (%v)", c.name, err)
	}
	c.leave()
}

// leave ends the client.
func (c *Client) leave() {
	c.phase = phaseEnded
	c.ops = nil
	c.peer.Close()
}

// die lets the client vanish.
func (c *Client) die(reset bool) {
	if c.phase == phaseEnded || c.phase == phaseNew {
		return
	}
	c.world.trace.add(c.world.now, traceFault, c.name+" dies", 0, nil)
	c.world.coverage.Deaths++
	c.phase = phaseEnded
	c.ops = nil
	if reset {
		c.peer.Reset()
	} else {
		c.peer.Close()
	}
}

// idle reports whether the client's program is over and everything is answered.
func (c *Client) idle() bool { return c.phase == phaseEnded || c.phase == phaseIdle }

// checkOwn fails if bytes that the client got carry the tag of another client.
func (c *Client) checkOwn(b []byte) {
	if other := c.world.foreignTag(b, c.id); other != 0 {
		c.world.fail("%s got bytes that belong to client %d: %.200q", c.name, other, b)
	}
}

// isFault reports whether m is an error that only a fault, a timeout or a cancel
// request explains.
func isFault(m []byte) bool {
	if m[0] != pgwire.ErrorResponse {
		return false
	}
	e := pgwire.ParseError(m[pgwire.HeaderBytes:])
	code := string(e.SQLState)
	return e.IsFatal() || lostCodes[code] || code == "53400" || code == "08001" || code == "57014"
}

// isError reports whether m is an error with that SQLSTATE that leaves the
// connection open.
func isError(m []byte, code string) bool {
	if m[0] != pgwire.ErrorResponse {
		return false
	}
	e := pgwire.ParseError(m[pgwire.HeaderBytes:])
	return string(e.SQLState) == code && !e.IsFatal()
}
