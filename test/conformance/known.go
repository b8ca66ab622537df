package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

//go:embed known.txt
var knownText string

// known are the reasons of known differences, by suite and test.
type known map[string]map[string]string

// readKnown reads lines of suite, test and reason; # begins a comment.
func readKnown(text string) (known, error) {
	k := known{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		suite, rest, _ := strings.Cut(line, " ")
		name, reason, found := strings.Cut(strings.TrimSpace(rest), " ")
		reason = strings.TrimSpace(reason)
		if !found || reason == "" {
			return nil, fmt.Errorf("known.txt, line %d: expected suite, test and reason", number)
		}
		if k[suite] == nil {
			k[suite] = map[string]string{}
		}
		if k[suite][name] != "" {
			return nil, fmt.Errorf("known.txt, line %d: %s %s is there twice", number, suite, name)
		}
		k[suite][name] = reason
	}
	return k, lines.Err()
}

// sometimes begins the reason of a difference that depends on the clock.
const sometimes = "Sometimes: "

// onlyWith begins the reason of a difference with one version of PostgreSQL.
var onlyWith = regexp.MustCompile(`^PostgreSQL (\d+): `)

// reason is that of a test which differs with a version of PostgreSQL, or empty.
func (k known) reason(suite, test, server string) string {
	reason := k[suite][test]
	if match := onlyWith.FindStringSubmatch(reason); match != nil && match[1] != major(server) {
		return ""
	}
	return reason
}

// explain returns what is wrong with the results of a suite, one for each version:
// differences without a reason, and reasons without a difference.
func (k known) explain(results []*result) (problems []string) {
	occurred, possible := map[string]bool{}, map[string]bool{}
	for _, r := range results {
		for _, d := range r.Differences {
			occurred[d.Test] = true
			if k.reason(r.Suite, d.Test, r.Server) == "" {
				problems = append(problems, strings.TrimSpace(fmt.Sprintf("%s %s differs: %s %s", r.Suite, d.Test, d.Note, r.with())))
			}
		}
		for name := range k[r.Suite] {
			group, _, inGroup := strings.Cut(name, "/")
			wasRun := !inGroup || slices.ContainsFunc(r.Rows, func(row row) bool { return row.Group == group })
			possible[name] = possible[name] || wasRun && k.reason(r.Suite, name, r.Server) != ""
		}
	}
	for _, name := range slices.Sorted(maps.Keys(possible)) {
		suite := results[0].Suite
		if possible[name] && !occurred[name] && !strings.HasPrefix(k[suite][name], sometimes) {
			problems = append(problems, fmt.Sprintf("%s %s no longer differs: expected no entry in known.txt", suite, name))
		}
	}
	return problems
}
