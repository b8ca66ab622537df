package proxy

import (
	"strconv"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
)

// This file is what administrators do. A name of a database may be empty where a command
// is for all.

// known says why a database cannot be operated on, nil if it can: a slip of the pen should
// not pass for success.
func (c *console) known(database string) *pgwire.Error {
	cs, p := &c.session.proxy.consoles, c.session.proxy
	switch {
	case cs.serves(database):
		return errorf(pgwire.ObjectNotInState, `database "%.64s" is the admin console`, database)
	case database == "", database == cs.config.Database, p.pools.Has(database), p.pools.Paused(database), cs.disabled[database]:
		return nil
	}
	return errorf(pgwire.InvalidCatalogName, `database "%.64s" is not in use: expected one of SHOW DATABASES`, database)
}

// waitPeriod is how often a command looks whether it has been done.
const waitPeriod = 20 * time.Millisecond

// await calls done when condition is true, or with the error that it returns.
func (c *console) await(condition func() (bool, *pgwire.Error), done func(*pgwire.Error)) {
	loop := c.session.proxy.loop
	timer := &reactor.Timer{}
	timer.Fire = func() {
		if over, e := condition(); over || e != nil {
			done(e)
			return
		}
		loop.SetTimer(timer, loop.Now()+waitPeriod)
	}
	c.abandon = func() { loop.StopTimer(timer) }
	timer.Fire()
}

// pauseDatabase lets the clients of a database wait, and returns when no server is left.
func pauseDatabase(c *console, database string, done func(*pgwire.Error)) {
	pools := c.session.proxy.pools
	switch e := c.known(database); {
	case e != nil:
		done(e)
		return
	case pools.Paused(database):
		done(errorf(pgwire.ObjectNotInState, "already paused"))
		return
	}
	c.session.proxy.pause(database)
	c.await(func() (bool, *pgwire.Error) {
		if !pools.Paused(database) {
			return false, errorf(pgwire.ObjectNotInState, "resumed before all servers were closed")
		}
		servers, _ := pools.CountServers(database)
		return servers == 0, nil
	}, done)
}

func (p *Proxy) pause(database string) {
	p.pools.Pause(database)
	if p.lookup != nil {
		p.lookup.asker.pause()
	}
}

func resumeDatabase(c *console, database string, done func(*pgwire.Error)) {
	pools := c.session.proxy.pools
	switch {
	case !pools.Paused(database):
		done(errorf(pgwire.ObjectNotInState, "not paused"))
		return
	case database != "" && pools.Paused(""):
		done(errorf(pgwire.ObjectNotInState, "all databases are paused: expected RESUME without a name"))
		return
	}
	pools.Resume(database)
	done(nil)
}

// disableDatabase refuses new clients of a database. It need not be known: it may be one
// that nobody has used yet.
func disableDatabase(c *console, database string, done func(*pgwire.Error)) {
	cs := &c.session.proxy.consoles
	if cs.serves(database) {
		done(c.known(database))
		return
	}
	cs.disabled[database] = true
	done(nil)
}

func enableDatabase(c *console, database string, done func(*pgwire.Error)) {
	disabled := c.session.proxy.consoles.disabled
	if !disabled[database] {
		done(errorf(pgwire.ObjectNotInState, `database "%.64s" is not disabled`, database))
		return
	}
	delete(disabled, database)
	done(nil)
}

// reconnectDatabase has every server closed as soon as nobody holds it.
func reconnectDatabase(c *console, database string, done func(*pgwire.Error)) {
	e := c.known(database)
	if e == nil {
		c.session.proxy.pools.Reconnect(database)
	}
	done(e)
}

// waitClose returns when no server is left that is to be closed.
func waitClose(c *console, database string, done func(*pgwire.Error)) {
	if e := c.known(database); e != nil {
		done(e)
		return
	}
	c.await(func() (bool, *pgwire.Error) {
		_, closeNeeded := c.session.proxy.pools.CountServers(database)
		return closeNeeded == 0, nil
	}, done)
}

// killDatabase ends the clients and servers of a database at once. New clients wait for
// RESUME.
func killDatabase(c *console, database string, done func(*pgwire.Error)) {
	p := c.session.proxy
	switch e := c.known(database); {
	case e != nil:
		done(e)
		return
	case p.pools.Paused(""):
		done(errorf(pgwire.ObjectNotInState, "already paused"))
		return
	}
	p.pause(database)
	var victims []*session
	for _, s := range p.sessions {
		if s.pool != nil && (database == "" || s.pool.Database == database) {
			victims = append(victims, s)
		}
	}
	for _, s := range victims {
		s.fatal(endKilled, errShutdown)
	}
	p.pools.Kill(database)
	done(nil)
}

// killClient ends the client with that id.
func killClient(c *console, id string, done func(*pgwire.Error)) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		done(errorf(pgwire.SyntaxError, `KILL_CLIENT "%.64s": expected an id of SHOW CLIENTS`, id))
		return
	}
	s := c.session.proxy.byID[uint32(n)]
	if s == nil || s.pool == nil && s.console == nil {
		done(errorf(pgwire.UndefinedObject, "there is no client %d: expected an id of SHOW CLIENTS", n))
		return
	}
	s.fatal(endKilled, errShutdown)
	done(nil) // unless it was the client itself
}

// reloadFiles reads again what SIGHUP has read again.
func reloadFiles(c *console, _ string, done func(*pgwire.Error)) {
	reload := c.session.proxy.consoles.config.Reload
	if reload == nil {
		done(unsupported("RELOAD", "this process reads nothing again"))
		return
	}
	reload(func(err error) {
		if err != nil {
			done(errorf(pgwire.ConfigFileError, "not reloaded, what was read before stays in use: %v", err))
			return
		}
		done(nil)
	})
}

// shutDown ends the process: at once, or when every transaction has ended.
func shutDown(c *console, how string, done func(*pgwire.Error)) {
	stop := c.session.proxy.consoles.config.Shutdown
	switch orderly := strings.EqualFold(how, "WAIT_FOR_SERVERS"); {
	case stop == nil:
		done(unsupported("SHUTDOWN", "the process is not the proxy's to end"))
	case strings.EqualFold(how, "WAIT_FOR_CLIENTS"):
		done(unsupported("SHUTDOWN WAIT_FOR_CLIENTS", "clients would be waited for without end: use SHUTDOWN WAIT_FOR_SERVERS"))
	case how != "" && !orderly:
		done(errorf(pgwire.SyntaxError, `SHUTDOWN "%.64s": expected WAIT_FOR_SERVERS or nothing`, how))
	default:
		stop(orderly)
		if orderly {
			done(nil)
		} // else the end of the connection is the answer
	}
}
