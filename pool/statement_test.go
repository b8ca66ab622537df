package pool

import (
	"fmt"
	"strings"
	"testing"
)

func TestRegistrySharesStatements(t *testing.T) {
	r := NewRegistry()
	body := []byte("select 1\x00\x00\x00")
	first := r.Reference(nil, body)
	if again := r.Reference(nil, body); again != first {
		t.Errorf("the same body made %v and %v", first, again)
	}
	other := r.Reference(nil, []byte("select 1\x00\x00\x01\x00\x00\x00\x17"))
	if other == first || other.Name == first.Name || other.ID == first.ID {
		t.Errorf("other parameter types made the same statement %+v", other)
	}
	copy(body, "delete  ")
	if first.Body != "select 1\x00\x00\x00" {
		t.Errorf("the registry keeps the caller's slice: %q", first.Body)
	}
	if !ReservedName([]byte(first.Name)) {
		t.Errorf("name %q is not reserved", first.Name)
	}
}

func TestRegistryCountsReferences(t *testing.T) {
	r := NewRegistry()
	s := r.Reference(nil, []byte("a"))
	r.Reference(nil, []byte("a"))
	r.Retain(s)
	for i := range 3 {
		if _, used := r.used[statementKey{nil, "a"}]; !used || r.unused.Len() != 0 {
			t.Fatalf("after %d releases of 3: not in use", i)
		}
		r.Release(s)
	}
	if _, used := r.used[statementKey{nil, "a"}]; used || r.unused.Len() != 1 || r.unusedBytes != 1 {
		t.Errorf("after the last release: used %v, unused %d of %d bytes", used, r.unused.Len(), r.unusedBytes)
	}
	if again := r.Reference(nil, []byte("a")); again != s {
		t.Error("a statement that is kept was not used again")
	}
	if r.unused.Len() != 0 || r.unusedBytes != 0 || s.references != 1 {
		t.Errorf("after reuse: unused %d of %d bytes, %d references", r.unused.Len(), r.unusedBytes, s.references)
	}
}

// A generation makes new statements; names keep those that they stand for.
func TestRegistryGenerations(t *testing.T) {
	r := NewRegistry()
	used, unused := r.Reference(nil, []byte("a")), r.Intern(nil, []byte("bb"))
	r.Advance()
	for _, s := range []*Statement{used, unused} {
		if r.Current(s) || r.Lookup(nil, []byte(s.Body)) != nil {
			t.Errorf("%q is still what a Parse of it means", s.Body)
		}
		again := r.Reference(nil, []byte(s.Body))
		if again == s || again.Name == s.Name || r.Lookup(nil, []byte(s.Body)) != again || !r.Current(again) {
			t.Errorf("%q became %+v", s.Body, again)
		}
	}
	r.Release(used)
	if r.Lookup(nil, []byte("a")) == nil || len(r.used) != 2 || r.unused.Len() != 0 || r.unusedBytes != 0 {
		t.Errorf("after the release of an old one: %d used, %d unused of %d bytes", len(r.used), r.unused.Len(), r.unusedBytes)
	}
	last := r.Lookup(nil, []byte("bb"))
	r.Advance()
	r.Release(last)
	if len(r.used) != 1 || r.unused.Len() != 0 {
		t.Errorf("an old statement is kept for nobody: %d used, %d unused", len(r.used), r.unused.Len())
	}
}

func TestRegistryBoundsBytes(t *testing.T) {
	r := NewRegistry()
	r.maxUnusedBytes = 100
	var statements []*Statement
	for i := range 10 {
		statements = append(statements, r.Reference(nil, fmt.Appendf(nil, "%d%s", i, strings.Repeat("x", 19))))
	}
	for _, s := range statements {
		r.Release(s)
	}
	if r.unused.Len() != 5 || r.unusedBytes != 100 {
		t.Errorf("%d statements of %d bytes are kept, want 5 of 100", r.unused.Len(), r.unusedBytes)
	}
	if again := r.Reference(nil, []byte(statements[9].Body)); again != statements[9] {
		t.Error("the statement released last was forgotten")
	}
	again := r.Reference(nil, []byte(statements[0].Body))
	if again == statements[0] || again.ID != 11 {
		t.Errorf("a forgotten statement came back as %+v, want a new one with ID 11", again)
	}
	big := r.Reference(nil, []byte(strings.Repeat("y", 101)))
	r.Release(big)
	if r.unused.Len() != 0 || r.unusedBytes != 0 {
		t.Errorf("a statement beyond the bound is kept: %d, %d bytes", r.unused.Len(), r.unusedBytes)
	}
}

func TestRegistryBoundsCount(t *testing.T) {
	r := NewRegistry()
	bytes := 0
	for i := range maxUnusedStatements + 100 {
		s := r.Reference(nil, fmt.Append(nil, i))
		r.Release(s)
	}
	for i := 100; i < maxUnusedStatements+100; i++ {
		bytes += len(fmt.Sprint(i))
	}
	if r.unused.Len() != maxUnusedStatements || r.unusedBytes != bytes {
		t.Errorf("%d statements of %d bytes, want %d of %d", r.unused.Len(), r.unusedBytes, maxUnusedStatements, bytes)
	}
	if len(r.used) != 0 {
		t.Errorf("%d statements in use, want none", len(r.used))
	}
}

func TestPreparedSetEvictsWhatTheLeaseDoesNotUse(t *testing.T) {
	statements := make([]*Statement, 6)
	for i := range statements {
		statements[i] = &Statement{ID: StatementID(i)}
	}
	p := newPreparedSet(3)
	for _, s := range statements[:3] {
		if e := p.evictable(1, false); e != nil {
			t.Fatalf("evicts %d before the set is full", e.ID)
		}
		p.add(s, 1, "")
	}
	if e := p.evictable(1, false); e != nil {
		t.Errorf("evicts %d, which the lease has used", e.ID)
	}
	if !p.use(statements[0], 2, "") || p.use(statements[5], 2, "") {
		t.Error("the set does not know what it holds")
	}
	// The second lease may evict 1 and 2, in that order, and not 0.
	for _, want := range statements[1:3] {
		e := p.evictable(2, false)
		if e != want {
			t.Fatalf("evicts %v, want %v", e, want)
		}
		p.remove(e)
		p.add(statements[want.ID+2], 2, "")
	}
	if e := p.evictable(2, false); e != nil {
		t.Errorf("evicts %d, which the lease has used", e.ID)
	}
	p.add(statements[5], 2, "") // beyond max, since the lease needs it
	evicted := 0
	for e := p.evictable(3, false); e != nil; e = p.evictable(3, false) {
		p.remove(e)
		evicted++
	}
	if evicted != 2 || p.lru.Len() != 2 {
		t.Errorf("the next lease evicts %d and leaves %d, want 2 and 2", evicted, p.lru.Len())
	}
	p.clear()
	if p.use(statements[0], 3, "") {
		t.Error("clear leaves statements")
	}
}

func TestPreparedSetRemovesWhatIsStale(t *testing.T) {
	p, s := newPreparedSet(1), &Statement{ID: 1}
	p.add(s, 1, "")
	p.markStale(s)
	p.markStale(s)
	if !p.has(s) || len(p.stale) != 1 {
		t.Errorf("has %v, %d are stale, want it once", p.has(s), len(p.stale))
	}
	p.remove(s) // its Parse was skipped
	if p.has(s) {
		t.Error("has what was removed")
	}
}

func TestPreparedSetWithoutRoom(t *testing.T) {
	p := newPreparedSet(0)
	if e := p.evictable(1, false); e != nil {
		t.Errorf("evicts %v from an empty set", e)
	}
	s := &Statement{ID: 1}
	p.add(s, 1, "")
	if e := p.evictable(1, false); e != nil {
		t.Error("evicts what the lease has used")
	}
	if e := p.evictable(2, false); e != s {
		t.Error("keeps what a former lease has used")
	}
}

func TestPreparedSetKeepsWhatHasAName(t *testing.T) {
	p := newPreparedSet(3)
	for i, references := range []int{1, 0, 2} {
		p.add(&Statement{ID: StatementID(i), references: references}, 1, "")
	}
	e := p.evictable(2, true)
	if e == nil || e.ID != 1 {
		t.Fatalf("evicts %v, want the one without a name", e)
	}
	p.remove(e)
	p.add(&Statement{ID: 3, references: 1}, 1, "")
	if e := p.evictable(2, true); e != nil {
		t.Errorf("evicts %d, which has a name", e.ID)
	}
	if e := p.evictable(2, false); e == nil || e.ID != 0 {
		t.Errorf("evicts %v, want the one of last use", e)
	}
}

// BenchmarkRegistry is one client that prepares a text others have prepared, and
// gives it up.
func BenchmarkRegistry(b *testing.B) {
	r := NewRegistry()
	bodies := make([][]byte, 1000)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, "select * from invoice where customer = $1 and number = %d\x00\x00\x00", i)
		r.Reference(nil, bodies[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Release(r.Reference(nil, bodies[i%len(bodies)]))
	}
}
