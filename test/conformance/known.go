package main

import (
	"bufio"
	_ "embed"
	"fmt"
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

// explain returns what is wrong with a result: differences without a reason, and
// reasons without a difference.
func (k known) explain(r *result) (problems []string) {
	occurred := map[string]bool{}
	for _, d := range r.Differences {
		occurred[d.Test] = true
		if k[r.Suite][d.Test] == "" {
			problems = append(problems, fmt.Sprintf("%s %s differs: %s", r.Suite, d.Test, d.Note))
		}
	}
	for name, reason := range k[r.Suite] {
		if !occurred[name] && !strings.HasPrefix(reason, sometimes) {
			problems = append(problems, fmt.Sprintf("%s %s no longer differs: expected no entry in known.txt", r.Suite, name))
		}
	}
	return problems
}
