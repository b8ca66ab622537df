package shed

import "time"

// ring is the tenants with work of one class that waits. They take turns by deficit
// round robin: in each round a tenant may do as much work as every other.
// See Shreedhar and Varghese, Efficient fair queuing using deficit round-robin,
// https://doi.org/10.1109/90.502236.
type ring struct {
	class   int
	tenants []*Tenant
	at      int // whose turn it is
}

func (r *ring) push(t *Ticket) {
	line := &t.Tenant.lines[r.class]
	if line.count == 0 {
		r.tenants = append(r.tenants, t.Tenant)
		line.place = len(r.tenants)
	}
	line.push(t)
}

func (r *ring) remove(t *Ticket) {
	tenant := t.Tenant
	line := &tenant.lines[r.class]
	line.remove(t)
	if line.count > 0 {
		return
	}
	i, last := line.place-1, len(r.tenants)-1
	r.tenants[i] = r.tenants[last]
	r.tenants[i].lines[r.class].place = i + 1
	r.tenants[last] = nil
	r.tenants = r.tenants[:last]
	line.place = 0
	tenant.deficit = min(tenant.deficit, 0) // who asks for nothing saves nothing up
}

// turn returns the tenant whose turn it is, nil if nobody waits. One with as much
// work open as maxOpen has to let others go first.
func (r *ring) turn(quantum time.Duration, maxOpen int) *Tenant {
	if len(r.tenants) == 0 {
		return nil
	}
	if tenant := r.search(maxOpen); tenant != nil {
		return tenant
	}
	r.newRounds(quantum, maxOpen)
	if tenant := r.search(maxOpen); tenant != nil {
		return tenant
	}
	r.newRounds(quantum, unbounded) // all have that much open
	return r.search(unbounded)
}

const unbounded = 1 << 30

// maxDebtRounds is for how many rounds a tenant may have to wait: others are not to be
// served for seconds because one of its transactions was long.
const maxDebtRounds = 8

// search goes round to a tenant that may still do some work in this round.
func (r *ring) search(maxOpen int) *Tenant {
	for range len(r.tenants) {
		if r.at >= len(r.tenants) {
			r.at = 0
		}
		if tenant := r.tenants[r.at]; tenant.open < maxOpen && tenant.deficit > 0 {
			return tenant
		}
		r.at++
	}
	return nil
}

// newRounds begins as many rounds as it takes for somebody's turn to come.
func (r *ring) newRounds(quantum time.Duration, maxOpen int) {
	least := time.Duration(-1)
	for _, tenant := range r.tenants {
		tenant.deficit = max(tenant.deficit, -maxDebtRounds*quantum)
		if tenant.open < maxOpen && (least < 0 || -tenant.deficit < least) {
			least = max(0, -tenant.deficit)
		}
	}
	if least < 0 {
		return
	}
	credit := least - least%quantum + quantum // of as many rounds as it takes
	for _, tenant := range r.tenants {
		tenant.deficit = min(tenant.deficit+credit, quantum)
	}
}
