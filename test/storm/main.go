package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/billproxy/billproxy/test/rig"
)

func main() { rig.Main("storm", run) }

// options is the command line.
type options struct {
	quick     bool
	only      *regexp.Regexp
	targets   *regexp.Regexp
	seed      uint64
	out       string
	render    bool
	date      string
	pgBin     string
	billproxy string
	set       settings
	pgbouncer string
	odyssey   string
}

// settings are environment variables of billproxy, as NAME=value.
type settings []string

func (s *settings) String() string { return strings.Join(*s, " ") }

// Set implements flag.Value.
func (s *settings) Set(entry string) error {
	if !strings.Contains(entry, "=") {
		return errors.New("expected NAME=value")
	}
	*s = append(*s, "BILLPROXY_"+entry)
	return nil
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	var only, targets string
	flags := flag.NewFlagSet("storm", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.quick, "quick", false, "a scenario of each kind, a second or so each: shows that everything runs, measures nothing")
	flags.StringVar(&only, "only", "", "do only the scenarios whose name matches this `regexp`, for instance '^stall/'")
	flags.StringVar(&targets, "targets", "", "do them only to the targets whose name matches this `regexp`")
	flags.Uint64Var(&o.seed, "seed", 1, "what the schedule of arrivals is drawn from")
	flags.StringVar(&o.out, "out", "", "`folder` to write README.md, results.json and the plots to; empty prints the report only")
	flags.BoolVar(&o.render, "render", false, "measure nothing: write the report anew from results.json in -out")
	flags.StringVar(&o.date, "date", time.Now().Format(time.DateOnly), "`date` of the run for the report")
	flags.StringVar(&o.pgBin, "pg-bin", "", "`folder` of PostgreSQL's programs; empty searches")
	flags.StringVar(&o.billproxy, "billproxy", "bin/billproxy", "`program` of billproxy")
	flags.Var(&o.set, "set", "`NAME=value` of a variable of billproxy, without BILLPROXY_; may be repeated")
	flags.StringVar(&o.pgbouncer, "pgbouncer", "pgbouncer", "`program` of PgBouncer")
	flags.StringVar(&o.odyssey, "odyssey", "odyssey", "`program` of Odyssey")
	if err := flags.Parse(args); err != nil {
		return nil, flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("argument %q: expected flags only", flags.Arg(0))
	}
	if o.render && o.out == "" {
		return nil, errors.New("-render: expected -out to say where results.json is")
	}
	for _, expression := range []struct {
		flag, text string
		compiled   **regexp.Regexp
	}{{"-only", only, &o.only}, {"-targets", targets, &o.targets}} {
		compiled, err := regexp.Compile(expression.text)
		if err != nil {
			return nil, fmt.Errorf("%s %q: expected a regular expression: %w", expression.flag, expression.text, err)
		}
		*expression.compiled = compiled
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	var r *results
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
	return writeFolder(o.out, r)
}

func measureAll(ctx context.Context, o *options, stderr io.Writer) (*results, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("this is %s: expected linux, which has epoll and /proc", runtime.GOOS)
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
