package shed

import "time"

// Gate is the admission of one pool. The caller lends the servers; the gate says to
// whom. Times are those of the loop and never go back.
type Gate struct {
	config *Config

	tenants   tenants
	rings     [classCount]ring
	deadlines deadlines
	followers deadlines

	shared  int           // waiting for a place on a server that others use
	leaving int           // that have waited for too long
	leaveAt time.Duration // when the next of them is told so

	overload overload
	limit    Limit
	storm    Storm
	change   Change // of the storm, not reported yet

	paused     bool          // whoever comes waits, for as long as it takes
	usual      time.Duration // how long work takes, on average
	criticalAt time.Duration // when critical work came last
	sawOne     bool          // there has been any

	stats Stats
}

// NewGate returns a gate for at most so many servers.
func NewGate(config *Config, servers int) *Gate {
	g := &Gate{config: config, usual: time.Millisecond}
	g.overload.config, g.overload.servers = config, servers
	g.rings[ordinary].class = ordinary
	g.limit.set(servers)
	return g
}

// Tenant returns the tenant of that name, valid until it is Evicted.
func (g *Gate) Tenant(name []byte, now time.Duration) *Tenant {
	if !g.config.Fair {
		name = nil
	}
	return g.tenants.get(name, now)
}

// Waiting is how many tickets stand in the queue, those left out that get no server any
// more.
func (g *Gate) Waiting() int { return len(g.deadlines) - g.leaving }

// WaitingShared is how many of them take no server of their own.
func (g *Gate) WaitingShared() int { return g.shared }

// Servers is how many servers may be used at present.
func (g *Gate) Servers() int { return g.limit.Servers() }

// Calm reports whether nobody waits and there is no storm: who arrives at a server that
// is free need not ask.
func (g *Gate) Calm() bool { return len(g.deadlines) == 0 && !g.storm.On }

// Storming reports whether there is a storm.
func (g *Gate) Storming() bool { return g.storm.On }

// Pause has whoever comes wait from now on, until Resume.
func (g *Gate) Pause() { g.paused = true }

// Resume undoes Pause. Those who wait have waited since now.
func (g *Gate) Resume(now time.Duration) {
	g.paused = false
	for _, waiting := range []deadlines{g.deadlines, g.followers} {
		for _, t := range waiting {
			if t.deadline > 0 {
				t.deadline = now + t.deadline - t.since
			}
			t.since = now
		}
		waiting.order()
	}
	g.overload.pass(now)
}

// First returns one who waits, nil if there is none.
func (g *Gate) First() *Ticket { return g.deadlines.first() }

// SetClients tells how many clients may ask for servers.
func (g *Gate) SetClients(count int) { g.overload.clients = count }

// Arrive is asked for a server for t while busy of them are used. If free, there is one
// more that can be used at once; with the answer true it is for t. Otherwise t waits, or
// is refused for the reason.
func (g *Gate) Arrive(t *Ticket, now time.Duration, busy int, free bool) (admitted bool, reason Reason) {
	waiting := g.Waiting()
	if waiting == 0 || g.paused {
		g.overload.pass(now)
	} else {
		g.overload.arrive(now, waiting, g.OldestAt(), g.usual)
	}
	g.count(t, now)
	if reason = g.refusal(t, now); reason != NotShed {
		g.refuse(t, reason, now)
		return false, reason
	}
	if waiting == 0 && free && !g.paused && g.mayServe(t, busy) {
		g.open(t, now)
		return true, NotShed
	}
	g.wait(t, now)
	return false, NotShed
}

// count accounts for the arrival of t.
func (g *Gate) count(t *Ticket, now time.Duration) {
	t.since, t.cost = now, 0
	if t.Critical {
		g.criticalAt, g.sawOne = now, true
	}
	g.follow(now)
	if t.Retry {
		g.stats.Retries++
	}
	if g.storm.On {
		g.storm.Arrivals++
		if t.Retry {
			g.storm.Retries++
		}
	}
}

// refusal is why t may not even wait.
func (g *Gate) refusal(t *Ticket, now time.Duration) Reason {
	most := g.config.MaxWaiters
	if !t.Critical {
		most -= most / 8 // the rest is for critical work
	}
	switch {
	case most > 0 && len(g.deadlines) >= most && !mutantUnboundedQueue:
		return QueueFull
	case t.spared(), g.paused:
		return NotShed
	case t.Patience > 0 && g.overload.predicted(g.Waiting())+t.Expected > t.Patience:
		return Deadline
	case t.Retry && g.config.RetryBudget > 0 && !t.Tenant.budget.Take(now) && g.storm.On:
		return RetryBudget
	case g.overload.on && !g.fits(t):
		return Overload
	}
	return NotShed
}

// fits reports whether there is room for t in the short queue of an overload, of which
// every tenant has its part.
func (g *Gate) fits(t *Ticket) bool {
	room := g.overload.room()
	own := t.Tenant.lines[ordinary].count
	sharing := len(g.rings[ordinary].tenants)
	if own == 0 {
		sharing++
	}
	if mutantUnfairRoom {
		return len(g.deadlines) < room
	}
	return own < max(minBacklog, room/sharing)
}

// wait puts t in the queue.
func (g *Gate) wait(t *Ticket, now time.Duration) {
	g.setDeadline(t, now)
	g.rings[t.class()].push(t)
	g.deadlines.push(t)
	if t.Shared {
		g.shared++
	}
	g.stats.MostWaiting = max(g.stats.MostWaiting, len(g.deadlines))
	if g.storm.On {
		g.storm.MostWaiting = max(g.storm.MostWaiting, len(g.deadlines))
	}
}

// setDeadline says for how long t waits: in an overload for half of its time, as who
// waits when a stall ends should still want the answer.
func (g *Gate) setDeadline(t *Ticket, now time.Duration) {
	patience := g.config.Patience
	if t.Patience > 0 && (patience == 0 || t.Patience < patience) {
		patience = t.Patience
	}
	t.deadline, t.hurried, t.leaving = 0, false, false
	if patience > 0 {
		t.deadline = now + patience
		t.hurried = g.overload.on && !t.spared()
		if t.hurried {
			t.deadline = now + patience/2
		}
	}
}

// leave takes t out of the queue, in which its heir, if it has one, takes its place.
func (g *Gate) leave(t *Ticket) {
	if t.follows {
		g.followers.remove(t)
		t.follows = false
		return
	}
	g.deadlines.remove(t)
	switch heir := t.Heir; {
	case t.leaving:
		g.leaving--
	case heir != nil:
		g.leave(heir)
		g.deadlines.push(heir)
		t.Tenant.lines[t.class()].replace(t, heir)
		t.Heir = nil
	default:
		g.leaveLine(t)
	}
}

// leaveLine takes t out of its tenant's line, so that it is not served.
func (g *Gate) leaveLine(t *Ticket) {
	g.rings[t.class()].remove(t)
	if t.Shared {
		g.shared--
	}
}

// dismiss has t, which has waited for too long, be told so soon. When an overload is
// found out, that is hundreds at once, and each may ask again at once: they go one after
// the other, or whoever asks meanwhile would wait for a "no" until all had theirs.
func (g *Gate) dismiss(t *Ticket, now time.Duration) {
	g.leaveLine(t)
	g.deadlines.remove(t)
	g.leaveAt = max(g.leaveAt, now)
	if t.deadline == 0 || g.leaveAt < t.deadline {
		t.deadline = g.leaveAt
	}
	t.leaving = true
	g.leaving++
	g.deadlines.push(t)
	g.leaveAt += min(leaveGap, g.config.patience()/leaveParts/time.Duration(len(g.deadlines)))
	g.overload.refuse(now)
}

// Those who leave go one per leaveGap, or within that part of what clients put up with.
const (
	leaveGap   = time.Millisecond
	leaveParts = 4
)

// OldestAt is when the one arrived that has waited longest, or one about as old: the
// oldest of the first tenants; negative if nobody waits.
func (g *Gate) OldestAt() time.Duration {
	oldest := time.Duration(-1)
	for class := range classCount {
		r := &g.rings[class]
		for i := range min(len(r.tenants), maxLooks) {
			if at := r.tenants[i].lines[class].oldest.since; oldest < 0 || at < oldest {
				oldest = at
			}
		}
	}
	return oldest
}

const maxLooks = 4

// mayServe reports whether t may have a server while busy of them are used. Some may be
// kept free for critical work.
func (g *Gate) mayServe(t *Ticket, busy int) bool {
	switch {
	case t.Shared:
		return true
	case t.Critical:
		return busy < g.limit.most
	}
	return busy < g.limit.Servers()-g.reserve(t.since)
}

// reserve is how many servers are kept free for critical work: none if there has been no
// such work lately, or if servers become free so soon that it need hardly wait.
func (g *Gate) reserve(now time.Duration) int {
	servers := g.limit.Servers()
	if !g.sawOne || now-g.criticalAt > criticalMemory || g.usual/time.Duration(servers) <= g.config.Target {
		return 0
	}
	return servers / 5
}

// criticalMemory is how long after the last critical work servers are kept for more.
const criticalMemory = 10 * time.Second

// Next returns who is next while busy servers are used and one is free: with NotShed
// the ticket to Admit, with another reason one that is refused, after which there may be
// more; nil if nobody may have the server.
func (g *Gate) Next(now time.Duration, busy int) (*Ticket, Reason) {
	for class := 0; class < classCount; {
		tenant := g.rings[class].turn(max(g.usual, 1), g.maxOpen())
		if tenant == nil {
			class++
			continue
		}
		t, reason := g.choose(&tenant.lines[class], now)
		switch {
		case reason == QueueDelay && t.Heir == nil:
			g.dismiss(t, now)
			continue
		case reason != NotShed:
			g.leave(t)
			g.refuse(t, reason, now)
			return t, reason
		case mutantStarve && t.Tenant != g.tenants.list[0]:
			class++
			continue
		case t.Critical || g.mayServeLater(t, now, busy):
			return t, NotShed
		}
		return nil, NotShed
	}
	return nil, NotShed
}

// mayServeLater is mayServe for one that has waited.
func (g *Gate) mayServeLater(t *Ticket, now time.Duration, busy int) bool {
	return t.Shared || busy < g.limit.Servers()-g.reserve(now)
}

// maxOpen is how many servers a tenant may hold while others wait.
func (g *Gate) maxOpen() int { return max(1, (g.limit.most+1)/2) }

// choose returns the ticket of a line that is next, or is to be refused. It is the
// oldest, or if that has spent half of its time already, the newest: whoever has waited
// for so long may have given up, or will before the answer comes.
func (g *Gate) choose(l *line, now time.Duration) (*Ticket, Reason) {
	t := l.oldest
	waited := now - t.since
	if g.overload.on && !g.overload.stalled && !t.spared() && waited > g.overload.patience() {
		return t, QueueDelay
	}
	if t.deadline > 0 && waited > (t.deadline-t.since)/2 && !mutantOldestFirst {
		t = l.newest
	}
	if t.Patience > 0 && now+t.Expected > t.since+t.Patience {
		return t, Deadline
	}
	return t, NotShed
}

// Admit gives a server to t, which Next has returned.
func (g *Gate) Admit(t *Ticket, now time.Duration) {
	g.leave(t)
	waited := now - t.since
	g.overload.serve(now, g.Waiting())
	if g.Waiting() == 0 {
		g.overload.pass(now)
	}
	if g.storm.On {
		g.storm.LongestWait = max(g.storm.LongestWait, waited)
	}
	g.charge(t, now)
}

// charge accounts for a ticket that is let in after a wait.
func (g *Gate) charge(t *Ticket, now time.Duration) {
	t.cost = t.Expected
	if t.cost == 0 {
		t.cost = g.usual
	}
	t.Tenant.deficit -= t.cost
	g.open(t, now)
}

// open accounts for a ticket that is let in.
func (g *Gate) open(t *Ticket, now time.Duration) {
	if !t.Shared {
		t.open = true
		t.Tenant.open++
	}
	t.Tenant.usedAt = now
	t.Tenant.admitted++
	g.stats.Admitted++
	if g.storm.On {
		g.storm.Admitted++
	}
}

// Done notes that t gives back its server.
func (g *Gate) Done(t *Ticket, now, took time.Duration) {
	if !t.open {
		return
	}
	t.open = false
	t.Tenant.open--
	if g.overload.end(now) && g.config.AdaptiveLimit {
		g.limit.ramp(now)
	}
	g.usual = max(1, g.usual+(min(took, maxDebtRounds*g.usual)-g.usual)/32)
	if t.cost > 0 {
		t.Tenant.deficit -= took - t.cost
	}
	if g.Waiting() == 0 {
		g.overload.pass(now)
	}
}

// Succeeded notes that work of the tenant has ended well.
func (g *Gate) Succeeded(tenant *Tenant, now time.Duration) {
	tenant.budget.Succeed(g.config.RetryBudget, now)
}

// Observe notes how many times as long as usual a statement took, 0 if that is not
// known.
func (g *Gate) Observe(slowness float64, now time.Duration) {
	if g.config.AdaptiveLimit && slowness > 0 {
		g.limit.observe(slowness, now)
	}
}

// Abandon takes t, whose client has gone or cancelled, out of the queue.
func (g *Gate) Abandon(t *Ticket, now time.Duration) {
	if !t.Waiting() {
		return
	}
	if !t.follows && t.Heir == nil {
		g.overload.abandon()
	}
	g.leave(t)
	g.stats.Abandoned++
	if g.storm.On {
		g.storm.Abandoned++
	}
	if g.Waiting() == 0 {
		g.overload.pass(now)
	}
}

// Refuse takes t out of the queue for a reason that the caller knows.
func (g *Gate) Refuse(t *Ticket) { g.leave(t) }

// Overdue takes a ticket that has waited for too long out of the queue, if there is one,
// and says why it is refused.
func (g *Gate) Overdue(now time.Duration) (*Ticket, Reason) {
	t := g.nextDue()
	if t == nil || t.deadline == 0 || now < t.deadline || g.paused || mutantForgetDeadlines {
		return nil, NotShed
	}
	reason := WaitTimeout
	switch {
	case t.leaving, t.hurried:
		reason = QueueDelay
	case t.deadline == t.since+t.Patience:
		reason = Deadline
	}
	g.leave(t)
	g.refuse(t, reason, now)
	if g.Waiting() == 0 {
		g.overload.pass(now)
	}
	return t, reason
}

// NextDeadline is when Overdue has to be asked, 0 if there is no need.
func (g *Gate) NextDeadline() time.Duration {
	if t := g.nextDue(); t != nil && !g.paused {
		return t.deadline
	}
	return 0
}

// nextDue returns the ticket whose deadline comes first, nil if there is none.
func (g *Gate) nextDue() *Ticket {
	t, follower := g.deadlines.first(), g.followers.first()
	if follower != nil && (t == nil || follower.due() < t.due()) {
		return follower
	}
	return t
}

// refuse accounts for a ticket that is told no.
func (g *Gate) refuse(t *Ticket, reason Reason, now time.Duration) {
	t.Tenant.shed[reason]++
	g.stats.Shed[reason]++
	if reason == Overload || reason == QueueDelay && !t.leaving {
		g.overload.refuse(now)
	}
	if g.storm.On {
		g.storm.Shed[reason]++
	}
}

// RetryAfter is what a client that is told no is advised to wait.
func (g *Gate) RetryAfter() time.Duration {
	if g.overload.stalled {
		return g.config.patience()
	}
	return max(g.config.Interval, 2*g.overload.predicted(g.Waiting()))
}

// Tick lets time pass while nothing happens. It returns what has become of the storm
// since it was last asked. Until Idle it is to be called every TickPeriod.
func (g *Gate) Tick(now time.Duration) Change {
	if g.Waiting() == 0 || g.paused {
		g.overload.pass(now)
	}
	g.overload.advance(now)
	g.limit.advance(now)
	g.follow(now)
	change := g.change
	g.change = NoChange
	return change
}

// TickPeriod is how often Tick is called.
const TickPeriod = limitPeriod

// Idle reports whether time makes no difference to the gate.
func (g *Gate) Idle() bool {
	return len(g.deadlines) == 0 && !g.storm.On && g.change == NoChange && g.limit.Servers() == g.limit.most
}

// follow keeps the storm up to date.
func (g *Gate) follow(now time.Duration) {
	if change := g.storm.follow(now, g.overload.on); change != NoChange {
		g.change = change
		if change == StormBegins {
			g.stats.Storms++
		}
	}
}
