package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"time"

	"github.com/billproxy/billproxy/test/rig"
)

func main() { rig.Main("bench", run) }

// options is the command line.
type options struct {
	quick     bool
	only      *regexp.Regexp
	repeat    int
	seconds   int
	out       string
	render    bool
	date      string
	pgBin     string
	billproxy string
	pgbouncer string
	odyssey   string
	yardstick string
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	only := ""
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.quick, "quick", false, "a part of the work, once, a second each: shows that everything runs, measures nothing")
	flags.StringVar(&only, "only", "", "do only the work whose name matches this `regexp`, for instance '^select/prepared/64$'")
	flags.IntVar(&o.repeat, "repeat", 3, "repetitions of each measurement")
	flags.IntVar(&o.seconds, "seconds", 5, "length of one measurement in `seconds`")
	flags.StringVar(&o.out, "out", "", "`folder` to write README.md, results.json and the plots to; empty prints the report only")
	flags.BoolVar(&o.render, "render", false, "measure nothing: write the report anew from results.json in -out")
	flags.StringVar(&o.date, "date", time.Now().Format(time.DateOnly), "`date` of the run for the report")
	flags.StringVar(&o.pgBin, "pg-bin", "", "`folder` of PostgreSQL's programs; empty searches")
	flags.StringVar(&o.billproxy, "billproxy", "bin/billproxy", "`program` of billproxy")
	flags.StringVar(&o.pgbouncer, "pgbouncer", "pgbouncer", "`program` of PgBouncer")
	flags.StringVar(&o.odyssey, "odyssey", "odyssey", "`program` of Odyssey")
	flags.StringVar(&o.yardstick, "yardstick", "", "`command` of one more pooler that only reads, with {port} to listen on and {server} to connect to; printed, never written to -out")
	if err := flags.Parse(args); err != nil {
		return nil, flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("argument %q: expected flags only", flags.Arg(0))
	}
	if o.quick {
		o.repeat, o.seconds = 1, 1
	}
	if o.repeat < 1 || o.seconds < 1 {
		return nil, fmt.Errorf("-repeat %d -seconds %d: expected numbers from 1", o.repeat, o.seconds)
	}
	if o.render && o.out == "" {
		return nil, errors.New("-render: expected -out to say where results.json is")
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return nil, fmt.Errorf("-only %q: expected a regular expression: %w", only, err)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	r := new(results)
	if o.render {
		r, err = readResults(o.out)
	} else {
		r, err = measureAll(ctx, o, stderr)
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, report(r, "")); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	return writeFolder(o.out, r.public())
}

func measureAll(ctx context.Context, o *options, stderr io.Writer) (*results, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("this is %s: expected linux, whose /proc tells the CPU time and memory of a process", runtime.GOOS)
	}
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return nil, err
	}
	defer b.close(context.WithoutCancel(ctx))
	if err := b.run(ctx); err != nil {
		return nil, err
	}
	return b.results, nil
}
