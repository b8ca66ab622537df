package pool

import (
	"crypto/tls"
	"fmt"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// ServerTLS is how connections to PostgreSQL are encrypted. The zero value is not at
// all. Over a Unix-domain socket they never are, as with libpq.
type ServerTLS struct {
	Mode SSLMode

	// Config is nil if Mode is disable. It must verify what Mode says, ask for the
	// protocol "postgresql" and allow neither renegotiation nor session tickets.
	Config *tls.Config

	// Direct begins with TLS instead of asking for it, as sslnegotiation=direct of
	// libpq.
	Direct bool

	// ChannelBinding is whether SCRAM is bound to the encrypted channel, as the
	// parameter of libpq.
	ChannelBinding ChannelBinding
}

// ChannelBinding is whether SCRAM is bound to an encrypted channel.
type ChannelBinding uint8

// The values. To prefer is to do so if the server can.
const (
	BindingPrefer ChannelBinding = iota
	BindingDisable
	BindingRequire
)

// SetServerTLS is for the connections that are opened from now on.
func (p *Pools) SetServerTLS(t ServerTLS) { p.config.TLS = t }

// applicationProtocol is what TLS carries.
const applicationProtocol = "postgresql"

// negotiation is a connection to PostgreSQL up to where its protocol begins: encrypted
// or not.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
type negotiation struct {
	conn     reactor.Conn
	tls      ServerTLS
	optional bool // the server may refuse to encrypt
	state    negotiationState
	endPoint []byte // of the encrypted channel
	channel  TLSChannel
	done     func(*pgwire.Error)
}

type negotiationState uint8

const (
	negotiationAsked      negotiationState = iota // awaits the answer of the server
	negotiationEncrypting                         // awaits the end of the handshake
	negotiationPlain
	negotiationEncrypted
)

// begin encrypts the connection or does not, and calls done, at once or later, but not
// if the connection ends.
func (n *negotiation) begin(conn reactor.Conn, encrypt, optional bool, t ServerTLS, done func(*pgwire.Error)) {
	*n = negotiation{conn: conn, tls: t, optional: optional, done: done}
	switch {
	case !encrypt:
		n.state = negotiationPlain
		done(nil)
	case t.Direct:
		n.encrypt()
	default:
		conn.Write(pgwire.AppendSSLRequest(nil))
	}
}

func (n *negotiation) over() bool { return n.state >= negotiationPlain }

// answer consumes what the server says to the request. More than a byte was said
// before anything is encrypted: an attempt to smuggle plain text in.
func (n *negotiation) answer(data []byte) (consumed int) {
	switch {
	case len(data) > 1:
		n.done(loginError(pgwire.ProtocolViolation, "received unencrypted data after SSL response"))
	case data[0] == 'S':
		n.encrypt()
	case data[0] == 'N' && n.optional:
		n.state = negotiationPlain
		n.done(nil)
	case data[0] == 'N':
		n.done(loginError(pgwire.CannotConnect, fmt.Sprintf(
			"server does not support SSL, but SSL was required: expected sslmode disable, allow or prefer instead of %s", n.tls.Mode)))
	case data[0] == pgwire.ErrorResponse: // whoever said it, nobody vouches for it
		n.done(loginError(pgwire.CannotConnect, "server sent an error response during SSL exchange"))
	default:
		n.done(loginError(pgwire.ProtocolViolation, fmt.Sprintf("received invalid response to SSL negotiation: %q", data[0])))
	}
	return len(data)
}

func (n *negotiation) encrypt() {
	n.state = negotiationEncrypting
	n.conn.StartTLS(reactor.TLSClient, n.tls.Config, func(state tls.ConnectionState) {
		n.state, n.channel = negotiationEncrypted, NewTLSChannel(state)
		if n.tls.ChannelBinding != BindingDisable {
			n.endPoint = auth.ServerEndPoint(state.PeerCertificates[0])
		}
		if n.tls.Direct && state.NegotiatedProtocol != applicationProtocol {
			n.done(loginError(pgwire.ProtocolViolation,
				"direct SSL connection was established without ALPN protocol negotiation extension"))
			return
		}
		n.done(nil)
	})
}

// dial connects to PostgreSQL, for a server that is being opened.
func (s *Server) dial() {
	s.pool.loop.Dial(s.pool.config.Upstream, s.pool.config.ServerConnectTimeout, s.dialed)
}

// planEncryption decides with what the first attempt to log in begins, and whether
// another may follow.
func (s *Server) planEncryption() {
	mode := s.pool.config.TLS.Mode
	if s.pool.config.Upstream.Network == "unix" {
		mode = SSLDisable
	}
	s.encrypt = mode >= SSLPrefer
	s.otherwise = mode == SSLAllow || mode == SSLPrefer
}

// tryOtherwise begins a second attempt to log in if the first failed because it was
// encrypted, or because it was not, and sslmode leaves that open. Among the reasons
// to refuse a login those of pg_hba.conf, which asks whether it is encrypted, are
// told by the SQLSTATE.
func (s *Server) tryOtherwise(failure *pgwire.Error) bool {
	encryptionFailed := s.encrypt && !s.negotiation.over()
	refused := s.refused && failure.SQLState == pgwire.InvalidAuthorization
	if !s.otherwise || !encryptionFailed && !refused || s.pool.closing() {
		return false
	}
	s.otherwise = false
	s.encrypt = !s.encrypt
	s.firstFailure = failure
	s.refused, s.fatal, s.scram, s.cancelKey = false, nil, nil, nil
	s.parameters = nil
	s.dial()
	return true
}

// bothFailures is the failure of the login with that of an attempt before it.
func (s *Server) bothFailures(failure *pgwire.Error) *pgwire.Error {
	if s.firstFailure == nil {
		return failure
	}
	both := *failure
	both.Message += "; an attempt before it: " + s.firstFailure.Message
	return &both
}
