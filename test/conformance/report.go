package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// result is what a suite has shown.
type result struct {
	Suite       string       `json:"suite"`
	Subject     string       `json:"subject"` // what was run, with versions
	Date        string       `json:"date"`
	Seconds     int          `json:"seconds"`
	Rows        []row        `json:"rows"`
	Differences []difference `json:"differences,omitempty"`
}

// difference is a test that passes directly and not through the proxy.
type difference struct {
	Test string `json:"test"`
	Note string `json:"note,omitempty"` // what the run says about it
}

func (r *result) sort() {
	slices.SortFunc(r.Differences, func(a, b difference) int { return strings.Compare(a.Test, b.Test) })
}

func (r *result) summary() string {
	var all counts
	for _, row := range r.Rows {
		all.Passed += row.Through.Passed
		all.Failed += row.Through.Failed
		all.Skipped += row.Through.Skipped
	}
	return fmt.Sprintf("%s: %d passed, %d failed, %d skipped, %d differ from PostgreSQL, in %ds",
		r.Suite, all.Passed, all.Failed, all.Skipped, len(r.Differences), r.Seconds)
}

var (
	resultsFile = filepath.Join("test", "conformance", "results.json")
	reportFile  = filepath.Join("docs", "compatibility.md")
)

// writeReport writes the report with these results, and the last ones of suites that
// were not run.
func writeReport(results []*result, k known) error {
	var all []*result
	content, err := os.ReadFile(resultsFile)
	if err == nil {
		err = json.Unmarshal(content, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, r := range results {
		all = slices.DeleteFunc(all, func(old *result) bool { return old.Suite == r.Suite })
		all = append(all, r)
	}
	order := func(r *result) int { return slices.IndexFunc(suites, func(s suite) bool { return s.name == r.Suite }) }
	slices.SortFunc(all, func(a, b *result) int { return order(a) - order(b) })
	if content, err = json.MarshalIndent(all, "", "\t"); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(resultsFile, append(content, '\n'), 0o644),
		os.WriteFile(reportFile, []byte(report(all, k)), 0o644),
	)
}

//go:embed report.md
var introduction string

// titles are the headings of the suites, and what they are.
var titles = map[string]string{
	"twin": "Scripts of messages\n\nText scripts of single messages, in " +
		"[test/twin](../test/twin), are played directly and through the proxy, and every reply must be the same.",
	"pgx":     "pgx\n\nAll tests of the Go driver, unchanged. The direct run is repeated for each test that differs.",
	"regress": "PostgreSQL's regression suite\n\n`pg_regress` with PostgreSQL's own `parallel_schedule`, each run on a new server.",
	"drivers": "Drivers\n\nOne program for each driver, in [test/conformance/drivers](../test/conformance/drivers): types, prepared " +
		"statements, transactions, pipelines, COPY, cancel, LISTEN, errors, large results and session state. Two of each " +
		"run at once, through a pool of three servers. Every check prints what it has seen, which must be what it sees directly.",
	"fuzz": "Fuzz targets\n\n`make fuzz`: framing, startup, classification, replies, authentication and more, each from a committed corpus.",
}

// report is docs/compatibility.md.
func report(results []*result, k known) string {
	var b strings.Builder
	b.WriteString(introduction)
	b.WriteString("\n| suite | what | date | direct | through billproxy | differ |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		var direct, through counts
		compared := false
		for _, row := range r.Rows {
			compared = compared || row.Direct != nil
			direct.sum(row.Direct)
			through.sum(&row.Through)
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %d |\n", r.Suite, anchor(r.Suite), r.Subject, r.Date,
			cell(compared, direct), cell(true, through), len(r.Differences))
	}
	for _, r := range results {
		fmt.Fprintf(&b, "\n## %s\n\n| | direct: passed | failed | skipped | through: passed | failed | skipped |\n|---|--:|--:|--:|--:|--:|--:|\n", titles[r.Suite])
		for _, row := range r.Rows {
			directly := " – | – | –"
			if row.Direct != nil {
				directly = columns(*row.Direct)
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", row.Group, directly, columns(row.Through))
		}
		if len(r.Differences) == 0 {
			b.WriteString("\nNone differs.\n")
			continue
		}
		b.WriteString("\n| differs | why |\n|---|---|\n")
		for _, d := range r.Differences {
			fmt.Fprintf(&b, "| %s | %s |\n", d.Test, explanation(k[r.Suite][d.Test], d.Note))
		}
	}
	return b.String()
}

func explanation(reason, note string) string {
	if reason == "" {
		return "**not explained yet**: " + note
	}
	return reason
}

func (c *counts) sum(other *counts) {
	if other != nil {
		c.Passed += other.Passed
		c.Failed += other.Failed
		c.Skipped += other.Skipped
	}
}

func columns(c counts) string { return fmt.Sprintf("%d | %d | %d", c.Passed, c.Failed, c.Skipped) }

// cell is a share of passed tests.
func cell(known bool, c counts) string {
	if !known {
		return "–"
	}
	return fmt.Sprintf("%d of %d", c.Passed, c.Passed+c.Failed)
}

// anchor is that of a suite's heading.
func anchor(suite string) string {
	title, _, _ := strings.Cut(titles[suite], "\n")
	title = strings.ToLower(strings.ReplaceAll(title, "'", ""))
	return strings.ReplaceAll(title, " ", "-")
}
