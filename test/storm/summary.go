package main

import (
	"slices"
	"time"

	"github.com/billproxy/billproxy/test/page"
)

const (
	// timelineStep is the width of a point of the timeline.
	timelineStep = 500 * time.Millisecond
	// recoveryStep is how exactly the time of recovery is known.
	recoveryStep = 100 * time.Millisecond
	// recoveryWindow is how long things have to go well.
	recoveryWindow = time.Second
	// recoveredShare of what went well before has to go well again.
	recoveredShare = 0.95
)

// summarize turns what clients wrote down into figures. A stall ended at stalled.
func (m *measurement) summarize(s *scenario, log *runLog, stalled time.Duration) {
	for _, group := range s.groups() {
		begin := time.Duration(0)
		for _, p := range s.phases {
			if p.name != phaseWarmUp {
				if w := summarizeWindow(log, group, begin, begin+p.length); w.Offered > 0 {
					w.Phase = p.name
					m.Windows = append(m.Windows, w)
				}
			}
			begin += p.length
		}
	}
	_, warm := s.span(phaseWarmUp)
	m.Timeline = timeline(log.operations, warm, s.length())
	if from, to := s.span(phaseAfter); to > 0 {
		former := m.window(groupAll, phaseBefore)
		took, lasting := recovery(log.operations, max(from, stalled), to, former.share())
		value := took.Seconds()
		m.Recovery, m.Lasting = &value, lasting
	}
	if s.crowd > 0 {
		m.Crowd = summarizeCrowd(s.crowd, log)
	}
	m.Clients, m.Logins, m.Failures = log.slots, log.logins, log.errors
	m.GeneratorCPU = log.cpu.Seconds() / log.end.Seconds()
	m.LagP99 = percentiles(log.lags, 0.99)[0]
}

// groups lists the groups in the order of their streams.
func (s *scenario) groups() []string {
	var groups []string
	for _, stream := range s.streams {
		if !slices.Contains(groups, stream.group) {
			groups = append(groups, stream.group)
		}
	}
	return groups
}

// summarizeWindow looks at the operations of a group that were to begin in that time.
func summarizeWindow(log *runLog, group string, from, to time.Duration) window {
	w := window{Group: group}
	var latencies, refusals []time.Duration
	offered, good := 0, 0
	for i := range log.operations {
		o := &log.operations[i]
		if o.stream.group != group || o.intended < from || o.intended >= to {
			continue
		}
		offered++
		if o.isGood() {
			good++
		}
		if o.outcome == answered {
			latencies = append(latencies, o.ended-o.intended)
		}
	}
	for _, r := range log.refusals {
		if r.stream.group == group && r.at >= from && r.at < to {
			refusals = append(refusals, r.took)
		}
	}
	length := (to - from).Seconds()
	w.Offered, w.Good, w.Refusals = float64(offered)/length, float64(good)/length, len(refusals)
	p := percentiles(latencies, 0.50, 0.99)
	w.P50, w.P99 = p[0], p[1]
	w.RefusalP99 = percentiles(refusals, 0.99)[0]
	return w
}

// percentiles are in milliseconds, 0 if there are no values.
func percentiles(values []time.Duration, shares ...float64) []float64 {
	all := make([]float64, len(shares))
	if len(values) == 0 {
		return all
	}
	sorted := make([]float64, len(values))
	for i, value := range values {
		sorted[i] = float64(value) / float64(time.Millisecond)
	}
	slices.Sort(sorted)
	for i, share := range shares {
		all[i] = page.Percentile(sorted, share)
	}
	return all
}

// tally counts the operations of each step of time by their intended start: how many
// there were and how many were answered in time.
func tally(operations []operation, group string, from, to, step time.Duration) (all, good []int) {
	n := max(int((to-from)/step), 0)
	all, good = make([]int, n), make([]int, n)
	for i := range operations {
		o := &operations[i]
		at := int((o.intended - from) / step)
		if o.intended < from || at >= n || group != "" && o.stream.group != group {
			continue
		}
		all[at]++
		if o.isGood() {
			good[at]++
		}
	}
	return all, good
}

// timeline is the goodput of each step per second.
func timeline(operations []operation, from, to time.Duration) []float64 {
	_, good := tally(operations, "", from, to, timelineStep)
	points := make([]float64, len(good))
	for i, n := range good {
		points[i] = float64(n) / timelineStep.Seconds()
	}
	return points
}

// recovery is how long after from it takes until in every second, up to the end, the
// share of operations answered in time is again what it was, or nearly. lasting reports
// that there is no such time, and took is then how long it was looked for.
func recovery(operations []operation, from, to time.Duration, former float64) (took time.Duration, lasting bool) {
	all, good := tally(operations, groupAll, from, to, recoveryStep)
	width := int(recoveryWindow / recoveryStep)
	for begin := len(all) - width; begin >= 0; begin-- {
		offered, served := 0, 0
		for i := begin; i < begin+width; i++ {
			offered += all[i]
			served += good[i]
		}
		if float64(served) >= recoveredShare*former*float64(offered) {
			continue
		}
		if begin == len(all)-width {
			return to - from, true
		}
		return time.Duration(begin+1) * recoveryStep, false
	}
	return 0, false
}

func summarizeCrowd(clients int, log *runLog) *crowd {
	c := &crowd{Clients: clients, LoggedIn: len(log.crowdLogins), Refused: log.crowdFailures}
	p := percentiles(log.crowdLogins, 0.50, 0.99, 1)
	c.P50, c.P99, c.Last = p[0], p[1], p[2]
	return c
}
