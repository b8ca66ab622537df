package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// readmeFile is the page; what stands between the marks is written by the benchmark,
// the rest by people.
const (
	readmeFile = "README.md"
	beginMark  = "<!-- written by make bench: begin -->"
	endMark    = "<!-- written by make bench: end -->"
)

// insertReport replaces what is between the marks of a page. An empty page gets them.
func insertReport(page, text string) (string, error) {
	if page == "" {
		page = beginMark + "\n" + endMark + "\n"
	}
	before, rest, ok := strings.Cut(page, beginMark)
	if !ok {
		return "", errors.New("no line " + beginMark)
	}
	_, after, ok := strings.Cut(rest, endMark)
	if !ok {
		return "", errors.New("no line " + endMark)
	}
	return before + beginMark + "\n" + text + endMark + after, nil
}

// report is the results in Markdown, with the links to the plots below the goals.
func report(r *results, links string) string {
	var w strings.Builder
	w.WriteString(r.introduction())
	w.WriteString(goalTable(r))
	w.WriteString(links)
	w.WriteString(selectTables(r))
	w.WriteString(writeTables(r))
	w.WriteString(otherTable(r))
	w.WriteString(slowTable(r))
	w.WriteString(loginTable(r))
	w.WriteString(securedTable(r))
	w.WriteString(idleTable(r))
	w.WriteString(schemaTable(r))
	w.WriteString(failureList(r))
	return w.String()
}

func (r *results) introduction() string {
	var w strings.Builder
	m := r.Machine
	fmt.Fprintf(&w, "Run of %s on %d cores (%s), %.0f GB of memory, %s, which clients, poolers and PostgreSQL share. "+
		"Every figure is the median of %d runs of %d s.",
		m.Date, m.Cores, m.Processor, float64(m.MemoryBytes)/(1<<30), m.Kernel, r.Repeat, r.Seconds)
	if r.Quick {
		w.WriteString(" **This was a quick run: it shows that everything runs and measures nothing.**")
	}
	if share, work, target := r.widestSpread(); share > 0 {
		fmt.Fprintf(&w, " Repetitions differ by up to %.0f%% (%s, %s).", share*100, work, target)
	}
	w.WriteString("\n\n")
	for _, t := range r.Targets {
		version := t.Version
		if t.Name == nameDirect {
			var settings []string
			for _, s := range m.Settings {
				settings = append(settings, fmt.Sprintf("`%s = %s`", s.Name, s.Value))
			}
			version += ", defaults but for max_connections: " + strings.Join(settings, ", ")
		}
		if !strings.HasPrefix(strings.ToLower(version), strings.ToLower(t.Name)) {
			version = t.Name + ": " + version
		}
		fmt.Fprintf(&w, "- %s\n", strings.TrimSuffix(version, ": "))
	}
	for _, name := range r.Missing {
		fmt.Fprintf(&w, "- %s was not installed and is left out.\n", name)
	}
	w.WriteString("\n")
	return w.String()
}

func goalTable(r *results) string {
	t := table{columns: []string{"work", "target", "measured", ""}, left: 2}
	all := goals
	if len(r.names(func(name string) bool { return name == nameYardstick })) > 0 {
		all = append(slices.Clone(goals), yardstickGoal)
	}
	for _, g := range all {
		measured, m := g.judge(r)
		t.add(g.work, g.target, measured, string(m))
	}
	return "### Targets\n\n" + t.String()
}

// comparison makes tables with a column for each target and the ratios.
type comparison struct {
	r       *results
	targets []string
	ratios  []string // targets that billproxy is divided by
	table   table
}

func newComparison(r *results, title string, targets []string) *comparison {
	c := &comparison{r: r, targets: targets}
	for _, name := range []string{namePgBouncer, nameDirect, nameYardstick} {
		if slices.Contains(targets, name) && slices.Contains(targets, nameBillproxy) {
			c.ratios = append(c.ratios, name)
		}
	}
	c.table = table{columns: append([]string{title}, targets...), left: 1}
	for _, name := range c.ratios {
		c.table.columns = append(c.table.columns, nameBillproxy+" ÷ "+name)
	}
	return c
}

// add makes a row of what get returns for each target and of more cells, unless nothing
// was measured.
func (c *comparison) add(title string, get func(target string) figure, format func(float64) string, more ...string) {
	cells := []string{title}
	something := false
	for _, name := range c.targets {
		f := get(name)
		something = something || f.measured() || f.outcome != succeeded
		cells = append(cells, f.text(format))
	}
	for _, name := range c.ratios {
		cells = append(cells, ratio(get(nameBillproxy), get(name)).text(times))
	}
	if something {
		c.table.add(append(cells, more...)...)
	}
}

func (f figure) text(format func(float64) string) string {
	switch {
	case f.outcome != succeeded:
		return string(f.outcome)
	case !f.measured():
		return "–"
	}
	return format(f.value)
}

// names lists the targets, those that are no poolers or only read left out if asked.
func (r *results) names(keep func(string) bool) []string {
	var names []string
	for _, t := range r.Targets {
		if keep(t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

func everybody(string) bool           { return true }
func isPooler(name string) bool       { return name != nameDirect }
func isComplete(name string) bool     { return name != nameYardstick }
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
		{"Throughput of `pgbench -S`", "Transactions per second.", tps, count, everybody},
		{"Median latency of `pgbench -S`", "p50 in ms, from a tenth of the transactions.", p50, milliseconds, everybody},
		{"Tail latency of `pgbench -S`", "p99 in ms.", p99, milliseconds, everybody},
		{"CPU of the pooler under `pgbench -S`", "User and system time of its process in µs per transaction, logins included.", cpu, decimal, isPooler},
		{"Memory of the pooler under `pgbench -S`", "Resident set of its process in MB at the end of the run.", rssBytes, megabytes, isPooler},
	} {
		c := newComparison(r, "protocol, clients", r.names(part.keep))
		for _, protocol := range protocols {
			for _, clients := range selectClients {
				work := workSelect(protocol, clients)
				c.add(fmt.Sprintf("%s, %d", protocol, clients), func(target string) figure { return r.of(work, target, part.q) }, part.format)
			}
		}
		w.WriteString(section(part.title, part.text, &c.table))
	}
	return w.String()
}

func writeTables(r *results) string {
	c := newComparison(r, "tps", r.names(isComplete))
	c.table.columns = append(c.table.columns, fmt.Sprintf("direct, %d clients", poolSize), nameBillproxy+" ÷ that")
	latency := newComparison(r, "p99, ms", r.names(isComplete))
	cost := newComparison(r, "µs per transaction", r.names(completePooler))
	for _, script := range []writeWork{simpleUpdate, tpcB} {
		for _, w := range writers {
			title := fmt.Sprintf("%s, %s, %d", script.title, w.protocol, w.clients)
			work := script.work(w.protocol, w.clients)
			get := func(q quantity) func(string) figure {
				return func(target string) figure { return r.of(work, target, q) }
			}
			direct := r.of(script.direct(w.protocol, w.clients), nameDirect, tps)
			c.add(title, get(tps), count, direct.text(count), ratio(r.of(work, nameBillproxy, tps), direct).text(times))
			latency.add(title, get(p99), milliseconds)
			cost.add(title, get(cpu), decimal)
		}
	}
	return section("Writes", fmt.Sprintf("Transactions of five to seven statements, through %d server connections. "+
		"“hangs” is a run that did not end: the prepared protocol of pgbench waits for the answer to a Parse before it looks "+
		"at its other clients, who hold the servers.", poolSize), &c.table) +
		section("Tail latency of writes", "", &latency.table) +
		section("CPU of the pooler under writes", "", &cost.table)
}

func otherTable(r *results) string {
	c := newComparison(r, "work", r.names(everybody))
	for _, row := range []struct {
		title, work string
		q           quantity
		format      func(float64) string
		skip        string
	}{
		{"100 hot rows, prepared, 64 clients: tps", workHot, tps, count, ""},
		{"the same: p99, ms", workHot, p99, milliseconds, ""},
		{"connection per transaction, 16 clients: tps", workConnect, tps, count, ""},
		{"the same: p99, ms", workConnect, p99, milliseconds, ""},
		{"the same: CPU of the pooler, µs per transaction", workConnect, cpu, decimal, nameDirect},
	} {
		c.add(row.title, func(target string) figure {
			if target == row.skip {
				return absent
			}
			return r.of(row.work, target, row.q)
		}, row.format)
	}
	return section("Hot rows and new connections", "", &c.table)
}

func slowTable(r *results) string {
	t := table{columns: []string{"target", "tps alone", "tps beside", "p99 alone, ms", "p99 beside, ms", "p99 beside ÷ alone"}, left: 1}
	for _, name := range r.names(isComplete) {
		alone, beside := r.of(workFast, name, p99), r.of(workFastSlow, name, p99)
		if !alone.measured() && alone.outcome == succeeded {
			continue
		}
		t.add(name, r.of(workFast, name, tps).text(count), r.of(workFastSlow, name, tps).text(count),
			alone.text(milliseconds), beside.text(milliseconds), ratio(beside, alone).text(times))
	}
	return section("Fast reads beside slow ones",
		fmt.Sprintf("64 clients of `pgbench -S -M prepared`, alone and beside 8 clients that repeat `%s`.", slowQuery), &t)
}

func loginTable(r *results) string {
	t := table{columns: []string{"failing logins per second", "tps", "p50, ms", "p99, ms", "µs per transaction"}, left: 1}
	for _, work := range []string{workQuiet, workGuesses} {
		speed := r.of(work, nameBillproxy, tps)
		if !speed.measured() && speed.outcome == succeeded {
			continue
		}
		t.add(r.of(work, nameBillproxy, failing).text(count), speed.text(count), r.of(work, nameBillproxy, p50).text(milliseconds),
			r.of(work, nameBillproxy, p99).text(milliseconds), r.of(work, nameBillproxy, cpu).text(decimal))
	}
	return section("Reads beside failing logins", "16 clients of `pgbench -S -M prepared` through a billproxy that asks for passwords by "+
		"scram-sha-256, alone and while others guess, each on a connection of its own. Its CPU time is divided by the reads.", &t)
}

func idleTable(r *results) string {
	t := table{columns: []string{"pooler", "clients", "before, MB", "after, MB", "bytes per client"}, left: 1}
	for _, name := range r.names(completePooler) {
		at := slices.IndexFunc(r.Idle, func(m idleMeasurement) bool { return m.Target == name })
		if at < 0 {
			continue
		}
		t.add(name, count(float64(r.Idle[at].Clients)),
			r.idle(name, func(m idleMeasurement) float64 { return float64(m.BeforeBytes) }).text(megabytes),
			r.idle(name, func(m idleMeasurement) float64 { return float64(m.AfterBytes) }).text(megabytes),
			r.idle(name, func(m idleMeasurement) float64 { return m.perClient() }).text(count))
	}
	return section("Idle clients", fmt.Sprintf("Resident set of a fresh process after %d clients came and went, and %.0f s after "+
		"the last of the clients that stay had its one query answered.", idleWarmUp, idleQuiet.Seconds()), &t)
}

func schemaTable(r *results) string {
	names := r.names(isComplete)
	t := table{columns: append([]string{"change", "client"}, names...), left: 2}
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
				cells = append(cells, m.errorText())
			}
			if something {
				t.add(cells...)
			}
		}
	}
	return section("Schema changes under load", fmt.Sprintf("Errors that clients saw, by SQLSTATE, while the change was made %d "+
		"times on a direct connection. %d clients of pgbench, each of which ends at its first error, and %d of each mode of pgx, "+
		"which go on, repeat `SELECT * … WHERE id = $1`; pgbench also updates. † This client was told the columns before it "+
		"executed, so PostgreSQL's own error is right.", schemaSteps, schemaPgbenchClients, schemaPgxClients), &t)
}

// failureList gives the reason behind each cell that has no number.
func failureList(r *results) string {
	var w strings.Builder
	for _, m := range r.Runs {
		if m.Outcome != succeeded {
			fmt.Fprintf(&w, "- %s, %s: %s (%s).\n", m.Work, m.Target, m.Outcome, m.Note)
		}
	}
	for _, m := range r.Idle {
		if m.Outcome != succeeded {
			fmt.Fprintf(&w, "- %s, %s: %s (%s).\n", workIdle, m.Target, m.Outcome, m.Note)
		}
	}
	if w.Len() == 0 {
		return ""
	}
	return "### What did not end well\n\n" + w.String() + "\n"
}

// section is a heading, a sentence and a table, or nothing if the table is empty.
func section(title, text string, t *table) string {
	if len(t.rows) == 0 {
		return ""
	}
	if text != "" {
		text += "\n\n"
	}
	return "### " + title + "\n\n" + text + t.String()
}

// table is a Markdown table; the first columns, as many as left, are text.
type table struct {
	columns []string
	left    int
	rows    [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var w strings.Builder
	line := func(cells []string) { w.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.columns)
	rules := make([]string, len(t.columns))
	for i := range rules {
		rules[i] = "---:"
		if i < t.left {
			rules[i] = "---"
		}
	}
	line(rules)
	for _, row := range t.rows {
		line(row)
	}
	w.WriteString("\n")
	return w.String()
}

// count writes a whole number with commas.
func count(value float64) string {
	digits := strconv.FormatFloat(value, 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

func times(value float64) string        { return fmt.Sprintf("%.2f×", value) }
func milliseconds(value float64) string { return fmt.Sprintf("%.2f", value) }
func decimal(value float64) string      { return fmt.Sprintf("%.1f", value) }
func megabytes(value float64) string    { return fmt.Sprintf("%.1f", value/1e6) }
