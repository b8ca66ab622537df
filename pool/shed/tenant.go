package shed

import "time"

// Tenant is one of those who share a pool: the clients of one application, or whoever
// a tag in the text of a query names.
type Tenant struct {
	// Name is empty for clients that do not tell, and otherTenant for those for which
	// there was no room.
	Name string

	// Hash is that of the name.
	Hash Hash

	// Owned by the gate.
	lines   [classCount]line
	deficit time.Duration // of the work that it may still do in this round
	open    int           // how much of its work has a server
	budget  Budget
	usedAt  time.Duration
	evicted bool

	admitted uint64
	followed uint64 // of the admitted, with another
	shed     Counts
}

// Evicted reports that the tenant has been forgotten: it is to be asked for anew.
func (t *Tenant) Evicted() bool { return t.evicted }

// idle reports whether nothing would be lost with the tenant but its counters.
func (t *Tenant) idle() bool {
	return t.open == 0 && t.lines[critical].count == 0 && t.lines[ordinary].count == 0
}

// maxTenants bounds the tenants of a pool that are told apart.
const maxTenants = 256

// otherTenant is the name of all for which there is no room.
const otherTenant = "(other)"

// tenants is all those of a pool.
type tenants struct {
	byName map[string]*Tenant
	list   []*Tenant // in order of creation, so that a simulation repeats itself
	other  *Tenant
}

// get returns the tenant of that name. It makes room for a new one by forgetting the
// one that has been idle for longest; if none is, there is one for all others.
func (t *tenants) get(name []byte, now time.Duration) *Tenant {
	tenant, ok := t.byName[string(name)]
	switch {
	case ok:
	case len(t.list) < maxTenants || t.evict():
		tenant = &Tenant{Name: string(name), Hash: HashSeed.Add(name)}
		if t.byName == nil {
			t.byName = map[string]*Tenant{}
		}
		t.byName[tenant.Name] = tenant
		t.list = append(t.list, tenant)
	default:
		if t.other == nil {
			t.other = &Tenant{Name: otherTenant}
		}
		tenant = t.other
	}
	tenant.usedAt = now
	return tenant
}

func (t *tenants) evict() bool {
	found := -1
	for i, tenant := range t.list {
		if tenant.idle() && (found < 0 || tenant.usedAt < t.list[found].usedAt) {
			found = i
		}
	}
	if found < 0 {
		return false
	}
	tenant := t.list[found]
	tenant.evicted = true
	delete(t.byName, tenant.Name)
	t.list = append(t.list[:found], t.list[found+1:]...)
	return true
}
