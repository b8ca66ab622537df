package proxy

import (
	"errors"
	"io"
	"strings"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// authentication is the exchange with a client that has not proved yet who it is.
type authentication struct {
	// Static after construction.
	request  startupRequest
	method   AuthType
	secret   auth.Secret   // none if there is no such user
	verifier auth.Verifier // a fake one if the secret has none
	salt     [4]byte       // of md5

	scram *auth.SCRAMServer // nil before the client's first message
	busy  bool              // the client's messages have to wait
	timer reactor.Timer     // until the answer to a failure
}

// authenticate asks the client for a proof. One who does not exist is asked for the
// same, checked in the same time and refused in the same words.
func (s *session) authenticate(request startupRequest) {
	p := s.proxy
	a := &authentication{request: request, method: p.config.AuthType, secret: p.config.Secrets[request.user]}
	if a.method == AuthMD5 && a.secret.MD5(request.user) == "" && a.secret.Verifier() != nil {
		a.method = AuthSCRAM // as in PgBouncer
	}
	s.state, s.auth = stateAuthenticating, a
	if p.fakeSecret == nil {
		secret := make([]byte, 32)
		if !s.random(secret) {
			return
		}
		p.fakeSecret = secret
	}
	a.verifier = auth.FakeVerifier(request.user, p.fakeSecret, p.fakeIterations)
	if verifier := a.secret.Verifier(); verifier != nil {
		a.verifier = *verifier
	}
	switch a.method {
	case AuthPassword:
		s.ask(pgwire.AuthenticationCleartext, "")
	case AuthMD5:
		if s.random(a.salt[:]) {
			s.ask(pgwire.AuthenticationMD5, string(a.salt[:]))
		}
	default:
		mechanisms := auth.Mechanism + "\x00\x00"
		if s.endPoint() != nil {
			mechanisms = auth.MechanismPlus + "\x00" + mechanisms
		}
		s.ask(pgwire.AuthenticationSASL, mechanisms)
	}
}

func (s *session) ask(method pgwire.AuthenticationMethod, data string) {
	s.conn.Write(pgwire.AppendAuthentication(nil, method, data))
}

// random fills b, or ends the session.
func (s *session) random(b []byte) bool {
	_, err := io.ReadFull(s.proxy.config.Entropy, b)
	if err != nil {
		s.fatal(endRefused, fatalf(pgwire.CannotConnectNow, "no random numbers: %v", err))
	}
	return err == nil
}

// authenticationMessage consumes a message of a client that has not proved yet who
// it is. Nothing but a proof is accepted.
func (s *session) authenticationMessage(b []byte) (consumed int) {
	if s.auth.busy || len(b) == 0 {
		return 0
	}
	messageType, size, err := pgwire.PeekFrontend(b)
	switch {
	case err != nil:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
		return 0
	case messageType != pgwire.Password:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "expected password response, got message type %d", messageType))
		return 0
	case size == 0, len(b) < size:
		return 0
	}
	body := b[pgwire.HeaderBytes:size]
	switch {
	case s.auth.method != AuthSCRAM:
		s.checkPassword(body)
	case s.auth.scram == nil:
		s.beginSCRAM(body)
	default:
		s.endSCRAM(body)
	}
	return size
}

// checkPassword reads the answer to a question for a password or its md5 response.
func (s *session) checkPassword(body []byte) {
	a := s.auth
	text, rest, ok := pgwire.CString(body)
	if !ok || len(rest) > 0 {
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "invalid password packet size"))
		return
	}
	password, user := string(text), a.request.user
	hash := a.secret.MD5(user)
	if a.method == AuthMD5 {
		if auth.Equal(password, auth.MD5Response(hash, a.salt)) && hash != "" {
			s.admit(a.request, nil)
			return
		}
		s.authenticationFailed()
		return
	}
	// Whatever is known of the password, the check costs the same.
	a.busy = true
	verifier := a.verifier
	var keys auth.Keys
	var right bool
	s.proxy.loop.Work(func() { keys, right = verifier.CheckPassword(password) }, func() {
		if s.state != stateAuthenticating {
			return
		}
		a.busy = false
		if a.secret.Verifier() == nil {
			right = hash != "" && auth.Equal(auth.MD5Hash(user, password), hash)
		}
		if right && password != "" {
			s.admit(a.request, &keys)
			return
		}
		s.authenticationFailed()
	})
}

// endPoint is what an exchange of SCRAM can be bound to, nil if there is nothing.
func (s *session) endPoint() []byte {
	if s.channel == nil {
		return nil
	}
	return s.channel.endPoint
}

func (s *session) beginSCRAM(body []byte) {
	mechanism, data, err := pgwire.ParseSASLInitialResponse(body)
	channel := auth.Channel{EndPoint: s.endPoint(), Bound: mechanism == auth.MechanismPlus}
	if err == nil && mechanism != auth.Mechanism && (!channel.Bound || channel.EndPoint == nil) {
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "client selected an invalid SASL authentication mechanism"))
		return
	}
	var random [auth.NonceBytes]byte
	if err == nil && !s.random(random[:]) {
		return
	}
	scram := auth.NewSCRAMServer(s.auth.verifier, channel, random)
	challenge := ""
	if err == nil {
		challenge, err = scram.First(data)
	}
	if err != nil {
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
		return
	}
	s.auth.scram = scram
	s.ask(pgwire.AuthenticationSASLContinue, challenge)
}

func (s *session) endSCRAM(body []byte) {
	reply, keys, ok, err := s.auth.scram.Final(body)
	switch {
	case errors.Is(err, auth.ErrChannelBinding):
		s.refuseLogin(fatalf(pgwire.InvalidAuthorization, "%v", err))
	case err != nil:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
	case ok && s.auth.secret.Verifier() != nil:
		s.ask(pgwire.AuthenticationSASLFinal, reply)
		s.admit(s.auth.request, &keys)
	default:
		s.authenticationFailed()
	}
}

// authenticationFailed refuses the client, at once or, if its address has failed
// often, later. Only the log tells why.
func (s *session) authenticationFailed() {
	a, p := s.auth, s.proxy
	p.stats.ClientsRefused++
	delay := p.throttle.Failed(hostOf(s.conn.RemoteAddr()), p.loop.Now())
	if delay == 0 {
		s.refuseProof()
		return
	}
	a.busy = true
	a.timer.Fire = s.refuseProof
	p.loop.SetTimer(&a.timer, p.loop.Now()+delay)
}

func (s *session) refuseProof() {
	a := s.auth
	_, known := s.proxy.config.Secrets[a.request.user]
	cause := "wrong password"
	switch {
	case !known:
		cause = "no such user"
	case a.secret.Verifier() == nil && a.secret.MD5(a.request.user) == "":
		cause = "the user has no password"
	case a.secret.Verifier() == nil && a.method == AuthSCRAM:
		cause = "no more than an md5 hash of the password is known, which does not do for scram-sha-256"
	}
	s.answerError(fatalf(pgwire.InvalidPassword, "%s", `password authentication failed for user "`+a.request.user+`"`))
	s.end(endAuthentication, cause)
}

// hostOf is a peer's address without its port.
func hostOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return address[:i]
	}
	return address
}
