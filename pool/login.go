package pool

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// connect opens a connection to PostgreSQL and logs in. The outcome is
// pool.opened or pool.openFailed.
func (p *Pool) connect() {
	p.pools.lastServer++
	s := &Server{
		pool:      p,
		id:        p.pools.lastServer,
		createdAt: p.now(),
		index:     len(p.servers),
		prepared:  newPreparedSet(p.config.MaxPreparedStatements),
	}
	s.timer.Fire = s.timedOut
	s.cancelTimer.Fire = s.repeatCancel
	p.servers = append(p.servers, s)
	p.serverCount[stateOpening]++
	p.pools.serverCount++
	p.stats.ServerConnects++
	s.planEncryption()
	s.dial()
}

// dialed continues with the encryption.
func (s *Server) dialed(conn reactor.Conn, err error) reactor.Handler {
	if s.state == stateClosed { // the pool was closed meanwhile
		return nil
	}
	if err != nil {
		s.pool.openFailed(s, ReasonConnectFailed, &pgwire.Error{
			Severity: pgwire.SeverityFatal,
			SQLState: pgwire.CannotConnect,
			Message:  fmt.Sprintf("cannot connect to server %s: %v", s.pool.config.Upstream, err),
		})
		return nil
	}
	s.conn = conn
	s.pool.loop.SetTimer(&s.timer, s.createdAt+s.pool.config.ServerConnectTimeout)
	s.negotiation.begin(conn, s.encrypt, s.otherwise, s.pool.config.TLS, s.negotiated)
	return s
}

// negotiated continues with the startup message.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
func (s *Server) negotiated(failure *pgwire.Error) {
	if failure != nil {
		s.loginFailed(failure)
		return
	}
	s.conn.Write(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", s.pool.User, "database", s.pool.Database))
}

// logIn reads the messages up to the first ReadyForQuery.
func (s *Server) logIn(data []byte) (consumed int) {
	if !s.negotiation.over() {
		return s.negotiation.answer(data)
	}
	for s.state == stateOpening {
		messageType, size, err := pgwire.PeekBackend(data[consumed:])
		if err != nil {
			s.loginFailed(loginError(pgwire.ProtocolViolation, err.Error()))
			return len(data)
		}
		if size > maxWholeBytes {
			s.loginFailed(loginError(pgwire.ProtocolViolation, "server sent an oversized message during login"))
			return len(data)
		}
		if size == 0 || len(data)-consumed < size {
			return consumed
		}
		body := data[consumed+pgwire.HeaderBytes : consumed+size]
		consumed += size
		if failure := s.loginMessage(messageType, body); failure != nil {
			s.loginFailed(failure)
			return len(data)
		}
	}
	return consumed
}

func (s *Server) loginMessage(messageType byte, body []byte) *pgwire.Error {
	switch messageType {
	case pgwire.Authentication:
		return s.authenticate(body)
	case pgwire.ParameterStatus:
		name, rest, ok := pgwire.CString(body)
		value, _, ok2 := pgwire.CString(rest)
		if !ok || !ok2 {
			return loginError(pgwire.ProtocolViolation, "malformed ParameterStatus from server")
		}
		s.parameters.set(string(name), string(value))
	case pgwire.BackendKeyData:
		if len(body) < 8 {
			return loginError(pgwire.ProtocolViolation, "malformed BackendKeyData from server")
		}
		s.cancelPID = binary.BigEndian.Uint32(body)
		s.cancelKey = append([]byte(nil), body[4:]...)
	case pgwire.ErrorResponse:
		s.refused = true
		return pgwire.ParseError(body)
	case pgwire.NoticeResponse, pgwire.NegotiateProtocolVersion:
	case pgwire.ReadyForQuery:
		s.txStatus = pgwire.TxIdle
		s.pool.loop.StopTimer(&s.timer)
		s.pool.parameters = slices.Clone(s.parameters)
		s.pool.pools.learnProtocol(s.parameters.value("server_version"))
		s.pool.opened(s)
	default:
		return loginError(pgwire.ProtocolViolation, fmt.Sprintf("unexpected message type %q from server during login", messageType))
	}
	return nil
}

func loginError(code pgwire.SQLState, message string) *pgwire.Error {
	return &pgwire.Error{Severity: pgwire.SeverityFatal, SQLState: code, Message: message}
}

func (s *Server) loginFailed(e *pgwire.Error) {
	s.conn.Abort()
	if !s.tryOtherwise(e) {
		s.pool.openFailed(s, ReasonLoginFailed, s.bothFailures(e))
	}
}

// timedOut ends a login or a clean-up that takes too long.
func (s *Server) timedOut() {
	if s.state == stateOpening {
		s.loginFailed(loginError(pgwire.CannotConnect, fmt.Sprintf(
			"server %s did not complete the login within %s", s.pool.config.Upstream, s.pool.config.ServerConnectTimeout)))
		return
	}
	s.close(ReasonStuck)
}
