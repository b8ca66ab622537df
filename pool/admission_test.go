package pool

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/shed"
)

func impatient(c *Config) { c.QueryWaitTimeout = time.Second }

// stall has clients wait for longer than half of their time, until those who come are
// refused, and returns those that wait.
func (f *fixture) stall() []*testClient {
	f.Helper()
	first := f.waiters(f.pool, 1)[0]
	f.world.Advance(f.pool.config.QueryWaitTimeout * 6 / 10)
	return append(f.waiters(f.pool, 3), first)
}

// Who comes in a stall is told no in the call, in words that no driver takes for the
// loss of its connection.
func TestRefusalInAStall(t *testing.T) {
	f := newFixture(t, poolSize(1), impatient)
	holder, conn := f.client()
	waiting := f.stall()
	late := f.newClient()
	late.acquire(f.pool)
	if late.waiter.Waiting() {
		t.Error("one that is refused waits")
	}
	late.want("[refused 53400]")
	if stats := f.pool.Stats(); stats.ClientsWaiting != len(waiting) || stats.Gate.Shed[shed.Overload] != 1 || !stats.Gate.Storm.On {
		t.Errorf("stats %+v", stats)
	}
	holder.send("Q|select 1")
	f.feed(conn, "C|SELECT 1", "Z|I")
	waiting[2].want("[lease]") // the one that came last
}

// Those who have waited for too long when an overload is found out are told so without
// anybody's doing, a few per millisecond.
func TestLateRefusals(t *testing.T) {
	f := newFixture(t, poolSize(1), impatient)
	f.pool.ClientCount = 10_000
	holder, _ := f.client()
	var all []*testClient
	for f.pool.gate.Stats(0).Leaving == 0 {
		if len(all) > 1000 {
			t.Fatal("nobody has waited for too long")
		}
		for range 2 {
			c := f.newClient()
			all = append(all, c)
			c.acquire(f.pool)
		}
		f.world.Advance(time.Millisecond)
		holder.server.Release()
		i := slices.IndexFunc(all, func(c *testClient) bool { return c.server != nil })
		holder = all[i]
		all = slices.Delete(all, i, i+1)
	}
	late := f.pool.Stats().Gate.Leaving
	refused := func() uint64 { return f.pool.Stats().Gate.Shed[shed.QueueDelay] }
	for range 250 {
		before := refused()
		f.world.Advance(time.Millisecond)
		if count := refused() - before; count > 2 {
			t.Fatalf("%d of %d are told so within a millisecond", count, late)
		}
	}
	if stats := f.pool.Stats(); stats.Gate.Leaving > 0 || refused() < uint64(late) || stats.ClientsWaiting != stats.Gate.Waiting {
		t.Errorf("%d were late, %+v", late, stats.Gate)
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	for reason := shed.NotShed + 1; reason < shed.ReasonCount; reason++ {
		e := f.pool.refusal(reason, 1234*time.Millisecond)
		if want := fmt.Sprintf("billproxy shed reason=%s waited_ms=1234 retry_after_ms=", reason); !strings.HasPrefix(e.Detail, want) {
			t.Errorf("%v: detail %q", reason, e.Detail)
		}
		if e.SQLState != pgwire.ConfigurationLimitExceeded || e.IsFatal() || e.Hint == "" {
			t.Errorf("%v: %+v", reason, e)
		}
		// SQLAlchemy, Rails and others go by words.
		for _, word := range []string{"connect", "terminat", "closed", "lost", "reset", "broken", "timed out", "server closed", "eof", "shut"} {
			if strings.Contains(strings.ToLower(e.Message+e.Hint), word) {
				t.Errorf("%v says %q: %s %s", reason, word, e.Message, e.Hint)
			}
		}
	}
}

// A lease gives its ticket back however it ends.
func TestTicketsAreGivenBack(t *testing.T) {
	for name, end := range map[string]func(f *fixture, c *testClient){
		"release": func(_ *fixture, c *testClient) { c.server.Release() },
		"orphan":  func(_ *fixture, c *testClient) { c.server.Orphan(false) },
		"loss":    func(f *fixture, c *testClient) { c.server.close(ReasonStuck); f.world.Settle() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c, _ := f.client()
			if open := f.pool.Stats().Gate.Tenants[0].Open; open != 1 {
				t.Fatalf("%d open, want 1", open)
			}
			end(f, c)
			if open := f.pool.Stats().Gate.Tenants[0].Open; open != 0 {
				t.Errorf("%d open, want 0", open)
			}
		})
	}
}

// After a stall fewer servers are used for a while, and then all without anybody's doing.
func TestServersAfterAStall(t *testing.T) {
	f := newFixture(t, poolSize(4))
	var holders []*testClient
	for range 4 {
		c, _ := f.client()
		holders = append(holders, c)
	}
	waiting := f.stall()
	f.newClient().acquire(f.pool) // by which it is seen to be one
	for _, c := range holders {
		c.server.Release()
	}
	served := func() int {
		count := 0
		for _, c := range waiting {
			if c.server != nil {
				count++
			}
		}
		return count
	}
	if got := served(); got != 2 {
		t.Errorf("%d are served at once, want half as many as there are servers", got)
	}
	f.world.Advance(300 * time.Millisecond)
	if got := served(); got < 3 {
		t.Errorf("%d are served soon after", got)
	}
}

// The log has a line when a storm begins, and one with totals when it ends.
func TestStormsAreLogged(t *testing.T) {
	f := newFixture(t, poolSize(1), impatient)
	var log strings.Builder
	f.pools.logger = slog.New(slog.NewTextHandler(&log, nil))
	holder, _ := f.client()
	f.stall()
	for range 3 {
		f.newClient().acquire(f.pool)
	}
	f.world.Advance(shed.TickPeriod)
	if got := log.String(); strings.Count(got, "storm begins") != 1 || !strings.Contains(got, "database=shop user=app waiting=4") {
		t.Errorf("log:\n%s", got)
	}
	holder.server.Release()
	f.world.Advance(5 * time.Second)
	if got := log.String(); strings.Count(got, "storm ends") != 1 || !strings.Contains(got, "shed=6") {
		t.Errorf("log:\n%s", got)
	}
	if f.pool.tickTimer.Armed() {
		t.Error("the gate's timer goes on without a storm")
	}
}

// A refusal leaves no lane behind that nobody uses.
func TestRefusedReadLeavesNoLane(t *testing.T) {
	f := newFixture(t, sharing(16, 1), impatient)
	holder, _ := f.client()
	f.stall()
	for range 3 {
		c := f.newClient()
		c.acquire(f.pool)
	}
	holder.server.Release()
	for _, server := range f.pool.servers {
		if server.client != nil {
			server.Release()
		}
	}
	f.world.Advance(50 * time.Millisecond)
	if !f.pool.gate.Storming() {
		t.Fatal("the storm is over")
	}
	for range 50 { // until there is no budget left
		c := f.newClient()
		if lane := f.pool.Share(&c.waiter, nil, shed.Work{Retry: true}, false); lane != nil {
			lane.rest()
		}
	}
	f.world.Settle()
	f.world.Advance(time.Second)
	if stats := f.pool.Stats(); stats.Gate.Shed[shed.RetryBudget] == 0 || len(f.pool.lanes) != 0 {
		t.Errorf("%d lanes; %+v", len(f.pool.lanes), stats.Gate)
	}
}
