package main

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := &scenario{
		phases: []phase{{"idle", time.Second}, {"busy", 10 * time.Second}, {"busier", 5 * time.Second}},
		streams: []stream{
			{rates: []float64{0, 1000, 4000}},
			{rates: []float64{0, 500, 0}},
		},
	}
	all := schedule(7, s)
	if !slices.Equal(all, schedule(7, s)) {
		t.Error("the same seed gives another schedule")
	}
	if slices.Equal(all, schedule(8, s)) {
		t.Error("another seed gives the same schedule")
	}
	counts := map[[2]int]int{}
	gaps, last := 0.0, time.Second
	for i, a := range all {
		if i > 0 && a.at < all[i-1].at {
			t.Fatalf("arrival %d at %v is before the one at %v", i, a.at, all[i-1].at)
		}
		in := 0
		switch {
		case a.at < time.Second:
		case a.at < 11*time.Second:
			in = 1
		case a.at < 16*time.Second:
			in = 2
		default:
			t.Fatalf("an arrival at %v", a.at)
		}
		counts[[2]int{a.stream, in}]++
		if a.stream == 0 && in == 1 {
			gaps += math.Pow((a.at-last).Seconds()*1000, 2)
			last = a.at
		}
	}
	for cell, want := range map[[2]int]float64{{0, 0}: 0, {1, 0}: 0, {0, 1}: 10_000, {1, 1}: 5000, {0, 2}: 20_000, {1, 2}: 0} {
		// Five standard deviations.
		if got := float64(counts[cell]); math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("stream %d has %v arrivals in phase %d, want about %v", cell[0], got, cell[1], want)
		}
	}
	// The squares of the times between random arrivals are twice the square of the mean.
	if mean := gaps / float64(counts[[2]int{0, 1}]); mean < 1.8 || mean > 2.2 {
		t.Errorf("mean square of the gaps is %v, want about 2", mean)
	}
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, quick := range []bool{false, true} {
		var names []string
		for _, s := range scenarios(1000, quick) {
			if slices.Contains(names, s.name) {
				t.Errorf("%s twice", s.name)
			}
			names = append(names, s.name)
			for _, stream := range s.streams {
				if len(stream.rates) != len(s.phases) || stream.service >= len(s.services) {
					t.Errorf("%s: stream %+v with %d phases and %d services", s.name, stream, len(s.phases), len(s.services))
				}
			}
			if from, to := s.span(phaseDuring); s.stall != stallNone && from >= to {
				t.Errorf("%s stalls from %v to %v", s.name, from, to)
			}
			direct := s.forClients(16)
			if n := (contender{Target: directTarget}).servers(&direct); n > 16 || n < 10 {
				t.Errorf("%s has %d clients of 16", s.name, n)
			}
		}
		for _, want := range []string{scenarioLoad(2), scenarioStop, scenarioLock, scenarioSurge, scenarioTenants, scenarioCrowd, scenarioBurst} {
			if !slices.Contains(names, want) {
				t.Errorf("no %s", want)
			}
		}
	}
}

func TestTenantsOfferWhatTheyShould(t *testing.T) {
	t.Parallel()
	s := tenantScenario(1000, fullDurations)
	sums := make([]float64, len(s.phases))
	loud := make([]float64, len(s.phases))
	for _, stream := range s.streams {
		for i, rate := range stream.rates {
			sums[i] += rate
			if stream.group == groupLoud {
				loud[i] += rate
			}
		}
	}
	if math.Abs(sums[1]-800) > 1e-6 || math.Abs(loud[1]-80) > 1e-6 || math.Abs(loud[2]-800) > 1e-6 || math.Abs(sums[2]-1520) > 1e-6 {
		t.Errorf("all offer %v, the loud one %v", sums, loud)
	}
}
