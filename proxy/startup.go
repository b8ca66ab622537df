package proxy

import (
	"bytes"
	"crypto/subtle"
	"strings"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/shed"
)

// encryptionAsked is which kinds of encryption the client has asked for: each may
// be asked for once, as in PostgreSQL.
type encryptionAsked uint8

const (
	askedSSL encryptionAsked = 1 << iota
	askedGSS
)

// startup consumes a startup packet.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
func (s *session) startup(b []byte) (consumed int) {
	if len(b) > 0 && b[0] == tlsHandshake && s.asked == 0 {
		if s.encryptable() {
			s.encrypt(true)
		} else {
			s.end(endProtocol, "the client speaks TLS, which is not turned on")
		}
		return 0
	}
	packet, size, err := pgwire.ParseStartup(b)
	switch {
	case err != nil:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
		return 0
	case packet.Kind == pgwire.StartupSSL, packet.Kind == pgwire.StartupGSS:
		return s.answerEncryption(packet.Kind, size, len(b))
	case packet.Kind == pgwire.StartupCancel:
		s.proxy.cancel(packet.CancelPID, packet.CancelKey)
		s.end(endCancelRequest, "")
	case packet.Kind == pgwire.StartupMessage:
		s.begin(packet)
	}
	return size
}

// answerEncryption answers whether there is any. Bytes behind the request would have
// been sent before the answer was known: an attempt to smuggle plain text in.
func (s *session) answerEncryption(kind pgwire.StartupKind, size, atHand int) int {
	asked := askedSSL
	if kind == pgwire.StartupGSS {
		asked = askedGSS
	}
	if s.asked&asked != 0 {
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "encryption was requested twice: expected a startup message"))
		return 0
	}
	if atHand > size {
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "received unencrypted data after encryption request"))
		return 0
	}
	s.asked |= asked
	if kind == pgwire.StartupSSL && s.encryptable() {
		s.conn.Write([]byte{'S'})
		s.encrypt(false)
		return size
	}
	s.conn.Write([]byte{'N'})
	return size
}

// begin acts on a startup message.
func (s *session) begin(packet pgwire.Startup) {
	if s.proxy.draining {
		s.fatal(endRefused, fatalf(pgwire.CannotConnectNow, "the proxy is shutting down"))
		return
	}
	s.version = packet.Version
	s.negotiation = negotiationOf(packet)
	s.negotiate(s.proxy.pools.Protocol())
	request, e := readStartup(packet.Parameters)
	switch {
	case len(s.proxy.sessions) > s.proxy.config.MaxClientConn && !s.proxy.consoles.serves(request.database): // an operator gets in
		e = fatalf(pgwire.TooManyConnections, "sorry, too many clients already: the limit is %d", s.proxy.config.MaxClientConn)
	case e == nil:
		e = s.checkEncryption(request)
	}
	if e != nil {
		s.refuseLogin(e)
		return
	}
	switch {
	case s.proxy.config.AuthType == AuthCert:
		s.authenticateCertificate(request)
	case s.proxy.config.AuthType != AuthTrust:
		s.authenticate(request)
	case !s.conn.Local():
		s.refuseLogin(fatalf(pgwire.InvalidAuthorization, "no authentication for client %s: expected a connection from this machine", s.conn.RemoteAddr()))
	default:
		s.admit(request, nil)
	}
}

// admit goes on with a client who is who it says it is. keys are those with which
// it has proved it, if it did so by them.
func (s *session) admit(request startupRequest, keys *auth.Keys) {
	s.settles()
	if e := s.proxy.consoles.refuse(request); e != nil {
		s.refuseLogin(e)
		return
	}
	if s.proxy.consoles.serves(request.database) {
		s.enterConsole(request)
		return
	}
	s.pool = s.proxy.pools.Get(request.database, request.user)
	if s.auth != nil {
		s.pool.Learn(s.auth.secret, keys)
		s.auth = nil
	}
	s.pool.ClientCount++
	s.login = s.pool.Settings(nil, request.settings...)
	s.settings = s.login
	s.state = stateLoggingIn
	if !s.delayLogin(s.logIn) {
		s.logIn()
	}
}

// logIn lets a client in, as soon as it is known that a server would.
func (s *session) logIn() {
	if s.pool.Known() && s.login.Accepted() {
		s.welcome()
		return
	}
	if server := s.pool.Acquire(&s.waiter, s.login, shed.Work{Tenant: s.tenant(), Login: true}); server != nil {
		s.server = server
		s.loginLeased()
	}
}

func (s *session) refuseLogin(e *pgwire.Error) {
	s.proxy.stats.ClientsRefused++
	s.fatal(endRefused, e)
}

// negotiation is that of the protocol version with a client that asks for more than 3.0.
type negotiation struct {
	unknown [][]byte // options
}

// negotiationOf returns what there is to negotiate, nil if there is nothing.
func negotiationOf(packet pgwire.Startup) *negotiation {
	var unknown [][]byte
	for _, p := range packet.Parameters {
		if bytes.HasPrefix(p.Name, []byte("_pq_.")) {
			unknown = append(unknown, bytes.Clone(p.Name))
		}
	}
	if packet.Version == pgwire.Version30 && len(unknown) == 0 {
		return nil
	}
	return &negotiation{unknown}
}

// negotiate settles the protocol version, once it is known what servers speak, which is 0
// before: that of the client is the same.
// See https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-VERSIONS
func (s *session) negotiate(newest pgwire.ProtocolVersion) {
	if s.negotiation == nil || newest == 0 {
		return
	}
	asked := s.version
	s.version = min(asked, newest)
	if asked > newest || len(s.negotiation.unknown) > 0 {
		s.conn.Write(pgwire.AppendNegotiateProtocolVersion(nil, s.version, s.negotiation.unknown))
	}
	s.negotiation = nil
}

// startupRequest is what a startup message asks for.
type startupRequest struct {
	user, database string
	settings       []pool.Setting
}

// readStartup reads the parameters of a startup message. Those that are no
// parameter of the protocol's are settings.
func readStartup(parameters []pgwire.Parameter) (startupRequest, *pgwire.Error) {
	var request startupRequest
	options := ""
	for _, p := range parameters {
		name, value := string(p.Name), string(p.Value)
		switch {
		case name == "user":
			request.user = value
		case name == "database":
			request.database = value
		case name == "options":
			options = value
		case name == "replication":
			if on := strings.ToLower(value); on != "false" && on != "off" && on != "no" && on != "0" {
				return request, fatalf(pgwire.FeatureNotSupported, "replication %q is not possible through a pool: expected a direct connection", value)
			}
		case strings.HasPrefix(name, "_pq_."):
		default:
			request.settings = append(request.settings, pool.Setting{Name: name, Value: value})
		}
	}
	var optional []pool.Setting
	err := pgwire.ParseOptions(options, func(name, value string) {
		optional = append(optional, pool.Setting{Name: name, Value: value})
	})
	if err != nil {
		return request, fatalf(pgwire.FeatureNotSupported, "%v", err)
	}
	request.settings = append(optional, request.settings...) // which PostgreSQL sets last
	for _, setting := range request.settings {
		if !pool.ValidSettingName(setting.Name) {
			return request, fatalf(pgwire.UndefinedObject, "unrecognized configuration parameter %q", setting.Name)
		}
	}
	if request.user == "" {
		return request, fatalf(pgwire.InvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	if request.database == "" {
		request.database = request.user
	}
	return request, nil
}

// loginLeased learns from a server what to tell the client, and whether it takes
// the client's settings.
func (s *session) loginLeased() {
	if s.state != stateLoggingIn || s.server == nil {
		return
	}
	if !s.server.Adopt(s.login) { // else OnSettings goes on
		s.welcomeFrom(s.server)
	}
}

// welcomeFrom gives the server back and completes the login.
func (s *session) welcomeFrom(server *pool.Server) {
	s.server = nil
	server.Release()
	s.welcome()
}

// welcome completes the login.
func (s *session) welcome() {
	if s.proxy.draining {
		s.fatal(endShutdown, errShutdown)
		return
	}
	s.state = stateReady
	s.proxy.loop.StopTimer(&s.timer)
	s.negotiate(s.proxy.pools.Protocol())
	if !s.makeCancelKey() {
		return
	}
	s.pool.CountLogin()
	b := pgwire.AppendAuthenticationOk(s.proxy.scratch[:0])
	b = s.pool.AppendWelcome(b, s.login)
	b = pgwire.AppendBackendKeyData(b, s.id, s.cancelKey)
	b = pgwire.AppendReadyForQuery(b, pgwire.TxIdle)
	s.proxy.scratch = b
	s.conn.Write(b)
	s.conn.Redeliver()
}

// makeCancelKey makes the key by which the client may cancel, or ends the session.
func (s *session) makeCancelKey() bool {
	keyBytes := 4
	if s.version >= pgwire.Version32 {
		keyBytes = 32
	}
	s.cancelKey = make([]byte, keyBytes)
	return s.random(s.cancelKey)
}

// cancel stops what the client with that key has under way: it is taken out of the
// queue, or PostgreSQL is asked. As in PostgreSQL, whoever asks is told nothing.
func (p *Proxy) cancel(id uint32, key []byte) {
	p.stats.CancelRequests++
	s := p.byID[id]
	if s == nil || s.state != stateReady && s.state != stateConsole || subtle.ConstantTimeCompare(s.cancelKey, key) != 1 {
		return
	}
	switch {
	case s.console != nil:
		s.console.cancel()
	case s.waiter.Waiting():
		s.pool.Abandon(&s.waiter)
		s.OnRefused(errCanceled)
	case s.shared != nil:
		s.cancelShared()
	case s.server != nil && !s.server.Quiet():
		s.OnFailed()
		s.server.Cancel()
	}
}

// errCanceled is what PostgreSQL says to a client that has cancelled.
var errCanceled = errorf(pgwire.QueryCanceled, "canceling statement due to user request")
