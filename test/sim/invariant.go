package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/proxy"
)

// Coverage counts what happened, so that a test can tell that the simulation has
// seen what it is meant to see.
type Coverage struct {
	Logins, Refused, Groups, Notices, Suspended             int
	Faults, Survived, Fatals, Lost, LostInTransaction       int
	CancelsSent, Canceled, CancelsHit, WaitTimeouts         int
	Deaths, Terminates, Garbage, Stalls, StallsClosed       int
	IdleTransactions, PartialGroups, Drained, Copied, Steps int
	DriftShown, VirtualFailed, ReadsRepeated                int
	SharedGroups, Joined, RunAgain, Parameterized, Shed     int
	HotReads, Coalesced                                     int
}

// executedStatement is what is known of a statement that was executed.
type executedStatement struct {
	backend *Backend
	reads   bool // outside a transaction, so that it may be executed again
	count   int
}

// hotRead is a read that many clients ask for. It has hotRows rows, and nothing else that
// has no tag does.
type hotRead struct {
	database string
	variant  int
}

const hotRows = 3

// noteRead is called by a backend of the server when it begins a statement that nobody
// in particular has asked for.
func (w *World) noteRead(b *Backend, s *statement, r *run) {
	if s.kind == kindSelect && r.rows == hotRows {
		w.readAt[hotRead{b.database, r.variant}] = w.now
	}
}

// checkFresh checks that what the client has been answered was not read before it asked:
// then it cannot miss what the client has written.
func (w *World) checkFresh(c *Client, g *group) {
	if g.reads.database == "" {
		return
	}
	if readAt := w.readAt[g.reads]; readAt < g.sentAt {
		w.fail("%s asked at %v and was answered with what was read at %v", c.name, g.sentAt, readAt)
	}
	w.coverage.HotReads++
}

// maxReads is how often a statement that only reads may be executed.
const maxReads = 8

// onServer reports whether a server has a transaction of the client open.
func (w *World) onServer(c *Client) bool {
	for _, b := range w.postgres.backends {
		if b.txStatus != pgwire.TxIdle && b.txClient == c.id && b.conn.peer.conn.state == connOpen {
			return true
		}
	}
	return false
}

// executing is called by a backend of the server when it begins a statement.
func (w *World) executing(b *Backend, s *statement, r *run) {
	tag := r.tag
	w.trace.add(w.now, traceExecute, b.name, int(s.kind), []byte(tag.String()))
	if tag.Client == 0 {
		w.noteRead(b, s, r)
		return // the proxy's own, or BEGIN and the like
	}
	c := w.clients[tag.Client-1]
	reads := s.kind == kindSelect && !r.writes && b.txStatus == pgwire.TxIdle
	if before, ok := w.executed[tag]; ok && !c.repeatable[tag.Sequence] {
		if !before.reads || !reads || before.count == maxReads {
			w.fail("statement %v was executed on %s and again on %s", tag, before.backend.name, b.name)
		}
		w.coverage.ReadsRepeated++
	}
	w.executed[tag] = executedStatement{b, reads, w.executed[tag].count + 1}
	if b.groupClient != 0 && b.groupClient != tag.Client {
		if b.groupWrites || !reads {
			w.fail("%s executes %v in a group of client %d", b.name, tag, b.groupClient)
		}
		w.coverage.Joined++
	}
	b.groupClient = tag.Client
	b.groupWrites = b.groupWrites || !reads
	if b.txStatus != pgwire.TxIdle {
		if b.txClient != 0 && b.txClient != tag.Client {
			w.fail("%s executes %v in a transaction of client %d", b.name, tag, b.txClient)
		}
		b.txClient = tag.Client
	}
	for _, other := range w.postgres.backends {
		if !reads && other != b && other.conn.peer.conn.state == connOpen && other.txStatus != pgwire.TxIdle && other.txClient == tag.Client {
			w.fail("%v is executed on %s while the client's transaction is open on %s", tag, b.name, other.name)
		}
	}
	if !reads {
		for _, queued := range [][]byte{b.conn.in.bytes(), b.conn.peer.conn.flight.bytes(), b.conn.peer.conn.out.bytes()} {
			if other := w.foreignTag(queued, tag.Client); other != 0 {
				w.fail("%s executes %v, which is no read of its own, with a group of client %d behind it", b.name, tag, other)
			}
		}
	}
	w.checkHeld(b, tag.Client)
	if b.database != c.login.database {
		w.fail("%s of database %q executes %v of a client of %q", b.name, b.database, tag, c.login.database)
	}
	if app, _ := b.setting("application_name"); !c.setsItself && app != c.login.application {
		w.fail("%s executes %v with application_name %q, the client's is %q", b.name, tag, app, c.login.application)
	}
}

// foreignTag returns the first client but the given one whose tag is in b, 0 if there
// is none.
func (w *World) foreignTag(b []byte, client int) int {
	for i := 0; i+2 < len(b); i++ {
		if b[i] != 'c' || b[i+1] < '0' || b[i+1] > '9' {
			continue
		}
		number, end := 0, i+1
		for ; end < len(b) && b[end] >= '0' && b[end] <= '9'; end++ {
			number = number*10 + int(b[end]-'0')
		}
		if end < len(b) && b[end] == '-' && number != client && number <= len(w.clients) {
			return number
		}
	}
	return 0
}

// copying is called by a backend of the server for COPY data.
func (w *World) copying(b *Backend, tag Tag, data []byte) {
	w.coverage.Copied++
	if want := tag.String() + "\t"; !strings.HasPrefix(string(data), want) && tag.Client != 0 {
		c := w.clients[tag.Client-1]
		// What a proxy makes up for a client that is gone fails the COPY.
		if c.phase != phaseEnded {
			w.fail("%s gets COPY data %.60q for %v", b.name, data, tag)
		}
	}
}

// cancelHit is called by a backend of the server when a cancel request interrupts
// a statement.
func (w *World) cancelHit(b *Backend, tag Tag) {
	w.coverage.CancelsHit++
	if r := &b.current.portal.run; tag.Client == 0 || b.current.portal.statement.kind == kindSelect && !r.writes && b.txStatus == pgwire.TxIdle {
		return // a read that is run again, or was already
	}
	c := w.clients[tag.Client-1]
	if c.cancels == 0 && c.phase != phaseEnded && c.peer.conn.state == connOpen {
		w.fail("a cancel request hits %v on %s, whose client has not asked for it", tag, b.name)
	}
}

// checkStep checks what must hold after every batch of the proxy's loop.
func (w *World) checkStep() {
	sessions := 0
	for _, c := range w.conns {
		if server, ok := c.peer.owner.(*serverConn); ok && server.backend != nil {
			sessions++
		}
		if n := c.maxOutBytes; n > maxQueuedBytes {
			w.fail("%s has %d bytes queued", c.name, n)
		}
		if n := c.in.len(); n > maxUnconsumedBytes {
			w.fail("%s has %d bytes unconsumed", c.name, n)
		}
	}
	limit := w.scenario.PoolSize * w.scenario.Databases
	if n := w.scenario.MaxDBConnections; n > 0 {
		limit = min(limit, n)
	}
	if sessions > limit {
		w.fail("%d servers are open, the limit is %d", sessions, limit)
	}
	if w.steps%64 == 0 {
		w.checkStats(w.proxy.Stats())
	}
}

// Bounds of what the proxy may hold of one connection. A message up to a bound of
// its own may be collected whole, and one read may come on top.
const (
	maxQueuedBytes     = pool.MaxSharedReplyBytes + reactor.HighWaterBytes + 3*maxReadBytes
	maxUnconsumedBytes = 1<<20 + 2*maxReadBytes
)

// checkStats checks the proxy's own account of itself.
func (w *World) checkStats(stats proxy.Stats) {
	total := 0
	for _, p := range stats.Pools {
		servers := p.ServersOpening + p.ServersIdle + p.ServersLeased + p.ServersShared + p.ServersResetting + p.ServersCanceling
		total += servers
		if servers > w.scenario.PoolSize {
			w.fail("pool %s has %d servers, the limit is %d", p.Database, servers, w.scenario.PoolSize)
		}
		for _, n := range []int{
			p.ClientsActive, p.ClientsWaiting, p.ServersOpening, p.ServersIdle, p.ServersLeased, p.ServersShared, p.ServersResetting,
			p.ServersCanceling,
		} {
			if n < 0 {
				w.fail("a count of pool %s is negative: %+v", p.Database, p)
			}
		}
		busy := p.ServersLeased + p.ServersShared + p.ServersResetting + p.ServersCanceling
		if p.ServersIdle > 0 && p.Gate.Waiting > 0 && busy < p.Gate.Servers {
			w.fail("pool %s has %d idle servers and %d clients waiting", p.Database, p.ServersIdle, p.Gate.Waiting)
		}
	}
	if n := w.scenario.MaxDBConnections; n > 0 && total > n {
		w.fail("there are %d servers, the limit is %d", total, n)
	}
}

// clientsDone reports whether every client's program is over.
func (w *World) clientsDone() bool {
	for _, c := range w.clients {
		if !c.idle() {
			return false
		}
	}
	return true
}

// unfinished describes the clients that are not done.
func (w *World) unfinished() string {
	var parts []string
	for _, c := range w.clients {
		if c.idle() {
			continue
		}
		part := fmt.Sprintf("%s is owed %d answers", c.name, len(c.groups))
		if head := c.twin.head(); head != nil {
			part += ", next " + show(head.bytes)
		}
		if len(c.ops) > 0 {
			part += fmt.Sprintf(", waits in op %d of %d", c.ops[0].kind, len(c.ops))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ") + fmt.Sprintf(" (%+v)", w.proxy.Stats().Pools)
}

// settle lets the world come to rest: what the clients left behind is cleaned up.
func (w *World) settle() {
	w.until(w.now+settleTime, func() bool { return false })
}

// settleTime is longer than anything that a proxy may take to clean up.
const settleTime = 90 * time.Second

// until lets the world go on until the time has come or done reports true.
func (w *World) until(end time.Duration, done func() bool) {
	for !done() {
		at, kind := w.next()
		if kind == nextNothing || at > end {
			w.now = max(w.now, end)
			return
		}
		w.step()
	}
}

// checkQuiet checks a world at rest.
func (w *World) checkQuiet() {
	for _, c := range w.clients {
		if c.phase == phaseIdle && (len(c.groups) > 0 || c.expect() != nil || c.in.len() > 0) {
			w.fail("%s is done and still expects something", c.name)
		}
	}
	for _, b := range w.postgres.backends {
		if b.txStatus != pgwire.TxIdle || b.current != nil || b.groupClient != 0 {
			w.fail("%s is left in state %c with work of client %d", b.name, b.txStatus, b.groupClient)
		}
	}
	stats := w.proxy.Stats()
	w.checkStats(stats)
	live, sessions := 0, 0
	for _, c := range w.conns {
		switch owner := c.peer.owner.(type) {
		case *serverConn:
			sessions++
			if owner.backend == nil {
				w.fail("%s was opened and not used or closed", c.name)
			}
		case *Client:
			live++
		default:
			w.fail("%s is still open", c.name)
		}
		if c.out.len() > 0 {
			w.fail("%s has %d bytes queued at rest", c.name, c.out.len())
		}
	}
	total := 0
	for _, p := range stats.Pools {
		total += p.ServersIdle + p.ServersLeased
		w.coverage.SharedGroups += int(p.SharedGroups)
		w.coverage.RunAgain += int(p.GroupsRunAgain)
		w.coverage.Parameterized += int(p.ParameterizedReads)
		w.coverage.Coalesced += int(p.CoalescedReads)
		if p.ClientsWaiting > 0 || p.ServersOpening > 0 || p.ServersResetting > 0 || p.ServersCanceling > 0 || p.ServersLeased > 0 || p.ServersShared > 0 {
			w.fail("the pool of %s is not at rest: %+v", p.Database, p)
		}
	}
	if total != sessions || stats.ClientCount != live {
		w.fail("the proxy counts %d servers and %d clients, there are %d and %d", total, stats.ClientCount, sessions, live)
	}
}

// closeDown ends the proxy, in one way or the other, and checks that nothing is
// left.
func (w *World) closeDown() {
	abort := w.chance(4)
	if abort {
		w.shutdown = true
		w.Post(w.proxy.Abort)
	} else {
		w.shutDown()
	}
	w.until(w.now+settleTime, func() bool {
		return (abort || w.drained) && len(w.conns) == 0 && len(w.postgres.backends) == 0
	})
	if !w.drained && !abort || len(w.conns) > 0 || len(w.postgres.backends) > 0 {
		w.fail("after the shutdown %d connections and %d sessions are left, drained %t", len(w.conns), len(w.postgres.backends), w.drained)
	}
	for w.step() {
		if w.steps > maxSteps {
			w.fail("after the shutdown timers go on and on")
		}
	}
	w.coverage.Steps += w.steps
}

// show describes a message for people.
func show(m []byte) string {
	if m[0] == pgwire.ErrorResponse {
		return pgwire.ParseError(m[pgwire.HeaderBytes:]).Error()
	}
	return fmt.Sprintf("%q", m[:min(len(m), 120)])
}
