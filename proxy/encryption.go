package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// ClientTLS is how connections of clients are encrypted. The zero value is not at all.
type ClientTLS struct {
	// Mode has PgBouncer's meaning: allow and prefer leave it to the client, from
	// require on those of TCP must be encrypted, and from verify-ca on they must show
	// a certificate that the configuration has verified.
	Mode pool.SSLMode

	// Config is nil if Mode is disable. It must accept the protocol "postgresql" and
	// allow neither renegotiation nor session tickets.
	Config *tls.Config

	// EndPoint is the auth.ServerEndPoint of the certificate in Config.
	EndPoint []byte
}

// applicationProtocol is what a client that begins with TLS has to ask for.
const applicationProtocol = "postgresql"

// tlsHandshake is the first byte of TLS: too large to be that of a startup packet.
const tlsHandshake = 0x16

// channel is what is known of an encrypted connection.
type channel struct {
	tls         pool.TLSChannel
	endPoint    []byte
	certificate *x509.Certificate // of the client, verified; nil without
}

// SetClientTLS is for the connections that begin to be encrypted from now on.
func (p *Proxy) SetClientTLS(t ClientTLS) { p.config.ClientTLS = t }

// SetServerTLS is for the connections to PostgreSQL that are opened from now on.
func (p *Proxy) SetServerTLS(t pool.ServerTLS) { p.pools.SetServerTLS(t) }

// encryptable reports whether TLS is spoken with the client. As in PostgreSQL it is
// not over Unix-domain sockets.
func (s *session) encryptable() bool {
	return s.proxy.config.ClientTLS.Config != nil && !s.onUnixSocket()
}

func (s *session) onUnixSocket() bool { return s.conn.RemoteAddr() == "unix" }

// encrypt begins the handshake; direct is without a request before it.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
func (s *session) encrypt(direct bool) {
	s.state = stateEncrypting
	offer := s.proxy.config.ClientTLS
	s.conn.StartTLS(reactor.TLSServer, offer.Config, func(state tls.ConnectionState) {
		s.state = stateStartup
		s.asked |= askedSSL | askedGSS
		s.channel = &channel{tls: pool.NewTLSChannel(state), endPoint: offer.EndPoint}
		if len(state.VerifiedChains) > 0 {
			s.channel.certificate = state.PeerCertificates[0]
		}
		if direct && state.NegotiatedProtocol != applicationProtocol {
			s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation,
				"received direct SSL connection request without ALPN protocol negotiation extension"))
			return
		}
		s.conn.ResumeRead()
	})
}

// checkEncryption refuses a client who is not encrypted and has to be, in the words
// of PostgreSQL for one that pg_hba.conf has only hostssl for.
func (s *session) checkEncryption(request startupRequest) *pgwire.Error {
	config := &s.proxy.config
	switch {
	case s.channel == nil && (config.AuthType == AuthCert || config.ClientTLS.Mode >= pool.SSLRequire && !s.onUnixSocket()):
		host := "[local]"
		if !s.onUnixSocket() {
			host = strings.Trim(hostOf(s.conn.RemoteAddr()), "[]")
		}
		return fatalf(pgwire.InvalidAuthorization, `no pg_hba.conf entry for host "%s", user "%s", database "%s", no encryption`,
			host, request.user, request.database)
	case s.channel != nil && s.channel.certificate == nil && config.ClientTLS.Mode >= pool.SSLVerifyCA:
		return fatalf(pgwire.InvalidAuthorization, "connection requires a valid client certificate")
	}
	return nil
}

// authenticateCertificate admits a client whose certificate is the user's.
// See https://www.postgresql.org/docs/current/auth-cert.html
func (s *session) authenticateCertificate(request startupRequest) {
	if name := auth.CommonName(s.channel.certificate); name != request.user {
		s.proxy.stats.ClientsRefused++
		s.answerError(fatalf(pgwire.InvalidAuthorization, `certificate authentication failed for user "%s"`, request.user))
		s.end(endAuthentication, `the certificate is that of "`+name+`"`)
		return
	}
	s.admit(request, nil)
}

// hostOf is a peer's address without its port.
func hostOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return address[:i]
	}
	return address
}
