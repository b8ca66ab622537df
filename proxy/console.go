package proxy

import (
	"slices"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// ConsoleConfig is who may use the console, and what it tells of the process. There is no
// console without a database.
type ConsoleConfig struct {
	// Databases are the names under which clients find the console.
	Databases []string

	// AdminUsers may run every command, StatsUsers only those that show something.
	AdminUsers, StatsUsers []string

	// Version begins with one of PgBouncer. Settings are what SHOW CONFIG returns.
	Version  string
	Settings []ConsoleSetting

	// Host and Port are those of PostgreSQL, Database the one that is known without any
	// client.
	Host     string
	Port     int
	Database string

	// BeganAt is the time of day at which the loop's clock began.
	BeganAt time.Time

	// Reload reads files again and calls done, on the loop, with what went wrong. Shutdown
	// ends the process: in an orderly way, or at once. Neither blocks. A command whose
	// function is nil is refused.
	Reload   func(done func(error))
	Shutdown func(orderly bool)
}

// ConsoleSetting is a line of SHOW CONFIG. Secrets are masked.
type ConsoleSetting struct {
	Key, Value, Default string
	Changeable          bool // without a restart
}

// consoles is what the sessions at the console share.
type consoles struct {
	config   ConsoleConfig
	stats    pool.Stats // of the console, as if it were a pool
	averages averages
	disabled map[string]bool // databases that take no new clients
}

// init makes the console, if there is to be one.
func (cs *consoles) init(p *Proxy, config ConsoleConfig) {
	cs.config = config
	if len(config.Databases) == 0 {
		return
	}
	cs.disabled = map[string]bool{}
	cs.stats = pool.Stats{Database: config.Databases[0], User: consoleUser, Mode: pool.ModeStatement, MaxServers: consolePoolSize}
	cs.averages.start(p)
}

// The console appears among the databases as it does in PgBouncer.
const (
	consoleUser     = "pgbouncer"
	consolePoolSize = 2
)

// serves reports whether a database is the console.
func (cs *consoles) serves(database string) bool {
	return slices.Contains(cs.config.Databases, database)
}

// refuse says why a client who is who it says it is may not use a database, nil if it may.
func (cs *consoles) refuse(request startupRequest) *pgwire.Error {
	switch {
	case cs.disabled[request.database]:
		return fatalf(pgwire.CannotConnectNow, `database "%s" is disabled`, request.database)
	case cs.serves(request.database) && !cs.admits(request.user):
		e := fatalf(pgwire.InsufficientPrivilege, `permission denied for database "%s"`, request.database)
		e.Detail = "The admin console is for the users in ADMIN_USERS and STATS_USERS."
		return e
	}
	return nil
}

func (cs *consoles) admits(user string) bool {
	return slices.Contains(cs.config.AdminUsers, user) || slices.Contains(cs.config.StatsUsers, user)
}

// console is what a session at the console has in the place of a pool. It takes messages
// as PostgreSQL does, in the simple and in the extended protocol, and makes long answers
// step by step, so that the loop serves others meanwhile.
type console struct {
	// Static after construction.
	session  *session
	user     string
	database string
	admin    bool

	applicationName string
	transaction     transaction // which does nothing: drivers begin one before all else

	statements map[string]*consoleStatement
	portals    map[string]*consolePortal
	skipToSync bool

	// What is under way.
	inQuery bool                // of the simple protocol
	queue   []*consoleStatement // behind it in the query
	running *consolePortal
	abandon func() // ends what it waits for; nil if that has no end of its own
}

const (
	// maxConsoleMessageBytes is the longest message to the console.
	maxConsoleMessageBytes = 16 << 10
	// maxConsoleNames is how many prepared statements, and portals, one client may have.
	maxConsoleNames = 1000
	// consoleStepRows is how many rows are made before others have the loop: some 100 µs
	// of work.
	consoleStepRows = 64
)

// enterConsole goes on with a client who is who it says it is at the console.
func (s *session) enterConsole(request startupRequest) {
	cs := &s.proxy.consoles
	c := &console{
		session: s, user: request.user, database: request.database,
		admin:      slices.Contains(cs.config.AdminUsers, request.user),
		statements: map[string]*consoleStatement{}, portals: map[string]*consolePortal{},
	}
	for _, setting := range request.settings {
		if setting.Name == "application_name" {
			c.applicationName = setting.Value
		}
	}
	s.negotiate(pgwire.Version32)
	if !s.makeCancelKey() {
		return
	}
	s.auth, s.console, s.state = nil, c, stateConsole
	cs.stats.ClientsActive++
	cs.stats.LoginCount++
	s.proxy.loop.StopTimer(&s.timer)
	b := pgwire.AppendAuthenticationOk(nil)
	for _, parameter := range []pool.Setting{
		{Name: "server_version", Value: pgbouncerVersion + "/bouncer"},
		{Name: "client_encoding", Value: "UTF8"},
		{Name: "server_encoding", Value: "UTF8"},
		{Name: "DateStyle", Value: "ISO"},
		{Name: "TimeZone", Value: "GMT"},
		{Name: "standard_conforming_strings", Value: "on"},
		{Name: "is_superuser", Value: "on"},
	} {
		b = pgwire.AppendParameterStatus(b, parameter.Name, parameter.Value)
	}
	b = pgwire.AppendBackendKeyData(b, s.id, s.cancelKey)
	c.write(pgwire.AppendReadyForQuery(b, pgwire.TxIdle))
	s.conn.Redeliver()
}

// pgbouncerVersion is the version of PgBouncer whose console ours is compatible with.
const pgbouncerVersion = "1.25.0"

// ConsoleVersion is the answer to SHOW VERSION of a billproxy of that version: it begins
// with a version of PgBouncer, which monitoring looks for.
func ConsoleVersion(version string) string {
	return "PgBouncer " + pgbouncerVersion + "-compatible (billproxy " + version + ")"
}

// end gives up what is under way, for a client that goes.
func (c *console) end() {
	c.stop()
	c.session.proxy.consoles.stats.ClientsActive--
}

func (c *console) stop() {
	if c.abandon != nil {
		c.abandon()
	}
	c.abandon, c.running, c.queue = nil, nil, nil
}

// cancel ends what is under way. What a command has begun to change stays changed.
func (c *console) cancel() {
	if c.running != nil {
		c.stop()
		c.failed(errCanceled)
		c.session.conn.Redeliver()
	}
}

func (c *console) write(b []byte) {
	c.session.conn.Write(b)
	c.session.proxy.consoles.stats.SentBytes += uint64(len(b))
}

func (c *console) writeEmpty(messageType byte) { c.write(pgwire.AppendEmpty(nil, messageType)) }

// consume acts on one message.
func (c *console) consume(b []byte) (consumed int) {
	s := c.session
	if c.running != nil || len(b) == 0 || s.conn.BufferedBytes() > reactor.HighWaterBytes {
		return 0
	}
	messageType, size, err := pgwire.PeekFrontend(b)
	switch {
	case err != nil:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
		return 0
	case size > maxConsoleMessageBytes:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "a message of %d bytes is too long for the admin console: expected at most %d", size, maxConsoleMessageBytes))
		return 0
	case size == 0, len(b) < size:
		return 0
	}
	s.proxy.consoles.stats.ReceivedBytes += uint64(size)
	c.message(messageType, b[pgwire.HeaderBytes:size])
	return size
}

// message acts on a message.
// See https://www.postgresql.org/docs/current/protocol-flow.html
func (c *console) message(messageType byte, body []byte) {
	switch messageType {
	case pgwire.Terminate:
		c.session.end(endTerminate, "")
	case pgwire.Sync:
		c.skipToSync = false
		c.ready()
	case pgwire.Query:
		c.skipToSync = false
		c.query(body)
	case pgwire.Parse, pgwire.Bind, pgwire.Describe, pgwire.Execute, pgwire.Close:
		if !c.skipToSync {
			c.extended(messageType, body)
		}
	case pgwire.Flush, pgwire.CopyData, pgwire.CopyDone, pgwire.CopyFail:
	case pgwire.FunctionCall:
		c.inQuery = true
		c.failed(errorf(pgwire.FeatureNotSupported, "the admin console has no functions to call"))
	default:
		c.session.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "invalid frontend message type %d", messageType))
	}
}

// ready tells the client that it may send the next query.
func (c *console) ready() {
	c.inQuery = false
	if c.transaction.begin == "" { // portals end with their transaction
		clear(c.portals)
	}
	c.session.groupsAnswered++
	c.write(pgwire.AppendReadyForQuery(nil, c.transaction.status()))
}

// failed tells the client why what it wanted has come to nothing.
func (c *console) failed(e *pgwire.Error) {
	c.write(pgwire.AppendError(nil, e))
	c.transaction.fail()
	c.queue = nil
	if c.inQuery {
		c.ready()
	} else {
		c.skipToSync = true
	}
}

// query runs the commands of a simple query.
func (c *console) query(body []byte) {
	c.inQuery = true
	text, _, ok := pgwire.CString(body)
	if !ok {
		c.failed(errInvalidFormat)
		return
	}
	statements, e := c.parse(text)
	switch {
	case e != nil:
		c.failed(e)
	case len(statements) == 0:
		c.writeEmpty(pgwire.EmptyQueryResponse)
		c.ready()
	default:
		c.queue = statements
		c.proceed()
	}
}

// proceed runs what is left of a simple query.
func (c *console) proceed() {
	for c.inQuery && c.running == nil && c.session.state == stateConsole {
		if len(c.queue) == 0 {
			c.ready()
			return
		}
		statement := c.queue[0]
		c.queue = c.queue[1:]
		c.execute(&consolePortal{statement: statement}, 0)
	}
}

// execute runs a portal up to its end or, if limit is not 0, so many rows. If it is not
// done at once, running says so.
func (c *console) execute(portal *consolePortal, limit int) {
	statement := portal.statement
	switch e := c.refuse(statement); {
	case e != nil:
		c.failed(e)
		return
	case portal.over:
		c.failed(errorf(pgwire.ObjectNotInState, "portal cannot be run: it has been"))
		return
	case statement.empty():
		c.writeEmpty(pgwire.EmptyQueryResponse)
		return
	}
	c.session.activeAt = c.session.proxy.loop.Now()
	c.running, portal.limit, portal.sent = portal, limit, 0
	if statement.table == nil {
		portal.over = true
		c.run(portal)
		return
	}
	if portal.rows == nil {
		c.session.proxy.consoles.stats.QueryCount++
		c.session.proxy.consoles.stats.TransactionCount++
		portal.rows = statement.table.open(c.session.proxy)
		if c.inQuery {
			c.write(appendRowDescription(nil, statement.table.columns, nil))
		}
	}
	c.step()
}

// refuse says why the client may not run a statement now, nil if it may.
func (c *console) refuse(statement *consoleStatement) *pgwire.Error {
	switch {
	case c.transaction.failed && !statement.endsTransaction:
		return errTransactionAborted
	case statement.adminOnly && !c.admin:
		return errorf(pgwire.InsufficientPrivilege, "permission denied: %s takes a user in ADMIN_USERS", statement.tag)
	}
	return nil
}

// run runs a command that returns no rows.
func (c *console) run(portal *consolePortal) {
	tag := portal.statement.tag
	if portal.statement.endsTransaction && c.transaction.failed {
		tag = "ROLLBACK"
	}
	inside := true // of this call
	portal.statement.run(c, func(e *pgwire.Error) {
		if c.running != portal || c.session.state != stateConsole { // the client has given it up
			return
		}
		c.running, c.abandon = nil, nil
		if e != nil {
			c.failed(e)
		} else {
			c.complete(tag)
		}
		if !inside {
			c.proceed()
			c.session.conn.Redeliver()
		}
	})
	inside = false
}

// complete ends the answer to a command.
func (c *console) complete(tag string) {
	c.write(append(append(pgwire.AppendHeader(nil, pgwire.CommandComplete, len(tag)+1), tag...), 0))
}

// step sends some rows of the portal under way, and has more follow when others have had
// the loop and the client has taken these.
func (c *console) step() {
	portal, b := c.running, c.session.proxy.scratch[:0]
	more := true
	for n := 0; n < consoleStepRows && more && !portal.suspended(); n++ {
		if b, more = portal.rows(b, portal.formats); more {
			portal.sent++
		}
	}
	if cap(b) <= maxInputBytes {
		c.session.proxy.scratch = b
	}
	c.write(b)
	switch {
	case !more:
		c.running = nil
		c.complete(portal.statement.tag)
	case portal.suspended():
		c.running = nil
		c.writeEmpty(pgwire.PortalSuspended)
	case c.session.conn.BufferedBytes() <= reactor.HighWaterBytes:
		c.session.proxy.loop.Post(c.goOn)
	default: // drained goes on
	}
}

// goOn goes on with the portal under way, if there still is one.
func (c *console) goOn() {
	if c.running == nil || c.running.rows == nil || c.session.state != stateConsole {
		return
	}
	c.step()
	if c.running == nil {
		c.proceed()
		c.session.conn.Redeliver()
	}
}

// drained goes on for a client that reads again.
func (c *console) drained() { c.goOn() }
