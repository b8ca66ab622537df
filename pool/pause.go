package pool

import (
	"iter"
	"maps"
	"slices"
)

// This file is what operators do to the pools of a database, or of all where the name is
// empty: hold their clients back, and have their servers closed.

// pauses are the databases whose clients wait.
type pauses struct {
	all       bool
	databases map[string]bool
}

// Paused reports whether the clients of a database wait; with no name, whether all do.
func (p *Pools) Paused(database string) bool { return p.pauses.all || p.pauses.databases[database] }

// PausedDatabases returns the databases that were paused by name, in order.
func (p *Pools) PausedDatabases() []string { return slices.Sorted(maps.Keys(p.pauses.databases)) }

// Pause lends no server any more: those that are idle are closed now, the others when
// they are given back. Who wants one waits, for as long as it takes.
func (p *Pools) Pause(database string) {
	if database == "" {
		p.pauses.all = true
	} else {
		if p.pauses.databases == nil {
			p.pauses.databases = map[string]bool{}
		}
		p.pauses.databases[database] = true
	}
	for pool := range p.of(database) {
		pool.dismiss(ReasonPaused)
		pool.gate.Pause()
		pool.armWaitTimer()
	}
}

// Resume undoes Pause; of a single database only that of its name. Those who wait have
// waited since now.
func (p *Pools) Resume(database string) {
	if database == "" {
		p.pauses.all = false
	} else {
		delete(p.pauses.databases, database)
	}
	for pool := range p.of(database) {
		if pool.paused() {
			continue
		}
		pool.gate.Resume(p.loop.Now())
		pool.armWaitTimer()
		pool.grow()
	}
}

// Reconnect closes the servers that there are now as soon as nobody holds them.
func (p *Pools) Reconnect(database string) {
	for pool := range p.of(database) {
		pool.lastStale = p.lastServer
		pool.dismiss(ReasonReconnect)
	}
}

// Kill closes every server, whatever it does.
func (p *Pools) Kill(database string) {
	for pool := range p.of(database) {
		pool.abort(ReasonKilled)
	}
}

// CountServers counts the servers, and those of them that are to be closed.
func (p *Pools) CountServers(database string) (all, closeNeeded int) {
	for pool := range p.of(database) {
		all += len(pool.servers)
		for _, s := range pool.servers {
			if s.expired(p.loop.Now()) || s.stale() {
				closeNeeded++
			}
		}
	}
	return all, closeNeeded
}

// Has reports whether there is a pool of the database.
func (p *Pools) Has(database string) bool {
	for range p.of(database) {
		return true
	}
	return false
}

// of yields the pools of a database; with no name, all.
func (p *Pools) of(database string) iter.Seq[*Pool] {
	return func(yield func(*Pool) bool) {
		for _, pool := range slices.Clone(p.list) {
			if (database == "" || pool.Database == database) && !yield(pool) {
				return
			}
		}
	}
}

func (p *Pool) paused() bool { return p.pools.Paused(p.Database) }

// dismiss closes idle servers, and has those that are shared run dry.
func (p *Pool) dismiss(reason CloseReason) {
	for i := len(p.idle) - 1; i >= 0; i = min(i, len(p.idle)) - 1 { // closing one may make others close
		p.idle[i].close(reason)
	}
	for _, s := range p.lanes {
		s.stopped = true
	}
}

// abort closes every server, whatever it does.
func (p *Pool) abort(reason CloseReason) {
	for len(p.servers) > 0 {
		s := p.servers[len(p.servers)-1]
		if s.conn == nil {
			p.forget(s, reason) // dialed finds it closed
			continue
		}
		s.close(reason)
	}
}

// stale reports whether the server is older than the last Reconnect.
func (s *Server) stale() bool { return s.id <= s.pool.lastStale }
