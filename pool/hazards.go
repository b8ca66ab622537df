package pool

import (
	_ "embed" // for the query
	"slices"
	"strings"
	"time"
)

// A statement that calls a function of the database may do whatever that does, or what
// it calls, or a trigger, default, view or operator that it comes upon. So PostgreSQL is
// asked, now and then, what all functions of the database together can do to a session,
// going by their sources: an inspection looks for that only, and there is none where no
// function changes sessions.

// hazards is what the functions of a database can do to a session.
type hazards struct {
	known bool
	state StateSet // kinds
	names []string // settings that are not in it

	// What it is good for: a generation of the registry, which ends when a change of the
	// schema is seen, and a time, because changes are made where nobody sees them.
	generation uint64
	until      time.Duration
	due        time.Duration // when PostgreSQL is asked again, if somebody wants to know
	askedAt    time.Duration
}

// scanSettings stands in front of the query for the hazards, which must not depend on the
// session, nor take longer for being compiled. hazardQuery returns one in a row.
const scanSettings = "SET LOCAL statement_timeout TO 0;SET LOCAL jit TO off;SET LOCAL search_path TO pg_catalog,pg_temp;"

//go:embed hazards.sql
var hazardQuery string

// PostgreSQL is asked again after a hundred times as long as it took to answer, within
// these bounds; without an answer, after the longer one. The answer is relied on for
// twice as long, so that only one transaction waits for the next.
const (
	minScanPeriod = time.Second
	maxScanPeriod = time.Minute
	scanShare     = 100
)

// maxHazardNames is how many settings are asked for by name rather than listed.
const maxHazardNames = 16

// hazardKinds are the kinds of state in the words of the query.
var hazardKinds = map[string]StateSet{
	"anything":  StateAny | StateSequences,
	"settings":  StateSettings,
	"temporary": StateTemporary,
	"channels":  StateChannels,
	"locks":     StateLocks,
	"cursors":   StateCursors,
	"prepared":  StatePrepared,
	"numbers":   StateSequences,
}

// add adds a hazard as the query calls it, and reports whether it is one.
func (h *hazards) add(hazard string) bool {
	if kind, ok := hazardKinds[hazard]; ok {
		h.state |= kind
		return true
	}
	name, ok := strings.CutPrefix(hazard, "set ")
	if ok && ValidSettingName(name) {
		h.names = append(h.names, name)
	}
	return ok
}

// scanDue reports whether PostgreSQL should be asked what functions can do, which matters
// to a transaction that may have called some.
func (s *Server) scanDue() bool {
	return s.suspected&(StateFunctions|StateSettings) != 0 && s.pool.now() >= s.pool.hazards.due
}

// beginScan adds to a question what functions can do.
func (s *Server) beginScan(q *inspection) {
	s.pool.hazards.due = s.pool.now() + maxScanPeriod
	q.scan = true
	q.hazards = hazards{known: true, generation: s.pool.Registry().generation, askedAt: s.pool.now()}
}

// scanDone acts on the answer. If functions can do more than was in question, that is.
func (s *Server) scanDone(h *hazards) {
	for _, name := range h.names {
		s.pool.noteSetting(name)
	}
	if len(h.names) > maxHazardNames {
		h.state, h.names = h.state|StateSettings, nil
	}
	period := min(max(scanShare*(s.pool.now()-h.askedAt), minScanPeriod), maxScanPeriod)
	h.due, h.until = h.askedAt+period, h.askedAt+2*period
	before := s.pool.hazards
	s.pool.hazards = *h
	more := func(name string) bool { return !slices.Contains(before.names, name) }
	if before.known && (h.state&^before.state != 0 || slices.ContainsFunc(h.names, more)) {
		s.suspected |= StateFunctions
	}
}

// hazardsKnown reports whether it is known what functions could do when PostgreSQL was
// asked last, and no change of the schema has been seen since.
func (p *Pool) hazardsKnown() bool {
	return p.hazards.known && p.hazards.generation == p.Registry().generation
}

// functionState is the kinds of state that functions of the database may change.
func (p *Pool) functionState() StateSet {
	switch {
	case !p.hazardsKnown():
		return StateAny | StateSequences
	case len(p.hazards.names) > 0:
		return p.hazards.state | StateSettings
	default:
		return p.hazards.state
	}
}

// suspectFunctions puts in question what functions can change. It is done when one is
// called, and again when the transaction has ended, because they may be replaced or
// dropped meanwhile.
func (s *Server) suspectFunctions() {
	if !s.pool.hazardsKnown() {
		s.suspected |= StateAny
		return
	}
	s.suspected |= s.pool.hazards.state & StateAny
	for _, name := range s.pool.hazards.names {
		s.suspectName(name)
	}
}

// suspectName puts a setting in question.
func (s *Server) suspectName(name string) {
	if !mutantLeakSet && !slices.Contains(s.suspectedNames, name) {
		s.suspectedNames = append(s.suspectedNames, name)
	}
}

// resolveFunctions puts what functions can have changed in the place of StateFunctions,
// and what they can have taken away.
func (s *Server) resolveFunctions() {
	if s.suspected&StateFunctions == 0 {
		return
	}
	s.suspected = s.suspected&^StateFunctions | s.pins&StateAny
	if s.pool.now() >= s.pool.hazards.until {
		s.suspected |= StateAny
	}
	s.suspectFunctions()
}
