package main

import (
	"strconv"

	"github.com/billproxy/billproxy/test/page"
)

// drawPlots draws the select-only work over the number of clients.
func drawPlots(r *results) []page.Plot {
	kinds := []struct {
		file, title, unit string
		protocol          string
		q                 quantity
		logarithmic       bool
		keep              func(string) bool
	}{
		{"tps-prepared.svg", "pgbench -S, prepared: throughput", "transactions per second", "prepared", tps, false, everybody},
		{"tps-extended.svg", "pgbench -S, extended: throughput", "transactions per second", "extended", tps, false, everybody},
		{"tps-simple.svg", "pgbench -S, simple: throughput", "transactions per second", "simple", tps, false, everybody},
		{"p99-prepared.svg", "pgbench -S, prepared: p99 latency", "milliseconds, logarithmic", "prepared", p99, true, everybody},
		{"cpu-prepared.svg", "pgbench -S, prepared: CPU of the pooler", "µs per transaction", "prepared", cpu, false, isPooler},
	}
	var plots []page.Plot
	for _, kind := range kinds {
		c := page.Chart{Title: kind.title, Unit: kind.unit, Axis: "clients", Logarithmic: kind.logarithmic}
		for _, clients := range selectClients {
			c.Ticks = append(c.Ticks, strconv.Itoa(clients))
		}
		for _, name := range r.names(kind.keep) {
			s := page.Series{Name: name}
			for _, clients := range selectClients {
				s.Values = append(s.Values, r.of(workSelect(kind.protocol, clients), name, kind.q).Value)
			}
			c.Series = append(c.Series, s)
		}
		if c.HasLine() {
			plots = append(plots, page.Plot{File: kind.file, Title: kind.title, SVG: c.Draw()})
		}
	}
	return plots
}
