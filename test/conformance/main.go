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

// options is the command line.
type options struct {
	suites           string
	drivers          []string
	quick            bool
	write            bool
	cache            string
	billproxy        string
	pgBin            string
	postgresqlSource string
	fuzzTime         string
	date             string
}

// runner runs suites.
type runner struct {
	options *options
	stderr  io.Writer
}

// suite is a collection of tests that is counted by itself.
type suite struct {
	name  string
	quick bool // it takes a few minutes at most, in its quick form
	run   func(*runner, context.Context) (*result, error)
}

var suites = []suite{
	{"twin", true, (*runner).runTwin},
	{"pgx", true, (*runner).runPgx},
	{"regress", false, (*runner).runRegress},
	{"drivers", true, (*runner).runDrivers},
	{"fuzz", false, (*runner).runFuzz},
}

func parseOptions(arguments []string, stderr io.Writer) (*options, error) {
	var names []string
	for _, s := range suites {
		names = append(names, s.name)
	}
	var driverNames []string
	for _, d := range drivers {
		driverNames = append(driverNames, d.name)
	}
	o := new(options)
	onlyDrivers := ""
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.suites, "suites", strings.Join(names, ","), "`list` of suites to run")
	flags.StringVar(&onlyDrivers, "drivers", "", "`list` of drivers to run; writes nothing unless empty, which is all")
	flags.BoolVar(&o.quick, "quick", false, "of the suites, what takes a few minutes; writes nothing")
	flags.BoolVar(&o.write, "write", true, "write docs/compatibility.md")
	flags.StringVar(&o.cache, "cache", filepath.Join("bin", "conformance"), "`folder` for what the suites need")
	flags.StringVar(&o.billproxy, "billproxy", filepath.Join("bin", "billproxy"), "`program` of billproxy")
	flags.StringVar(&o.pgBin, "pg-bin", "", "`folder` of PostgreSQL's programs; empty searches")
	flags.StringVar(&o.postgresqlSource, "postgresql-source", "", "`folder` with the source of that PostgreSQL; empty gets it with apt-get")
	flags.StringVar(&o.fuzzTime, "fuzztime", "60s", "`time` for each fuzz target")
	flags.StringVar(&o.date, "date", time.Now().Format(time.DateOnly), "`date` of the run for the report")
	if err := flags.Parse(arguments); err != nil {
		return nil, flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("argument %q: expected flags only", flags.Arg(0))
	}
	for _, name := range strings.Split(o.suites, ",") {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("suite %q: expected one of %s", name, strings.Join(names, ", "))
		}
	}
	o.drivers = driverNames
	if onlyDrivers != "" {
		o.drivers = strings.Split(onlyDrivers, ",")
	}
	o.write = o.write && !o.quick && onlyDrivers == ""
	var err error
	for _, path := range []*string{&o.cache, &o.billproxy} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	return o, nil
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
	var results []*result
	var problems []string
	for _, s := range suites {
		if !slices.Contains(strings.Split(o.suites, ","), s.name) || o.quick && !s.quick {
			continue
		}
		begun := time.Now()
		result, err := s.run(r, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		result.Date, result.Seconds = o.date, int(time.Since(begun).Seconds())
		result.sort()
		problems = append(problems, known.explain(result)...)
		results = append(results, result)
		r.say(result.summary())
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

// say tells what is done.
func (r *runner) say(message string) {
	fmt.Fprintln(r.stderr, time.Now().Format(time.TimeOnly), message)
}

// create makes a file in the folder out.
func (r *runner) create(name string) (*os.File, error) {
	folder := filepath.Join(r.options.cache, "out")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(folder, strings.ReplaceAll(name, " ", "-")))
}
