package main

import (
	"fmt"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// The bounds of the goals.
const (
	goodShare         = 0.95
	refusalBoundMS    = 2
	admittedBound     = 2
	recoveryBound     = 1.0 // seconds
	executionBound    = 1.1
	goneBound         = 0.01
	reconnectionBound = 1
)

// overloads are the loads of the curve at which goodput is to stay, and underloads those
// at which nobody is to be refused.
var (
	overloads  = []float64{2, 3, 5}
	underloads = []float64{0.5, calm}
	stalls     = []string{scenarioStop, scenarioLock}
)

var goals = []page.Goal[*results]{
	goodputGoal(2),
	goodputGoal(3),
	goodputGoal(5),
	{
		Work: "refusals at up to 0.8 × capacity", Target: "none",
		Judge: func(r *results) (string, page.Mark) {
			return page.AtMost(r.worstLoad(underloads, inWindow(groupAll, phaseLoad, refusals)), 0, page.Count)
		},
	},
	{
		Work: "p99 of a refusal, worst of 2, 3 and 5 × capacity", Target: fmt.Sprintf("≤ %d ms", refusalBoundMS),
		Judge: func(r *results) (string, page.Mark) {
			return page.AtMost(r.worstLoad(overloads, inWindow(groupAll, phaseLoad, refusalP99)), refusalBoundMS, inMilliseconds)
		},
	},
	{
		Work: "p99 of what is answered, worst of 2, 3 and 5 × capacity", Target: fmt.Sprintf("≤ %d × that at 0.8 ×", admittedBound),
		Judge: func(r *results) (string, page.Mark) {
			q := inWindow(groupAll, phaseLoad, p99)
			return page.AtMost(page.Ratio(r.worstLoad(overloads, q), r.of(scenarioLoad(calm), rig.Billproxy, q)), admittedBound, page.Times)
		},
	},
	stallGoal("time until 95% of the former goodput", fmt.Sprintf("≤ %.0f s", recoveryBound), recoveryTime, recoveryBound, seconds),
	stallGoal("server connections made beyond the pool", "none", forked, 0, page.Count),
	stallGoal("reconnects per client", fmt.Sprintf("≤ %d", reconnectionBound), reconnects, reconnectionBound, ratioText),
	stallGoal("executions per operation", fmt.Sprintf("≤ %.1f", executionBound), executions, executionBound, ratioText),
	stallGoal("executions for clients already gone", fmt.Sprintf("≤ %.0f%%", goneBound*100), forGone, goneBound, page.Percent),
	{
		Work: "goodput of nine tenants beside one that wants ten times as much", Target: fmt.Sprintf("≥ %.0f%% of before", goodShare*100),
		Judge: func(r *results) (string, page.Mark) {
			return page.AtLeast(r.tenantShare(rig.Billproxy, groupOthers), goodShare, page.Percent)
		},
	},
	{
		Work: "refusals of their critical work meanwhile", Target: "none",
		Judge: func(r *results) (string, page.Mark) {
			return page.AtMost(r.of(scenarioTenants, rig.Billproxy, inWindow(groupCritical, phaseDuring, refusals)), 0, page.Count)
		},
	},
	{
		Work: "0.8 → 3 → 0.8 × capacity: time until 95% of the former goodput", Target: fmt.Sprintf("≤ %.0f s", recoveryBound),
		Judge: func(r *results) (string, page.Mark) {
			return page.AtMost(r.of(scenarioSurge, rig.Billproxy, recoveryTime), recoveryBound, seconds)
		},
	},
}

func goodputGoal(factor float64) page.Goal[*results] {
	return page.Goal[*results]{
		Work: fmt.Sprintf("goodput at %g × capacity", factor), Target: fmt.Sprintf("≥ %.0f%% of its peak", goodShare*100),
		Judge: func(r *results) (string, page.Mark) {
			return page.AtLeast(r.peakShare(factor, rig.Billproxy), goodShare, page.Percent)
		},
	}
}

// stallGoal takes the worse of both stalls.
func stallGoal(work, target string, q quantity, bound float64, format func(float64) string) page.Goal[*results] {
	return page.Goal[*results]{
		Work: "10 s stall, the worse of both kinds: " + work, Target: target,
		Judge: func(r *results) (string, page.Mark) {
			var figures []page.Figure
			for _, name := range stalls {
				figures = append(figures, r.of(name, rig.Billproxy, q))
			}
			return page.AtMost(page.Worst(figures...), bound, format)
		},
	}
}

// worstLoad is billproxy's worst figure at some loads of the curve.
func (r *results) worstLoad(factors []float64, q quantity) page.Figure {
	var figures []page.Figure
	for _, factor := range factors {
		figures = append(figures, r.of(scenarioLoad(factor), rig.Billproxy, q))
	}
	return page.Worst(figures...)
}

// peakShare is the goodput at a load as a share of the target's highest.
func (r *results) peakShare(factor float64, target string) page.Figure {
	return page.Ratio(r.of(scenarioLoad(factor), target, inWindow(groupAll, phaseLoad, good)), r.peak(target))
}

// tenantShare is how much of what a group asks for is answered in time beside the loud
// tenant, compared with before.
func (r *results) tenantShare(target, group string) page.Figure {
	return page.Ratio(r.of(scenarioTenants, target, inWindow(group, phaseDuring, share)),
		r.of(scenarioTenants, target, inWindow(group, phaseBefore, share)))
}

func ratioText(value float64) string { return fmt.Sprintf("%.2f", value) }

func inMilliseconds(value float64) string { return fmt.Sprintf("%.1f ms", value) }
