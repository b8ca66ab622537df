package sim

import (
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file judges what comes instead of what the twin answers: an error that a
// fault, a timeout or a cancel request explains.

// deviation acts on an error that the twin does not know of.
func (c *Client) deviation(m []byte, expected *expectedMessage) {
	w := c.world
	e := pgwire.ParseError(m[pgwire.HeaderBytes:])
	c.checkOwn(m)
	if e.IsFatal() {
		if why := c.fatalExcuse(string(e.SQLState)); why != "" {
			w.fail("%s got %s: %s", c.name, show(m), why)
		}
		c.fatal = string(e.SQLState)
		w.coverage.Fatals++
		return
	}
	if len(c.groups) == 0 {
		w.fail("%s got %s while nothing is under way", c.name, show(m))
	}
	g := c.groups[0]
	if e.SQLState == pgwire.QueryCanceled {
		if c.cancels == 0 {
			w.fail("%s was cancelled, which nobody asked for: %s", c.name, show(m))
		}
		g.copies, g.failed = false, true
		c.twin.interrupt(c.reported)
		w.coverage.Canceled++
		return
	}
	if why := c.errorExcuse(string(e.SQLState), g); why != "" {
		want := "nothing"
		if expected != nil {
			want = show(expected.bytes)
		}
		w.fail("%s got %s, want %s: %s", c.name, show(m), want, why)
	}
	if c.status != pgwire.TxIdle { // a transaction that no server knew of has failed
		g.copies, g.failed = false, true
		c.twin.interrupt(c.reported)
		w.coverage.VirtualFailed++
		return
	}
	c.faulted = g
	g.copies = false
	c.twin.lose(c.reported)
	c.believes.unnamed = 0
	kept := c.sent[:0]
	for _, s := range c.sent {
		if s.group != g {
			kept = append(kept, s)
		}
	}
	c.sent = kept
}

// lostBehindError reports whether the group at hand, whose error has come, ended
// because the server was lost before it could say ReadyForQuery: then a
// transaction that the group began is no more.
func (c *Client) lostBehindError(m []byte) bool {
	g := c.twin.fed.group
	if !g.failed || c.status != pgwire.TxIdle || m[pgwire.HeaderBytes] != byte(pgwire.TxIdle) ||
		!c.world.faultSince(faultServer, g.sentAt-lossEcho) {
		return false
	}
	c.twin.lose(c.reported)
	c.answered(g, pgwire.TxIdle)
	return true
}

// lostCodes are what a client may be told when its server is lost.
var lostCodes = map[string]bool{"08006": true, "57P01": true, "57P02": true}

// errorExcuse returns why an error that leaves the connection open is wrong, "" if
// it is not.
func (c *Client) errorExcuse(code string, g *group) string {
	w := c.world
	switch {
	case c.status != pgwire.TxIdle && (lostCodes[code] || w.onServer(c)):
		return "inside a transaction the connection has to end"
	case lostCodes[code]:
		if w.scenario.Mode == pool.ModeSession {
			return "in session mode the connection has to end"
		}
		if !w.faultSince(faultServer, g.sentAt-lossEcho) {
			return "no server was lost"
		}
		w.coverage.Lost++
	case code == "53400":
		switch wait := w.scenario.QueryWaitTimeout; {
		case wait > 0 && w.now-g.sentAt >= wait:
			w.coverage.WaitTimeouts++
		case w.scenario.sheds():
			w.coverage.Shed++
		default:
			return "it has not waited that long"
		}
	case code == "08001":
		if wait := w.scenario.QueryWaitTimeout; (wait == 0 || w.now-g.sentAt < wait) && !w.scenario.sheds() {
			return "it has not waited that long"
		}
		if !w.connectFailedSince(g.sentAt) {
			return "the server was there"
		}
		w.coverage.WaitTimeouts++
	default:
		return "no fault explains it"
	}
	return ""
}

// fatalExcuse returns why an error that ends the connection is wrong, "" if it is
// not.
func (c *Client) fatalExcuse(code string) string {
	w, s := c.world, c.world.scenario
	inTransaction := c.status != pgwire.TxIdle
	switch {
	case code == "57P01" && w.shutdown && !inTransaction:
	case lostCodes[code]:
		since := w.now - lossEcho
		if len(c.groups) > 0 {
			since = c.groups[0].sentAt - lossEcho
		}
		if c.everStalled { // what it had not read was in front of the news
			since -= 10 * time.Second
		}
		if !w.faultSince(faultServer, min(since, c.activeAt-lossEcho)) {
			return "no server was lost"
		}
		if !inTransaction && s.Mode != pool.ModeSession && !c.unverified && !c.holds && !c.blind {
			return "outside a transaction the connection has to stay"
		}
		w.coverage.LostInTransaction++
	case code == "25P03":
		if s.IdleTransactionTimeout == 0 || c.idleTime() < s.IdleTransactionTimeout-lossEcho || !inTransaction {
			return "it was not idle in a transaction for that long"
		}
		w.coverage.IdleTransactions++
	case code == "0A000" && s.Mode == pool.ModeStatement && inTransaction:
	case code == "08P01" && s.ClientStallTimeout > 0 && c.wasPartial && c.idleTime() >= s.ClientStallTimeout-lossEcho:
		w.coverage.PartialGroups++
	default:
		return "nothing explains it"
	}
	return ""
}

// idleTime is how long the client has done nothing, or had done nothing when, just
// now, it did something again.
func (c *Client) idleTime() time.Duration {
	if idle := c.world.now - c.activeAt; idle > lossEcho || c.world.now-c.wokeAt > lossEcho {
		return idle
	}
	return c.sleptFor
}

// awake notes that the client does something.
func (c *Client) awake() {
	now := c.world.now
	if idle := now - c.activeAt; idle > lossEcho {
		c.sleptFor, c.wokeAt = idle, now
	}
	c.activeAt = now
}
