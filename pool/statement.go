package pool

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/shed"
)

// StatementID numbers the statements of a registry; it is never used twice.
type StatementID uint64

// Statement is a prepared statement as any client may have prepared it: a text
// and parameter types. On every server it goes by the same name.
type Statement struct {
	ID StatementID

	// Name is its name on the servers.
	Name string

	// Body is the Parse message without header and name: the text with its
	// terminator, then the count and the OIDs of the parameter types. Reading is the
	// settings by which the text is read, of those that matter to it.
	Body    string
	Reading *Settings
	traits  textTraits
	asked   bool // the server has been asked for the reading

	// Class is what the proxy found out about the text; the pool does not look
	// at it.
	Class uint8

	// Momentary: what it returns depends on the session at the time, like the rows of a
	// cursor: it is neither remembered nor compared.
	Momentary bool

	// Plain: no setting decides how it is read, whatever its text looks like, and PostgreSQL
	// may take it where it answers no question.
	Plain bool

	// Parameterless: it has no parameters. Silent: nor does it return rows, so that it is
	// known how PostgreSQL describes it.
	Parameterless, Silent bool

	// Unclear: its text does not tell how PostgreSQL describes it, nor that it returns rows.
	Unclear bool

	// Effects is what running it may do to the session, if Class says that it has
	// been found out.
	Effects *Effects

	// Asked is by what the proxy recognises that a client asks the same again, Tags
	// what a comment in the text says, nil if there is none; both if Class says that it
	// has been found out.
	Asked shed.Hash
	Tags  *shed.Tags

	// Timing is how long it takes on a server.
	Timing Timing

	// Epoch counts the times that its result type was seen to change, from 1.
	// Owned by the pool.
	Epoch uint32

	// known is where a server has accepted the statement in this epoch.
	known []knownStatement

	// references is how many names of clients stand for it, generation the
	// registry's when it was made. Owned by the registry.
	references int
	generation uint64
}

// statementKey is what tells statements apart.
type statementKey struct {
	reading *Settings
	body    string
}

func (s *Statement) key() statementKey { return statementKey{s.Reading, s.Body} }

// Registry keeps one Statement per distinct body and reading, so that clients share what
// servers have prepared. Statements that no client names any more are kept, within
// a bound, for the next client.
//
// A text means what the schema makes of it when it is parsed. So a change of the
// schema begins a generation: a body that is parsed from then on is a new statement,
// and names that stand for the old one keep it.
type Registry struct {
	used   map[statementKey]*Statement
	unused *simplelru.LRU[statementKey, *Statement]
	lastID StatementID

	generation uint64

	unusedBytes    int
	maxUnusedBytes int
}

// Bounds of what a registry keeps for no client in particular.
const (
	maxUnusedStatements     = 10_000
	maxUnusedStatementBytes = 16 << 20
)

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	unused, err := simplelru.NewLRU[statementKey, *Statement](maxUnusedStatements, nil)
	if err != nil {
		panic("BUG: " + err.Error()) // the size is a positive constant
	}
	return &Registry{used: map[statementKey]*Statement{}, unused: unused, maxUnusedBytes: maxUnusedStatementBytes}
}

// Advance begins a generation.
func (r *Registry) Advance() { r.generation++ }

// Current reports whether a Parse of the body of s is a Parse of s.
func (r *Registry) Current(s *Statement) bool { return s.generation == r.generation }

// Lookup returns the statement with that body, read by those settings, or nil if no
// client has prepared it yet in this generation.
func (r *Registry) Lookup(reading *Settings, body []byte) *Statement {
	s, ok := r.used[statementKey{reading, string(body)}]
	if !ok {
		s, ok = r.unused.Peek(statementKey{reading, string(body)})
	}
	if !ok || !r.Current(s) {
		return nil
	}
	return s
}

// Intern returns the statement with that body, read by those settings, without a name
// that stands for it.
func (r *Registry) Intern(reading *Settings, body []byte) *Statement {
	s := r.Reference(reading, body)
	r.Release(s)
	return s
}

// Reference returns the statement with that body, read by those settings, and counts one
// more name that stands for it. body is copied if it is new.
func (r *Registry) Reference(reading *Settings, body []byte) *Statement {
	if s, ok := r.used[statementKey{reading, string(body)}]; ok && r.Current(s) {
		s.references++
		return s
	}
	if s, ok := r.unused.Peek(statementKey{reading, string(body)}); ok {
		r.unused.Remove(s.key())
		r.unusedBytes -= len(s.Body)
		if r.Current(s) {
			r.used[s.key()] = s
			s.references = 1
			return s
		}
	}
	r.lastID++
	text, _, _ := pgwire.CString(body)
	s := &Statement{
		ID:         r.lastID,
		Epoch:      1,
		Name:       "bp_" + strconv.FormatUint(uint64(r.lastID), 10),
		Body:       string(body),
		Reading:    reading,
		traits:     traitsOf(text),
		references: 1,
		generation: r.generation,
	}
	r.used[s.key()] = s
	return s
}

// Retain counts one more name for s.
func (r *Registry) Retain(s *Statement) { s.references++ }

// Release counts one name less for s.
func (r *Registry) Release(s *Statement) {
	s.references--
	if s.references > 0 {
		return
	}
	if r.used[s.key()] == s {
		delete(r.used, s.key())
	}
	if !r.Current(s) || s.Reading.isPrivate() {
		return // nobody can ask for it
	}
	if r.unused.Len() == maxUnusedStatements {
		r.forgetOldest()
	}
	r.unused.Add(s.key(), s)
	r.unusedBytes += len(s.Body)
	for r.unusedBytes > r.maxUnusedBytes {
		r.forgetOldest()
	}
}

func (r *Registry) forgetOldest() {
	if _, s, ok := r.unused.RemoveOldest(); ok {
		r.unusedBytes -= len(s.Body)
	}
}

// preparedSet is what one server has prepared, in order of last use, with the
// number of the lease that used it last.
type preparedSet struct {
	lru *simplelru.LRU[StatementID, preparedStatement]
	max int

	// stale are statements that the server has, but not as they are now: they are
	// closed before they are prepared again.
	stale []*Statement
}

type preparedStatement struct {
	statement *Statement
	lease     uint64
	epoch     uint32 // of the statement when it was prepared
	meaning   string // of the settings when it was prepared

	// stay is that of the client on the server, and inspections how many the server had
	// been sent by then.
	stay        uint64
	inspections uint64

	// comparedWith is the meaning under which a client was told what the statement
	// returns, if it was compared with that, and differs whether it returns something
	// else here.
	compared     bool
	comparedWith string
	differs      bool
}

func newPreparedSet(maxCount int) preparedSet {
	// The set may exceed max while one lease needs more statements than that;
	// what is evicted, and when, is decided in evictable.
	lru, err := simplelru.NewLRU[StatementID, preparedStatement](1<<30, nil)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return preparedSet{lru: lru, max: maxCount}
}

// use marks s as used by the lease and reports whether the server has it as it is
// now, prepared under settings with that meaning.
func (p *preparedSet) use(s *Statement, lease uint64, meaning string) bool {
	known, ok := p.lru.Get(s.ID)
	switch {
	case !ok:
		return false
	case known.epoch != s.Epoch, known.meaning != meaning:
		p.markStale(s)
		return false
	case known.lease != lease:
		known.lease = lease
		p.lru.Add(s.ID, known)
	}
	return true
}

// epoch returns the epoch in which the server prepared s, 0 if it did not.
func (p *preparedSet) epoch(s *Statement) uint32 {
	known, _ := p.lru.Peek(s.ID)
	return known.epoch
}

// has reports whether the server has prepared s, in whatever epoch and with whatever
// meaning.
func (p *preparedSet) has(s *Statement) bool {
	return p.lru.Contains(s.ID) || slices.Contains(p.stale, s)
}

// renew has s prepared anew if what it returns is what something else did at that time.
func (p *preparedSet) renew(s *Statement) {
	if s.Momentary && p.lru.Contains(s.ID) {
		p.markStale(s)
	}
}

// meaning returns that under which the server prepared s.
func (p *preparedSet) meaning(s *Statement) string {
	known, _ := p.lru.Peek(s.ID)
	return known.meaning
}

func (p *preparedSet) add(s *Statement, lease uint64, meaning string) {
	p.lru.Add(s.ID, preparedStatement{statement: s, lease: lease, epoch: s.Epoch, meaning: meaning})
}

// compare notes that the server's s is compared with what it returns under another
// meaning; it reports false if it has been.
func (p *preparedSet) compare(s *Statement, meaning string) bool {
	known, ok := p.lru.Peek(s.ID)
	if !ok || known.compared && known.comparedWith == meaning {
		return false
	}
	known.compared, known.comparedWith, known.differs = true, meaning, false
	p.lru.Add(s.ID, known)
	return true
}

// differ notes that the server's s returns something else than what it was compared
// with.
func (p *preparedSet) differ(s *Statement) {
	if known, ok := p.lru.Peek(s.ID); ok {
		known.differs = true
		p.lru.Add(s.ID, known)
	}
}

// markStale notes that the server has to forget s before it prepares it again.
func (p *preparedSet) markStale(s *Statement) {
	p.remove(s)
	p.stale = append(p.stale, s)
}

// takeStale reports whether s has to be closed first, and forgets it.
func (p *preparedSet) takeStale(s *Statement) bool {
	i := slices.Index(p.stale, s)
	if i >= 0 {
		p.stale = slices.Delete(p.stale, i, i+1)
	}
	return i >= 0
}

// remove notes that the server does not have s, nor an s that is stale.
func (p *preparedSet) remove(s *Statement) {
	p.lru.Remove(s.ID)
	p.takeStale(s)
}

func (p *preparedSet) clear() {
	p.lru.Purge()
	p.stale = nil
}

// evictable returns the statement to close before one more is prepared, or nil.
// What the lease at hand has used stays, because closing a statement closes its
// portals too. named: so does what a client has a name for.
func (p *preparedSet) evictable(lease uint64, named bool) *Statement {
	if p.lru.Len() < p.max {
		return nil
	}
	_, oldest, ok := p.lru.GetOldest()
	if named {
		oldest, ok = p.oldestUnnamed()
	}
	if !ok || oldest.lease == lease {
		return nil
	}
	return oldest.statement
}

// oldestUnnamed returns the one of last use for which no client has a name.
func (p *preparedSet) oldestUnnamed() (oldest preparedStatement, ok bool) {
	for _, id := range p.lru.Keys() {
		if oldest, ok = p.lru.Peek(id); ok && oldest.statement.references == 0 {
			return oldest, true
		}
	}
	return preparedStatement{}, false
}

// ReservedName reports whether a client's name for a statement is one that the
// registry gives on servers.
func ReservedName(name []byte) bool { return bytes.HasPrefix(name, []byte("bp_")) }
