package main

import (
	"math"
	"slices"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// results is everything a run found out: the report is a function of it.
type results struct {
	page.Setup
	Seconds int                 `json:"seconds"`
	Repeat  int                 `json:"repeat"`
	Runs    []measurement       `json:"runs"`
	Idle    []idleMeasurement   `json:"idle"`
	Schema  []schemaMeasurement `json:"schema"`
}

// measurement is one run of one load on one target.
type measurement struct {
	Work       string       `json:"work"`
	Target     string       `json:"target"`
	Repetition int          `json:"repetition"` // from 1; 0 is the warm-up, kept if it failed
	Outcome    page.Outcome `json:"outcome,omitempty"`
	Note       string       `json:"note,omitempty"`
	TPS        float64      `json:"tps,omitempty"`
	P50        float64      `json:"p50_ms,omitempty"` // 0: no sample
	P99        float64      `json:"p99_ms,omitempty"`
	CPU        float64      `json:"cpu_us,omitempty"` // of the pooler's process, per transaction
	RSSBytes   int64        `json:"rss_bytes,omitempty"`

	// The CPU time of the others, per transaction.
	ClientCPU float64 `json:"client_cpu_us,omitempty"` // pgbench
	ServerCPU float64 `json:"server_cpu_us,omitempty"` // PostgreSQL

	FailingLogins float64 `json:"failing_logins,omitempty"` // per second, beside it
}

// idleMeasurement is the memory of a pooler before and after clients came to stay.
type idleMeasurement struct {
	Target      string       `json:"target"`
	Repetition  int          `json:"repetition"`
	Clients     int          `json:"clients"`
	Outcome     page.Outcome `json:"outcome,omitempty"`
	Note        string       `json:"note,omitempty"`
	BeforeBytes int64        `json:"before_bytes"`
	AfterBytes  int64        `json:"after_bytes"`
}

func (m *idleMeasurement) perClient() float64 {
	return float64(m.AfterBytes-m.BeforeBytes) / float64(m.Clients)
}

// schemaMeasurement is what one kind of client saw of one kind of change.
type schemaMeasurement struct {
	Change       string         `json:"change"`
	Target       string         `json:"target"`
	Client       string         `json:"client"`
	KnowsShape   bool           `json:"knows_shape"`
	Transactions int            `json:"transactions"`
	Errors       map[string]int `json:"errors,omitempty"` // by SQLSTATE
}

// quantity picks what is looked at in a measurement.
type quantity func(measurement) float64

func tps(m measurement) float64       { return m.TPS }
func p50(m measurement) float64       { return m.P50 }
func p99(m measurement) float64       { return m.P99 }
func cpu(m measurement) float64       { return m.CPU }
func clientCPU(m measurement) float64 { return m.ClientCPU }
func serverCPU(m measurement) float64 { return m.ServerCPU }
func rssBytes(m measurement) float64  { return float64(m.RSSBytes) }

func failing(m measurement) float64 { return m.FailingLogins }

// of is the median over the repetitions. One failure is the whole answer.
func (r *results) of(work, target string, q quantity) page.Figure {
	var values []float64
	for _, m := range r.Runs {
		if m.Work != work || m.Target != target {
			continue
		}
		if m.Outcome != page.Succeeded {
			return page.Figure{Value: math.NaN(), Outcome: m.Outcome}
		}
		if value := q(m); value > 0 {
			values = append(values, value)
		}
	}
	return page.Figure{Value: page.Median(values)}
}

// idle is the median of the bytes per idle client.
func (r *results) idle(target string, q func(idleMeasurement) float64) page.Figure {
	var values []float64
	for _, m := range r.Idle {
		if m.Target != target {
			continue
		}
		if m.Outcome != page.Succeeded {
			return page.Figure{Value: math.NaN(), Outcome: m.Outcome}
		}
		values = append(values, q(m))
	}
	return page.Figure{Value: page.Median(values)}
}

// public is the results without the yardstick.
func (r *results) public() *results {
	p := *r
	p.Targets = without(r.Targets, func(t page.Program) string { return t.Name })
	p.Runs = without(r.Runs, func(m measurement) string { return m.Target })
	p.Idle = without(r.Idle, func(m idleMeasurement) string { return m.Target })
	p.Schema = without(r.Schema, func(m schemaMeasurement) string { return m.Target })
	return &p
}

func without[T any](all []T, name func(T) string) []T {
	return slices.DeleteFunc(slices.Clone(all), func(one T) bool { return name(one) == rig.Yardstick })
}

// widestSpread is the largest distance between repetitions of one measurement of tps,
// as a share of their median, and where it was.
func (r *results) widestSpread() (share float64, work, target string) {
	type cell struct{ work, target string }
	values := make(map[cell][]float64)
	for _, m := range r.Runs {
		if m.Outcome == page.Succeeded {
			values[cell{m.Work, m.Target}] = append(values[cell{m.Work, m.Target}], m.TPS)
		}
	}
	for c, repetitions := range values {
		if s := page.Spread(repetitions); s > share || s == share && s > 0 && c.work+c.target < work+target {
			share, work, target = s, c.work, c.target
		}
	}
	return share, work, target
}

// writeFolder writes the report, the plots and the measurements.
func writeFolder(path string, r *results) error {
	return folder(path).Write(r, drawPlots(r), func(links string) string { return report(r, links) })
}

func readResults(path string) (*results, error) {
	r := new(results)
	return r, folder(path).Read(r)
}

func folder(path string) page.Folder { return page.Folder{Path: path, Maker: "make bench"} }
