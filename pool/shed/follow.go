package shed

import "time"

// Work that asks the same as other work that stands in the queue may follow that: one
// answer is for both. A follower takes no server's time. So it makes nobody wait longer,
// does not count as one who waits, and is refused only when its own time is up; but its
// tenant is charged as if it were run, or else a storm would look cheap.

// Follow has t wait for what leader, which stands in the queue, waits for. It reports
// false if t has to stand there itself: it is no part of the same tenant's work, the leader
// gets no server any more, or so many follow already as may wait.
func (g *Gate) Follow(t, leader *Ticket, now time.Duration) bool {
	if leader.leaving || t.Tenant != leader.Tenant || t.Critical != leader.Critical || t.Login || g.config.MaxWaiters > 0 && len(g.followers) >= g.config.MaxWaiters {
		return false
	}
	g.count(t, now)
	if t.Retry {
		t.Tenant.budget.Take(now)
	}
	g.setDeadline(t, now)
	t.follows = true
	g.followers.push(t)
	return true
}

// AdmitFollower accounts for t, whose leader is admitted.
func (g *Gate) AdmitFollower(t *Ticket, now time.Duration) {
	g.leave(t)
	if g.storm.On {
		g.storm.LongestWait = max(g.storm.LongestWait, now-t.since)
	}
	t.Tenant.followed++
	g.charge(t, now)
}
