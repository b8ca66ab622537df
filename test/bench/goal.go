package main

import (
	"fmt"
	"slices"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// Bounds that are not ratios.
const (
	idleBoundBytes = 1200
	slowBound      = 2.0
	guessBound     = 1.5
)

var goals = []page.Goal[*results]{
	tpsGoal("select-only, prepared, 64 clients", 3, workSelect("prepared", 64), rig.PgBouncer, ""),
	tpsGoal("select-only, prepared, 64 clients", 1.3, workSelect("prepared", 64), rig.Direct, ""),
	tpsGoal("select-only, prepared, 256 clients", 3, workSelect("prepared", 256), rig.PgBouncer, ""),
	tpsGoal("select-only, prepared, 256 clients", 1.3, workSelect("prepared", 256), rig.Direct, ""),
	tpsGoal("select-only, simple, 64 clients", 2.2, workSelect("simple", 64), rig.PgBouncer, ""),
	fewClientsGoal(1),
	fewClientsGoal(4),
	{
		Work: "CPU of the proxy per transaction, select-only, prepared, 64 clients", Target: "≤ 0.35 × " + rig.PgBouncer,
		Judge: func(r *results) (string, page.Mark) {
			work := workSelect("prepared", 64)
			return page.AtMost(page.Ratio(r.of(work, rig.Billproxy, cpu), r.of(work, rig.PgBouncer, cpu)), 0.35, page.Times)
		},
	},
	{
		Work: "simple-update, prepared, 64 clients", Target: "completes",
		Judge: func(r *results) (string, page.Mark) {
			f := r.of(simpleUpdate.work("prepared", 64), rig.Billproxy, tps)
			switch {
			case f.Outcome != page.Succeeded:
				return string(f.Outcome), page.Miss
			case !f.Measured():
				return "–", page.Unknown
			}
			return page.Count(f.Value) + " tps", page.Pass
		},
	},
	tpsGoal("simple-update, prepared, 64 clients", 0.9, simpleUpdate.work("prepared", 64), rig.Direct, simpleUpdate.direct("prepared", 64)),
	tpsGoal("TPC-B, prepared, 32 clients", 1.1, tpcB.work("prepared", 32), rig.PgBouncer, ""),
	tpsGoal("TPC-B, extended, 32 clients", 1.1, tpcB.work("extended", 32), rig.PgBouncer, ""),
	tpsGoal("connection per transaction", 1, workConnect, rig.PgBouncer, ""),
	{
		Work: "memory per idle client", Target: fmt.Sprintf("≤ %.1f KB", idleBoundBytes/1000.0),
		Judge: func(r *results) (string, page.Mark) {
			f := r.idle(rig.Billproxy, func(m idleMeasurement) float64 { return m.perClient() })
			return page.AtMost(f, idleBoundBytes, func(v float64) string { return page.Count(v) + " bytes" })
		},
	},
	{
		Work: "p99 of fast reads beside a slow query per 8 clients", Target: fmt.Sprintf("≤ %.0f × alone", slowBound),
		Judge: func(r *results) (string, page.Mark) {
			f := page.Ratio(r.of(workFastSlow, rig.Billproxy, p99), r.of(workFast, rig.Billproxy, p99))
			return page.AtMost(f, slowBound, page.Times)
		},
	},
	{
		Work: fmt.Sprintf("p99 of reads of 16 clients beside %s failing logins per second", page.Count(failingLogins)), Target: fmt.Sprintf("≤ %g × without", guessBound),
		Judge: func(r *results) (string, page.Mark) {
			f := page.Ratio(r.of(workGuesses, rig.Billproxy, p99), r.of(workQuiet, rig.Billproxy, p99))
			return page.AtMost(f, guessBound, page.Times)
		},
	},
	{
		Work: "reads with the gate, which has nothing to do", Target: fmt.Sprintf("≥ %g × without", gateBound),
		Judge: func(r *results) (string, page.Mark) {
			return page.AtLeast(page.Ratio(r.of(workGate, gates[0].name, tps), r.of(workGate, gates[1].name, tps)), gateBound, page.Times)
		},
	},
	{Work: "schema changes, clients that were not told the columns", Target: "no error", Judge: judgeUntold},
	{Work: "schema changes, clients that were told the columns", Target: "PostgreSQL's errors only", Judge: judgeTold},
}

// yardstickGoal is the private one.
var yardstickGoal = tpsGoal("select-only, prepared, 64 clients", 0.9, workSelect("prepared", 64), rig.Yardstick, "")

// tpsGoal compares throughput with another target, on the same work unless another is
// named.
func tpsGoal(title string, bound float64, work, against, againstWork string) page.Goal[*results] {
	name := against
	if againstWork == "" {
		againstWork = work
	} else {
		name = fmt.Sprintf("%s, %d clients", against, poolSize)
	}
	return page.Goal[*results]{Work: title, Target: fmt.Sprintf("≥ %g × %s", bound, name), Judge: func(r *results) (string, page.Mark) {
		return judgeRatio(r.of(work, rig.Billproxy, tps), r.of(againstWork, against, tps), against, bound)
	}}
}

// judgeRatio is met also where only the other one fails.
func judgeRatio(ours, theirs page.Figure, against string, bound float64) (string, page.Mark) {
	if ours.Measured() && theirs.Outcome != page.Succeeded {
		return against + " " + string(theirs.Outcome), page.Pass
	}
	return page.AtLeast(page.Ratio(ours, theirs), bound, page.Times)
}

// fewClientsGoal takes the protocol in which billproxy does worst.
func fewClientsGoal(clients int) page.Goal[*results] {
	title := fmt.Sprintf("select-only, %d clients, worst of the three protocols", clients)
	if clients == 1 {
		title = "select-only, 1 client, worst of the three protocols"
	}
	return page.Goal[*results]{Work: title, Target: "≥ 1.1 × " + rig.PgBouncer, Judge: func(r *results) (string, page.Mark) {
		worst := page.Absent
		for _, protocol := range protocols {
			work := workSelect(protocol, clients)
			f := page.Ratio(r.of(work, rig.Billproxy, tps), r.of(work, rig.PgBouncer, tps))
			if f.Outcome != page.Succeeded {
				worst = f
				break
			}
			if !worst.Measured() || f.Value < worst.Value {
				worst = f
			}
		}
		return page.AtLeast(worst, 1.1, page.Times)
	}}
}

// judgeUntold wants no error where the client cannot have expected any columns.
func judgeUntold(r *results) (string, page.Mark) {
	found, failures := false, 0
	for _, m := range r.Schema {
		if m.Target != rig.Billproxy || m.KnowsShape {
			continue
		}
		found = true
		for _, n := range m.Errors {
			failures += n
		}
	}
	switch {
	case !found:
		return "–", page.Unknown
	case failures > 0:
		return fmt.Sprintf("%d errors", failures), page.Miss
	}
	return "none", page.Pass
}

// judgeTold wants no kind of error that a direct client does not get from the same
// change.
func judgeTold(r *results) (string, page.Mark) {
	found := false
	var foreign []string
	for _, m := range r.Schema {
		if m.Target != rig.Billproxy || !m.KnowsShape {
			continue
		}
		found = true
		for state := range m.Errors {
			direct := r.schema(m.Change, rig.Direct, m.Client)
			if (direct == nil || direct.Errors[state] == 0) && !slices.Contains(foreign, state) {
				foreign = append(foreign, state)
			}
		}
	}
	slices.Sort(foreign)
	switch {
	case !found:
		return "–", page.Unknown
	case foreign != nil:
		return fmt.Sprintf("others too: %v", foreign), page.Miss
	}
	return "no others", page.Pass
}

func (r *results) schema(change, target, client string) *schemaMeasurement {
	for i, m := range r.Schema {
		if m.Change == change && m.Target == target && m.Client == client {
			return &r.Schema[i]
		}
	}
	return nil
}
