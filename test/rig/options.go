package rig

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Options are the flags that all benchmarks have.
type Options struct {
	Quick  bool
	Only   *regexp.Regexp // matches the names of what is to be done
	Out    string         // a folder; empty: only print
	Render bool           // measure nothing
	Date   string

	// Programs; PGBin is a folder of them, empty for one that is searched.
	PGBin, Billproxy, PgBouncer, Odyssey string
}

// Flags returns a set of them, to which a benchmark adds its own. quick and only say what
// those two mean to it; complaints go to stderr.
func (o *Options) Flags(name string, stderr io.Writer, quick, only string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.Quick, "quick", false, quick)
	ExpressionVar(flags, &o.Only, "only", only)
	flags.StringVar(&o.Out, "out", "", "`folder` to write README.md, results.json and the plots to; empty prints the report only")
	flags.BoolVar(&o.Render, "render", false, "measure nothing: write the report anew from results.json in -out")
	flags.StringVar(&o.Date, "date", time.Now().Format(time.DateOnly), "`date` of the run for the report")
	flags.StringVar(&o.PGBin, "pg-bin", "", "`folder` of PostgreSQL's programs; empty searches")
	flags.StringVar(&o.Billproxy, "billproxy", "bin/billproxy", "`program` of billproxy")
	flags.StringVar(&o.PgBouncer, "pgbouncer", "pgbouncer", "`program` of PgBouncer")
	flags.StringVar(&o.Odyssey, "odyssey", "odyssey", "`program` of Odyssey")
	return flags
}

// Parse reads the command line. An error names the argument and what was expected, or is
// flag.ErrHelp for one of which the user has been told.
func (o *Options) Parse(flags *flag.FlagSet, args []string) error {
	switch err := flags.Parse(args); {
	case err != nil:
		return flag.ErrHelp
	case flags.NArg() > 0:
		return fmt.Errorf("argument %q: expected flags only", flags.Arg(0))
	case o.Render && o.Out == "":
		return errors.New("-render: expected -out to say where results.json is")
	}
	return nil
}

// ExpressionVar adds a flag that is a regular expression. Without it everything matches.
func ExpressionVar(flags *flag.FlagSet, e **regexp.Regexp, name, usage string) {
	*e = regexp.MustCompile("")
	flags.Func(name, usage, func(text string) error {
		compiled, err := regexp.Compile(text)
		if err == nil {
			*e = compiled
		}
		return err
	})
}
