package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// sample is the results of a run with the given targets, in which billproxy reaches
// factor times what PgBouncer does.
func sample(factor float64, names ...string) *results {
	r := &results{
		Seconds: 5, Repeat: 3,
		Setup: page.Setup{Machine: rig.Machine{Date: "2026-01-02", Cores: 2, Processor: "A processor", MemoryBytes: 8 << 30, Kernel: "Linux 6.1"}},
	}
	for _, g := range gates {
		r.Runs = append(r.Runs, measurement{Work: workGate, Target: g.name, Repetition: 1, TPS: 10_000, P50: 1, P99: 3, CPU: 20})
	}
	for _, name := range names {
		r.Targets = append(r.Targets, page.Program{Name: name, Version: name + " 1.0"})
		speed := 1.0
		if name == rig.Billproxy {
			speed = factor
		}
		var works []string
		for _, protocol := range protocols {
			for _, clients := range selectClients {
				works = append(works, workSelect(protocol, clients))
			}
		}
		works = append(works, workConnect, workHot, workFast, workFastSlow, workQuiet, workGuesses)
		for _, script := range []writeWork{simpleUpdate, tpcB} {
			for _, w := range writers {
				works = append(works, script.work(w.protocol, w.clients))
				if name == rig.Direct {
					works = append(works, script.direct(w.protocol, w.clients))
				}
			}
		}
		for _, work := range works {
			for repetition := range r.Repeat {
				noise := 1 + 0.1*float64(repetition-1)
				r.Runs = append(r.Runs, measurement{
					Work: work, Target: name, Repetition: repetition + 1,
					TPS: 10_000 * speed * noise, P50: 1 / speed, P99: 3 / speed, CPU: 20 / speed, RSSBytes: 10 << 20,
				})
			}
		}
		r.Idle = append(r.Idle, idleMeasurement{Target: name, Repetition: 1, Clients: 9000, BeforeBytes: 10e6, AfterBytes: 10e6 + 9000*1100})
		for _, change := range schemaChanges {
			r.Schema = append(r.Schema, schemaMeasurement{Change: change.name, Target: name, Client: schemaPgbench, Transactions: 9})
			for _, client := range schemaPgxModes {
				m := schemaMeasurement{Change: change.name, Target: name, Client: client.name, KnowsShape: client.knowsShape, Transactions: 9}
				if client.knowsShape {
					m.Errors = map[string]int{"0A000": 3}
				}
				r.Schema = append(r.Schema, m)
			}
		}
	}
	return r
}

func TestSecuredTable(t *testing.T) {
	t.Parallel()
	if text := securedTable(new(results)); text != "" {
		t.Errorf("nothing was measured: %s", text)
	}
	r := new(results)
	for i, s := range securities[:3] {
		r.Runs = append(r.Runs, measurement{Work: workSecuredReads, Target: s.name, Repetition: 1, TPS: 1000 / float64(1+i), P99: 2, CPU: 3})
	}
	r.Runs = append(r.Runs, measurement{Work: workSecuredConnect, Target: securities[0].name, Repetition: 1, Outcome: page.Fails})
	text := securedTable(r)
	for _, row := range []string{
		"| neither TLS nor passwords | 1,000 | 1.00× | 2.00 | 3.0 | fails |",
		"| TLS of clients | 333 | 0.33× | 2.00 | 3.0 | – |",
	} {
		if !strings.Contains(text, row) {
			t.Errorf("no row %q in\n%s", row, text)
		}
	}
	if strings.Contains(text, securities[3].name) {
		t.Errorf("a row of what was not measured in\n%s", text)
	}
}

func TestGateTable(t *testing.T) {
	t.Parallel()
	if text := gateTable(new(results)); text != "" {
		t.Errorf("nothing was measured: %s", text)
	}
	r := sample(1)
	if text := gateTable(r); !strings.Contains(text, "| "+gates[0].name+" | 10,000 | 1.00 | 3.00 | 20.0 |") {
		t.Error(text)
	}
	r.Runs[0].TPS = 9_400
	if got := marks(r); got[page.Miss] != 1 {
		t.Errorf("a gate that costs more than a twentieth: %v", got)
	}
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
	all := []string{rig.Direct, rig.PgBouncer, rig.Billproxy}
	for _, c := range []struct {
		title                string
		r                    *results
		met, missed, missing int
	}{
		{"far ahead", sample(4, all...), len(goals), 0, 0},
		// What is not a comparison, and bounds of at most 1, are met.
		{"level", sample(1, all...), 9, len(goals) - 9, 0},
		{"without PgBouncer", sample(4, rig.Direct, rig.Billproxy), 10, 0, len(goals) - 10},
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
	fail := func(target string) map[page.Mark]int {
		r := sample(4, rig.Direct, rig.PgBouncer, rig.Billproxy)
		for i := range r.Runs {
			if r.Runs[i].Target == target && r.Runs[i].Work == tpcB.work("prepared", 32) {
				r.Runs[i].Outcome = page.Hangs
			}
		}
		return marks(r)
	}
	if got := fail(rig.PgBouncer); got[page.Pass] != len(goals) {
		t.Errorf("PgBouncer hangs: %v", got)
	}
	if got := fail(rig.Billproxy); got[page.Pass] != len(goals)-1 || got[page.Miss] != 1 {
		t.Errorf("billproxy hangs: %v", got)
	}
	r := sample(4, rig.Direct, rig.PgBouncer, rig.Billproxy)
	at := slices.IndexFunc(r.Schema, func(m schemaMeasurement) bool { return m.Target == rig.Billproxy && m.Client == schemaPgbench })
	r.Schema[at].Errors = map[string]int{"0A000": 1}
	if got := marks(r); got[page.Miss] != 1 {
		t.Errorf("an error for a client that was told nothing: %v", got)
	}
	at = slices.IndexFunc(r.Schema, func(m schemaMeasurement) bool { return m.Target == rig.Billproxy && m.KnowsShape })
	r.Schema[at].Errors = map[string]int{"26000": 1}
	if got := marks(r); got[page.Miss] != 2 {
		t.Errorf("an error PostgreSQL does not give: %v", got)
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	r := &results{Runs: []measurement{
		{Work: "w", Target: "a", TPS: 3},
		{Work: "w", Target: "a", TPS: 1},
		{Work: "w", Target: "a", TPS: 2},
		{Work: "w", Target: "b", TPS: 3},
		{Work: "w", Target: "b", Outcome: page.Fails},
	}}
	if got := r.of("w", "a", tps); got.Value != 2 {
		t.Errorf("got %v", got)
	}
	if got := r.of("w", "b", tps); got.Outcome != page.Fails {
		t.Errorf("one failure of two: %v", got)
	}
	if got := r.of("w", "c", tps); got.Measured() || got.Outcome != page.Succeeded {
		t.Errorf("of nothing: %v", got)
	}
}

func TestWriteFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	readme := filepath.Join(dir, "README.md")
	before := "before\n<!-- written by make bench: begin -->\n<!-- written by make bench: end -->\nafter\n"
	if err := os.WriteFile(readme, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	r := sample(4, rig.Direct, rig.PgBouncer, rig.Billproxy, rig.Yardstick)
	if err := writeFolder(dir, r.public()); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"before\n", "\nafter\n", "| prepared, 64 | 10,000 | 10,000 | 40,000 | 4.00× | 4.00× |", string(page.Pass), "![pgbench -S, prepared: throughput](tps-prepared.svg)",
		"median of 3 runs of 5 s", "| PgBouncer | 9,000 | 10.0 | 19.9 | 1,100 |",
	} {
		if !strings.Contains(string(written), part) {
			t.Errorf("the page has no %q", part)
		}
	}
	again, err := readResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := report(again, ""), report(r.public(), ""); a != b {
		t.Error("the report of what was stored differs")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 7 {
		t.Errorf("%d files, %v, want a page, the results and 5 plots", len(entries), err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil || strings.Contains(string(content), rig.Yardstick) {
			t.Errorf("%s: %v, or it tells of the yardstick", entry.Name(), err)
		}
	}
}

func TestReportOfPart(t *testing.T) {
	t.Parallel()
	r := &results{Setup: page.Setup{Targets: []page.Program{{Name: rig.Direct, Version: "PostgreSQL 17"}, {Name: rig.Billproxy, Version: "billproxy 1"}}}, Runs: []measurement{
		{Work: workConnect, Target: rig.Direct, TPS: 1234.5, P99: 2}, {Work: workConnect, Target: rig.Billproxy, Outcome: page.Fails, Note: "it ended"},
	}}
	text := report(r, "")
	for _, part := range []string{"| 1,234 | fails | fails |", "- connect/simple/16, billproxy: fails (it ended).", "direct: PostgreSQL 17"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
	for _, part := range []string{"Throughput", "Writes", "Idle", "Schema changes under load", "NaN"} {
		if strings.Contains(text, part) {
			t.Errorf("%q in:\n%s", part, text)
		}
	}
}

func TestResultsAreJSON(t *testing.T) {
	t.Parallel()
	if _, err := json.Marshal(sample(2, rig.Direct)); err != nil {
		t.Error(err)
	}
}
