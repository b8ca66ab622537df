package main

import (
	"cmp"
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
	Subject     string       `json:"subject"`          // what was run, with versions
	Server      string       `json:"server,omitempty"` // version of PostgreSQL; empty: none was needed
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
		strings.TrimSpace(r.Suite+" "+r.with()), all.Passed, all.Failed, all.Skipped, len(r.Differences), r.Seconds)
}

// with names the version of PostgreSQL.
func (r *result) with() string {
	if r.Server == "" {
		return ""
	}
	return "with PostgreSQL " + r.Server
}

// replaces reports whether the result is about the same as an older one.
func (r *result) replaces(older *result) bool {
	return r.Suite == older.Suite && major(r.Server) == major(older.Server)
}

var (
	resultsFile = filepath.Join("test", "conformance", "results.json")
	reportFile  = filepath.Join("docs", "compatibility.md")
)

// writeReport writes the report with these results, and the last ones of suites or
// versions that were not run.
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
		all = append(slices.DeleteFunc(all, r.replaces), r)
	}
	order := func(r *result) int { return slices.IndexFunc(suites, func(s suite) bool { return s.name == r.Suite }) }
	slices.SortFunc(all, func(a, b *result) int {
		return cmp.Or(order(a)-order(b), cmp.Compare(major(a.Server), major(b.Server)))
	})
	if content, err = json.MarshalIndent(all, "", "\t"); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(resultsFile, append(content, '\n'), 0o644),
		os.WriteFile(reportFile, []byte(report(all, k)), 0o644),
	)
}
