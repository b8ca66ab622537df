package main

import (
	"fmt"
	"math"
	"slices"
)

// mark says whether a goal is met.
type mark string

const (
	pass    mark = "✅ met"
	miss    mark = "❌ missed"
	unknown mark = "not measured"
)

// goal is a promise about billproxy that a run can check.
type goal struct {
	work   string
	target string
	judge  func(*results) (measured string, m mark)
}

// Bounds that are not ratios.
const (
	idleBoundBytes = 1200
	slowBound      = 2.0
	guessBound     = 1.5
)

var goals = []goal{
	tpsGoal("select-only, prepared, 64 clients", 3, workSelect("prepared", 64), namePgBouncer, ""),
	tpsGoal("select-only, prepared, 64 clients", 1.3, workSelect("prepared", 64), nameDirect, ""),
	tpsGoal("select-only, prepared, 256 clients", 3, workSelect("prepared", 256), namePgBouncer, ""),
	tpsGoal("select-only, prepared, 256 clients", 1.3, workSelect("prepared", 256), nameDirect, ""),
	tpsGoal("select-only, simple, 64 clients", 2.2, workSelect("simple", 64), namePgBouncer, ""),
	fewClientsGoal(1),
	fewClientsGoal(4),
	{
		"CPU of the proxy per transaction, select-only, prepared, 64 clients", "≤ 0.35 × " + namePgBouncer,
		func(r *results) (string, mark) {
			work := workSelect("prepared", 64)
			return atMost(ratio(r.of(work, nameBillproxy, cpu), r.of(work, namePgBouncer, cpu)), 0.35, times)
		},
	},
	{
		"simple-update, prepared, 64 clients", "completes",
		func(r *results) (string, mark) {
			f := r.of(simpleUpdate.work("prepared", 64), nameBillproxy, tps)
			switch {
			case f.outcome != succeeded:
				return string(f.outcome), miss
			case !f.measured():
				return "–", unknown
			}
			return count(f.value) + " tps", pass
		},
	},
	tpsGoal("simple-update, prepared, 64 clients", 0.9, simpleUpdate.work("prepared", 64), nameDirect, simpleUpdate.direct("prepared", 64)),
	tpsGoal("TPC-B, prepared, 32 clients", 1.1, tpcB.work("prepared", 32), namePgBouncer, ""),
	tpsGoal("TPC-B, extended, 32 clients", 1.1, tpcB.work("extended", 32), namePgBouncer, ""),
	tpsGoal("connection per transaction", 1, workConnect, namePgBouncer, ""),
	{
		"memory per idle client", fmt.Sprintf("≤ %.1f KB", idleBoundBytes/1000.0),
		func(r *results) (string, mark) {
			f := r.idle(nameBillproxy, func(m idleMeasurement) float64 { return m.perClient() })
			return atMost(f, idleBoundBytes, func(v float64) string { return count(v) + " bytes" })
		},
	},
	{
		"p99 of fast reads beside a slow query per 8 clients", fmt.Sprintf("≤ %.0f × alone", slowBound),
		func(r *results) (string, mark) {
			f := ratio(r.of(workFastSlow, nameBillproxy, p99), r.of(workFast, nameBillproxy, p99))
			return atMost(f, slowBound, times)
		},
	},
	{
		fmt.Sprintf("p99 of reads of 16 clients beside %s failing logins per second", count(failingLogins)), fmt.Sprintf("≤ %g × without", guessBound),
		func(r *results) (string, mark) {
			f := ratio(r.of(workGuesses, nameBillproxy, p99), r.of(workQuiet, nameBillproxy, p99))
			return atMost(f, guessBound, times)
		},
	},
	{"schema changes, clients that were not told the columns", "no error", judgeUntold},
	{"schema changes, clients that were told the columns", "PostgreSQL's errors only", judgeTold},
}

// yardstickGoal is the private one.
var yardstickGoal = tpsGoal("select-only, prepared, 64 clients", 0.9, workSelect("prepared", 64), nameYardstick, "")

// tpsGoal compares throughput with another target, on the same work unless another is
// named.
func tpsGoal(title string, bound float64, work, against, againstWork string) goal {
	name := against
	if againstWork == "" {
		againstWork = work
	} else {
		name = fmt.Sprintf("%s, %d clients", against, poolSize)
	}
	return goal{title, fmt.Sprintf("≥ %g × %s", bound, name), func(r *results) (string, mark) {
		return judgeRatio(r.of(work, nameBillproxy, tps), r.of(againstWork, against, tps), against, bound)
	}}
}

// judgeRatio is met also where only the other one fails.
func judgeRatio(ours, theirs figure, against string, bound float64) (string, mark) {
	if ours.measured() && theirs.outcome != succeeded {
		return against + " " + string(theirs.outcome), pass
	}
	return atLeast(ratio(ours, theirs), bound)
}

// fewClientsGoal takes the protocol in which billproxy does worst.
func fewClientsGoal(clients int) goal {
	title := fmt.Sprintf("select-only, %d clients, worst of the three protocols", clients)
	if clients == 1 {
		title = "select-only, 1 client, worst of the three protocols"
	}
	return goal{title, "≥ 1.1 × " + namePgBouncer, func(r *results) (string, mark) {
		worst := absent
		for _, protocol := range protocols {
			work := workSelect(protocol, clients)
			f := ratio(r.of(work, nameBillproxy, tps), r.of(work, namePgBouncer, tps))
			if f.outcome != succeeded {
				worst = f
				break
			}
			if !worst.measured() || f.value < worst.value {
				worst = f
			}
		}
		return atLeast(worst, 1.1)
	}}
}

func atLeast(f figure, bound float64) (string, mark) {
	return judge(f, times, func(v float64) bool { return v >= bound })
}

func atMost(f figure, bound float64, format func(float64) string) (string, mark) {
	return judge(f, format, func(v float64) bool { return v <= bound })
}

func judge(f figure, format func(float64) string, met func(float64) bool) (string, mark) {
	switch {
	case f.outcome != succeeded:
		return string(f.outcome), miss
	case !f.measured() || math.IsInf(f.value, 0):
		return "–", unknown
	case met(f.value):
		return format(f.value), pass
	}
	return format(f.value), miss
}

// judgeUntold wants no error where the client cannot have expected any columns.
func judgeUntold(r *results) (string, mark) {
	found, failures := false, 0
	for _, m := range r.Schema {
		if m.Target != nameBillproxy || m.KnowsShape {
			continue
		}
		found = true
		for _, n := range m.Errors {
			failures += n
		}
	}
	switch {
	case !found:
		return "–", unknown
	case failures > 0:
		return fmt.Sprintf("%d errors", failures), miss
	}
	return "none", pass
}

// judgeTold wants no kind of error that a direct client does not get from the same
// change.
func judgeTold(r *results) (string, mark) {
	found := false
	var foreign []string
	for _, m := range r.Schema {
		if m.Target != nameBillproxy || !m.KnowsShape {
			continue
		}
		found = true
		for state := range m.Errors {
			direct := r.schema(m.Change, nameDirect, m.Client)
			if (direct == nil || direct.Errors[state] == 0) && !slices.Contains(foreign, state) {
				foreign = append(foreign, state)
			}
		}
	}
	slices.Sort(foreign)
	switch {
	case !found:
		return "–", unknown
	case foreign != nil:
		return fmt.Sprintf("others too: %v", foreign), miss
	}
	return "no others", pass
}

func (r *results) schema(change, target, client string) *schemaMeasurement {
	for i, m := range r.Schema {
		if m.Change == change && m.Target == target && m.Client == client {
			return &r.Schema[i]
		}
	}
	return nil
}
