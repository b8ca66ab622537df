package main

import (
	"context"

	"github.com/billproxy/billproxy/test/page"
)

// workGate is the work that is done by billproxy alone, with and without what it has
// against overload.
const workGate = "gate/prepared/64"

// gates are the two: as it is by default, and with everything off that has a switch.
var gates = [2]struct {
	name string
	env  []string
}{
	{name: "all that is on by default"},
	{name: "nothing against overload", env: []string{
		"BILLPROXY_QUEUE_TARGET=0", "BILLPROXY_RETRY_BUDGET=0", "BILLPROXY_TENANT_FAIRNESS=off", "BILLPROXY_ADAPTIVE_LIMIT=off",
		"BILLPROXY_LOGIN_DELAY=off", "BILLPROXY_MAX_WAITERS=0", "BILLPROXY_COALESCE_READS=off",
	}},
}

// gateBound is what reads with the gate have to reach of those without. They are meant to
// be equal; what is below is what repeated runs of one program differ by.
const gateBound = 0.95

// gateRounds is how many times as often as others the two are compared: they differ by
// less than one run from the next.
const gateRounds = 3

// runGate measures what the gate costs while there is no overload.
func (b *bench) runGate(ctx context.Context) error {
	var c contest
	defer func() {
		for _, e := range c.entrants {
			e.target.Stop()
		}
	}()
	for _, g := range gates {
		t, err := b.newGuarded(ctx, b.billproxy(), "", g.env...)
		if err != nil {
			return err
		}
		t.Name = g.name
		if err := t.Start(ctx, b.rig.Dir); err != nil {
			return err
		}
		c.entrants = append(c.entrants, entrant{workGate, t, variantReads})
	}
	for round := range gateRounds {
		if err := b.runContest(ctx, c, round); err != nil {
			return err
		}
	}
	return nil
}

// gateTable compares the two.
func gateTable(r *results) string {
	t := page.Table{Columns: []string{"billproxy with", "tps", "p50, ms", "p99, ms", "CPU, µs"}, Left: 1}
	for _, g := range gates {
		if f := r.of(workGate, g.name, tps); !f.IsAbsent() {
			t.Add(g.name, f.Text(page.Count), r.of(workGate, g.name, p50).Text(page.Milliseconds), r.of(workGate, g.name, p99).Text(page.Milliseconds),
				r.of(workGate, g.name, cpu).Text(page.Decimal))
		}
	}
	return page.Section("What the gate costs", "64 clients of `pgbench -S -M prepared`, which is no overload.", &t)
}
