package main

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:embed report.md
var introduction string

// titles are the headings of the suites, and what they are.
var titles = map[string]string{
	"twin": "Scripts of messages\n\nText scripts of single messages, in " +
		"[test/twin](../test/twin), are played directly and through the proxy, and every reply must be the same.",
	"differential": "Differential fuzzer\n\nRandom statements that change the state of sessions, of two or three clients at once, in " +
		"[test/differential](../test/differential): every reply must be the one of a direct connection. It finds each of the " +
		"leaks that are planted to test it.",
	"pgx": "pgx\n\nAll tests of the Go driver, unchanged. The direct run is repeated for each test that differs.",
	"regress": "PostgreSQL's regression suite\n\n`pg_regress` with PostgreSQL's own `parallel_schedule`, each run on a new server. " +
		"The suite may be of an older release than the server: a test that fails directly too does not differ.",
	"drivers": "Drivers\n\nOne program for each driver, in [test/conformance/drivers](../test/conformance/drivers): types, prepared " +
		"statements, transactions, pipelines, COPY, cancel, LISTEN, errors, large results and session state. Two of each " +
		"run at once, through a pool of three servers. Every check prints what it has seen, which must be what it sees directly.",
	"fuzz": "Fuzz targets\n\n`make fuzz`: framing, startup, classification, replies, authentication and more, each from a committed corpus.",
}

// report is docs/compatibility.md.
func report(results []*result, k known) string {
	var b strings.Builder
	b.WriteString(introduction)
	b.WriteString("\n| suite | what | PostgreSQL | date | direct | through billproxy | differ |\n|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		direct, through := r.sums()
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %s | %d |\n", r.Suite, anchor(r.Suite), r.Subject, r.Server, r.Date,
			direct.cell(), through.cell(), len(r.Differences))
	}
	for _, s := range suites {
		of := slices.DeleteFunc(slices.Clone(results), func(r *result) bool { return r.Suite != s.name })
		if len(of) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n", titles[s.name])
			writeRows(&b, of)
			writeDifferences(&b, of, k)
		}
	}
	return b.String()
}

// sums counts all rows; direct is nil if none is run directly.
func (r *result) sums() (direct, through *counts) {
	through = new(counts)
	for _, row := range r.Rows {
		through.sum(&row.Through)
		if row.Direct != nil {
			if direct == nil {
				direct = new(counts)
			}
			direct.sum(row.Direct)
		}
	}
	return direct, through
}

// writeRows writes the table of a suite: a line for each group, and for each version of
// PostgreSQL what became of its tests directly, if they are run so, and through the proxy.
func writeRows(b *strings.Builder, results []*result) {
	heading, rule := "| |", "|---|"
	var groups []string
	for _, r := range results {
		if direct, _ := r.sums(); direct != nil {
			heading += " " + r.Server + " directly |"
			rule += "--:|"
		}
		heading += " " + strings.TrimSpace(r.Server+" through") + " |"
		rule += "--:|"
		for _, row := range r.Rows {
			if !slices.Contains(groups, row.Group) {
				groups = append(groups, row.Group)
			}
		}
	}
	fmt.Fprintf(b, "%s\n%s\n", heading, rule)
	for _, group := range groups {
		fmt.Fprintf(b, "| %s |", group)
		for _, r := range results {
			found := row{}
			if i := slices.IndexFunc(r.Rows, func(row row) bool { return row.Group == group }); i >= 0 {
				found = r.Rows[i]
			}
			if direct, _ := r.sums(); direct != nil {
				fmt.Fprintf(b, " %s |", found.Direct.cell())
			}
			fmt.Fprintf(b, " %s |", found.Through.cell())
		}
		b.WriteString("\n")
	}
}

// writeDifferences writes which tests of a suite differ, with which versions of
// PostgreSQL, and why.
func writeDifferences(b *strings.Builder, results []*result, k known) {
	versions, whys := map[string][]string{}, map[string]string{}
	for _, r := range results {
		for _, d := range r.Differences {
			versions[d.Test] = append(versions[d.Test], major(r.Server))
			if reason := k.reason(r.Suite, d.Test, r.Server); reason != "" {
				whys[d.Test] = onlyWith.ReplaceAllString(reason, "")
			} else {
				whys[d.Test] = "**not explained yet**: " + d.Note
			}
		}
	}
	if len(versions) == 0 {
		b.WriteString("\nNone differs.\n")
		return
	}
	b.WriteString("\n| differs | PostgreSQL | why |\n|---|---|---|\n")
	for _, test := range slices.Sorted(maps.Keys(versions)) {
		fmt.Fprintf(b, "| %s | %s | %s |\n", test, strings.Join(versions[test], ", "), whys[test])
	}
}

func (c *counts) sum(other *counts) {
	c.Passed += other.Passed
	c.Failed += other.Failed
	c.Skipped += other.Skipped
}

// cell is a share of passed tests.
func (c *counts) cell() string {
	switch {
	case c == nil || *c == counts{}:
		return "–"
	case c.Skipped > 0:
		return fmt.Sprintf("%d of %d, %d skipped", c.Passed, c.Passed+c.Failed, c.Skipped)
	}
	return fmt.Sprintf("%d of %d", c.Passed, c.Passed+c.Failed)
}

// anchor is that of a suite's heading.
func anchor(suite string) string {
	title, _, _ := strings.Cut(titles[suite], "\n")
	title = strings.ToLower(strings.ReplaceAll(title, "'", ""))
	return strings.ReplaceAll(title, " ", "-")
}
