package shed

import "time"

// Stats is a copy of a gate's state and counters.
type Stats struct {
	// Counters since the start.
	Admitted  uint64
	Retries   uint64 // recognised
	Abandoned uint64 // by clients that went or cancelled while they waited
	Storms    uint64
	Shed      Counts

	// Now. OldestWait is the age of the one that has waited longest.
	Waiting     int
	Leaving     int // of those that have waited for too long
	Following   int // for the answer to one that waits
	MostWaiting int // since the start
	OldestWait  time.Duration
	Servers     int // that may be used
	Overloaded  bool

	// Storm is the one under way, or the last.
	Storm Storm

	Tenants []TenantStats
}

// TenantStats is what a gate knows of one tenant.
type TenantStats struct {
	Name     string
	Waiting  int
	Open     int
	Admitted uint64
	Followed uint64 // of the admitted, with another
	Shed     Counts
}

// Stats returns a copy of the gate's state and counters.
func (g *Gate) Stats(now time.Duration) Stats {
	stats := g.stats
	stats.Waiting, stats.Leaving, stats.Following = g.Waiting(), g.leaving, len(g.followers)
	stats.Servers = g.limit.Servers()
	stats.Overloaded = g.overload.on
	stats.Storm = g.storm
	all := g.tenants.list
	if g.tenants.other != nil {
		all = append(all[:len(all):len(all)], g.tenants.other)
	}
	for _, tenant := range all {
		stats.Tenants = append(stats.Tenants, TenantStats{
			Name:     tenant.Name,
			Waiting:  tenant.lines[critical].count + tenant.lines[ordinary].count,
			Open:     tenant.open,
			Admitted: tenant.admitted,
			Followed: tenant.followed,
			Shed:     tenant.shed,
		})
		for class := range classCount {
			if oldest := tenant.lines[class].oldest; oldest != nil {
				stats.OldestWait = max(stats.OldestWait, now-oldest.since)
			}
		}
	}
	return stats
}
