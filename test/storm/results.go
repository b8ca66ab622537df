package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/billproxy/billproxy/test/page"
)

// results is everything a run found out: the report is a function of it.
type results struct {
	page.Setup
	Seed     uint64        `json:"seed"`
	Capacity float64       `json:"capacity"` // operations per second
	Runs     []measurement `json:"runs"`
}

// measurement is what one scenario did to one target.
type measurement struct {
	Scenario string       `json:"scenario"`
	Target   string       `json:"target"`
	Outcome  page.Outcome `json:"outcome,omitempty"`
	Note     string       `json:"note,omitempty"`

	Windows  []window       `json:"windows,omitempty"`
	Timeline []float64      `json:"timeline,omitempty"` // operations answered in time per second, of each timelineStep
	Recovery *float64       `json:"recovery_s,omitempty"`
	Lasting  bool           `json:"lasting,omitempty"` // it did not recover within that
	Account  account        `json:"account"`
	Servers  int            `json:"servers"`  // connections to PostgreSQL that are needed
	Clients  int            `json:"clients"`  // connections of services
	Logins   int            `json:"logins"`   // of services that were not the first on their connection
	Failures map[string]int `json:"failures"` // of attempts, by SQLSTATE or a word
	Crowd    *crowd         `json:"crowd,omitempty"`

	GeneratorCPU float64 `json:"generator_cpu"` // share of a core
	PoolerCPU    float64 `json:"pooler_cpu"`
	LagP99       float64 `json:"lag_p99_ms"` // of operations that began later than they should
}

// window is what became of the operations of a group that were to begin in a phase.
type window struct {
	Group   string  `json:"group"`
	Phase   string  `json:"phase"`
	Offered float64 `json:"offered"` // per second
	Good    float64 `json:"good"`    // per second: answered in time
	P50     float64 `json:"p50_ms,omitempty"`
	P99     float64 `json:"p99_ms,omitempty"` // of what was answered, late answers included

	// Answers that said no.
	Refusals   int     `json:"refusals"`
	RefusalP99 float64 `json:"refusal_p99_ms,omitempty"`
}

// share is how much of what was offered was answered in time.
func (w *window) share() float64 { return w.Good / w.Offered }

// crowd is the clients that logged in all at once.
type crowd struct {
	Clients  int     `json:"clients"`
	LoggedIn int     `json:"logged_in"`
	Refused  int     `json:"refused"`
	P50      float64 `json:"p50_ms,omitempty"`
	P99      float64 `json:"p99_ms,omitempty"`
	Last     float64 `json:"last_ms,omitempty"`
}

func (m *measurement) String() string {
	var w strings.Builder
	for _, window := range m.Windows {
		fmt.Fprintf(&w, "%s, %s: %.0f of %.0f/s, p99 %.0f ms, %d refusals (p99 %.1f ms); ",
			window.Group, window.Phase, window.Good, window.Offered, window.P99, window.Refusals, window.RefusalP99)
	}
	if m.Recovery != nil {
		fmt.Fprintf(&w, "back after %s; ", m.recovery().Text(seconds))
	}
	a := m.Account
	fmt.Fprintf(&w, "%d begun, %d unique, %d for the gone, %d forked, %d logins; CPU generator %.2f, pooler %.2f; lag p99 %.1f ms",
		a.Begun, a.Unique, a.ForGone, m.forked(), m.Logins, m.GeneratorCPU, m.PoolerCPU, m.LagP99)
	if len(m.Failures) > 0 {
		fmt.Fprintf(&w, "; failures: %s", page.Tally(m.Failures))
	}
	if m.Crowd != nil {
		fmt.Fprintf(&w, "; crowd: %+v", *m.Crowd)
	}
	return w.String()
}

// forked is the server connections that were made beyond those that are needed.
func (m *measurement) forked() int64 { return max(m.Account.Sessions-int64(m.Servers), 0) }

func (m *measurement) recovery() page.Figure {
	switch {
	case m.Recovery == nil:
		return page.Absent
	case m.Lasting:
		return page.Figure{Value: math.NaN(), Outcome: page.Outcome("not within " + seconds(*m.Recovery))}
	}
	return page.Figure{Value: *m.Recovery}
}

func (m *measurement) window(group, phase string) *window {
	for i := range m.Windows {
		if m.Windows[i].Group == group && m.Windows[i].Phase == phase {
			return &m.Windows[i]
		}
	}
	return nil
}

// quantity picks what is looked at in a measurement.
type quantity func(*measurement) page.Figure

// of is a figure of a scenario done to a target.
func (r *results) of(scenario, target string, q quantity) page.Figure {
	for i := range r.Runs {
		m := &r.Runs[i]
		if m.Scenario != scenario || m.Target != target {
			continue
		}
		if m.Outcome != page.Succeeded {
			return page.Figure{Value: math.NaN(), Outcome: m.Outcome}
		}
		return q(m)
	}
	return page.Absent
}

// The quantities. Where nothing happened that could be measured there is no figure.

// inWindow picks from what became of a group's operations in a phase.
func inWindow(group, phase string, q func(*window) float64) quantity {
	return func(m *measurement) page.Figure {
		w := m.window(group, phase)
		if w == nil {
			return page.Absent
		}
		return page.Figure{Value: q(w)}
	}
}

func good(w *window) float64     { return w.Good }
func share(w *window) float64    { return w.share() }
func refusals(w *window) float64 { return float64(w.Refusals) }

// p99 and refusalP99 are 0 if there is no sample.
func p99(w *window) float64        { return orNaN(w.P99) }
func refusalP99(w *window) float64 { return orNaN(w.RefusalP99) }

func orNaN(value float64) float64 {
	if value == 0 {
		return math.NaN()
	}
	return value
}

func recoveryTime(m *measurement) page.Figure { return m.recovery() }

func forked(m *measurement) page.Figure { return page.Figure{Value: float64(m.forked())} }

func reconnects(m *measurement) page.Figure { return quotient(int64(m.Logins), int64(m.Clients)) }

func executions(m *measurement) page.Figure { return quotient(m.Account.Begun, m.Account.Unique) }

func forGone(m *measurement) page.Figure { return quotient(m.Account.ForGone, m.Account.Begun) }

func poolerCPU(m *measurement) page.Figure { return page.Figure{Value: orNaN(m.PoolerCPU)} }

func quotient(over, under int64) page.Figure {
	if under == 0 {
		return page.Absent
	}
	return page.Figure{Value: float64(over) / float64(under)}
}

// peak is the highest goodput on the curve of a target.
func (r *results) peak(target string) page.Figure {
	highest := page.Absent
	for _, factor := range loads {
		f := r.of(scenarioLoad(factor), target, inWindow(groupAll, phaseLoad, good))
		if f.Outcome != page.Succeeded {
			return f
		}
		if f.Measured() && (!highest.Measured() || f.Value > highest.Value) {
			highest = f
		}
	}
	return highest
}

// writeFolder writes the report, the plots and the measurements.
func writeFolder(path string, r *results) error {
	return folder(path).Write(r, drawPlots(r), func(links string) string { return report(r, links) })
}

func readResults(path string) (*results, error) {
	r := new(results)
	return r, folder(path).Read(r)
}

func folder(path string) page.Folder { return page.Folder{Path: path, Maker: "make storm"} }

func seconds(value float64) string { return fmt.Sprintf("%.1f s", value) }
