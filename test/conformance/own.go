package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runTwin counts the scripts that are played directly and through the proxy, by file.
func (r *runner) runTwin(ctx context.Context) (*result, error) {
	r.say("scripts of messages, with PostgreSQL " + r.server.version)
	run, output, err := r.ownTest(ctx, "twin", "./test/twin")
	if err != nil {
		return nil, err
	}
	scripts := outcomes{}
	for t, o := range run.parts() {
		file, name, isScript := strings.Cut(strings.TrimPrefix(t.name, "TestScripts/"), "/")
		if !isScript {
			file, name = "other", t.name
		}
		scripts[test{file, name}] = o
	}
	subject := "test/twin"
	if match := playedScripts.FindSubmatch(output); match != nil {
		subject += ": " + string(match[1])
	}
	return own("twin", subject, scripts), nil
}

// playedScripts is in the last line of the tests of test/twin.
var playedScripts = regexp.MustCompile(`twin: \d+ scripts, (.* compared)`)

// runDifferential counts the random cases and the planted leaks of the differential
// fuzzer.
func (r *runner) runDifferential(ctx context.Context) (*result, error) {
	r.say("differential fuzzer, with PostgreSQL " + r.server.version)
	duration := r.options.differentialTime
	run, output, err := r.ownTest(ctx, "differential", "./test/differential",
		"-timeout="+(duration+10*time.Minute).String(), "-differential.for="+duration.String())
	if err != nil {
		return nil, err
	}
	leaks := outcomes{}
	for t, o := range run.parts() {
		if t != casesTest {
			leaks[test{"planted leaks", strings.TrimPrefix(t.name, "TestPlantedLeaks/")}] = o
		}
	}
	result := own("differential", "test/differential", leaks)
	match := playedCases.FindSubmatch(output)
	if match == nil {
		return nil, fmt.Errorf("the fuzzer does not say how many cases it has played, in %s", r.outFile("differential.json"))
	}
	cases, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return nil, err
	}
	result.Subject += ": " + string(match[2])
	random := row{Group: "random cases", Through: counts{Passed: cases}}
	if run[casesTest] != passed {
		random.Through = counts{Passed: cases - 1, Failed: 1}
		result.Differences = append(result.Differences, difference{Test: casesTest.name, Note: "finds a mismatch"})
	}
	result.Rows = append([]row{random}, result.Rows...)
	return result, nil
}

// casesTest is the test that plays random cases.
var casesTest = test{"differential", "TestSeeds"}

// playedCases is in the last line of casesTest.
var playedCases = regexp.MustCompile(`: (\d+) cases, (\d+ steps, \d+ messages compared)`)

// ownTest runs tests of ours against the server, and returns what they print too.
func (r *runner) ownTest(ctx context.Context, name string, arguments ...string) (outcomes, []byte, error) {
	log := name + ".json"
	run, err := r.goTest(ctx, "", log, []string{"BILLPROXY_PG_BIN=" + r.server.binDir}, arguments...)
	if err != nil {
		return nil, nil, err
	}
	output, err := os.ReadFile(r.outFile(log))
	return run, output, err
}

// own is the result of tests that compare by themselves: each failure is a difference.
func own(suite, subject string, run outcomes) *result {
	result := &result{Suite: suite, Subject: subject}
	byGroup := map[string]outcomes{}
	for t, o := range run {
		if byGroup[t.group] == nil {
			byGroup[t.group] = outcomes{}
		}
		byGroup[t.group][t] = o
		if o == failed {
			result.Differences = append(result.Differences, difference{Test: t.group + "/" + t.name, Note: "fails"})
		}
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		result.Rows = append(result.Rows, count(group, byGroup[group]))
	}
	return result
}

// runFuzz runs every fuzz target; make stops at the first that finds something.
func (r *runner) runFuzz(ctx context.Context) (*result, error) {
	r.say("fuzz targets")
	var output bytes.Buffer
	cmd := command(ctx, "", os.Environ(), "make", "fuzz", "FUZZTIME="+r.options.fuzzTime)
	cmd.Stdout, cmd.Stderr = &output, &output
	runErr := cmd.Run()
	file, err := r.create("fuzz.txt")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Write(output.Bytes()); err != nil {
		return nil, err
	}
	result := &result{Suite: "fuzz", Subject: r.options.fuzzTime + " each", Rows: readFuzz(output.String())}
	var exit *exec.ExitError
	switch last := len(result.Rows) - 1; {
	case last < 0 || ctx.Err() != nil || runErr != nil && !errors.As(runErr, &exit):
		return nil, fmt.Errorf("make fuzz: %w\n%s", errors.Join(runErr, ctx.Err()), output.Bytes())
	case runErr != nil:
		result.Rows[last].Through = counts{Failed: 1}
		target, _, _ := strings.Cut(result.Rows[last].Group, " ")
		result.Differences = []difference{{Test: target, Note: "fails"}}
	}
	return result, nil
}

var (
	// fuzzed is a line in which `make fuzz` says what it runs.
	fuzzed = regexp.MustCompile(`(?m)^\S+ test -run '\^\$' -fuzz '\^(\w+)\$' -fuzztime \w+ (?:\./)?(\S+)$`)
	// executed is how many inputs a target has had so far.
	executed = regexp.MustCompile(`execs: (\d+)`)
)

// readFuzz makes a row of each target that make has run.
func readFuzz(output string) (rows []row) {
	targets := fuzzed.FindAllStringSubmatchIndex(output, -1)
	for i, target := range targets {
		end := len(output)
		if i+1 < len(targets) {
			end = targets[i+1][0]
		}
		group := output[target[2]:target[3]] + " of " + output[target[4]:target[5]]
		if counts := executed.FindAllStringSubmatch(output[target[1]:end], -1); len(counts) > 0 {
			group += ", " + counts[len(counts)-1][1] + " inputs"
		}
		rows = append(rows, row{Group: group, Through: counts{Passed: 1}})
	}
	return rows
}
