package pool

import (
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// Cancel asks PostgreSQL, on a connection of its own that counts against no limit,
// to stop what the server runs. Until that connection ends the request may still
// take effect, so the server is not given to anybody else before.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (s *Server) Cancel() {
	if s.cancelKey == nil {
		return
	}
	if s.cancelInFlight {
		s.cancelAgain = true
		return
	}
	if s.beginPending { // what comes behind a BEGIN that fails would be a transaction of its own
		s.cancelDeferred = true
		return
	}
	s.cancelInFlight, s.canceled = true, true
	s.pool.loop.Dial(s.pool.config.Upstream, s.pool.config.ServerConnectTimeout, func(conn reactor.Conn, err error) reactor.Handler {
		if err != nil {
			s.cancelEnded()
			return nil
		}
		request := &cancelRequest{server: s, conn: conn}
		request.timer.Fire = request.giveUp
		s.pool.loop.SetTimer(&request.timer, s.pool.now()+s.pool.config.ServerConnectTimeout)
		// Encrypted as the server's connection is: the key is a secret.
		encrypt := s.negotiation.state == negotiationEncrypted
		request.negotiation.begin(conn, encrypt, false, s.pool.config.TLS, request.send)
		return request
	})
}

func (s *Server) cancelEnded() {
	s.cancelInFlight = false
	again := s.cancelAgain
	s.cancelAgain = false
	switch {
	case s.state == stateClosed:
	case s.cancelRepeats > 0 && s.groups.count > 0:
		delay := min(maxCancelDelay, minCancelDelay<<min(s.cancelRepeats-1, 10))
		s.pool.loop.SetTimer(&s.cancelTimer, s.pool.now()+delay)
	case again && s.groups.count > 0:
		s.Cancel()
	case s.state == stateCanceling:
		s.recycle()
	}
}

// Bounds of the wait before another cancel request for a client that is gone, which
// doubles. PostgreSQL ignores one that overtakes the query it is for, or that comes
// between two queries.
const (
	minCancelDelay = 50 * time.Millisecond
	maxCancelDelay = time.Second
)

func (s *Server) repeatCancel() {
	s.cancelRepeats++
	s.Cancel()
}

// cancelRequest handles a connection that carries a cancel request: PostgreSQL
// closes it when the signal has been sent.
type cancelRequest struct {
	server      *Server
	conn        reactor.Conn
	negotiation negotiation
	timer       reactor.Timer
}

func (c *cancelRequest) send(failure *pgwire.Error) {
	s := c.server
	if failure != nil {
		s.pool.loop.StopTimer(&c.timer)
		c.giveUp()
		return
	}
	c.conn.Write(pgwire.AppendCancelRequest(nil, s.cancelPID, s.cancelKey))
}

// OnData implements reactor.Handler.
func (c *cancelRequest) OnData(data []byte) int {
	if !c.negotiation.over() {
		return c.negotiation.answer(data)
	}
	return len(data)
}

// OnDrain implements reactor.Handler.
func (c *cancelRequest) OnDrain() {}

// OnClose implements reactor.Handler.
func (c *cancelRequest) OnClose(error) {
	c.server.pool.loop.StopTimer(&c.timer)
	c.server.cancelEnded()
}

func (c *cancelRequest) giveUp() {
	c.conn.Abort()
	c.server.cancelEnded()
}
