package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
)

// runTwin counts the scripts that are played directly and through the proxy.
func (r *runner) runTwin(ctx context.Context) (*result, error) {
	r.say("scripts of messages")
	run, err := r.goTest(ctx, "", "twin.json", nil, "./test/twin")
	if err != nil {
		return nil, err
	}
	return own("twin", "test/twin", run), nil
}

// own is the result of tests that compare by themselves, each failure is a difference.
func own(suite, subject string, run outcomes) *result {
	result := &result{Suite: suite, Subject: subject, Rows: []row{count(subject, run)}}
	for _, t := range run.failures() {
		result.Differences = append(result.Differences, difference{Test: t.name, Note: "fails"})
	}
	return result
}

// fuzzed is a line in which `make fuzz` says what it runs.
var fuzzed = regexp.MustCompile(`(?m)^go test -run '\^\$' -fuzz '\^(\w+)\$' -fuzztime (\w+) `)

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
	run, last := outcomes{}, test{}
	for _, match := range fuzzed.FindAllStringSubmatch(output.String(), -1) {
		last = test{"fuzz", match[1]}
		run[last] = passed
	}
	var exit *exec.ExitError
	switch {
	case len(run) == 0 || ctx.Err() != nil || runErr != nil && !errors.As(runErr, &exit):
		return nil, fmt.Errorf("make fuzz: %w\n%s", errors.Join(runErr, ctx.Err()), output.Bytes())
	case runErr != nil:
		run[last] = failed
	}
	return own("fuzz", r.options.fuzzTime+" each", run), nil
}
