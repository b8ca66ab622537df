package sim

import (
	"strconv"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// beliefs is what a client thinks that it has prepared. It may be wrong, as a
// client's may; the twin knows what is true.
type beliefs struct {
	named         map[string]int // the number of parameters of each
	unnamed       int            // of the unnamed statement, plus one; 0 is none
	inTransaction bool
}

// plan adds the client's next step to its ops.
func (c *Client) plan() {
	w := c.world
	if c.stepsLeft == 0 {
		c.planEnd()
		return
	}
	c.await(true)
	switch n := w.random.IntN(100); {
	case w.scenario.Timeouts && n < 25:
		c.linger()
	case w.scenario.SharedReads && n < 45 && !c.believes.inTransaction:
		c.reads()
	case n < 22:
		c.simple(c.newGroup(true), c.randomQuery())
	case n < 45:
		c.extended()
	case n < 60:
		c.pipeline()
	case n < 78:
		c.transaction()
	case n < 86:
		c.copy()
	case n < 90:
		c.function()
	case n < 92:
		c.ops = append(c.ops, op{kind: opPause, d: w.between(0, 50*time.Millisecond)})
	default:
		c.special()
	}
	if w.scenario.Cancels && w.chance(3) {
		w.after(w.between(0, 25*time.Millisecond), c.cancel)
	}
	if w.scenario.SlowReaders && w.chance(4) {
		c.ops = append([]op{{kind: opStall, d: w.between(0, 300*time.Millisecond)}}, c.ops...)
	}
}

// planEnd ends the program: the client stays, or says that it leaves, in the
// middle of a query or between.
func (c *Client) planEnd() {
	w := c.world
	leaves := w.chance(3) || w.scenario.Mode == pool.ModeSession || c.holds
	if leaves && w.chance(3) {
		c.await(false)
		c.simple(c.newGroup(true), c.randomQuery())
	} else {
		c.await(true)
	}
	if leaves {
		c.ops = append(c.ops, op{kind: opTerminate, message: pgwire.AppendEmpty(nil, pgwire.Terminate)})
	}
}

// await waits for every answer, always or at random: without, the next step is
// pipelined behind what is under way.
func (c *Client) await(always bool) {
	if always || c.world.chance(2) {
		c.ops = append(c.ops, op{kind: opAwait})
	}
}

func (c *Client) newGroup(simple bool) *group { return &group{simple: simple} }

// add adds a message to a group.
func (c *Client) add(g *group, message []byte) {
	ends := message[0] == pgwire.Sync || message[0] == pgwire.Query || message[0] == pgwire.FunctionCall
	c.ops = append(c.ops, op{kind: opSend, group: g, message: message, ends: ends})
}

func (c *Client) simple(g *group, text string) {
	c.add(g, pgwire.AppendQuery(nil, text))
	c.believes.unnamed = 0
}

// tag makes a new tag.
func (c *Client) tag() Tag {
	c.sequence++
	return Tag{c.id, c.sequence}
}

// special is a step that is rarer than the others.
func (c *Client) special() {
	w := c.world
	s := w.scenario
	switch n := w.random.IntN(4); {
	case n == 3 && s.State:
		c.holds = true
		c.simple(c.newGroup(true), c.randomHeld())
	case n == 0 && s.ClientDeath: // in the middle of a message
		whole := pgwire.AppendQuery(nil, c.randomSelect())
		if w.chance(2) {
			c.simple(c.newGroup(true), c.randomQuery())
		}
		c.ops = append(c.ops, op{kind: opSendCut, message: whole[:1+w.random.IntN(len(whole)-1)]},
			op{kind: opPause, d: w.between(0, 5*time.Millisecond)}, op{kind: opVanish})
		c.stepsLeft = 0
	case n == 1 && c.setsItself:
		c.simple(c.newGroup(true), c.randomSet())
		c.await(false)
		for range 2 { // on the same server, and perhaps on another
			c.simple(c.newGroup(true), "show "+[]string{"application_name", "geqo", "extra_float_digits"}[w.random.IntN(3)])
			c.await(true)
		}
	default:
		g := c.newGroup(false) // nothing but Syncs
		c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
	}
}

// linger is a step that makes one of the proxy's timeouts strike, or nearly.
func (c *Client) linger() {
	w := c.world
	switch w.random.IntN(3) {
	case 0: // idle in a transaction
		c.simple(c.newGroup(true), "begin")
		c.simple(c.newGroup(true), c.randomSelect())
		c.ops = append(c.ops, op{kind: opAwait}, op{kind: opPause, d: w.between(0, 4*time.Second)})
		c.simple(c.newGroup(true), "rollback")
	case 1: // part of a group and no more
		g := c.newGroup(false)
		c.parse(g, "", c.randomSelect())
		c.add(g, pgwire.AppendEmpty(nil, pgwire.Flush))
		c.ops = append(c.ops, op{kind: opPause, d: w.between(0, 4*time.Second)})
		c.wasPartial = true
		c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
	case 2: // much to read, and it does not
		if w.chance(4) {
			c.ops = append(c.ops, op{kind: opStall, d: w.between(0, 5*time.Second)})
			c.simple(c.newGroup(true), "select * from sim where tag = '"+c.tag().String()+"' and rows = 60 and width = 10000")
		}
	}
}

// function is a call in the old way.
func (c *Client) function() {
	const loCreat = 957 // a function that leaves nothing in the session
	c.add(c.newGroup(false), pgwire.AppendMessage(nil, pgwire.FunctionCall, []byte{0, 0, loCreat >> 8, loCreat & 0xff, 0, 0, 0, 0, 0, 0}))
	c.ops[len(c.ops)-1].group.simple = true
}

// reads are groups that may share a server with those of other clients: each is one
// statement that many have in common.
func (c *Client) reads() {
	w := c.world
	for range 1 + w.random.IntN(6) {
		if w.scenario.HotReads && w.chance(2) {
			c.hotRead()
			continue
		}
		g := c.newGroup(false)
		switch n := w.random.IntN(10); {
		case n < 3:
			c.simple(c.newGroup(true), "select * from sim where rows = 2 and variant = "+strconv.Itoa(w.random.IntN(3)))
			continue
		case n < 6:
			name := "s" + strconv.Itoa(1+w.random.IntN(2))
			if _, known := c.believes.named[name]; !known {
				c.parseRead(g, name)
				c.believes.named[name] = 2
			}
			c.bind(g, "", name, 2)
		default:
			c.parseRead(g, "")
			c.bind(g, "", "", 2)
		}
		if w.chance(3) {
			c.add(g, pgwire.AppendMessage(nil, pgwire.Describe, []byte("P\x00")))
		}
		c.executePortal(g, "", 0)
		c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
		c.await(false)
	}
}

// hotRead is a read that many clients ask for at the same time, with nothing that tells
// whose it is.
func (c *Client) hotRead() {
	w := c.world
	read := hotRead{database: c.login.database, variant: w.random.IntN(2)}
	text := "select * from sim where rows = " + strconv.Itoa(hotRows) + " and variant = " + strconv.Itoa(read.variant)
	shape := w.random.IntN(3)
	g := c.newGroup(shape == 0)
	g.reads = read
	if shape == 0 {
		c.simple(g, text)
		c.await(false)
		return
	}
	name := ""
	if shape == 1 {
		name = "hot" + strconv.Itoa(read.variant)
	}
	if _, known := c.believes.named[name]; !known {
		c.parse(g, name, text)
	}
	if name != "" {
		c.believes.named[name] = 0
	}
	c.bindValues(g, "", name, nil)
	if w.chance(2) {
		c.add(g, pgwire.AppendMessage(nil, pgwire.Describe, []byte("P\x00")))
	}
	c.executePortal(g, "", 0)
	c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
	c.await(false)
}

// parseRead prepares a read that many clients prepare.
func (c *Client) parseRead(g *group, name string) {
	w := c.world
	text := "select * from sim where tag = $1 and rows = $2 and variant = " + strconv.Itoa(w.random.IntN(2))
	if w.chance(6) { // the function that it calls writes when there is one row
		text += " and writes = $2"
	}
	c.parse(g, name, text)
	if w.chance(4) {
		c.add(g, pgwire.AppendMessage(nil, pgwire.Describe, []byte("S"+name+"\x00")))
	}
}

// pipeline sends several groups without waiting.
func (c *Client) pipeline() {
	w := c.world
	for range 2 + w.random.IntN(4) {
		if w.chance(2) {
			c.simple(c.newGroup(true), c.randomQuery())
		} else {
			c.extended()
		}
		if w.chance(8) {
			c.ops = append(c.ops, op{kind: opPause, d: w.between(0, 3*time.Millisecond)})
		}
	}
}

// transaction is a transaction block, pipelined or step by step.
func (c *Client) transaction() {
	w := c.world
	if w.scenario.Mode == pool.ModeStatement && !w.chance(10) {
		return
	}
	c.command([]string{"begin", "begin", "begin", "BEGIN", "start transaction", "begin read only"}[w.random.IntN(6)])
	c.believes.inTransaction = true
	for range 1 + w.random.IntN(3) {
		c.await(false)
		switch {
		case w.chance(2):
			c.simple(c.newGroup(true), c.randomQuery())
		case w.chance(8):
			c.copy()
		default:
			c.extended()
		}
		if w.chance(6) {
			c.ops = append(c.ops, op{kind: opPause, d: w.between(0, 20*time.Millisecond)})
		}
	}
	c.await(false)
	if w.chance(20) {
		return // left open for the next step
	}
	c.command([]string{"commit", "commit", "rollback"}[w.random.IntN(3)])
	c.believes.inTransaction = false
}

// command sends BEGIN, COMMIT or ROLLBACK, in one protocol or the other.
func (c *Client) command(text string) {
	w := c.world
	if w.chance(2) {
		text += " /* tag = '" + c.tag().String() + "' */"
	}
	if w.chance(2) {
		c.simple(c.newGroup(true), text)
		return
	}
	g := c.newGroup(false)
	g.leaves = strings.HasPrefix(text, "commit") || strings.HasPrefix(text, "rollback")
	c.parse(g, "", text)
	c.bindValues(g, "", "", nil)
	c.executePortal(g, "", 0)
	c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
}

// extended sends a group of the extended query protocol.
func (c *Client) extended() {
	w := c.world
	g := c.newGroup(false)
	for range 1 + w.random.IntN(3) {
		c.unit(g)
		if w.chance(8) {
			c.add(g, pgwire.AppendEmpty(nil, pgwire.Flush))
			if w.chance(2) {
				c.ops = append(c.ops, op{kind: opAwaitSeen})
			}
		}
	}
	c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
}

// unit is a statement of the extended query protocol: prepared or not, with all
// or some of the messages.
func (c *Client) unit(g *group) {
	w := c.world
	name, parameters := "", c.believes.unnamed-1
	switch n := w.random.IntN(20); {
	case n < 9:
		name, parameters = c.named(g)
	case n < 11 && parameters >= 0: // the unnamed statement once more
	default:
		parameters = c.parseRandom(g, "")
		c.believes.unnamed = parameters + 1
	}
	parameters = max(0, parameters)
	if w.chance(4) {
		c.add(g, pgwire.AppendMessage(nil, pgwire.Describe, []byte("S"+name+"\x00")))
		if w.chance(4) {
			return
		}
	}
	portal := ""
	if c.believes.inTransaction && w.chance(4) {
		portal = "p" + strconv.Itoa(w.random.IntN(2))
	}
	c.bind(g, portal, name, parameters)
	if w.chance(3) {
		c.add(g, pgwire.AppendMessage(nil, pgwire.Describe, []byte("P"+portal+"\x00")))
	}
	limit := 0
	if w.chance(4) {
		limit = 1 + w.random.IntN(3)
	}
	c.executePortal(g, portal, limit)
	if limit > 0 && w.chance(2) {
		c.executePortal(g, portal, 0)
	}
	if w.chance(6) {
		c.add(g, pgwire.AppendClose(nil, pgwire.KindPortal, portal))
	}
}

// named chooses a named statement and prepares it if need be, or although it is
// prepared, or not although it is not.
func (c *Client) named(g *group) (name string, parameters int) {
	w := c.world
	name = "s" + strconv.Itoa(1+w.random.IntN(4))
	parameters, known := c.believes.named[name]
	switch {
	case known && w.chance(8):
		c.add(g, pgwire.AppendClose(nil, pgwire.KindStatement, name))
		delete(c.believes.named, name)
		if w.chance(4) {
			return name, parameters // used although it is closed
		}
	case known && !w.chance(15):
		return name, parameters
	case !known && w.chance(15):
		return name, 1 // it was never prepared
	}
	parameters = max(0, c.parseRandom(g, name))
	c.believes.named[name] = parameters
	return name, parameters
}

// copy is a COPY, in or out, in one protocol or the other.
func (c *Client) copy() {
	w := c.world
	if !w.scenario.Copy {
		return
	}
	tag := c.tag()
	if w.chance(2) {
		rows, width := c.volume()
		text := "copy (select * from sim where tag = '" + tag.String() + "' and rows = " + strconv.Itoa(rows) + " and width = " + strconv.Itoa(width) + c.conditions() + ") to stdout"
		if w.chance(2) {
			c.simple(c.newGroup(true), text)
			return
		}
		g := c.newGroup(false)
		c.parse(g, "", text)
		c.bind(g, "", "", 0)
		c.executePortal(g, "", 0)
		c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
		return
	}
	text := "copy sim from stdin where tag = '" + tag.String() + "'"
	if w.chance(5) {
		text += " and fail = " + strconv.Itoa(1+w.random.IntN(3))
	}
	if w.chance(12) {
		text = "copi sim"
	}
	g := c.newGroup(w.chance(2))
	waits := !w.scenario.CopyAhead || w.chance(2) // else the data is sent before the server asks for it
	syncAhead := false
	if g.simple {
		c.simple(g, text)
	} else {
		c.parse(g, "", text)
		c.bind(g, "", "", 0)
		c.executePortal(g, "", 0)
		if syncAhead = waits && w.chance(2); syncAhead {
			g.syncAhead = true
			c.add(g, pgwire.AppendEmpty(nil, pgwire.Sync))
		} else if waits {
			c.add(g, pgwire.AppendEmpty(nil, pgwire.Flush))
		}
	}
	if waits {
		c.ops = append(c.ops, op{kind: opAwaitCopy, group: g})
	}
	c.copyData(g, tag, waits)
	if !g.simple {
		sync := op{kind: opSend, group: g, message: pgwire.AppendEmpty(nil, pgwire.Sync), ends: true}
		if syncAhead {
			sync.only = onceCopied
		}
		c.ops = append(c.ops, sync)
	}
	c.ops = append(c.ops, op{kind: opAwait})
}

// copyData sends the data of a COPY and its end, unless an error comes before.
func (c *Client) copyData(g *group, tag Tag, waits bool) {
	w := c.world
	only := always
	if waits {
		only = whileCopy
	}
	for i := range w.random.IntN(6) {
		line := tag.String() + "\t" + strconv.Itoa(i+1) + "\t"
		if w.scenario.Large && w.chance(4) {
			line += strings.Repeat(tag.String()+" ", w.random.IntN(20_000))
		}
		c.ops = append(c.ops, op{kind: opSend, group: g, message: pgwire.AppendMessage(nil, pgwire.CopyData, []byte(line+"\n")), only: only})
		if w.chance(6) {
			c.ops = append(c.ops, op{kind: opPause, d: w.between(0, 5*time.Millisecond)})
		}
	}
	end := pgwire.AppendEmpty(nil, pgwire.CopyDone)
	if w.chance(5) {
		end = pgwire.AppendCopyFail(nil, "no more")
	}
	c.ops = append(c.ops, op{kind: opSend, group: g, message: end, only: only})
}
