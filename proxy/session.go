package proxy

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// sessionState is how far a session has come.
type sessionState uint8

const (
	stateStartup        sessionState = iota // awaits a startup packet
	stateEncrypting                         // awaits the end of the TLS handshake
	stateAuthenticating                     // awaits a proof
	stateLoggingIn                          // awaits a server that says what to tell the client
	stateReady                              // takes queries
	stateConsole                            // takes commands of the admin console
	stateEnded
)

// session is one client connection from accept to close. It consumes the client's
// bytes as far as it can act on them; what it cannot yet stays with the reactor.
type session struct {
	// Static after construction.
	proxy     *Proxy
	conn      reactor.Conn
	id        uint32 // also the process id in the client's cancel key
	startedAt time.Duration

	index int // in proxy.sessions

	newcomer *newcomer // until the client is known

	// Set by the startup packet.
	state       sessionState
	asked       encryptionAsked
	version     pgwire.ProtocolVersion
	channel     *channel        // nil if it is not encrypted
	auth        *authentication // while it is under way
	negotiation *negotiation    // of the version, if it has to wait
	cancelKey   []byte
	console     *console // in the place of the pool; nil but at the console
	pool        *pool.Pool
	login       *pool.Settings // as in the startup packet
	settings    *pool.Settings // as they are now

	// The server: held for a transaction; shared for a group that is under way; a
	// place on a shared one that was waited for; waited for; or none.
	server *pool.Server
	shared *pool.Server
	place  *pool.Server
	waiter pool.Waiter

	placeShared bool // whether place is a place on a shared server

	transaction transaction

	// The client's input.
	scannedBytes  int             // of the unconsumed input, known not to complete a group
	streamBytes   int             // to come of a message that is sent on, or dropped, in parts
	streamDropped bool            // whether it is dropped
	streamQuery   bool            // whether it is a query
	skipToSync    bool            // the group at hand has been answered with an error
	alone         bool            // it is not to share a server
	asks          bool            // every Bind of the lease at hand comes with a Describe of its portal
	discarding    bool            // a query under way may drop the prepared statements
	goodbye       bool            // the client has said Terminate behind input that has to wait
	refusal       *pgwire.Error   // the answer to the group at hand
	again         []byte          // a group to be run again, before the client's further input
	runs          int             // how often it has been run
	changes       *sessionChanges // nil: none
	partOf        uint64          // the group of which a part is held back, as counted by groupsAnswered
	partUntil     time.Duration   // how long

	statements statementNames

	// The client's output.
	repliesPaused bool   // the server is not read because the client does not read
	writtenBytes  uint64 // all replies
	takenBytes    uint64 // of them, what the client had taken when it was looked at last

	admission admission
	following *following // nil until it follows another for the first time

	timer          reactor.Timer
	activeAt       time.Duration // when the client last did its part
	groupsAnswered uint64
}

// maxInputBytes is how much input a session lets pile up while it cannot act on
// it; then the client is not read. Only a Parse may be longer.
const maxInputBytes = 64 << 10

// maxNewcomerBytes is maxInputBytes for a client that is not yet known: the longest
// message that it may send.
const maxNewcomerBytes = max(pgwire.MaxStartupBytes, pgwire.HeaderBytes+pgwire.MaxShortMessageBytes)

// OnData implements reactor.Handler.
func (s *session) OnData(data []byte) (consumed int) {
	s.activeAt = s.proxy.loop.Now()
	for {
		n := 0
		switch s.state {
		case stateStartup:
			n = s.startup(data[consumed:])
		case stateAuthenticating:
			n = s.authenticationMessage(data[consumed:])
		case stateEncrypting, stateLoggingIn:
		case stateReady:
			if len(s.again) == 0 {
				n = s.consume(data[consumed:])
			}
		case stateConsole:
			n = s.console.consume(data[consumed:])
		case stateEnded:
			return len(data)
		}
		if n == 0 {
			break
		}
		consumed += n
		s.scannedBytes = 0
	}
	s.goodbye = endsWithTerminate(data[consumed:])
	s.regulate(data[consumed:])
	return consumed
}

var terminate = []byte{pgwire.Terminate, 0, 0, 0, pgwire.HeaderBytes - 1}

// endsWithTerminate reports whether the last of these messages is a Terminate.
func endsWithTerminate(b []byte) bool {
	if !bytes.HasSuffix(b, terminate) {
		return false
	}
	for len(b) > len(terminate) {
		_, size, err := pgwire.PeekFrontend(b)
		if err != nil || size == 0 || size > len(b) {
			return false
		}
		b = b[size:]
	}
	return bytes.Equal(b, terminate)
}

// regulate stops reading from a client whose input cannot be used for now.
func (s *session) regulate(rest []byte) {
	if s.state == stateEnded {
		return
	}
	limit := maxInputBytes
	if s.newcomer != nil {
		limit = maxNewcomerBytes
	} else if messageType, size, err := pgwire.PeekFrontend(rest); err == nil && messageType == pgwire.Parse && size <= maxParseBytes {
		limit = max(limit, size)
	}
	if len(rest) >= limit {
		s.conn.PauseRead()
	} else {
		s.conn.ResumeRead()
	}
}

// consume acts on the beginning of the client's input and returns how much of it
// is done with; 0 if nothing can be done before something else happens.
func (s *session) consume(b []byte) (consumed int) {
	if s.streamBytes > 0 {
		return s.stream(b)
	}
	if len(b) == 0 || s.conn.BufferedBytes() > reactor.HighWaterBytes {
		return 0
	}
	messageType, size, err := pgwire.PeekFrontend(b)
	switch {
	case err != nil:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
		return 0
	case size == 0:
		return 0
	case messageType == pgwire.Password:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "invalid frontend message type %d", messageType))
		return 0
	case messageType == pgwire.Terminate:
		s.end(endTerminate, "")
		return 0
	case s.server == nil:
		return s.consumeIdle(b, messageType, size)
	}
	return s.relay(b, messageType, size)
}

// wake makes the session look at its input again, later in the batch.
func (s *session) wake() {
	s.scannedBytes = 0
	if len(s.again) > 0 {
		s.proxy.loop.Post(s.resume)
		return
	}
	s.conn.Redeliver()
}

// resume goes on with a group that is run again.
func (s *session) resume() {
	for s.state == stateReady && len(s.again) > 0 {
		n := s.consume(s.again)
		if n == 0 {
			return
		}
		s.again = s.again[:copy(s.again, s.again[n:])]
		s.scannedBytes = 0
	}
	s.conn.Redeliver()
}

// consumeIdle acts on a message that comes while the session holds no server.
func (s *session) consumeIdle(b []byte, messageType byte, size int) int {
	switch {
	case s.isAnswered():
		return s.consumeAnswered(b)
	case s.waiter.Waiting(), s.shared != nil:
		s.lookForTerminate(b)
		return 0
	case messageType == pgwire.CopyData, messageType == pgwire.CopyDone, messageType == pgwire.CopyFail,
		s.skipToSync && messageType != pgwire.Sync:
		return s.drop(b, size) // left over from a COPY or a group that failed
	case s.refusal != nil:
		return s.refuseGroup(b, messageType, size)
	case messageType == pgwire.Sync:
		if len(b) < size {
			return 0
		}
		s.skipToSync = false
		s.answerReady()
		return size
	case messageType == pgwire.Flush && size > pgwire.HeaderBytes:
		s.refusal = errInvalidFormat
		return s.refuseGroup(b, messageType, size)
	case messageType == pgwire.Flush:
		if len(b) < size {
			return 0
		}
		return size
	case s.proxy.draining && s.place == nil && len(s.again) == 0 && !s.hasFollowed() && s.transaction.status() == pgwire.TxIdle:
		s.fatal(endShutdown, errShutdown)
		return 0
	}
	groupBytes, ready, err := s.groupReady(b)
	switch {
	case err != nil:
		s.fatal(endProtocol, fatalf(pgwire.ProtocolViolation, "%v", err))
		return 0
	case !ready:
		s.holdPart()
		return 0
	}
	group := b[:groupBytes]
	if s.answerLocally(group) {
		s.giveUpPlace() // what was waited for is known by now
		return len(group)
	}
	if s.transaction.failed {
		s.giveUpPlace()
		s.refusal = s.aborted(b, messageType)
		return s.refuseGroup(b, messageType, size)
	}
	work, shareable := s.examine(group)
	switch server := s.takePlace(shareable); {
	case server != nil && server.Shared():
		s.share(server, group, work)
		return len(group)
	case server != nil:
		s.lease(server, group, work)
	case shareable:
		if server = s.askForPlace(group, work); server != nil {
			s.share(server, group, work)
			return len(group)
		}
	default:
		if server = s.pool.Acquire(&s.waiter, s.settings, s.announce(group, work)); server != nil {
			s.lease(server, group, work)
		}
	}
	switch {
	case s.refusal != nil:
		return s.refuseGroup(b, messageType, size)
	case s.server == nil:
		return 0
	}
	return s.relay(b, messageType, size)
}

// groupReady reports whether b begins with enough to be worth a server: a whole
// group, of groupBytes, or as much of one as is kept or as long as it is held back,
// and then groupBytes is 0. A client that dribbles holds no server.
func (s *session) groupReady(b []byte) (groupBytes int, ready bool, err error) {
	position := s.scannedBytes
	for {
		messageType, size, err := pgwire.PeekFrontend(b[position:])
		if err != nil {
			return 0, false, err
		}
		if size == 0 || len(b)-position < size {
			break
		}
		position += size
		switch messageType {
		case pgwire.Sync, pgwire.Query, pgwire.FunctionCall:
			return position, true, nil
		case pgwire.Flush:
			return 0, true, nil
		}
	}
	if len(b) < maxInputBytes {
		s.scannedBytes = position
		return 0, position > 0 && s.partDue(), nil
	}
	messageType, size, _ := pgwire.PeekFrontend(b)
	return 0, len(b) >= size || messageType != pgwire.Parse || size > maxParseBytes, nil
}

// comesInParts reports whether b begins with a part of a group that is held back. The
// server that the session still holds would otherwise be kept for the rest of it.
func (s *session) comesInParts(b []byte) bool {
	_, ready, err := s.groupReady(b)
	if ready || err != nil {
		return false
	}
	s.holdPart()
	return true
}

// holdPart notes that a part of a group has come. PostgreSQL counts statement_timeout
// from its first message on, so for a client that has set one the part is sent on
// while most of that time is left.
func (s *session) holdPart() {
	if s.scannedBytes == 0 || s.partOf == s.groupsAnswered+1 {
		return
	}
	if timeout := s.settings.StatementTimeout(); timeout > 0 {
		s.partOf, s.partUntil = s.groupsAnswered+1, s.proxy.loop.Now()+timeout/8
		s.proxy.loop.SetTimer(&s.timer, s.partUntil)
	}
}

// partDue reports whether the part of the group at hand has been held back for long.
func (s *session) partDue() bool {
	return s.partOf == s.groupsAnswered+1 && s.proxy.loop.Now() >= s.partUntil
}

// lookForTerminate ends a session that waits for a server when its client, behind
// the query, says that it is gone.
func (s *session) lookForTerminate(b []byte) {
	for {
		messageType, size, err := pgwire.PeekFrontend(b[s.scannedBytes:])
		switch {
		case messageType == pgwire.Terminate && size > 0:
			s.end(endTerminate, "")
			return
		case err != nil, size == 0, len(b)-s.scannedBytes < size:
			return
		}
		s.scannedBytes += size
	}
}

// refuseGroup answers the group that begins with this message with an error.
func (s *session) refuseGroup(b []byte, messageType byte, size int) int {
	s.answerError(s.refusal)
	s.refusal = nil
	s.transaction.fail()
	if messageType == pgwire.Query || messageType == pgwire.FunctionCall {
		s.answerReady()
	} else {
		s.skipToSync = true
	}
	return s.drop(b, size)
}

// drop consumes a message without effect.
func (s *session) drop(b []byte, size int) int {
	n := min(len(b), size)
	s.streamBytes, s.streamDropped = size-n, true
	return n
}

// stream consumes more of a message that is not at hand as a whole.
func (s *session) stream(b []byte) int {
	n := min(len(b), s.streamBytes)
	if s.streamDropped {
		s.streamBytes -= n
		return n
	}
	if n == 0 || s.server.Congested() {
		return 0
	}
	s.streamBytes -= n
	if s.streamQuery {
		s.scan(b[:n])
	}
	s.server.ForwardRest(b[:n])
	return n
}

// answerReady sends ReadyForQuery while the session holds no server.
func (s *session) answerReady() {
	s.groupsAnswered++
	s.conn.Write(pgwire.AppendReadyForQuery(s.proxy.scratch[:0], s.transaction.status()))
	if s.proxy.draining && s.transaction.status() == pgwire.TxIdle {
		s.fatal(endShutdown, errShutdown)
	}
}

// answerError sends an error.
func (s *session) answerError(e *pgwire.Error) {
	s.conn.Write(pgwire.AppendError(nil, e))
}

// fatal tells the client why the session ends, and ends it.
func (s *session) fatal(reason endReason, e *pgwire.Error) {
	if s.state == stateEnded {
		return
	}
	if s.server != nil && s.server.MidMessage() || s.shared != nil && s.shared.MidMessage() {
		s.conn.Abort() // an error in the middle of a message would be read as part of it
		s.end(reason, e.Message)
		return
	}
	told := *e
	told.Severity = pgwire.SeverityFatal
	s.answerError(&told)
	s.end(reason, e.Message)
}

// end closes the session and gives back what it holds.
func (s *session) end(reason endReason, cause string) {
	if s.state == stateEnded {
		return
	}
	s.state = stateEnded
	p := s.proxy
	s.settles()
	p.loop.StopTimer(&s.timer)
	if s.auth != nil {
		p.loop.StopTimer(&s.auth.timer)
	}
	if s.waiter.Waiting() || s.shared != nil || s.server != nil && !s.server.Quiet() {
		s.OnFailed()
	}
	if s.admission.login != nil {
		p.loop.StopTimer(s.admission.login)
	}
	if s.pool != nil {
		s.pool.Abandon(&s.waiter)
		s.pool.ClientCount--
		s.statements.releaseAll(s.pool.Registry())
	}
	if s.console != nil {
		s.console.end()
	}
	if server := s.server; server != nil {
		s.server = nil
		server.Orphan(reason != endTerminate)
	}
	if s.shared != nil {
		s.shared.Withdraw(s)
		s.shared = nil
	}
	s.giveUpPlace()
	s.conn.Close()
	p.logEnd(s, reason, cause)
	p.forget(s)
}

// drain ends the session if it is between transactions, for a proxy that stops.
func (s *session) drain() {
	switch {
	case s.waiter.Waiting(), s.shared != nil, s.place != nil, len(s.again) > 0, s.transaction.status() != pgwire.TxIdle:
	case s.server == nil, s.server.Quiet() && s.server.TxStatus() == pgwire.TxIdle:
		s.fatal(endShutdown, errShutdown)
	}
}

// OnDrain implements reactor.Handler: the client reads again.
func (s *session) OnDrain() {
	s.activeAt = s.proxy.loop.Now()
	if s.repliesPaused {
		s.repliesPaused = false
		if s.server != nil {
			s.server.ResumeReplies()
		}
		if s.shared != nil {
			s.shared.ResumeReplies()
		}
	}
	if s.console != nil {
		s.console.drained()
	}
	s.wake()
}

// OnClose implements reactor.Handler: the client has gone.
func (s *session) OnClose(err error) {
	cause := ""
	if err != nil && !errors.Is(err, io.EOF) {
		cause = err.Error()
	}
	reason := endGone
	if s.state == stateEncrypting {
		reason = endHandshake
	} else if s.goodbye { // as if it had been read: what is under way is completed
		reason = endTerminate
	}
	s.end(reason, cause)
}
