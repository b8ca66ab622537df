package pool

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// credential is with what the servers of a user's pools log in.
type credential struct {
	user       string
	secret     auth.Secret
	configured bool        // else it is what clients have proved to know
	derived    *derivation // for the last challenge; nil before the first
}

// derivation is the keys for one SCRAM challenge, which cost milliseconds: every
// server of the user gets the same challenge, so they are made once, off the loop.
type derivation struct {
	salt       string
	iterations int
	ready      bool
	keys       auth.Keys
	waiting    []func(auth.Keys)
}

// credential returns that of a user.
func (p *Pools) credential(user string) *credential {
	c, ok := p.credentials[user]
	if !ok {
		c = &credential{user: user}
		if c.secret, c.configured = p.config.Secrets[user]; c.configured { // others come and go
			p.credentials[user] = c
		}
	}
	return c
}

// SetSecrets replaces Config.Secrets. Servers that are connected stay.
func (p *Pools) SetSecrets(secrets map[string]auth.Secret) {
	p.config.Secrets = secrets
	p.credentials = map[string]*credential{}
	for _, pool := range p.list {
		old, c := pool.credential, p.credential(pool.User)
		if !c.configured && !old.configured {
			continue // what clients have proved to know stays
		}
		if c.secret.Same(old.secret) {
			c.derived = old.derived
		}
		pool.credential = c
	}
}

// Learn takes over what a client has proved to know of the password of the pool's user:
// the secret, if none is configured, and the keys, nil if it has not shown any. They are
// all there is to log in with if the proxy itself knows no more of the password than a
// verifier.
func (p *Pool) Learn(secret auth.Secret, keys *auth.Keys) {
	c := p.credential
	if !c.configured && !secret.Empty() && !c.secret.Same(secret) {
		c.secret, c.derived = secret, nil
	}
	if verifier := c.secret.Verifier(); keys != nil && verifier != nil && c.secret.Password() == "" {
		c.derived = &derivation{salt: string(verifier.Salt), iterations: verifier.Iterations, ready: true, keys: *keys}
	}
}

// withKeys calls use with the keys for a challenge, now or when they have been made.
func (p *Pool) withKeys(salt []byte, iterations int, use func(auth.Keys)) *pgwire.Error {
	c := p.credential
	d := c.derived
	same := d != nil && d.salt == string(salt) && d.iterations == iterations
	password := c.secret.Password()
	switch {
	case same && d.ready:
		use(d.keys)
		return nil
	case same:
		d.waiting = append(d.waiting, use)
		return nil
	case password == "":
		return loginError(pgwire.InvalidAuthorization, fmt.Sprintf("the SCRAM verifier of user %q is not that of the server: "+
			"expected the same salt and iteration count", c.user))
	}
	d = &derivation{salt: string(salt), iterations: iterations, waiting: []func(auth.Keys){use}}
	c.derived = d
	var keys auth.Keys
	p.loop.Work(func() { keys = auth.DeriveKeys(password, []byte(d.salt), iterations) }, func() {
		d.ready, d.keys = true, keys
		for _, use := range d.waiting {
			use(keys)
		}
		d.waiting = nil
	})
	return nil
}

// authenticate acts on an Authentication message.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
func (s *Server) authenticate(body []byte) *pgwire.Error {
	if len(body) < 4 {
		return loginError(pgwire.ProtocolViolation, "malformed authentication request from server")
	}
	method, data := pgwire.AuthenticationMethod(binary.BigEndian.Uint32(body)), body[4:]
	c := s.pool.credential
	if failure := s.checkBinding(method); failure != nil {
		return failure
	}
	inExchange := method == pgwire.AuthenticationSASLContinue || method == pgwire.AuthenticationSASLFinal
	switch {
	case s.scram != nil && !inExchange && (method != pgwire.AuthenticationOK || !s.scram.Done()), s.scram == nil && inExchange:
		return loginError(pgwire.ProtocolViolation, "authentication request out of turn from server")
	case method == pgwire.AuthenticationOK:
		s.scram = nil
	case method == pgwire.AuthenticationCleartext && c.secret.Password() != "":
		s.conn.Write(pgwire.AppendPassword(nil, c.secret.Password()))
	case method == pgwire.AuthenticationMD5 && c.secret.MD5(c.user) != "":
		if len(data) != 4 {
			return loginError(pgwire.ProtocolViolation, "malformed authentication request from server")
		}
		s.conn.Write(pgwire.AppendPassword(nil, auth.MD5Response(c.secret.MD5(c.user), [4]byte(data))))
	case method == pgwire.AuthenticationSASL && (c.secret.Password() != "" || c.derived != nil):
		return s.beginSCRAM(data)
	case method == pgwire.AuthenticationSASLContinue:
		return s.proveSCRAM(data)
	case method == pgwire.AuthenticationSASLFinal:
		if err := s.scram.Verify(data); err != nil {
			return loginError(pgwire.InvalidAuthorization, err.Error())
		}
	default:
		return loginError(pgwire.InvalidAuthorization, fmt.Sprintf(
			"server asks for authentication method %s for user %q: expected %s", method, c.user, c.abilities()))
	}
	return nil
}

// checkBinding refuses to prove who we are by anything but SCRAM where that has to be
// bound to the channel.
func (s *Server) checkBinding(method pgwire.AuthenticationMethod) *pgwire.Error {
	if s.negotiation.tls.ChannelBinding != BindingRequire || s.scram != nil || method == pgwire.AuthenticationSASL {
		return nil
	}
	return loginError(pgwire.InvalidAuthorization, fmt.Sprintf(
		"channel binding is required, but server asks for authentication method %s: expected %s", method, auth.MechanismPlus))
}

// abilities is what can be answered, for an error.
func (c *credential) abilities() string {
	switch {
	case c.secret.Password() != "":
		return "scram-sha-256, md5, password or trust"
	case c.secret.MD5(c.user) != "":
		return "md5 or trust, because no more than an md5 hash of the password is known"
	case c.derived != nil:
		return "scram-sha-256 or trust, because no more than a SCRAM verifier of the password is known"
	case c.secret.Verifier() != nil:
		return "trust, because no more than a SCRAM verifier of the password is known and no client has proved to know it by SCRAM"
	}
	return "trust, because no password is known for that user"
}

func (s *Server) beginSCRAM(mechanisms []byte) *pgwire.Error {
	channel := auth.Channel{EndPoint: s.negotiation.endPoint}
	mechanism, offered := auth.ChooseMechanism(mechanisms, channel.EndPoint != nil)
	channel.Bound = mechanism == auth.MechanismPlus
	switch {
	case !channel.Bound && s.negotiation.tls.ChannelBinding == BindingRequire:
		return loginError(pgwire.InvalidAuthorization, fmt.Sprintf(
			"channel binding is required, but not possible: server offers SASL mechanisms %.100q, encrypted: %t", offered, s.encrypt))
	case mechanism == "":
		return loginError(pgwire.InvalidAuthorization, fmt.Sprintf(
			"server offers SASL mechanisms %.100q: expected %s", offered, auth.Mechanism))
	}
	var random [auth.NonceBytes]byte
	if _, err := io.ReadFull(s.pool.config.Entropy, random[:]); err != nil {
		return loginError(pgwire.CannotConnect, fmt.Sprintf("no random numbers for a nonce: %v", err))
	}
	s.scram = auth.NewSCRAMClient(channel, random)
	s.conn.Write(pgwire.AppendSASLInitialResponse(nil, mechanism, s.scram.First()))
	return nil
}

func (s *Server) proveSCRAM(challenge []byte) *pgwire.Error {
	salt, iterations, err := s.scram.Challenge(challenge)
	if err != nil {
		return loginError(pgwire.InvalidAuthorization, err.Error())
	}
	conn, scram := s.conn, s.scram // there may be others by then
	return s.pool.withKeys(salt, iterations, func(keys auth.Keys) {
		conn.Write(pgwire.AppendSASLResponse(nil, scram.Final(keys))) // which does nothing if it has ended meanwhile
	})
}
