package proxy

import (
	"errors"
	"io"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// authentication is the exchange with a client that has not proved yet who it is.
type authentication struct {
	// Static after construction.
	request startupRequest

	// What there is to prove; set before the client is asked.
	method     AuthType
	known      bool          // there is such a user
	secret     auth.Secret   // none if there is no such user
	verifier   auth.Verifier // a fake one if the secret has none
	salt       [4]byte       // of md5
	remembered bool          // the secret was not asked for in this login: it may have changed

	scram *auth.SCRAMServer // nil before the client's first message
	proof string            // of the other methods: the password or its md5 response
	busy  bool              // the client's messages have to wait
	timer reactor.Timer     // until the verdict on a proof
}

// authenticate asks the client for a proof. One who does not exist is asked for the
// same, checked in the same time and refused in the same words.
func (s *session) authenticate(request startupRequest) {
	p := s.proxy
	a := &authentication{request: request, method: p.config.AuthType}
	s.state, s.auth = stateAuthenticating, a
	if p.strangers.secret == nil {
		secret := make([]byte, 32)
		if !s.random(secret) {
			return
		}
		p.strangers.secret = secret
	}
	if s.turnedAway() {
		return
	}
	if p.lookup == nil {
		s.challenge(foundSecret{})
		return
	}
	// Those of the configuration are asked for, too: else time would tell who they are.
	s.wait()
	p.lookup.ask(request.user, lookupLifetime, func(found foundSecret) {
		if s.state == stateAuthenticating {
			a.busy = false
			s.challenge(found)
			s.conn.Redeliver()
		}
	})
}

// wait leaves what the client says unread until something has been found out.
func (s *session) wait() {
	s.auth.busy = true
	s.letWait()
}

// challenge asks the client for a proof of the secret.
func (s *session) challenge(found foundSecret) {
	a := s.auth
	s.expectSecret(found)
	switch {
	case !a.known && found.failed:
		s.proxy.stats.ClientsRefused++
		s.answerError(fatalf(pgwire.CannotConnectNow, "the database system is not accepting connections"))
		s.end(endRefused, "the auth query failed")
		return
	case a.method == AuthMD5 && a.secret.MD5(a.request.user) == "" && (a.secret.Verifier() != nil || s.proxy.strangers.onlySCRAM()):
		a.method = AuthSCRAM // as in PgBouncer
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

// expectSecret decides what the client has to prove: what the configuration says of the
// user goes before what was found.
func (s *session) expectSecret(found foundSecret) {
	a, user := s.auth, s.auth.request.user
	if a.secret, a.known = s.proxy.config.Secrets[user]; !a.known {
		a.secret, a.known = found.secret, found.exists
	}
	a.remembered = found.remembered
	if verifier := a.secret.Verifier(); verifier != nil {
		a.verifier = *verifier
	} else {
		a.verifier = s.proxy.strangers.verifier(user)
	}
}

// ask tells the client what to prove, or the next step of it.
func (s *session) ask(method pgwire.AuthenticationMethod, data string) {
	s.conn.Write(pgwire.AppendAuthentication(nil, method, data))
	s.letWait()
	s.awaitClient()
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
	a.proof = string(text)
	s.comparePassword()
}

// comparePassword compares the answer with the secret.
func (s *session) comparePassword() {
	a, user := s.auth, s.auth.request.user
	hash := a.secret.MD5(user)
	if a.method == AuthMD5 {
		s.decide(hash != "" && auth.Equal(a.proof, auth.MD5Response(hash, a.salt)), "", nil)
		return
	}
	// Whatever is known of the password, the check costs the same.
	s.wait()
	password, verifier := a.proof, a.verifier
	var keys auth.Keys
	var right bool
	s.proxy.loop.Work(func() { keys, right = verifier.CheckPassword(password) }, func() {
		if s.state != stateAuthenticating {
			return
		}
		if a.secret.Verifier() == nil {
			right = hash != "" && auth.Equal(auth.MD5Hash(user, password), hash)
		}
		s.decide(right && password != "", "", &keys)
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
	default:
		s.decide(ok && s.auth.secret.Verifier() != nil, reply, &keys)
	}
}

// decide acts on a proof. reply is the last word of SCRAM to a client whose proof is
// right, keys are those with which it has proved itself, if it did so by them.
//
// A wrong proof is refused at once, or, if many came from the same source, later. From
// another machine a right one then waits as long, so that nobody can guess faster by
// giving up what is not accepted at once. From this machine it does not: there clients
// share a source, and one that has the wrong password must not keep out the others.
func (s *session) decide(right bool, reply string, keys *auth.Keys) {
	a, p := s.auth, s.proxy
	verdict := func() {
		if reply != "" {
			s.ask(pgwire.AuthenticationSASLFinal, reply)
		}
		s.admit(a.request, keys)
	}
	if right && s.conn.Local() {
		verdict()
		return
	}
	if !right && a.remembered {
		s.lookAgain()
		return
	}
	source, now := auth.Source(s.conn.RemoteAddr()), p.loop.Now()
	delay, ok := p.throttle.Delay(source, now)
	s.wait()
	if !right {
		verdict = s.refuseProof
		if ok {
			p.throttle.Failed(source, now)
		}
		s.awaitClient() // it may be the one to make room
	}
	switch {
	case !ok:
		s.turnAway()
	case delay == 0:
		verdict()
	default:
		a.timer.Fire = verdict
		p.loop.SetTimer(&a.timer, now+delay)
	}
}

// lookAgain asks for the secret once more: the client may know a newer one than the
// proxy does. SCRAM's proof is of the old one, so there the next login profits.
func (s *session) lookAgain() {
	a := s.auth
	s.wait()
	s.proxy.lookup.ask(a.request.user, lookupRest, func(found foundSecret) {
		if s.state != stateAuthenticating {
			return
		}
		before := a.secret
		if !found.failed {
			s.expectSecret(found)
		}
		a.remembered = false
		if a.method != AuthSCRAM && !a.secret.Same(before) {
			s.comparePassword()
			return
		}
		s.decide(false, "", nil)
	})
}

// turnedAway reports whether the client is not heard at all: so many answers to failed
// logins wait for its machine that one more would have to wait too long. Clients of this
// machine are always heard.
func (s *session) turnedAway() bool {
	if s.conn.Local() {
		return false
	}
	_, ok := s.proxy.throttle.Delay(auth.Source(s.conn.RemoteAddr()), s.proxy.loop.Now())
	if !ok {
		s.turnAway()
	}
	return !ok
}

// turnAway ends a login without saying what it came to.
func (s *session) turnAway() {
	s.proxy.stats.ClientsRefused++
	s.answerError(fatalf(pgwire.TooManyConnections, "too many failed logins from this address: try again later"))
	s.end(endAuthentication, "too many failed logins from the address")
}

// refuseProof refuses the client. Only the log tells why.
func (s *session) refuseProof() {
	a := s.auth
	s.proxy.stats.ClientsRefused++
	cause := "wrong password"
	switch {
	case !a.known:
		cause = "no such user"
	case a.secret.Empty():
		cause = "the user has no password, or it has expired"
	case a.secret.Verifier() == nil && a.method == AuthSCRAM:
		cause = "no more than an md5 hash of the password is known, which does not do for scram-sha-256"
	}
	s.answerError(fatalf(pgwire.InvalidPassword, "%s", `password authentication failed for user "`+a.request.user+`"`))
	s.end(endAuthentication, cause)
}
