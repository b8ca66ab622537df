package pool

import (
	_ "embed" // for the query
	"slices"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// A statement that calls a function of the database may do whatever that does, or what
// it calls, or a trigger, default, view or operator that it comes upon. So PostgreSQL is
// asked, now and then, what the functions of the database can do to a session, going by
// their sources: behind a call, an inspection looks for that only, and there is none if
// the function leaves sessions alone. Behind a write, which may come upon some that it does
// not name, it looks for what those can do.

// hazard is what a function can do to a session.
type hazard struct {
	state StateSet // kinds
	names []string // settings that are not in it
	local bool     // it can change settings until the end of the transaction
}

// hazards is what the functions of a database can do.
type hazards struct {
	known bool

	// named is that of functions by name, of those that can do something; unnamed of what
	// runs without being named, and so of any function; fired of the part of that which a
	// write may come upon; all is the sum.
	named               map[string]*hazard
	unnamed, fired, all hazard
	settings            []string // of applications, that some function sets

	// revision counts the answers that told of more than the one before.
	revision uint64

	// What it is good for: a state of the definitions, as far as they are seen to change,
	// and a time, because changes are made where nobody sees them.
	definitions uint64
	until       time.Duration
	due         time.Duration // when PostgreSQL is asked again, if somebody wants to know
	askedAt     time.Duration
	took        time.Duration
}

// scanSettings stands in front of the query for the hazards, which must not depend on the
// session, nor take longer for being compiled. hazardQuery returns one in a row: "name
// hazard", "* hazard" of what runs without being named, or "+ hazard" of what a write comes
// upon, which has a row with "*" as well.
const scanSettings = "SET LOCAL statement_timeout TO 0;SET LOCAL jit TO off;SET LOCAL search_path TO pg_catalog,pg_temp;"

//go:embed hazards.sql
var hazardQuery string

// PostgreSQL is asked again after a hundred times as long as it took to answer, within
// these bounds; without an answer, after the longer one; and after ten times as long when
// functions have been defined. The answer is relied on for twice as long, so that only
// one transaction waits for the next.
const (
	minScanPeriod   = time.Second
	maxScanPeriod   = time.Minute
	scanShare       = 100
	definitionShare = 10
)

const (
	maxHazardNames    = 16     // settings that are asked for by name rather than listed
	maxNamedFunctions = 10_000 // functions that are told from each other
)

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

// add adds a row of the answer, and reports whether it is one.
func (h *hazards) add(row string) bool {
	function, word, ok := strings.Cut(row, " ")
	if !ok || !h.all.add(word) {
		return false
	}
	if name, ok := strings.CutPrefix(word, "set "); ok && strings.Contains(name, ".") && len(h.settings) < maxCustomSettings {
		h.settings = append(h.settings, name)
	}
	if function == "+" {
		return h.fired.add(word)
	}
	if function == "*" || h.named[function] == nil && len(h.named) == maxNamedFunctions {
		return h.unnamed.add(word)
	}
	if h.named == nil {
		h.named = map[string]*hazard{}
	}
	if h.named[function] == nil {
		h.named[function] = &hazard{}
	}
	return h.named[function].add(word)
}

// complete ends the answer: what runs without being named, every function does.
func (h *hazards) complete() {
	for _, named := range h.named {
		named.state |= h.unnamed.state
		named.local = named.local || h.unnamed.local
		for _, name := range h.unnamed.names {
			named.addName(name)
		}
	}
}

// exceeds reports whether some function can do something that it could not before.
func (h *hazards) exceeds(before *hazards) bool {
	if !before.known || h.unnamed.exceeds(&before.unnamed) || h.fired.exceeds(&before.fired) {
		return true
	}
	for function, named := range h.named {
		if named.exceeds(before.of(function)) {
			return true
		}
	}
	return false
}

// of returns what a function can do.
func (h *hazards) of(function string) *hazard {
	if named := h.named[function]; named != nil {
		return named
	}
	return &h.unnamed
}

// add adds a hazard as the query calls it, and reports whether it is one.
func (h *hazard) add(word string) bool {
	if kind, ok := hazardKinds[word]; ok {
		h.state |= kind
		return true
	}
	if word == "local" {
		h.local = true
		return true
	}
	name, ok := strings.CutPrefix(word, "set ")
	if ok && ValidSettingName(name) {
		h.addName(name)
	}
	return ok
}

func (h *hazard) addName(name string) {
	switch {
	case slices.Contains(h.names, name), h.state&StateSettings != 0:
	case len(h.names) == maxHazardNames:
		h.state, h.names = h.state|StateSettings, nil
	default:
		h.names = append(h.names, name)
	}
}

// exceeds reports whether it can do something that other cannot.
func (h *hazard) exceeds(other *hazard) bool {
	more := func(name string) bool { return !slices.Contains(other.names, name) }
	return h.state&^other.state != 0 || slices.ContainsFunc(h.names, more)
}

// changesMeaning reports whether texts can mean, or be read as, something else behind it.
func (h *hazard) changesMeaning() bool {
	return h.local || h.state&(StateSettings|StateTemporary) != 0 ||
		slices.ContainsFunc(h.names, func(name string) bool { return ChangesMeaning(name) || ChangesReading(name) != ReadingSame })
}

var (
	noHazard hazard

	// unknownHazard is of functions of which nothing is known.
	unknownHazard = hazard{state: StateAny | StateSequences, local: true}
)

// needsScan reports whether it matters to the transaction what functions can do: it may have
// called some.
func (s *Server) needsScan() bool { return s.suspected&(StateFunctions|StateSettings) != 0 }

// scanDue reports whether PostgreSQL should be asked that.
func (s *Server) scanDue() bool {
	return s.needsScan() && s.pool.now() >= s.pool.database.hazards.due
}

// awaitsScan reports whether the question about the session has to wait for what another
// server has been asked: until PostgreSQL has told for the first time which settings of
// applications functions set, nobody knows what to ask for.
func (s *Server) awaitsScan() bool {
	d := s.pool.database
	if !s.needsScan() || d.scanning == nil || d.hazards.known {
		return false
	}
	if !slices.Contains(d.awaiting, s) {
		d.awaiting = append(d.awaiting, s)
	}
	return true
}

// scanEnds lets those go on who wait for the answer, if there is one or not: without, the
// next of them asks.
func (s *Server) scanEnds() {
	d := s.pool.database
	if d.scanning != s {
		return
	}
	awaiting := d.awaiting
	d.scanning, d.awaiting, d.hazards.due = nil, nil, s.pool.now()
	for _, other := range awaiting {
		s.pool.loop.Post(func() {
			if other.client != nil && other.Suspect() { // else it has got another client
				other.releaseIfDone()
			}
		})
	}
}

// beginScan adds to a question what functions can do.
func (s *Server) beginScan(q *inspection) {
	d := s.pool.database
	d.scanning = s
	d.hazards.due = s.pool.now() + maxScanPeriod
	q.scan = true
	q.hazards = hazards{known: true, definitions: d.definitions, askedAt: s.pool.now()}
}

// scanRefused acts on an error in its place. Behind a cancel request, which was meant for
// something else, the next is as good as the first.
func (s *Server) scanRefused(refusal *pgwire.Error) {
	h, p := &s.pool.database.hazards, s.pool
	h.known = false
	if refusal != nil && refusal.SQLState == pgwire.QueryCanceled {
		return
	}
	h.due = p.now() + maxScanPeriod
	if refusal != nil {
		p.pools.logger.Warn("PostgreSQL does not tell what functions do: clients that call them keep their servers", "database", p.Database, "user", p.User,
			"sqlstate", string(refusal.SQLState), "error", refusal.Message)
	}
}

// scanDone acts on the answer. If functions can do more than was in question, that is.
func (s *Server) scanDone(h *hazards) {
	d := s.pool.database
	for _, name := range h.settings {
		d.noteSetting(name)
	}
	h.complete()
	h.took = s.pool.now() - h.askedAt
	period := min(max(scanShare*h.took, minScanPeriod), maxScanPeriod)
	h.due, h.until = h.askedAt+period, h.askedAt+2*period
	h.revision = d.hazards.revision
	if h.exceeds(&d.hazards) {
		h.revision++
		if d.hazards.known { // else everything has been asked for
			s.suspected |= StateFunctions
		}
	}
	d.hazards = *h
	if h.definitions != d.definitions {
		d.scanSoon()
	}
}

// hazardOf returns what the functions can do that a statement calls, or comes upon.
func (s *Server) hazardOf(e *Effects) *hazard {
	d := s.pool.database
	switch {
	case e.State&StateFunctions == 0 && (!e.Writes || d.hazardsRefused(s.pool.now())):
		return &noHazard
	case !d.hazardsKnown():
		return &unknownHazard
	case e.State&StateFunctions == 0:
		return &d.hazards.fired
	case len(e.Functions) == 0:
		return &d.hazards.all
	}
	found := &d.hazards.unnamed
	for _, function := range e.Functions {
		switch named := d.hazards.of(function); {
		case found == &d.hazards.unnamed:
			found = named
		case named != &d.hazards.unnamed:
			return &d.hazards.all
		}
	}
	return found
}

// firesUnknown reports whether PostgreSQL is to be asked what a write comes upon. That
// hardly ever changes, but where this is seen, so the answer is good for maxScanPeriod.
func (s *Server) firesUnknown(e *Effects) bool {
	d, now := s.pool.database, s.pool.now()
	return e.Writes && !d.hazardsRefused(now) && (!d.hazardsKnown() || now >= d.hazards.askedAt+maxScanPeriod)
}

// functionState is the kinds of state that functions of the database may change.
func (d *database) functionState() StateSet {
	switch {
	case !d.hazardsKnown():
		return unknownHazard.state
	case len(d.hazards.all.names) > 0:
		return d.hazards.all.state | StateSettings
	default:
		return d.hazards.all.state
	}
}

// suspectFunctions puts in question what the functions can change that a statement calls.
func (s *Server) suspectFunctions(h *hazard) {
	if s.suspected&StateFunctions == 0 {
		s.suspected |= StateFunctions
		s.judgedBy = s.pool.database.hazards.revision
	}
	s.suspectHazard(h)
}

func (s *Server) suspectHazard(h *hazard) {
	s.suspected |= h.state & StateAny
	for _, name := range h.names {
		s.suspectName(name)
	}
}

// suspectName puts a setting in question.
func (s *Server) suspectName(name string) {
	if !mutantLeakSet && !slices.Contains(s.suspectedNames, name) {
		s.suspectedNames = append(s.suspectedNames, name)
	}
}

// resolveFunctions ends, with the transaction, what began when it called a function: by
// now it may be known that functions can do more. What the client is pinned by, they can
// have taken away.
func (s *Server) resolveFunctions() {
	if s.suspected&StateFunctions == 0 {
		return
	}
	s.suspected = s.suspected&^StateFunctions | s.pins&StateAny
	d := s.pool.database
	switch {
	case !d.hazardsKnown(), s.pool.now() >= d.hazards.until:
		s.suspectHazard(&unknownHazard)
	case s.judgedBy != d.hazards.revision:
		s.suspectHazard(&d.hazards.all)
	}
}
