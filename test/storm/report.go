package main

import (
	"fmt"
	"strings"

	"github.com/billproxy/billproxy/test/page"
)

// report is the results in Markdown, with the links to the plots below the goals.
func report(r *results, links string) string {
	var w strings.Builder
	w.WriteString(r.introduction())
	w.WriteString(page.GoalTable(goals, r))
	w.WriteString(links)
	w.WriteString(curveTables(r))
	w.WriteString(storyTables(r))
	w.WriteString(tenantTable(r))
	w.WriteString(crowdTable(r))
	w.WriteString(failureTable(r))
	w.WriteString(generatorTable(r))
	w.WriteString(failureList(r))
	return w.String()
}

func (r *results) introduction() string {
	means := fmt.Sprintf("PostgreSQL ended %s operations of %d ms per second on %d connections: that is the capacity. Every figure is of one run.",
		page.Count(r.Capacity), serviceTime.Milliseconds(), poolSize)
	return r.Introduction(means)
}

// comparison makes tables with a column for each target.
type comparison struct {
	r     *results
	table page.Table
}

func newComparison(r *results, title string) *comparison {
	return &comparison{r, page.Table{Columns: append([]string{title}, r.Names()...), Left: 1}}
}

// add makes a row of what get returns for each target, unless nothing was measured.
func (c *comparison) add(title string, get func(target string) page.Figure, format func(float64) string) {
	cells := []string{title}
	something := false
	for _, name := range c.r.Names() {
		f := get(name)
		something = something || !f.IsAbsent()
		cells = append(cells, f.Text(format))
	}
	if something {
		c.table.Add(cells...)
	}
}

// addOf makes a row of a quantity of a scenario.
func (c *comparison) addOf(title, scenario string, q quantity, format func(float64) string) {
	c.add(title, func(target string) page.Figure { return c.r.of(scenario, target, q) }, format)
}

func curveTables(r *results) string {
	var w strings.Builder
	load := func(q func(*window) float64) quantity { return inWindow(groupAll, phaseLoad, q) }
	for _, part := range []struct {
		title, text string
		q           quantity
		format      func(float64) string
	}{
		{"Goodput over offered load", "Operations answered within 1 s of their intended start, per second.", load(good), page.Count},
		{"Latency over offered load", "p99 in ms from the intended start to the answer, of all operations that were answered, however late.", load(p99), page.Count},
		{"Refusals over offered load", "Attempts that were answered with an error.", load(refusals), page.Count},
		{"Latency of refusals over offered load", "p99 in ms from the request to the error.", load(refusalP99), page.Milliseconds},
		{"Executions per operation over offered load", "Executions begun, divided by the operations that were executed at least once.", executions, ratioText},
		{"Executions for nobody over offered load", "Share of the executions that began when their client had gone.", forGone, page.Percent},
		{"Server connections over offered load", "Those that were made beyond the ones that are needed.", forked, page.Count},
		{"Reconnects over offered load", "Logins after the first, divided by the clients.", reconnects, ratioText},
		{"CPU of the pooler over offered load", "User and system time of its process as a share of a core.", poolerCPU, page.Percent},
	} {
		c := newComparison(r, "× capacity")
		for _, factor := range loads {
			c.addOf(fmt.Sprintf("%g", factor), scenarioLoad(factor), part.q, part.format)
		}
		w.WriteString(page.Section(part.title, part.text, &c.table))
	}
	c := newComparison(r, "× capacity")
	for _, factor := range overloads {
		c.add(fmt.Sprintf("%g", factor), func(target string) page.Figure { return r.peakShare(factor, target) }, page.Percent)
	}
	w.WriteString(page.Section("Goodput under overload", "As a share of the target's own highest.", &c.table))
	return w.String()
}

func storyTables(r *results) string {
	var w strings.Builder
	for _, part := range []struct{ scenario, title, text string }{
		{scenarioStop, "PostgreSQL is stopped", "0.8 × capacity; every backend gets SIGSTOP, also those that come meanwhile, and SIGCONT 10 s later."},
		{scenarioLock, "A table is locked", "0.8 × capacity; another session holds an ACCESS EXCLUSIVE lock for 10 s on a table that every operation writes."},
		{scenarioSurge, "A surge", "0.8 × capacity, three times the capacity for 10 s, and 0.8 × again."},
		{scenarioBurst, "A burst", "0.8 × capacity, and beside it for 5 s " + page.Count(burstRate) + " more operations per second, which are not tried again."},
	} {
		c := newComparison(r, "")
		row := func(title string, q quantity, format func(float64) string) { c.addOf(title, part.scenario, q, format) }
		row("goodput before, per second", inWindow(groupAll, phaseBefore, good), page.Count)
		row("meanwhile", inWindow(groupAll, phaseDuring, good), page.Count)
		row("meanwhile, of the burst", inWindow(groupBurst, phaseDuring, good), page.Count)
		row("afterwards", inWindow(groupAll, phaseAfter, good), page.Count)
		row("95% of the former share is back after", recoveryTime, seconds)
		row("p99 before, ms", inWindow(groupAll, phaseBefore, p99), page.Count)
		row("p99 afterwards, ms", inWindow(groupAll, phaseAfter, p99), page.Count)
		row("refusals meanwhile", inWindow(groupAll, phaseDuring, refusals), page.Count)
		row("their p99, ms", inWindow(groupAll, phaseDuring, refusalP99), page.Milliseconds)
		row("refusals of the burst", inWindow(groupBurst, phaseDuring, refusals), page.Count)
		row("their p99, ms", inWindow(groupBurst, phaseDuring, refusalP99), page.Milliseconds)
		row("server connections made beyond those needed", forked, page.Count)
		row("reconnects per client", reconnects, ratioText)
		row("executions per operation", executions, ratioText)
		row("executions for clients already gone", forGone, page.Percent)
		row("CPU of the pooler, share of a core", poolerCPU, page.Percent)
		w.WriteString(page.Section(part.title, part.text, &c.table))
	}
	return w.String()
}

func tenantTable(r *results) string {
	c := newComparison(r, "")
	for _, group := range []string{groupOthers, groupCritical, groupLoud} {
		c.addOf(group+": goodput before, per second", scenarioTenants, inWindow(group, phaseBefore, good), page.Count)
		c.addOf("meanwhile", scenarioTenants, inWindow(group, phaseDuring, good), page.Count)
		c.add("share answered in time, compared with before", func(target string) page.Figure { return r.tenantShare(target, group) }, page.Percent)
		c.addOf("p99 meanwhile, ms", scenarioTenants, inWindow(group, phaseDuring, p99), page.Count)
		c.addOf("refusals meanwhile", scenarioTenants, inWindow(group, phaseDuring, refusals), page.Count)
	}
	return page.Section("A loud tenant", fmt.Sprintf("%d tenants, told apart by application_name, that offer 0.8 × capacity together; then one of "+
		"them offers %d times as much. A tenth of what the others do says that it is critical.", tenants, loudFactor), &c.table)
}

func crowdTable(r *results) string {
	c := newComparison(r, "")
	for _, row := range []struct {
		title  string
		q      func(*crowd) float64
		format func(float64) string
	}{
		{"clients", func(c *crowd) float64 { return float64(c.Clients) }, page.Count},
		{"logged in", func(c *crowd) float64 { return float64(c.LoggedIn) }, page.Count},
		{"refused", func(c *crowd) float64 { return float64(c.Refused) }, page.Count},
		{"login p50, ms", func(c *crowd) float64 { return orNaN(c.P50) }, page.Count},
		{"login p99, ms", func(c *crowd) float64 { return orNaN(c.P99) }, page.Count},
		{"last login, ms", func(c *crowd) float64 { return orNaN(c.Last) }, page.Count},
	} {
		c.addOf(row.title, scenarioCrowd, func(m *measurement) page.Figure {
			if m.Crowd == nil {
				return page.Absent
			}
			return page.Figure{Value: row.q(m.Crowd)}
		}, row.format)
	}
	c.addOf("goodput of the others before, per second", scenarioCrowd, inWindow(groupAll, phaseBefore, good), page.Count)
	c.addOf("in the 5 s from then", scenarioCrowd, inWindow(groupAll, phaseDuring, good), page.Count)
	c.addOf("their p99, ms", scenarioCrowd, inWindow(groupAll, phaseDuring, p99), page.Count)
	c.addOf("server connections made beyond those needed", scenarioCrowd, forked, page.Count)
	return page.Section("A crowd", fmt.Sprintf("%s clients connect at the same moment and stay, beside others that offer half the capacity. "+
		"PostgreSQL itself is set to let 500 in.", page.Count(crowdClients)), &c.table)
}

// failureTable says why attempts failed.
func failureTable(r *results) string {
	t := page.Table{Columns: []string{"scenario", "target", "failed attempts"}, Left: 3}
	for i := range r.Runs {
		if m := &r.Runs[i]; len(m.Failures) > 0 {
			t.Add(m.Scenario, m.Target, page.Tally(m.Failures))
		}
	}
	return page.Section("Why attempts failed", "By SQLSTATE, or what the client saw. Timeouts are the client's own.", &t)
}

// generatorTable shows that the clients are not what is measured.
func generatorTable(r *results) string {
	t := page.Table{Columns: []string{"scenario", "most CPU, share of a core", "latest p99 of beginnings, ms"}, Left: 1}
	for _, s := range scenarios(r.Capacity, r.Quick) {
		cpu, lag := 0.0, 0.0
		for _, m := range r.Runs {
			if m.Scenario == s.name {
				cpu, lag = max(cpu, m.GeneratorCPU), max(lag, m.LagP99)
			}
		}
		if cpu > 0 {
			t.Add(s.name, page.Percent(cpu), page.Milliseconds(lag))
		}
	}
	return page.Section("The load generator", "The highest over all targets: the CPU time of its one thread, and how late it began operations "+
		"because it was busy or the processor was.", &t)
}

// failureList gives the reason behind each run that has no figures.
func failureList(r *results) string {
	var w strings.Builder
	for _, m := range r.Runs {
		if m.Outcome != page.Succeeded {
			fmt.Fprintf(&w, "- %s, %s: %s (%s).\n", m.Scenario, m.Target, m.Outcome, m.Note)
		}
	}
	if w.Len() == 0 {
		return ""
	}
	return "### What did not end well\n\n" + w.String() + "\n"
}
