package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// sample is the results of a run in which every target keeps a share of its goodput
// whatever happens to it.
func sample(kept float64, names ...string) *results {
	r := &results{Capacity: 1000, Seed: 1, Setup: page.Setup{Machine: rig.Machine{Date: "2026-01-02", Cores: 2, Processor: "A processor", MemoryBytes: 8 << 30, Kernel: "Linux 6.1"}}}
	for _, name := range names {
		r.Targets = append(r.Targets, page.Program{Name: name, Version: name + " 1.0"})
		for _, s := range scenarios(r.Capacity, false) {
			m := measurement{
				Scenario: s.name, Target: name, Servers: poolSize, Clients: 100, GeneratorCPU: 0.2, PoolerCPU: 0.1, LagP99: 0.5,
				Account: account{Begun: 1000, Ended: 1000, Unique: 1000, Sessions: poolSize},
			}
			for _, group := range s.groups() {
				for i, p := range s.phases[1:] {
					offered := 0.0
					for _, stream := range s.streams {
						if stream.group == group {
							offered += stream.rates[i+1]
						}
					}
					if offered == 0 {
						continue
					}
					w := window{Group: group, Phase: p.name, Offered: offered, Good: min(offered, r.Capacity), P50: 8, P99: 20}
					if offered > r.Capacity || p.name == phaseDuring {
						w.Good *= kept
						if group != groupCritical || kept < goodShare {
							w.Refusals, w.RefusalP99 = 100, 0.5/kept/kept
						}
						w.P99 /= kept
					}
					m.Windows = append(m.Windows, w)
				}
			}
			if s.length() > 0 {
				for range int((s.length() - s.phases[0].length) / timelineStep) {
					m.Timeline = append(m.Timeline, 800)
				}
			}
			if _, to := s.span(phaseAfter); to > 0 {
				value := 1 / kept / kept
				m.Recovery = &value
				if kept == 1 {
					value = 0.5
				} else {
					m.Account = account{Begun: 2000, Ended: 1500, Unique: 1000, ForGone: 500, Sessions: 400}
					m.Logins, m.Failures = 1000, map[string]int{errorTimeout: 1234, "08P01": 5}
				}
			}
			if s.crowd > 0 {
				m.Crowd = &crowd{Clients: s.crowd, LoggedIn: s.crowd, P50: 100, P99: 200, Last: 250}
			}
			r.Runs = append(r.Runs, m)
		}
	}
	return r
}

func marks(r *results) map[page.Mark]int {
	counts := make(map[page.Mark]int)
	for _, g := range goals {
		_, m := g.Judge(r)
		counts[m]++
	}
	return counts
}

func TestGoals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		title                string
		r                    *results
		met, missed, missing int
	}{
		{"nothing lost", sample(1, rig.Direct, rig.Billproxy), len(goals), 0, 0},
		// Nobody is refused at 0.8 of the capacity.
		{"a quarter left", sample(0.25, rig.Direct, rig.Billproxy), 1, len(goals) - 1, 0},
		{"without billproxy", sample(1, rig.Direct), 0, 0, len(goals)},
		{"nothing measured", new(results), 0, 0, len(goals)},
	} {
		got := marks(c.r)
		if got[page.Pass] != c.met || got[page.Miss] != c.missed || got[page.Unknown] != c.missing {
			t.Errorf("%s: %v, want %d met, %d missed, %d not measured", c.title, got, c.met, c.missed, c.missing)
		}
	}
}

func TestGoalsOfFailures(t *testing.T) {
	t.Parallel()
	r := sample(1, rig.Billproxy)
	for i := range r.Runs {
		if r.Runs[i].Scenario == scenarioLock {
			r.Runs[i].Outcome = page.Fails
		}
	}
	if got := marks(r); got[page.Miss] != 5 {
		t.Errorf("one of the stalls fails: %v", got)
	}
	r = sample(1, rig.Billproxy)
	for i := range r.Runs {
		if r.Runs[i].Scenario == scenarioLoad(0.5) {
			r.Runs[i].Windows[0].Refusals = 1
		}
		if r.Runs[i].Scenario == scenarioSurge {
			r.Runs[i].Lasting = true
		}
	}
	if got := marks(r); got[page.Miss] != 2 {
		t.Errorf("a refusal at half the capacity, and no end of the surge: %v", got)
	}
}

func TestWriteFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := sample(1, rig.Direct, rig.DirectMany, rig.PgBouncer, rig.PgBouncerHurried, rig.Odyssey, rig.Billproxy)
	if err := writeFolder(dir, r); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"make storm: begin", string(page.Pass), "![Goodput over offered load, with immediate retries](goodput.svg)", "(stall-stop.svg)", "(surge.svg)",
		"| 5 | 1,000 | 1,000 | 1,000 | 1,000 | 1,000 | 1,000 |", "| 5 | 100.0% |", "PostgreSQL ended 1,000 operations of 8 ms per second on 16 connections",
		"| stall/lock | 20.0% | 0.50 |", "### A crowd", "### A loud tenant",
	} {
		if !strings.Contains(string(content), part) {
			t.Errorf("the page has no %q:\n%s", part, content)
		}
	}
	again, err := readResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := report(again, ""), report(r, ""); a != b {
		t.Error("the report of what was stored differs")
	}
	for _, p := range drawPlots(again) {
		decoder := xml.NewDecoder(strings.NewReader(p.SVG))
		for err = nil; err == nil; {
			_, err = decoder.Token()
		}
		if !errors.Is(err, io.EOF) || strings.Contains(p.SVG, "NaN") {
			t.Errorf("%s: %v", p.File, err)
		}
	}
	if plots := drawPlots(again); len(plots) != 4 {
		t.Errorf("%d plots, want 4", len(plots))
	}
}

func TestReportOfPart(t *testing.T) {
	t.Parallel()
	r := sample(0.25, rig.PgBouncer)
	lost := 15.0
	for i := range r.Runs {
		m := &r.Runs[i]
		switch m.Scenario {
		case scenarioLock:
			m.Outcome, m.Note = page.Fails, "it ended"
		case scenarioStop:
			m.Recovery, m.Lasting = &lost, true
		}
	}
	text := report(r, "")
	for _, part := range []string{
		"- stall/lock, PgBouncer: fails (it ended).", "not within 15.0 s", "| stall/stop | PgBouncer | 5 × 08P01, 1,234 × timeout |",
		"| executions per operation | 2.00 |", "| executions for clients already gone | 25.0% |", "| server connections made beyond those needed | 384 |",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
	empty := report(&results{}, "")
	for _, part := range []string{"NaN", "### A crowd", "### Goodput", "| 5 |"} {
		if strings.Contains(empty, part) {
			t.Errorf("%q in:\n%s", part, empty)
		}
	}
	if drawPlots(&results{}) != nil {
		t.Error("plots of nothing")
	}
}
