package main

import (
	"maps"
	"slices"
	"strings"
)

// outcome is what became of a test.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
	missing outcome = "" // it was not run
)

// test names a test: a group, for instance a package, and a name in it. Parts of a test
// are behind a slash.
type test struct{ group, name string }

// whole is the test that t is a part of.
func (t test) whole() test {
	name, _, _ := strings.Cut(t.name, "/")
	return test{t.group, name}
}

func (t test) String() string { return t.group + "." + t.name }

// outcomes is what became of the tests of a run.
type outcomes map[test]outcome

// counts is how many tests of a group had each outcome.
type counts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

func (c *counts) add(o outcome) {
	switch o {
	case passed:
		c.Passed++
	case skipped:
		c.Skipped++
	default:
		c.Failed++
	}
}

// row is one line of a suite's table.
type row struct {
	Group   string  `json:"group"`
	Direct  *counts `json:"direct,omitempty"` // nil: it is not run directly
	Through counts  `json:"through"`
}

// compare counts both runs by group. A test that the direct run has and the other has
// not counts as failed there. It returns the tests that pass directly and not through
// the proxy, parts of tests under the name of the whole.
func compare(direct, through outcomes) (rows []row, differing []test) {
	byGroup := map[string]*row{}
	line := func(group string) *row {
		if byGroup[group] == nil {
			byGroup[group] = &row{Group: group, Direct: new(counts)}
		}
		return byGroup[group]
	}
	differs := map[test]bool{}
	for t, expected := range direct {
		line(t.group).Direct.add(expected)
		line(t.group).Through.add(through[t])
		if expected == passed && through[t] != passed {
			differs[t.whole()] = true
		}
	}
	for t, o := range through {
		if direct[t] == missing {
			line(t.group).Through.add(o)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		rows = append(rows, *byGroup[group])
	}
	return rows, sortedTests(differs)
}

func sortedTests(set map[test]bool) []test {
	return slices.SortedFunc(maps.Keys(set), func(a, b test) int { return strings.Compare(a.String(), b.String()) })
}

// count counts a run that has no other to be compared with.
func count(group string, run outcomes) row {
	r := row{Group: group}
	for _, o := range run {
		r.Through.add(o)
	}
	return r
}

// failures are the tests that failed, parts of tests under the name of the whole.
func (o outcomes) failures() []test {
	failures := map[test]bool{}
	for t, outcome := range o {
		if outcome == failed {
			failures[t.whole()] = true
		}
	}
	return sortedTests(failures)
}

// parts are the tests that have no parts of their own, and those that fail although none
// of their parts does.
func (o outcomes) parts() outcomes {
	hasParts, partFails := map[test]bool{}, map[test]bool{}
	for t, outcome := range o {
		for i, c := range t.name {
			if c == '/' {
				whole := test{t.group, t.name[:i]}
				hasParts[whole] = true
				partFails[whole] = partFails[whole] || outcome == failed
			}
		}
	}
	parts := outcomes{}
	for t, outcome := range o {
		if !hasParts[t] || outcome == failed && !partFails[t] {
			parts[t] = outcome
		}
	}
	return parts
}
