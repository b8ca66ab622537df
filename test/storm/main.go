package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"

	"github.com/billproxy/billproxy/test/rig"
)

func main() { rig.Main("storm", run) }

// options is the command line.
type options struct {
	rig.Options

	targets *regexp.Regexp
	seed    uint64
	set     settings
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
	flags := o.Flags("storm", stderr, "a scenario of each kind, a second or so each: shows that everything runs, measures nothing",
		"do only the scenarios whose name matches this `regexp`, for instance '^stall/'")
	rig.ExpressionVar(flags, &o.targets, "targets", "do them only to the targets whose name matches this `regexp`")
	flags.Uint64Var(&o.seed, "seed", 1, "what the schedule of arrivals is drawn from")
	flags.Var(&o.set, "set", "`NAME=value` of a variable of billproxy, without BILLPROXY_; may be repeated")
	if err := o.Parse(flags, args); err != nil {
		return nil, err
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	var r *results
	if o.Render {
		r, err = readResults(o.Out)
	} else {
		r, err = measureAll(ctx, o, stderr)
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, report(r, "")); err != nil {
		return err
	}
	if o.Out == "" {
		return nil
	}
	return writeFolder(o.Out, r)
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
