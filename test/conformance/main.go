package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := conform(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// runner runs suites.
type runner struct {
	options *options
	stderr  io.Writer
	server  *server // that they are run against
}

// suite is a collection of tests that is counted by itself.
type suite struct {
	name       string
	quick      bool // it takes a few minutes at most, in its quick form
	serverless bool // it runs without PostgreSQL
	run        func(*runner, context.Context) (*result, error)
}

var suites = []suite{
	{"twin", true, false, (*runner).runTwin},
	{"differential", false, false, (*runner).runDifferential},
	{"pgx", true, false, (*runner).runPgx},
	{"regress", false, false, (*runner).runRegress},
	{"drivers", true, false, (*runner).runDrivers},
	{"fuzz", false, true, (*runner).runFuzz},
}

func conform(ctx context.Context, arguments []string, stderr io.Writer) error {
	o, err := parseOptions(arguments, stderr)
	if err != nil {
		return err
	}
	known, err := readKnown(knownText)
	if err != nil {
		return err
	}
	r := &runner{options: o, stderr: stderr}
	servers, err := r.findServers(ctx)
	if err != nil {
		return err
	}
	var results []*result
	var problems []string
	for _, s := range suites {
		if !slices.Contains(strings.Split(o.suites, ","), s.name) || o.quick && !s.quick {
			continue
		}
		of, err := r.runSuite(ctx, s, servers)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		problems = append(problems, known.explain(of)...)
		results = append(results, of...)
	}
	if o.write {
		if err := writeReport(results, known); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems:\n%s", len(problems), strings.Join(problems, "\n"))
	}
	return nil
}

// runSuite runs a suite against each server.
func (r *runner) runSuite(ctx context.Context, s suite, servers []*server) ([]*result, error) {
	if s.serverless {
		servers = servers[:1]
	}
	var results []*result
	for _, server := range servers {
		r.server = server
		begun := time.Now()
		result, err := s.run(r, ctx)
		if err != nil {
			return nil, err
		}
		result.Date, result.Seconds = r.options.date, int(time.Since(begun).Seconds())
		if !s.serverless {
			result.Server = server.version
		}
		result.sort()
		results = append(results, result)
		r.say(result.summary())
	}
	return results, nil
}

// say tells what is done.
func (r *runner) say(message string) {
	fmt.Fprintln(r.stderr, time.Now().Format(time.TimeOnly), message)
}

// outFile is the path of a file with what was said in the last run, against the server at
// hand if there is one.
func (r *runner) outFile(name string) string {
	return filepath.Join(r.options.cache, "out", r.server.version, strings.ReplaceAll(name, " ", "-"))
}

// create makes such a file.
func (r *runner) create(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(r.outFile(name)), 0o755); err != nil {
		return nil, err
	}
	return os.Create(r.outFile(name))
}
