package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"regexp"
	"strings"
)

// goTest runs go test in a folder with more arguments and variables of the environment,
// and keeps what it prints in a file of the folder out.
func (r *runner) goTest(ctx context.Context, dir, log string, environment []string, arguments ...string) (outcomes, error) {
	output, err := r.create(log)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd := command(ctx, dir, environment, "go", append([]string{"test", "-json", "-count=1", "-timeout=5m"}, arguments...)...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	run, readErr := readGoTest(io.TeeReader(pipe, output))
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil && len(run) > 0 {
		err = nil // tests failed
	}
	if err := errors.Join(readErr, err); err != nil {
		return nil, fmt.Errorf("go test, whose output is in %s: %w", output.Name(), err)
	}
	return run, nil
}

// readGoTest reads the events of go test -json. A package that fails without a test of
// its own that did is a failed test of its name.
// See https://pkg.go.dev/cmd/test2json
func readGoTest(events io.Reader) (outcomes, error) {
	run := outcomes{}
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var event struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue // what a build prints
		}
		o, group := outcome(event.Action), packageName(event.Package)
		switch {
		case o != passed && o != failed && o != skipped:
		case event.Test != "":
			run[test{group, stableName(event.Test)}] = o
		case o == failed && !run.hasFailed(group):
			run[test{group, "package"}] = failed
		}
	}
	return run, lines.Err()
}

// packageName is the last part of a package's path, but for the version of a module.
func packageName(importPath string) string {
	return path.Base(majorVersion.ReplaceAllString(importPath, ""))
}

var majorVersion = regexp.MustCompile(`/v[0-9]+$`)

func (o outcomes) hasFailed(group string) bool {
	for t, outcome := range o {
		if t.group == group && outcome == failed {
			return true
		}
	}
	return false
}

var temporaryFolder = regexp.MustCompile(`/Test\w*?\d{6,}/`)

// stableName is the name of a test without that of its temporary folder.
func stableName(name string) string {
	return strings.ReplaceAll(temporaryFolder.ReplaceAllString(name, "/…/"), " ", "_")
}
