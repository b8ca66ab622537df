package shed

import (
	"testing"
	"time"
)

// desk is a gate with servers in front of a test.
type desk struct {
	t    *testing.T
	gate *Gate
	now  time.Duration
	busy int
	free int
}

func usualConfig() Config {
	return Config{
		Target: 5 * time.Millisecond, Interval: 100 * time.Millisecond, Patience: time.Second,
		MaxWaiters: 800, RetryBudget: 0.1, Fair: true, AdaptiveLimit: true,
	}
}

func newDesk(t *testing.T, servers int, change func(*Config)) *desk {
	config := usualConfig()
	if change != nil {
		change(&config)
	}
	return &desk{t: t, gate: NewGate(&config, servers), now: time.Hour, free: servers}
}

// arrive has work of a tenant arrive.
func (d *desk) arrive(tenant string, change func(*Ticket)) (ticket *Ticket, admitted bool, reason Reason) {
	ticket = &Ticket{Work: Work{Tenant: d.gate.Tenant([]byte(tenant), d.now)}}
	if change != nil {
		change(ticket)
	}
	admitted, reason = d.gate.Arrive(ticket, d.now, d.busy, d.free > 0)
	if admitted {
		d.busy++
		d.free--
	}
	return ticket, admitted, reason
}

// waits has work arrive that has to wait.
func (d *desk) waits(tenant string, change func(*Ticket)) *Ticket {
	d.t.Helper()
	ticket, admitted, reason := d.arrive(tenant, change)
	if admitted || reason != NotShed {
		d.t.Fatalf("work of %q: admitted %v, %v; it should wait", tenant, admitted, reason)
	}
	return ticket
}

// overdue returns why those are refused whose time is up.
func (d *desk) overdue() (refused []Reason) {
	for t, reason := d.gate.Overdue(d.now); t != nil; t, reason = d.gate.Overdue(d.now) {
		refused = append(refused, reason)
	}
	return refused
}

// done gives a server back and returns who gets it, and those who are refused.
func (d *desk) done(ticket *Ticket, took time.Duration) (next *Ticket, refused []Reason) {
	d.gate.Done(ticket, d.now, took)
	d.busy--
	d.free++
	for {
		t, reason := d.gate.Next(d.now, d.busy)
		switch {
		case t == nil:
			return nil, refused
		case reason != NotShed:
			refused = append(refused, reason)
			continue
		}
		d.gate.Admit(t, d.now)
		d.busy++
		d.free--
		return t, refused
	}
}

// fill has work of a tenant take every server.
func (d *desk) fill(tenant string) []*Ticket {
	d.t.Helper()
	var all []*Ticket
	for d.free > 0 {
		ticket, admitted, reason := d.arrive(tenant, nil)
		if !admitted {
			d.t.Fatalf("work with a free server: %v", reason)
		}
		all = append(all, ticket)
	}
	return all
}

func (d *desk) wait(t time.Duration) { d.now += t }

// overload makes an overload by work of a tenant, of which one is done every
// millisecond and two arrive. It returns the work under way.
func (d *desk) overload(tenant string) *Ticket {
	d.t.Helper()
	working := d.fill(tenant)[0]
	for range 1000 {
		d.arrive(tenant, nil)
		d.arrive(tenant, nil)
		d.wait(time.Millisecond)
		if working, _ = d.done(working, time.Millisecond); working == nil {
			d.t.Fatal("nobody waits")
		}
		if d.gate.overload.on {
			return working
		}
	}
	d.t.Fatal("no overload after a second of twice the work")
	return nil
}

func TestTurns(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.fill("a")[0]
	first := d.waits("a", nil)
	second := d.waits("a", nil)
	d.wait(time.Millisecond)
	next, _ := d.done(working, time.Millisecond)
	if next != first {
		t.Fatal("the one that came first is not next")
	}
	if next, _ = d.done(next, time.Millisecond); next != second {
		t.Fatal("the second is not next")
	}
	if next, _ = d.done(next, time.Millisecond); next != nil {
		t.Fatal("somebody else is next")
	}
	if _, admitted, _ := d.arrive("a", nil); !admitted {
		t.Error("a free server is not given away")
	}
}

func TestWaitTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		patience, own, wait time.Duration
		want                Reason
	}{
		"nobody says":          {time.Second, 0, time.Second, WaitTimeout},
		"the client says less": {time.Second, 300 * time.Millisecond, 300 * time.Millisecond, Deadline},
		"the client says more": {time.Second, 3 * time.Second, time.Second, WaitTimeout},
		"only the client says": {0, 3 * time.Second, 3 * time.Second, Deadline},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 1, func(config *Config) { config.Patience = c.patience })
			d.fill("a")
			ticket := d.waits("a", func(ticket *Ticket) { ticket.Patience = c.own })
			if got := d.gate.NextDeadline(); got != d.now+c.wait {
				t.Errorf("the deadline is in %v, want %v", got-d.now, c.wait)
			}
			d.wait(c.wait - 1)
			if overdue, _ := d.gate.Overdue(d.now); overdue != nil {
				t.Fatal("it is overdue too early")
			}
			d.wait(1)
			if overdue, reason := d.gate.Overdue(d.now); overdue != ticket || reason != c.want {
				t.Errorf("overdue %v, %v, want %v", overdue, reason, c.want)
			}
			if d.gate.Waiting() != 0 || ticket.Waiting() || d.gate.NextDeadline() != 0 {
				t.Error("it still waits")
			}
		})
	}
}

// While a gate is paused whoever comes waits, and nobody's time passes.
func TestPause(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.fill("a")[0]
	before := d.waits("a", func(ticket *Ticket) { ticket.Patience = 300 * time.Millisecond })
	d.wait(200 * time.Millisecond)
	d.gate.Pause()
	if next, _ := d.done(working, time.Millisecond); next != before {
		t.Fatal("a server that is free all the same is not given away")
	}
	d.waits("a", nil)
	d.wait(time.Hour)
	for range 100 {
		d.waits("b", func(ticket *Ticket) { ticket.Patience = time.Minute })
		d.waits("b", func(ticket *Ticket) { ticket.Patience = 200 * time.Millisecond })
	}
	if overdue, _ := d.gate.Overdue(d.now); overdue != nil || d.gate.NextDeadline() != 0 {
		t.Error("the time of those who wait passes")
	}
	d.gate.Resume(d.now)
	if got := d.gate.NextDeadline(); got != d.now+200*time.Millisecond {
		t.Errorf("the first deadline is in %v", got-d.now)
	}
	d.wait(200 * time.Millisecond)
	refused := 0
	for overdue, _ := d.gate.Overdue(d.now); overdue != nil; overdue, _ = d.gate.Overdue(d.now) {
		refused++
	}
	if refused != 100 || d.gate.Waiting() != 101 {
		t.Errorf("%d are overdue, and %d wait", refused, d.gate.Waiting())
	}
}

// Without a bound there is no deadline.
func TestWaitForever(t *testing.T) {
	d := newDesk(t, 1, func(config *Config) { config.Patience = 0 })
	d.fill("a")
	d.waits("a", nil)
	d.wait(time.Hour)
	if overdue, _ := d.gate.Overdue(d.now); overdue != nil || d.gate.NextDeadline() != 0 {
		t.Error("it is overdue")
	}
}

// Work that cannot be done before its client has given up does not begin.
func TestDeadline(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.fill("a")[0]
	d.waits("a", func(ticket *Ticket) {
		ticket.Patience, ticket.Expected = 300*time.Millisecond, 200*time.Millisecond
	})
	other := d.waits("a", nil)
	d.wait(101 * time.Millisecond)
	next, refused := d.done(working, 0)
	if next != other || len(refused) != 1 || refused[0] != Deadline {
		t.Errorf("next %v, refused %v; want the other, and %v", next, refused, Deadline)
	}
}

func TestQueueFull(t *testing.T) {
	d := newDesk(t, 1, func(config *Config) { config.MaxWaiters = 16 })
	d.fill("a")
	for range 14 {
		d.waits("a", nil)
	}
	if _, _, reason := d.arrive("b", nil); reason != QueueFull {
		t.Errorf("one more: %v, want %v", reason, QueueFull)
	}
	important := func(ticket *Ticket) { ticket.Critical = true }
	for range 2 {
		d.waits("a", important)
	}
	if _, _, reason := d.arrive("a", important); reason != QueueFull {
		t.Errorf("one more that is critical: %v, want %v", reason, QueueFull)
	}
}

func TestAbandon(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.fill("a")[0]
	gone := d.waits("a", nil)
	other := d.waits("a", nil)
	d.gate.Abandon(gone, d.now)
	d.gate.Abandon(gone, d.now)
	if next, _ := d.done(working, 0); next != other {
		t.Error("work of a client that has gone is done")
	}
	if stats := d.gate.Stats(d.now); stats.Abandoned != 1 || stats.Waiting != 0 {
		t.Errorf("%+v", stats)
	}
}

// The newest goes first when the oldest has spent half of its time.
func TestNewestFirst(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.fill("a")[0]
	old := d.waits("a", nil)
	d.wait(499 * time.Millisecond)
	d.waits("a", nil)
	if next, _ := d.gate.Next(d.now, d.busy-1); next != old {
		t.Fatal("the oldest is not next while it has time")
	}
	d.wait(2 * time.Millisecond)
	newest := d.waits("a", nil)
	if next, refused := d.done(working, 0); next != newest || len(refused) > 0 {
		t.Errorf("the newest is not next: refused %v", refused)
	}
}

// With more clients than servers, all of which wait for their answer before they ask
// again, there is always a queue, and nobody is refused.
func TestClosedLoopIsNoOverload(t *testing.T) {
	for _, clients := range []int{2, 17, 64, 400} {
		d := newDesk(t, 16, nil)
		const took = 8 * time.Millisecond
		working := make([]*Ticket, 0, 16)
		for range clients {
			if ticket, admitted, reason := d.arrive("a", nil); reason != NotShed {
				t.Fatal(reason)
			} else if admitted {
				working = append(working, ticket)
			}
		}
		for range 10_000 {
			d.wait(took / time.Duration(len(working)))
			next, refused := d.done(working[0], took)
			if len(refused) > 0 {
				t.Fatalf("%d clients: refused %v", clients, refused)
			}
			working = working[1:]
			if next != nil {
				working = append(working, next)
			}
			again, admitted, reason := d.arrive("a", nil)
			if reason != NotShed {
				t.Fatalf("%d clients: refused %v", clients, reason)
			}
			if admitted {
				working = append(working, again)
			}
		}
	}
}

// Neither is more and more work of clients who cannot make waits too long together.
func TestFewClientsAreNoOverload(t *testing.T) {
	d := newDesk(t, 1, nil)
	d.gate.SetClients(400)
	working := d.fill("a")[0]
	for i := range 399 {
		d.waits("a", nil)
		if i%2 == 1 {
			d.wait(time.Millisecond)
			var refused []Reason
			if working, refused = d.done(working, time.Millisecond); len(refused) > 0 {
				t.Fatal(refused)
			}
		}
	}
	if d.gate.Waiting() < 100 {
		t.Errorf("only %d wait", d.gate.Waiting())
	}
}

// Neither is a burst that is over soon.
func TestBurstIsNoOverload(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.fill("a")[0]
	for range 300 {
		d.waits("a", nil)
	}
	for working != nil {
		d.wait(time.Millisecond)
		var refused []Reason
		if working, refused = d.done(working, time.Millisecond); len(refused) > 0 {
			t.Fatal(refused)
		}
	}
}

func TestOverload(t *testing.T) {
	d := newDesk(t, 1, nil)
	began := d.now
	working := d.overload("a")
	if took := d.now - began; took < 50*time.Millisecond || took > 200*time.Millisecond {
		t.Errorf("an overload after %v, want one after about the interval", took)
	}
	// What has waited for too long is no longer served, but told so, piece by piece.
	waiting := d.gate.Waiting()
	next, refused := d.done(working, time.Millisecond)
	if late := waiting - 1 - d.gate.Waiting(); len(refused) > 0 || next == nil || late < 50 || late != d.gate.leaving {
		t.Fatalf("next %v, refused %v, %d of %d leave", next, refused, d.gate.leaving, waiting)
	}
	working = next
	for i := range 1000 {
		left := d.overdue()
		if most := waiting/250 + 2; len(left) > most {
			t.Fatalf("%d leave within a millisecond, want at most %d", len(left), most)
		}
		for _, reason := range left {
			if reason != QueueDelay {
				t.Fatalf("refused with %v, want %v", reason, QueueDelay)
			}
		}
		if i == 260 && d.gate.leaving > 0 {
			t.Fatalf("%d leave still, a quarter of a second later", d.gate.leaving)
		}
		for range 2 {
			if _, _, reason := d.arrive("a", nil); reason != NotShed && reason != Overload {
				t.Fatal(reason)
			}
		}
		d.wait(time.Millisecond)
		if working, refused = d.done(working, time.Millisecond); working == nil || i > 20 && len(refused) > 0 {
			t.Fatalf("next %v, refused %v", working, refused)
		}
		if waited := d.now - working.Since(); waited > 10*time.Millisecond {
			t.Fatalf("one waited for %v", waited)
		}
	}
	if count := d.gate.Waiting(); count > 5 {
		t.Errorf("%d wait, want no more than 5 ms of work", count)
	}
	// It ends when less arrives.
	for range 600 {
		d.wait(time.Millisecond)
		if working != nil {
			working, _ = d.done(working, time.Millisecond)
		}
		if working == nil {
			d.gate.Tick(d.now)
		}
	}
	if d.gate.overload.on {
		t.Error("the overload does not end")
	}
}

// With no target everybody waits in turn.
func TestOverloadOff(t *testing.T) {
	d := newDesk(t, 1, func(config *Config) { config.Target = 0 })
	working := d.fill("a")[0]
	for range 400 {
		d.waits("a", nil)
		d.waits("a", nil)
		d.wait(time.Millisecond)
		working, _ = d.done(working, time.Millisecond)
	}
}

// Where servers are always busy for long, nothing is a stall so soon.
func TestSlowWorkIsNoStall(t *testing.T) {
	d := newDesk(t, 4, nil)
	working := d.fill("a")
	for range 100 { // that is what it usually takes
		d.wait(400 * time.Millisecond)
		d.gate.Done(working[0], d.now, 400*time.Millisecond)
		d.gate.open(working[0], d.now)
	}
	began := d.now
	for range 10 {
		d.waits("a", nil)
	}
	for d.now < began+490*time.Millisecond {
		d.wait(10 * time.Millisecond)
		d.waits("a", nil)
	}
	d.wait(20 * time.Millisecond)
	if _, _, reason := d.arrive("a", nil); reason != Overload {
		t.Errorf("after half a second: %v, want %v", reason, Overload)
	}
}

// In a stall those who come are refused as soon as waits come near what clients put up
// with; when it ends, the freshest are served, and all is as before.
func TestStall(t *testing.T) {
	d := newDesk(t, 4, nil)
	working := d.fill("a")
	firstRefusal := time.Duration(0)
	began := d.now
	refused := map[Reason]int{}
	for d.now < began+10*time.Second {
		if _, _, reason := d.arrive("a", nil); reason != NotShed {
			refused[reason]++
			if firstRefusal == 0 {
				firstRefusal = d.now - began
			}
		}
		d.wait(time.Millisecond)
		for _, reason := range d.overdue() {
			refused[reason]++
		}
	}
	if firstRefusal < 250*time.Millisecond || firstRefusal > 260*time.Millisecond {
		t.Errorf("the first is refused after %v, want a quarter of a second", firstRefusal)
	}
	if count := d.gate.Waiting(); count > minBacklog {
		t.Errorf("%d wait in the stall", count)
	}
	d.arrive("a", nil)
	var next *Ticket
	var late []Reason
	for _, ticket := range working[:3] { // half of the servers rest at first
		next, late = d.done(ticket, 10*time.Second)
	}
	if next == nil || len(late) > 0 {
		t.Fatalf("next %v, refused %v", next, late)
	}
	if waited := d.now - next.Since(); waited > 500*time.Millisecond {
		t.Errorf("the first that is served has waited for %v", waited)
	}
	if d.gate.overload.on {
		t.Error("an overload, though hardly anybody waits")
	}
	if servers := d.gate.Servers(); servers != 2 {
		t.Errorf("%d servers are used after the stall, want half of them", servers)
	}
	for range 7 {
		d.wait(TickPeriod)
		d.gate.Tick(d.now)
	}
	if servers := d.gate.Servers(); servers != 4 {
		t.Errorf("%d servers are used a while after the stall, want all", servers)
	}
}

// A tenant that floods the queue takes neither room nor turns from others.
func TestFairness(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.overload("flood")
	served := map[string]int{}
	for range 2000 {
		for range 10 {
			d.arrive("flood", nil)
		}
		if _, _, reason := d.arrive("other", nil); reason == Overload && d.gate.Tenant([]byte("other"), d.now).lines[ordinary].count == 0 {
			t.Fatal("the other tenant has no room")
		}
		d.wait(time.Millisecond)
		if working, _ = d.done(working, time.Millisecond); working == nil {
			t.Fatal("nobody waits")
		}
		served[working.Tenant.Name]++
	}
	if served["other"] < 950 || served["flood"] < 950 {
		t.Errorf("served %v, want about half each", served)
	}
}

// Turns go by the time that work takes.
func TestFairnessByTime(t *testing.T) {
	d := newDesk(t, 1, func(config *Config) { config.Target, config.Patience = 0, 0 })
	took := map[string]time.Duration{"long": 9 * time.Millisecond, "short": time.Millisecond}
	working := d.fill("short")[0]
	worked := map[string]time.Duration{}
	for range 20 {
		d.waits("long", func(ticket *Ticket) { ticket.Expected = took["long"] })
		d.waits("short", func(ticket *Ticket) { ticket.Expected = took["short"] })
	}
	for range 2000 {
		worked[working.Tenant.Name] += took[working.Tenant.Name]
		d.waits(working.Tenant.Name, func(ticket *Ticket) { ticket.Expected = took[working.Tenant.Name] })
		d.wait(took[working.Tenant.Name])
		working, _ = d.done(working, took[working.Tenant.Name])
	}
	if ratio := worked["long"].Seconds() / worked["short"].Seconds(); ratio < 0.9 || ratio > 1.4 {
		t.Errorf("worked %v, want about half each", worked)
	}
}

// A tenant that holds half of the servers lets others go first, but leaves no server idle.
func TestTenantCap(t *testing.T) {
	d := newDesk(t, 4, nil)
	working := d.fill("long")
	d.waits("long", nil)
	other := d.waits("other", nil)
	next, _ := d.done(working[0], time.Millisecond)
	if next != other {
		t.Error("the other tenant is not next")
	}
	if next, _ = d.done(working[1], time.Millisecond); next == nil || next.Tenant.Name != "long" {
		t.Error("a server is left idle")
	}
}

// Critical work goes first, is not refused in an overload, and finds servers free.
func TestCritical(t *testing.T) {
	important := func(ticket *Ticket) { ticket.Critical = true }
	d := newDesk(t, 1, nil)
	working := d.overload("a")
	for range 100 {
		d.waits("a", important)
	}
	for range 100 {
		d.wait(time.Millisecond)
		if working, _ = d.done(working, time.Millisecond); working == nil || !working.Critical {
			t.Fatal("other work goes before critical work")
		}
	}

	d = newDesk(t, 10, nil)
	d.gate.usual = time.Second
	if _, admitted, _ := d.arrive("a", important); !admitted {
		t.Fatal("not admitted")
	}
	for range 7 {
		d.arrive("a", nil)
	}
	d.waits("a", nil)
	if d.free != 2 {
		t.Errorf("%d servers are kept for critical work, want 2", d.free)
	}
	if next, _ := d.gate.Next(d.now, d.busy); next != nil {
		t.Error("a server that is kept for critical work is given away")
	}
	d.gate.usual = time.Millisecond
	if next, _ := d.gate.Next(d.now, d.busy); next == nil {
		t.Error("a server is kept though others become free at once")
	}
	d.gate.usual = time.Second
	d.wait(criticalMemory + 1)
	if next, _ := d.gate.Next(d.now, d.busy); next == nil {
		t.Error("a server is kept though there has been no critical work for long")
	}
}

func TestRetryBudget(t *testing.T) {
	again := func(ticket *Ticket) { ticket.Retry = true }
	d := newDesk(t, 1, nil)
	d.fill("a")
	for range 100 {
		d.waits("a", again) // no storm
	}
	d = newDesk(t, 1, nil)
	d.overload("a")
	d.gate.Tick(d.now)
	admitted := 0
	for range 100 {
		if _, _, reason := d.arrive("a", again); reason != RetryBudget {
			admitted++
		}
	}
	if admitted != maxBudget {
		t.Errorf("%d retries at once, want %v", admitted, maxBudget)
	}
	if _, _, reason := d.arrive("b", again); reason == RetryBudget {
		t.Error("another tenant pays for it")
	}
	tenant := d.gate.Tenant([]byte("a"), d.now)
	for range 10 {
		d.gate.Succeeded(tenant, d.now)
	}
	if _, _, reason := d.arrive("a", again); reason == RetryBudget {
		t.Error("ten successes do not allow for a retry")
	}
	if _, _, reason := d.arrive("a", again); reason != RetryBudget {
		t.Error("ten successes allow for two retries")
	}
	d.wait(time.Second)
	admitted = 0
	for range 10 {
		if _, _, reason := d.arrive("a", again); reason != RetryBudget {
			admitted++
		}
	}
	if admitted != budgetFloor {
		t.Errorf("%d retries after a second, want %v", admitted, budgetFloor)
	}
}

func TestStorm(t *testing.T) {
	d := newDesk(t, 1, nil)
	working := d.overload("a")
	if change := d.gate.Tick(d.now); change != StormBegins {
		t.Fatalf("%v, want a storm that begins", change)
	}
	began := d.now
	for range 500 {
		d.arrive("a", nil)
		d.arrive("a", nil)
		d.wait(time.Millisecond)
		d.overdue()
		working, _ = d.done(working, time.Millisecond)
	}
	var change Change
	for change == NoChange && d.now < began+10*time.Second {
		d.wait(time.Millisecond)
		if working != nil {
			working, _ = d.done(working, time.Millisecond)
		}
		change = d.gate.Tick(d.now)
	}
	storm := d.gate.Stats(d.now).Storm
	if change != StormEnds || storm.On || storm.EndedAt != d.now || storm.BeganAt > began {
		t.Errorf("%v: %+v", change, storm)
	}
	if storm.Arrivals < 1000 || storm.Admitted < 400 || storm.Shed.Total() < 400 || storm.MostWaiting == 0 {
		t.Errorf("totals %+v", storm)
	}
	if !d.gate.Idle() {
		t.Error("time still matters")
	}
}

// Who passes an idle gate costs nothing.
func TestPassAllocatesNothing(t *testing.T) {
	d := newDesk(t, 4, nil)
	ticket := &Ticket{Work: Work{Tenant: d.gate.Tenant([]byte("a"), d.now)}}
	name := []byte("a")
	var retries Retries
	retries.Fail(1, d.now)
	if allocations := testing.AllocsPerRun(1000, func() {
		d.now++
		ticket.Tenant = d.gate.Tenant(name, d.now)
		ticket.Retry = retries.Arrive(HashSeed.Add(name), d.now)
		if admitted, _ := d.gate.Arrive(ticket, d.now, 0, true); !admitted {
			t.Fatal("not admitted")
		}
		d.gate.Done(ticket, d.now, time.Millisecond)
		d.gate.Succeeded(ticket.Tenant, d.now)
	}); allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestTenantsAreBounded(t *testing.T) {
	d := newDesk(t, 1, nil)
	d.fill("busy")
	for i := range 1000 {
		d.wait(time.Millisecond)
		d.gate.Tenant([]byte{byte(i), byte(i >> 8)}, d.now)
	}
	if count := len(d.gate.tenants.list); count != maxTenants {
		t.Errorf("%d tenants", count)
	}
	if tenant := d.gate.Tenant([]byte("busy"), d.now); tenant.open != 1 {
		t.Error("a tenant was forgotten that has work under way")
	}
	for i := range 1000 {
		d.gate.Tenant([]byte{byte(i), byte(i >> 8)}, d.now).open++
	}
	if name := d.gate.Tenant([]byte("one more"), d.now).Name; name != otherTenant {
		t.Errorf("one more is %q, want %q", name, otherTenant)
	}
}
