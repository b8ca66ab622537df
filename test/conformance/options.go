package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options is the command line.
type options struct {
	suites           string
	drivers          []string
	quick            bool
	write            bool
	cache            string
	billproxy        string
	pgBin            []string
	postgresqlSource []string
	differentialTime time.Duration
	fuzzTime         string
	date             string
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
	var onlyDrivers, pgBin, postgresqlSource string
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.suites, "suites", strings.Join(names, ","), "`list` of suites to run")
	flags.StringVar(&onlyDrivers, "drivers", "", "`list` of drivers to run; writes nothing unless empty, which is all")
	flags.BoolVar(&o.quick, "quick", false, "of the suites, what takes a few minutes; writes nothing")
	flags.BoolVar(&o.write, "write", true, "write docs/compatibility.md")
	flags.StringVar(&o.cache, "cache", filepath.Join("bin", "conformance"), "`folder` for what the suites need")
	flags.StringVar(&o.billproxy, "billproxy", filepath.Join("bin", "billproxy"), "`program` of billproxy")
	flags.StringVar(&pgBin, "pg-bin", os.Getenv("BILLPROXY_PG_BIN"), "`list` of folders of PostgreSQL's programs, one for each version to run against; empty searches")
	flags.StringVar(&postgresqlSource, "postgresql-source", "", "`list` of folders with the sources of these versions; what is empty is got with apt-get")
	flags.DurationVar(&o.differentialTime, "differential", 5*time.Minute, "`time` for the differential fuzzer")
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
	for _, name := range o.drivers {
		if !slices.Contains(driverNames, name) {
			return nil, fmt.Errorf("driver %q: expected one of %s", name, strings.Join(driverNames, ", "))
		}
	}
	o.write = o.write && !o.quick && onlyDrivers == ""
	o.pgBin, o.postgresqlSource = strings.Split(pgBin, ","), strings.Split(postgresqlSource, ",")
	if postgresqlSource != "" && len(o.postgresqlSource) != len(o.pgBin) {
		return nil, fmt.Errorf("-postgresql-source has %d folders: expected %d, as -pg-bin has", len(o.postgresqlSource), len(o.pgBin))
	}
	var err error
	for _, path := range []*string{&o.cache, &o.billproxy} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	return o, nil
}
