package sim

import (
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// op is one thing that a client does.
type op struct {
	kind    opKind
	group   *group
	message []byte
	ends    bool // the message ends its group
	only    condition
	d       time.Duration
}

type opKind uint8

const (
	opSend      opKind = iota
	opFlush            // hand what was sent to the network
	opAwait            // until every group is answered
	opAwaitSeen        // until every reply that can be there is
	opAwaitCopy        // until the group's COPY awaits data or has failed
	opPause            // for d
	opStall            // stop reading for d
	opTerminate
	opVanish  // close, or reset, the connection
	opSendCut // part of a message, and no more
)

// condition restricts an opSend.
type condition uint8

const (
	always     condition = iota
	whileCopy            // only while the COPY awaits data
	onceCopied           // only if the COPY has begun
)

// advance does what can be done now.
func (c *Client) advance() {
	for c.phase == phaseRunning && c.fatal == "" && !c.misbehaves {
		if len(c.ops) == 0 {
			if c.stepsLeft == 0 {
				c.flush()
				if len(c.groups) > 0 {
					return
				}
				if c.status != pgwire.TxIdle {
					c.simple(c.newGroup(true), "rollback")
					continue
				}
				c.phase = phaseIdle
				return
			}
			c.stepsLeft--
			c.plan()
			if len(c.ops) == 0 {
				continue
			}
		}
		if !c.perform(&c.ops[0]) {
			c.flush()
			return
		}
		if len(c.ops) > 0 { // the client may have left
			c.ops = c.ops[1:]
		}
	}
}

// perform does one thing. It reports false if it has to wait.
func (c *Client) perform(o *op) bool {
	w := c.world
	switch o.kind {
	case opSend:
		c.send(o)
		if len(c.out) > 4<<10 || w.chance(8) {
			c.flush()
		}
	case opFlush:
		c.flush()
	case opAwait:
		return len(c.groups) == 0
	case opAwaitSeen:
		return c.faulted != nil || c.expect() == nil
	case opAwaitCopy:
		return o.group.copies || o.group.done || c.faulted == o.group || c.copyFailed(o.group)
	case opPause:
		c.flush()
		c.ops = c.ops[1:]
		w.after(o.d, c.resume)
		c.ops = append([]op{{kind: opHold}}, c.ops...)
		return false
	case opHold:
		return false
	case opStall:
		c.stall(o.d)
	case opTerminate:
		c.send(o)
		c.flush()
		c.phase = phaseEnded
		c.ops = nil
		c.peer.Close()
		w.coverage.Terminates++
	case opSendCut:
		c.out = append(c.out, o.message...)
		c.flush()
	case opVanish:
		c.flush()
		c.die(w.chance(2))
	}
	return true
}

// opHold stands for a pause that has begun.
const opHold opKind = 255

// resume ends a pause.
func (c *Client) resume() {
	if c.phase == phaseRunning && len(c.ops) > 0 && c.ops[0].kind == opHold {
		c.ops = c.ops[1:]
		c.advance()
	}
}

// copyFailed reports whether the COPY was refused before it began: then an error
// came and the twin is on its way to the end of the group.
func (c *Client) copyFailed(g *group) bool {
	return c.expect() == nil && !g.copies && c.twin.fed.group == g && c.twin.backend.skipping
}

// send sends a message and notes it for the twin.
func (c *Client) send(o *op) {
	g := o.group
	switch o.only {
	case always:
	case whileCopy:
		if !g.copies {
			return
		}
	case onceCopied:
		if !g.copied || g.done {
			return
		}
	}
	c.out = append(c.out, o.message...)
	c.awake()
	if g == nil {
		return
	}
	g.changes = g.changes || c.setsItself || changesSession(o.message)
	c.changed, c.unverified = c.changed || g.changes, c.unverified || g.changes
	c.blind = c.blind || (g.changes || mayCall(o.message)) && !c.world.postgres.functionsKnown(c.login.database)
	if g.sentAt == 0 {
		g.sentAt = c.world.now
		c.groups = append(c.groups, g)
	}
	if o.ends {
		g.owed = true
	}
	if c.faulted == g {
		return // the proxy drops it
	}
	c.sent = append(c.sent, sentMessage{g, o.message})
}

// flush hands what was sent to the network.
func (c *Client) flush() {
	if len(c.out) > 0 {
		c.world.trace.add(c.world.now, traceSend, c.name, len(c.out), c.out)
		c.peer.Send(c.out)
		c.out = c.out[:0]
	}
}

// stall stops reading for a while.
func (c *Client) stall(d time.Duration) {
	c.world.trace.add(c.world.now, traceState, c.name, int(d), []byte("stops reading"))
	c.world.coverage.Stalls++
	c.stalled = true
	c.everStalled = c.everStalled || d >= time.Second
	c.peer.Stall()
	c.world.after(d, func() {
		c.stalled = false
		c.peer.Unstall()
	})
}

// cancel sends a cancel request, on a connection of its own, now and then with a
// wrong key.
func (c *Client) cancel() {
	w := c.world
	if c.phase != phaseRunning || c.misbehaves || c.copiesBehindSync() {
		return
	}
	key := c.key
	if w.chance(10) {
		key = append([]byte{key[0] ^ 1}, key[1:]...)
	} else {
		c.cancels++
	}
	request := &canceler{world: w}
	request.peer = w.connect("cancel of "+c.name, request)
	conn := request.peer.conn
	w.Post(func() {
		w.opened(conn)
		if conn.handler = w.proxy.Accept(conn); conn.handler == nil {
			conn.Close()
		}
		conn.markReady()
	})
	request.peer.Send(pgwire.AppendCancelRequest(nil, c.pid, key))
	w.coverage.CancelsSent++
	if w.chance(5) {
		request.peer.Close()
	}
}

// copiesBehindSync reports whether a COPY of the extended query protocol is under
// way, which ignores the Sync sent with it. A cancel request that comes before
// PostgreSQL has read that Sync makes it count after all, and nobody can know.
func (c *Client) copiesBehindSync() bool {
	for _, g := range c.groups {
		if g.syncAhead {
			return true
		}
	}
	return false
}

// canceler is the connection of a cancel request. It is told nothing but the end,
// unless the proxy shuts down or has no room for one more that has not said yet what it
// wants.
type canceler struct {
	world    *World
	peer     *Peer
	answered bool
}

func (r *canceler) receive(b []byte) {
	if !r.answered && (b[0] != pgwire.ErrorResponse || !r.world.shutdown && r.world.scenario.MaxLoginConn == 0) {
		r.world.fail("a cancel request was answered %q", b)
	}
	r.answered = true
}

func (r *canceler) drained() {}

func (r *canceler) ended(error) { r.peer.Close() }
