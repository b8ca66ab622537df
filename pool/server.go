package pool

import (
	"time"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// state is what a server is doing. Only setState changes it, so that the pool's
// counts agree.
type state uint8

const (
	stateOpening   state = iota // connecting or logging in
	stateIdle                   // free
	stateLeased                 // a client's
	stateShared                 // a lane: answers groups of many clients
	stateResetting              // being cleaned after a client
	stateCanceling              // free, but a cancel request may still reach it
	stateClosed
	stateCount
)

// Server is one connection to PostgreSQL. It relays replies to the client that
// holds it and knows, from its expected-reply queue, what is still to come.
// It is used on the loop only.
type Server struct {
	// Static after construction.
	pool      *Pool
	id        uint64
	createdAt time.Duration

	// Set when the login ends.
	conn      reactor.Conn
	cancelPID uint32
	cancelKey []byte

	// The login.
	negotiation  negotiation
	encrypt      bool              // this attempt begins with TLS
	otherwise    bool              // another attempt may follow, that differs in it
	firstFailure *pgwire.Error     // of the attempt before
	refused      bool              // the server has said why
	scram        *auth.SCRAMClient // under way

	state state
	index int // in pool.servers

	// The lease.
	client    Client
	waiter    *Waiter // its
	ticket    *ticket // its, at the gate
	served    bool    // the client has sent a group
	lease     uint64  // grows with every use between which no portal survives
	leasedAt  time.Duration
	idleSince time.Duration

	// The time as a lane.
	sharedFor *Settings     // of the clients
	laneIndex int           // in pool.lanes
	work      time.Duration // that the groups under way are expected to take
	stopped   bool          // is given no more groups
	reserved  int           // clients that were given a place and have not claimed it

	// The batch sent last, and the one under way.
	batchBytes int           // how many bytes are buffered if nothing of it has been sent
	batchWork  time.Duration // that it is expected to make
	batchCount int           // how many groups it has
	answering  int           // which of the groups under way is being answered

	// What was asked and what came of it.
	replies       replyQueue
	groups        groupQueue
	partial       bool            // the end of the last group has not been sent
	fresh         bool            // nothing of it has been sent
	substantial   bool            // the group at the head has begun to do something
	held          []byte          // its replies before that: it may yet be run again
	eager         bool            // a Flush was sent: replies of our own are not held back
	skipping      bool            // an error came for a group whose Sync was not sent yet
	headHasError  bool            // the group at the head has had its ErrorResponse
	unsentBytes   int             // to come from the client of a message that was sent in part
	unsentType    byte            // its type
	throttled     bool            // the client was told to wait until replies are fewer
	txStatus      pgwire.TxStatus // as of the last ReadyForQuery
	beginning     bool            // a group sent since then may begin a transaction
	streaming     int             // bytes to come of a message that is passed on in parts
	streamForward bool            // whether those go to the client
	streamVerdict verdict         // what follows when they have

	// COPY FROM STDIN.
	copyIn        bool // the server awaits CopyData, CopyDone or CopyFail
	syncsIgnored  bool // Syncs were sent ahead of it, which PostgreSQL ignores
	uncertain     bool // whether it did is not certain
	probing       bool // a query is under way that tells
	probeAnswered bool

	// Left by receive for act, or by an error for the end of its group.
	protocolFailure string
	injectedError   *pgwire.Error
	parseFailed     bool
	fatal           *pgwire.Error // the server's last words

	// What the session on the server looks like.
	prepared         preparedSet
	description      []byte        // of the statement at the head, as far as it has come
	parameters       parameterList // as reported last
	settings         *Settings
	previousSettings *Settings     // in case the switch to settings fails
	switching        []Setting     // that it is given for the first time: it shows them in its answer
	unconfirmed      int           // replies to come that tell which statements it has
	aliases          []string      // that the client's SQL refers to, in the group at hand
	alreadyThere     *Statement    // is prepared, though a Close of it was sent
	describing       int           // replies to come that tell what statements return
	describeFlushed  bool          // they have been asked for without delay
	discarded        bool          // the group at the head has ended with DISCARD ALL
	redefined        bool          // the transaction at hand may have changed the schema
	defining         bool          // a transaction under way may define functions
	privateMeaning   string        // what texts mean here, if that is not what the settings say
	stay             uint64        // counts the times that it was lent
	inspections      uint64        // counts those that it was sent
	temporarySince   uint64        // which of them has found the temporary objects
	changedBehind    bool          // something sent behind the last inspection may have changed that, or the next
	readingChange    ReadingChange // whether texts are read as the settings say
	readingChanged   bool          // the transaction at hand may have changed it

	// The state of the session that the settings do not tell.
	dirty          bool     // the client may do what it likes: nothing is tracked
	pins           StateSet // what keeps the client on the server
	suspected      StateSet // what may have changed since the last inspection
	suspectedNames []string // settings, likewise
	judgedBy       uint64   // the revision of the hazards at the first call of a function since
	resets         bool     // a group under way may reset settings
	unverified     bool     // a group that may have changed something has been answered
	inspection     inspection
	numbers        numbers // of sequences

	// Cancel requests.
	cancelInFlight bool
	beginPending   bool          // a BEGIN of the pool's own is under way
	cancelDeferred bool          // until it is done
	cancelRepeats  int           // for a client that is gone: how often; 0 if not wanted
	cancelTimer    reactor.Timer // until the next
	canceled       bool          // a request has been sent since it became a lane
	cancelFor      Client        // whose group on a shared server it is for
	cancelAgain    bool

	timer reactor.Timer // login deadline; deadline of a reset
}

func (s *Server) setState(next state) {
	s.pool.serverCount[s.state]--
	s.state = next
	s.pool.serverCount[next]++
}

// lend makes the server the client's.
func (s *Server) lend(t *ticket, now time.Duration) {
	s.assertClean()
	s.setState(stateLeased)
	s.client, s.waiter, s.ticket = t.waiter.Client, t.waiter, t
	s.served = false
	s.stay++
	s.dirty = s.pool.config.Mode == ModeSession
	s.numbers.lend(s.client)
	s.lease++
	s.leasedAt = now
	s.pool.stats.LeaseCount++
}

// assertClean ends the process rather than give one client what is another's.
func (s *Server) assertClean() {
	if s.client != nil || s.groups.count != 0 || s.replies.count != 0 || s.txStatus != pgwire.TxIdle ||
		s.partial || s.skipping || s.headHasError || s.copyIn || s.unsentBytes != 0 || s.streaming != 0 {
		panic("BUG: a server that is not clean was given to a client")
	}
}

// Release gives the server back. The client calls it between groups, outside a
// transaction; the pool does so itself at the end of a transaction where the pool
// mode says so.
func (s *Server) Release() {
	client := s.client
	s.endLease()
	client.OnReleased()
	s.recycle()
}

func (s *Server) endLease() {
	s.client, s.waiter = nil, nil
	s.giveBackTicket()
	s.pins &^= StateSequences
	s.throttled, s.beginning, s.resets, s.unverified, s.privateMeaning = false, false, false, false, ""
	s.keepReading()
	if s.served {
		s.pool.stats.TransactionCount++
		s.pool.stats.TransactionTime += s.pool.now() - s.leasedAt
	}
	s.conn.ResumeRead()
}

// giveBackTicket tells the gate that the lease has ended.
func (s *Server) giveBackTicket() {
	if s.ticket == nil {
		return
	}
	s.pool.gate.Done(&s.ticket.Ticket, s.pool.now(), s.pool.now()-s.leasedAt)
	s.pool.endTicket(s.ticket)
	s.ticket = nil
}

// Orphan gives the server back for a client that is gone, whatever is under way.
// cancel asks PostgreSQL to stop what it runs for the client; without it the work
// is completed and its replies dropped, as PostgreSQL does for a client that says
// Terminate behind its last query. What the pool asks for itself is not stopped.
func (s *Server) Orphan(cancel bool) {
	s.endLease()
	for i := range s.groups.count {
		s.groups.at(i).client = nil
	}
	s.held = s.held[:0]
	s.setState(stateResetting)
	if s.unsentBytes > 0 && !s.completeMessage() {
		s.close(ReasonClientMidMessage)
		return
	}
	if s.copyIn {
		s.failCopy()
		cancel = false // the failed COPY ends by itself
	} else if s.partial {
		if !s.skipping { // a Sync alone would commit what the client has not ended
			s.CopyEnd()
			s.write(pgwire.AppendCopyFail(s.scratch(), "client gone")) // in case a COPY begins; else it is ignored
			s.Fail(nil)
		}
		s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Sync))
		s.Expect(ReplySync)
	}
	s.EndAliases()
	if s.groups.count == 0 {
		s.recycle()
		return
	}
	s.pool.loop.SetTimer(&s.timer, s.pool.now()+resetTimeout)
	if cancel && !s.groups.allOwn() {
		s.cancelRepeats = 1
		s.Cancel()
	}
}

// resetTimeout is how long a server may take to finish what a client that is gone
// left, and to clean up after it.
const resetTimeout = 30 * time.Second

// maxPaddingBytes is how long the missing part of a message may be that is made up
// for a client that is gone; beyond it a new server is cheaper.
const maxPaddingBytes = 1 << 20

// completeMessage sends the missing bytes of a message in a way that the server
// cannot take for what the client meant: strings without a terminator are refused,
// and a COPY whose data is padded is failed. A function call has no such field.
func (s *Server) completeMessage() bool {
	if s.unsentType == pgwire.FunctionCall || s.unsentBytes > maxPaddingBytes {
		return false
	}
	padding := make([]byte, s.unsentBytes)
	for i := range padding {
		padding[i] = 0xff
	}
	s.write(padding)
	s.unsentBytes = 0
	return true
}

// recycle decides what becomes of a server that nobody holds and that owes
// nothing, and does it.
func (s *Server) recycle() {
	s.cancelRepeats = 0
	s.pool.loop.StopTimer(&s.cancelTimer)
	switch action, reason := s.disposition(); action {
	case reuse:
		s.pool.loop.StopTimer(&s.timer)
		s.pool.handOver(s)
	case clean:
		s.setState(stateResetting)
		s.pool.loop.SetTimer(&s.timer, s.pool.now()+resetTimeout)
		s.clean()
	case hold:
		s.setState(stateCanceling)
		s.pool.loop.SetTimer(&s.timer, s.pool.now()+resetTimeout)
	case discard:
		s.close(reason)
	}
}

// action is what becomes of a returned server.
type action uint8

const (
	reuse action = iota
	clean
	hold
	discard
)

// disposition is the one place that decides whether a returned server lives.
func (s *Server) disposition() (action, CloseReason) {
	switch {
	case s.fatal != nil:
		return discard, ReasonLost
	case s.uncertain:
		return discard, ReasonCopyUncertain
	case s.pool.closing():
		return discard, ReasonShutdown
	case s.pool.paused():
		return discard, ReasonPaused
	case s.cancelInFlight:
		return hold, 0
	case s.txStatus != pgwire.TxIdle && !mutantReuseOpen:
		return clean, 0
	case s.dirty, s.remains() != 0:
		return clean, 0
	case s.expired(s.pool.now()):
		return discard, ReasonLifetime
	case s.stale():
		return discard, ReasonReconnect
	}
	return reuse, 0
}

func (s *Server) expired(now time.Duration) bool {
	lifetime := s.pool.config.ServerLifetime
	return lifetime > 0 && now-s.createdAt >= lifetime
}
