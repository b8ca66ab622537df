package pool

import (
	"strings"
	"time"
)

// database is what the pools of one database know of it, whoever logs in.
type database struct {
	// customSettings are those that PostgreSQL does not list and some client, or
	// function, has named.
	customSettings map[string]bool

	hazards hazards

	// scanning is the server that is being asked for them, or nil; awaiting are those on
	// which transactions have ended that need the answer.
	scanning *Server
	awaiting []*Server

	// definitions counts the transactions that have defined functions; defining is how
	// many are under way that may do so.
	definitions uint64
	defining    int
}

// database returns what is known of a database, by name.
func (p *Pools) database(name string) *database {
	for _, pool := range p.list {
		if pool.Database == name {
			return pool.database
		}
	}
	return &database{}
}

// noteSetting remembers a setting of an extension or application: PostgreSQL does not
// list them, so they have to be asked for by name.
func (d *database) noteSetting(name string) {
	if !strings.Contains(name, ".") || d.customSettings[name] || len(d.customSettings) >= maxCustomSettings {
		return
	}
	if d.customSettings == nil {
		d.customSettings = map[string]bool{}
	}
	d.customSettings[name] = true
}

// maxCustomSettings bounds what a client can make the pool ask for.
const maxCustomSettings = 256

// hazardsKnown reports whether it is known what functions could do when PostgreSQL was
// asked last, and nobody has defined any since, or is about to.
func (d *database) hazardsKnown() bool {
	return d.hazards.known && d.hazards.definitions == d.definitions && d.defining == 0
}

// hazardsRefused reports whether PostgreSQL does not tell what functions can do. Then writes
// are taken to leave sessions alone: else whoever writes would keep a server.
func (d *database) hazardsRefused(now time.Duration) bool {
	return !d.hazards.known && d.scanning == nil && now < d.hazards.due
}

// define notes that a statement is sent that may define functions, which set settings:
// from now on other clients may call them.
func (s *Server) define(settings []string) {
	d := s.pool.database
	for _, name := range settings {
		d.noteSetting(name)
	}
	if !s.defining {
		s.defining = true
		d.defining++
	}
}

// defined notes that functions are there for everybody that were not before.
func (d *database) defined() {
	d.definitions++
	d.scanSoon()
}

// scanSoon has PostgreSQL asked again what functions can do.
func (d *database) scanSoon() {
	d.hazards.due = min(d.hazards.due, d.hazards.askedAt+definitionShare*d.hazards.took)
}

// definitionEnds notes that nothing is under way any more that may define functions.
func (s *Server) definitionEnds() {
	if s.defining {
		s.defining = false
		s.pool.database.defining--
	}
}
