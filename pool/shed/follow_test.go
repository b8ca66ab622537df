package shed

import (
	"slices"
	"testing"
	"time"
)

// follows has work of a tenant arrive that asks the same as the leader's.
func (d *desk) follows(leader *Ticket, tenant string, change func(*Ticket)) (follower *Ticket, follows bool) {
	follower = &Ticket{Work: Work{Tenant: d.gate.Tenant([]byte(tenant), d.now)}}
	if change != nil {
		change(follower)
	}
	return follower, d.gate.Follow(follower, leader, d.now)
}

// follower is follows for one that does, and is the leader's heir.
func (d *desk) follower(leader *Ticket) *Ticket {
	d.t.Helper()
	follower, follows := d.follows(leader, "web", nil)
	if !follows || !follower.Waiting() {
		d.t.Fatal("it does not follow")
	}
	leader.Heir = follower
	return follower
}

// Whoever follows counts as nobody who waits, and takes the leader's place, in front of
// those who came between, whatever the leader leaves for.
func TestHeir(t *testing.T) {
	for name, leave := range map[string]func(d *desk, leader *Ticket){
		"goes":       func(d *desk, leader *Ticket) { d.gate.Abandon(leader, d.now) },
		"is told no": func(d *desk, leader *Ticket) { d.gate.Refuse(leader) },
		"waits for too long": func(d *desk, leader *Ticket) {
			d.wait(800 * time.Millisecond)
			if overdue, reason := d.gate.Overdue(d.now); overdue != leader || reason != WaitTimeout {
				d.t.Errorf("overdue: %p, %v; want the leader", overdue, reason)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 1, nil)
			holder := d.fill("web")[0]
			leader := d.waits("web", nil)
			d.wait(100 * time.Millisecond)
			behind := d.waits("web", nil)
			d.wait(100 * time.Millisecond)
			heir := d.follower(leader)
			if d.gate.Waiting() != 2 || d.gate.Stats(d.now).Following != 1 {
				t.Errorf("%d wait, want 2; stats %+v", d.gate.Waiting(), d.gate.Stats(d.now))
			}
			leave(d, leader)
			if leader.Waiting() || d.gate.Waiting() != 2 || d.gate.Stats(d.now).Following != 0 {
				t.Errorf("%d wait, want 2; stats %+v", d.gate.Waiting(), d.gate.Stats(d.now))
			}
			if line := &heir.Tenant.lines[ordinary]; line.oldest != heir || line.newest != behind || heir.next != behind || behind.prev != heir {
				t.Errorf("the heir does not stand in the leader's place")
			}
			d.gate.Abandon(behind, d.now)
			if next, _ := d.done(holder, time.Millisecond); next != heir {
				t.Errorf("next is %p, want the heir", next)
			}
		})
	}
}

func TestFollowersWaitAsLongAsOthers(t *testing.T) {
	d := newDesk(t, 1, nil)
	d.fill("web")
	leader := d.waits("web", func(t *Ticket) { t.Patience = 900 * time.Millisecond })
	hasty, _ := d.follows(leader, "web", func(t *Ticket) { t.Patience = 300 * time.Millisecond })
	if at := d.gate.NextDeadline(); at != d.now+300*time.Millisecond {
		t.Errorf("the next deadline is in %v", at-d.now)
	}
	d.wait(200 * time.Millisecond)
	d.gate.Pause()
	d.wait(time.Hour)
	d.gate.Resume(d.now)
	d.wait(300 * time.Millisecond)
	if overdue, reason := d.gate.Overdue(d.now); overdue != hasty || reason != Deadline {
		t.Errorf("overdue: %p, %v; want the follower", overdue, reason)
	}
	if !leader.Waiting() || hasty.Waiting() {
		t.Error("the leader has gone, or the follower not")
	}
}

func TestWhoMayNotFollow(t *testing.T) {
	d := newDesk(t, 1, func(c *Config) { c.MaxWaiters = 2 })
	d.fill("web")
	leader := d.waits("web", nil)
	for name, change := range map[string]func(*Ticket){
		"critical": func(t *Ticket) { t.Critical = true },
		"a login":  func(t *Ticket) { t.Login = true },
	} {
		if _, follows := d.follows(leader, "web", change); follows {
			t.Errorf("%s work follows", name)
		}
	}
	if _, follows := d.follows(leader, "batch", nil); follows {
		t.Error("another tenant's work follows")
	}
	var all []bool
	for range 3 {
		_, follows := d.follows(leader, "web", nil)
		all = append(all, follows)
	}
	if !slices.Equal(all, []bool{true, true, false}) {
		t.Errorf("of three follow %v, want two", all)
	}
}

// A tenant pays for followers as for work that is run, and with retries.
func TestFollowersAreCharged(t *testing.T) {
	d := newDesk(t, 1, nil)
	holder := d.fill("web")[0]
	leader := d.waits("web", func(t *Ticket) { t.Expected = time.Millisecond })
	follower, _ := d.follows(leader, "web", func(t *Ticket) { t.Expected, t.Retry = time.Millisecond, true })
	tenant := leader.Tenant
	if tokens := tenant.budget.tokens; tokens != maxBudget-1 {
		t.Errorf("%v retries are left, want %v", tokens, maxBudget-1)
	}
	if next, _ := d.done(holder, time.Millisecond); next != leader {
		t.Fatal("the leader is not next")
	}
	before := tenant.deficit
	d.gate.AdmitFollower(follower, d.now)
	if tenant.deficit != before-time.Millisecond || follower.Waiting() {
		t.Errorf("charged %v, want %v", before-tenant.deficit, time.Millisecond)
	}
	stats := d.gate.Stats(d.now)
	if got := stats.Tenants[0]; got.Admitted != 3 || got.Followed != 1 || stats.Retries != 1 || stats.Following != 0 {
		t.Errorf("stats %+v", stats)
	}
}
