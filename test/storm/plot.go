package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/billproxy/billproxy/test/page"
)

// drawPlots draws goodput over the offered load, and over time where something happens.
func drawPlots(r *results) []page.Plot {
	plots := r.drawCurve()
	for _, kind := range []struct{ scenario, file, title string }{
		{scenarioStop, "stall-stop.svg", "PostgreSQL is stopped for a while (SIGSTOP), 0.8 × capacity"},
		{scenarioLock, "stall-lock.svg", "A table is locked for a while, 0.8 × capacity"},
		{scenarioSurge, "surge.svg", "0.8 → 3 → 0.8 × capacity"},
	} {
		plots = append(plots, r.drawTimeline(kind.scenario, kind.file, kind.title)...)
	}
	return plots
}

func (r *results) drawCurve() []page.Plot {
	c := page.Chart{Title: "Goodput over offered load, with immediate retries", Unit: "operations answered within 1 s, per second", Axis: "× capacity offered"}
	for _, factor := range loads {
		c.Ticks = append(c.Ticks, strconv.FormatFloat(factor, 'g', -1, 64))
	}
	for _, name := range r.Names() {
		s := page.Series{Name: name}
		for _, factor := range loads {
			s.Values = append(s.Values, r.of(scenarioLoad(factor), name, inWindow(groupAll, phaseLoad, good)).Value)
		}
		c.Series = append(c.Series, s)
	}
	if !c.HasLine() {
		return nil
	}
	return []page.Plot{{File: "goodput.svg", Title: c.Title, SVG: c.Draw()}}
}

// drawTimeline shows the time in which something happened on darker ground.
func (r *results) drawTimeline(name, file, title string) []page.Plot {
	var s *scenario
	for _, one := range scenarios(r.Capacity, r.Quick) {
		if one.name == name {
			s = &one
		}
	}
	_, warm := s.span(phaseWarmUp)
	from, to := s.span(phaseDuring)
	c := page.Chart{
		Title: title, Unit: "operations answered within 1 s, per second, by their intended start", Axis: "seconds", Smooth: true,
		Shade: [2]int{int((from - warm) / timelineStep), int((to - warm) / timelineStep)},
	}
	n := int((s.length() - warm) / timelineStep)
	for i := range n {
		tick := ""
		if at := float64(i) * timelineStep.Seconds(); math.Mod(at, 5) == 0 {
			tick = fmt.Sprintf("%.0f", at)
		}
		c.Ticks = append(c.Ticks, tick)
	}
	for i := range r.Runs {
		m := &r.Runs[i]
		if m.Scenario == name && len(m.Timeline) == n {
			c.Series = append(c.Series, page.Series{Name: m.Target, Values: m.Timeline})
		}
	}
	if !c.HasLine() {
		return nil
	}
	return []page.Plot{{File: file, Title: title, SVG: c.Draw()}}
}
