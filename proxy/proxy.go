package proxy

import (
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// Proxy is the client side of the wire and the pools behind it. Every method must
// be called on the loop's goroutine.
type Proxy struct {
	// Static after construction.
	config Config
	loop   reactor.Loop
	logger *slog.Logger
	pools  *pool.Pools

	sessions []*session // in no particular order; session.index is the position
	byID     map[uint32]*session
	lastID   uint32

	// Authentication.
	newcomers newcomers
	throttle  auth.Throttle
	strangers strangers
	lookup    *lookup // nil if only those of the configuration get in

	consoles consoles

	// Admission.
	retries shed.Retries
	logins  shed.Logins

	// Shutdown.
	draining bool
	drained  func()

	query       query // the one read last
	queryKinds  queryKinds
	lastText    string
	encodingFor *pool.Settings // by which one was read last, nil if it was the database's
	encodingNow encodingKind   // of those
	scratch     []byte
	stats       Stats
}

// New returns a proxy that runs on the loop. It logs to logger, which must not
// block.
func New(config Config, loop reactor.Loop, logger *slog.Logger) *Proxy {
	p := &Proxy{
		config: config,
		loop:   loop,
		logger: logger,
		pools:  pool.New(config.Pool, loop, logger),
		byID:   map[uint32]*session{},
		stats:  Stats{ClientsClosed: map[string]uint64{}},

		encodingNow: encodingSafe,
	}
	for user, secret := range config.Secrets {
		p.strangers.meet(user, secret)
	}
	if config.AuthQuery.User != "" {
		p.lookup = newLookup(p, config.AuthQuery)
	}
	p.consoles.init(p, config.Console)
	return p
}

// SetSecrets replaces what is known of passwords: those of clients, as Config.Secrets,
// and those with which the proxy logs in, as pool.Config.Secrets. Clients who are
// connected stay.
func (p *Proxy) SetSecrets(clients, servers map[string]auth.Secret) {
	p.config.Secrets = clients
	p.strangers = strangers{secret: p.strangers.secret}
	for user, secret := range clients {
		p.strangers.meet(user, secret)
	}
	p.pools.SetSecrets(servers)
}

// Accept begins a session on a connection that a client has opened; nil if there is no
// room for it.
func (p *Proxy) Accept(conn reactor.Conn) reactor.Handler {
	if !p.makeRoom() {
		p.refuseNewcomer(conn)
		return nil
	}
	s := &session{proxy: p, conn: conn, index: len(p.sessions), startedAt: p.loop.Now()}
	s.waiter.Client = s
	s.timer.Fire = s.timedOut
	p.lastID++
	for p.lastID == 0 || p.byID[p.lastID] != nil {
		p.lastID++
	}
	s.id = p.lastID
	p.sessions = append(p.sessions, s)
	p.byID[s.id] = s
	s.arrives()
	p.stats.ClientsAccepted++
	if p.config.ClientLoginTimeout > 0 {
		p.loop.SetTimer(&s.timer, p.loop.Now()+p.config.ClientLoginTimeout)
	}
	return s
}

// forget removes a session that has ended.
func (p *Proxy) forget(s *session) {
	last := len(p.sessions) - 1
	p.sessions[s.index] = p.sessions[last]
	p.sessions[s.index].index = s.index
	p.sessions[last] = nil
	p.sessions = p.sessions[:last]
	delete(p.byID, s.id)
	p.checkDrained()
}

// Shutdown refuses new clients, closes those that are between transactions, and
// the others as soon as they are. done is called, once, when no client is left and
// the servers have been told to close.
func (p *Proxy) Shutdown(done func()) {
	if p.draining {
		return
	}
	p.draining, p.drained = true, done
	for i := len(p.sessions) - 1; i >= 0; i-- {
		if i < len(p.sessions) {
			p.sessions[i].drain()
		}
	}
	p.checkDrained()
}

func (p *Proxy) checkDrained() {
	if !p.draining || len(p.sessions) > 0 || p.drained == nil {
		return
	}
	done := p.drained
	p.drained = nil
	p.pools.Close()
	done()
}

// Abort ends every session and server at once.
func (p *Proxy) Abort() {
	p.draining = true
	for len(p.sessions) > 0 {
		p.sessions[len(p.sessions)-1].fatal(endShutdown, errShutdown)
	}
	p.pools.Abort()
}

// Stats returns a copy of the state and the counters.
func (p *Proxy) Stats() Stats {
	stats := p.stats
	stats.Uptime = p.loop.Now()
	stats.ClientCount = len(p.sessions)
	stats.MaxClientConn = p.config.MaxClientConn
	stats.Draining = p.draining
	stats.ClientsClosed = maps.Clone(p.stats.ClientsClosed)
	stats.Pools = p.pools.Stats()
	for _, s := range p.sessions {
		switch {
		case s.state < stateReady:
			stats.ClientLoginCount++
		case s.server != nil && s.server.Pins() != 0:
			stats.PinnedClients = append(stats.PinnedClients, s.stats())
		}
	}
	return stats
}

// logEnd writes the one line that a session leaves.
func (p *Proxy) logEnd(s *session, reason endReason, cause string) {
	p.stats.ClientsClosed[reason.String()]++
	log := p.logger.Info
	if reason.abnormal() {
		log = p.logger.Warn
	}
	database, user := "", ""
	switch {
	case s.pool != nil:
		database, user = s.pool.Database, s.pool.User
	case s.console != nil:
		database, user = s.console.database, s.console.user
	case s.auth != nil:
		database, user = s.auth.request.database, s.auth.request.user
	}
	log("client closed", "client", s.conn.RemoteAddr(), "id", s.id, "database", database, "user", user,
		"reason", reason.String(), "cause", cause, "groups", s.groupsAnswered,
		"age", (p.loop.Now() - s.startedAt).Round(time.Millisecond).String())
}

// errShutdown is what a client is told when the proxy stops.
var errShutdown = &pgwire.Error{
	Severity: pgwire.SeverityFatal,
	SQLState: pgwire.AdminShutdown,
	Message:  "terminating connection due to administrator command",
}

func fatalf(code pgwire.SQLState, format string, args ...any) *pgwire.Error {
	return &pgwire.Error{Severity: pgwire.SeverityFatal, SQLState: code, Message: fmt.Sprintf(format, args...)}
}

func errorf(code pgwire.SQLState, format string, args ...any) *pgwire.Error {
	return &pgwire.Error{Severity: pgwire.SeverityError, SQLState: code, Message: fmt.Sprintf(format, args...)}
}
