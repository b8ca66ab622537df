package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// report is the results in Markdown, with the links to the plots below the goals.
func report(r *results, links string) string {
	var w strings.Builder
	w.WriteString(r.introduction())
	w.WriteString(goalTable(r))
	w.WriteString(links)
	w.WriteString(selectTables(r))
	w.WriteString(writeTables(r))
	w.WriteString(shareTable(r))
	w.WriteString(otherTable(r))
	w.WriteString(slowTable(r))
	w.WriteString(loginTable(r))
	w.WriteString(gateTable(r))
	w.WriteString(securedTable(r))
	w.WriteString(idleTable(r))
	w.WriteString(schemaTable(r))
	w.WriteString(failureList(r))
	return w.String()
}

func (r *results) introduction() string {
	means := fmt.Sprintf("Every figure is the median of %d runs of %d s.", r.Repeat, r.Seconds)
	if share, work, target := r.widestSpread(); share > 0 {
		means += fmt.Sprintf(" Repetitions differ by up to %.0f%% (%s, %s).", share*100, work, target)
	}
	return r.Introduction(means)
}

func goalTable(r *results) string {
	all := goals
	if len(r.names(func(name string) bool { return name == rig.Yardstick })) > 0 {
		all = append(slices.Clone(goals), yardstickGoal)
	}
	return page.GoalTable(all, r)
}

// comparison makes tables with a column for each target and the ratios.
type comparison struct {
	r       *results
	targets []string
	ratios  []string // targets that billproxy is divided by
	table   page.Table
}

func newComparison(r *results, title string, targets []string) *comparison {
	c := &comparison{r: r, targets: targets}
	for _, name := range []string{rig.PgBouncer, rig.Direct, rig.Yardstick} {
		if slices.Contains(targets, name) && slices.Contains(targets, rig.Billproxy) {
			c.ratios = append(c.ratios, name)
		}
	}
	c.table = page.Table{Columns: append([]string{title}, targets...), Left: 1}
	for _, name := range c.ratios {
		c.table.Columns = append(c.table.Columns, rig.Billproxy+" ÷ "+name)
	}
	return c
}

// add makes a row of what get returns for each target and of more cells, unless nothing
// was measured.
func (c *comparison) add(title string, get func(target string) page.Figure, format func(float64) string, more ...string) {
	cells := []string{title}
	something := false
	for _, name := range c.targets {
		f := get(name)
		something = something || f.Measured() || f.Outcome != page.Succeeded
		cells = append(cells, f.Text(format))
	}
	for _, name := range c.ratios {
		cells = append(cells, page.Ratio(get(rig.Billproxy), get(name)).Text(page.Times))
	}
	if something {
		c.table.Add(append(cells, more...)...)
	}
}

// names lists the targets, those that are no poolers or only read left out if asked.
func (r *results) names(keep func(string) bool) []string {
	return slices.DeleteFunc(r.Names(), func(name string) bool { return !keep(name) })
}

func everybody(string) bool           { return true }
func isPooler(name string) bool       { return name != rig.Direct }
func isComplete(name string) bool     { return name != rig.Yardstick }
func completePooler(name string) bool { return isPooler(name) && isComplete(name) }

func selectTables(r *results) string {
	var w strings.Builder
	for _, part := range []struct {
		title  string
		text   string
		q      quantity
		format func(float64) string
		keep   func(string) bool
	}{
		{"Throughput of `pgbench -S`", "Transactions per second.", tps, page.Count, everybody},
		{"Median latency of `pgbench -S`", "p50 in ms, from a tenth of the transactions.", p50, page.Milliseconds, everybody},
		{"Tail latency of `pgbench -S`", "p99 in ms.", p99, page.Milliseconds, everybody},
		{"CPU of the pooler under `pgbench -S`", "User and system time of its process in µs per transaction, logins included.", cpu, page.Decimal, isPooler},
		{"Memory of the pooler under `pgbench -S`", "Resident set of its process in MB at the end of the run.", rssBytes, page.Megabytes, isPooler},
	} {
		c := newComparison(r, "protocol, clients", r.names(part.keep))
		for _, protocol := range protocols {
			for _, clients := range selectClients {
				work := workSelect(protocol, clients)
				c.add(fmt.Sprintf("%s, %d", protocol, clients), func(target string) page.Figure { return r.of(work, target, part.q) }, part.format)
			}
		}
		w.WriteString(page.Section(part.title, part.text, &c.table))
	}
	return w.String()
}

func writeTables(r *results) string {
	c := newComparison(r, "tps", r.names(isComplete))
	c.table.Columns = append(c.table.Columns, fmt.Sprintf("direct, %d clients", poolSize), rig.Billproxy+" ÷ that")
	latency := newComparison(r, "p99, ms", r.names(isComplete))
	cost := newComparison(r, "µs per transaction", r.names(completePooler))
	for _, script := range []writeWork{simpleUpdate, tpcB} {
		for _, w := range writers {
			title := fmt.Sprintf("%s, %s, %d", script.title, w.protocol, w.clients)
			work := script.work(w.protocol, w.clients)
			get := func(q quantity) func(string) page.Figure {
				return func(target string) page.Figure { return r.of(work, target, q) }
			}
			direct := r.of(script.direct(w.protocol, w.clients), rig.Direct, tps)
			c.add(title, get(tps), page.Count, direct.Text(page.Count), page.Ratio(r.of(work, rig.Billproxy, tps), direct).Text(page.Times))
			latency.add(title, get(p99), page.Milliseconds)
			cost.add(title, get(cpu), page.Decimal)
		}
	}
	return page.Section("Writes", fmt.Sprintf("Transactions of five to seven statements, through %d server connections. "+
		"“hangs” is a run that did not end: the prepared protocol of pgbench waits for the answer to a Parse before it looks "+
		"at its other clients, who hold the servers.", poolSize), &c.table) +
		page.Section("Tail latency of writes", "", &latency.table) +
		page.Section("CPU of the pooler under writes", "", &cost.table)
}

func otherTable(r *results) string {
	c := newComparison(r, "work", r.names(everybody))
	for _, row := range []struct {
		title, work string
		q           quantity
		format      func(float64) string
		skip        string
	}{
		{"100 hot rows, prepared, 64 clients: tps", workHot, tps, page.Count, ""},
		{"the same: p99, ms", workHot, p99, page.Milliseconds, ""},
		{"connection per transaction, 16 clients: tps", workConnect, tps, page.Count, ""},
		{"the same: p99, ms", workConnect, p99, page.Milliseconds, ""},
		{"the same: CPU of the pooler, µs per transaction", workConnect, cpu, page.Decimal, rig.Direct},
	} {
		c.add(row.title, func(target string) page.Figure {
			if target == row.skip {
				return page.Absent
			}
			return r.of(row.work, target, row.q)
		}, row.format)
	}
	return page.Section("Hot rows and new connections", "", &c.table)
}

func slowTable(r *results) string {
	t := page.Table{Columns: []string{"target", "tps alone", "tps beside", "p99 alone, ms", "p99 beside, ms", "p99 beside ÷ alone"}, Left: 1}
	for _, name := range r.names(isComplete) {
		alone, beside := r.of(workFast, name, p99), r.of(workFastSlow, name, p99)
		if !alone.Measured() && alone.Outcome == page.Succeeded {
			continue
		}
		t.Add(name, r.of(workFast, name, tps).Text(page.Count), r.of(workFastSlow, name, tps).Text(page.Count),
			alone.Text(page.Milliseconds), beside.Text(page.Milliseconds), page.Ratio(beside, alone).Text(page.Times))
	}
	return page.Section("Fast reads beside slow ones",
		fmt.Sprintf("64 clients of `pgbench -S -M prepared`, alone and beside 8 clients that repeat `%s`.", slowQuery), &t)
}

func loginTable(r *results) string {
	t := page.Table{Columns: []string{"failing logins per second", "tps", "p50, ms", "p99, ms", "µs per transaction"}, Left: 1}
	for _, work := range []string{workQuiet, workGuesses} {
		speed := r.of(work, rig.Billproxy, tps)
		if !speed.Measured() && speed.Outcome == page.Succeeded {
			continue
		}
		t.Add(r.of(work, rig.Billproxy, failing).Text(page.Count), speed.Text(page.Count), r.of(work, rig.Billproxy, p50).Text(page.Milliseconds),
			r.of(work, rig.Billproxy, p99).Text(page.Milliseconds), r.of(work, rig.Billproxy, cpu).Text(page.Decimal))
	}
	return page.Section("Reads beside failing logins", "16 clients of `pgbench -S -M prepared` through a billproxy that asks for passwords by "+
		"scram-sha-256, alone and while others guess, each on a connection of its own. Its CPU time is divided by the reads.", &t)
}

func idleTable(r *results) string {
	t := page.Table{Columns: []string{"pooler", "clients", "before, MB", "after, MB", "bytes per client"}, Left: 1}
	for _, name := range r.names(completePooler) {
		at := slices.IndexFunc(r.Idle, func(m idleMeasurement) bool { return m.Target == name })
		if at < 0 {
			continue
		}
		t.Add(name, page.Count(float64(r.Idle[at].Clients)),
			r.idle(name, func(m idleMeasurement) float64 { return float64(m.BeforeBytes) }).Text(page.Megabytes),
			r.idle(name, func(m idleMeasurement) float64 { return float64(m.AfterBytes) }).Text(page.Megabytes),
			r.idle(name, func(m idleMeasurement) float64 { return m.perClient() }).Text(page.Count))
	}
	return page.Section("Idle clients", fmt.Sprintf("Resident set of a fresh process after %d clients came and went, and %.0f s after "+
		"the last of the clients that stay had its one query answered.", idleWarmUp, idleQuiet.Seconds()), &t)
}

func schemaTable(r *results) string {
	names := r.names(isComplete)
	t := page.Table{Columns: append([]string{"change", "client"}, names...), Left: 2}
	for _, change := range schemaChanges {
		for _, client := range append([]schemaClient{{name: schemaPgbench}}, schemaPgxModes...) {
			title := client.name
			if client.knowsShape {
				title += " †"
			}
			cells := []string{change.name, title}
			something := false
			for _, name := range names {
				m := r.schema(change.name, name, client.name)
				if m == nil {
					cells = append(cells, "–")
					continue
				}
				something = true
				cells = append(cells, page.Tally(m.Errors))
			}
			if something {
				t.Add(cells...)
			}
		}
	}
	return page.Section("Schema changes under load", fmt.Sprintf("Errors that clients saw, by SQLSTATE, while the change was made %d "+
		"times on a direct connection. %d clients of pgbench, each of which ends at its first error, and %d of each mode of pgx, "+
		"which go on, repeat `SELECT * … WHERE id = $1`; pgbench also updates. † This client was told the columns before it "+
		"executed, so PostgreSQL's own error is right.", schemaSteps, schemaPgbenchClients, schemaPgxClients), &t)
}

// failureList gives the reason behind each cell that has no number.
func failureList(r *results) string {
	var w strings.Builder
	for _, m := range r.Runs {
		if m.Outcome != page.Succeeded {
			fmt.Fprintf(&w, "- %s, %s: %s (%s).\n", m.Work, m.Target, m.Outcome, m.Note)
		}
	}
	for _, m := range r.Idle {
		if m.Outcome != page.Succeeded {
			fmt.Fprintf(&w, "- %s, %s: %s (%s).\n", workIdle, m.Target, m.Outcome, m.Note)
		}
	}
	if w.Len() == 0 {
		return ""
	}
	return "### What did not end well\n\n" + w.String() + "\n"
}
