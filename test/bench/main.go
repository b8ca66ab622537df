package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/billproxy/billproxy/test/rig"
)

func main() { rig.Main("bench", run) }

// options is the command line.
type options struct {
	rig.Options

	repeat    int
	seconds   int
	yardstick string
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	flags := o.Flags("bench", stderr, "a part of the work, once, a second each: shows that everything runs, measures nothing",
		"do only the work whose name matches this `regexp`, for instance '^select/prepared/64$'")
	flags.IntVar(&o.repeat, "repeat", 3, "repetitions of each measurement")
	flags.IntVar(&o.seconds, "seconds", 5, "length of one measurement in `seconds`")
	flags.StringVar(&o.yardstick, "yardstick", "", "`command` of one more pooler that only reads, with {port} to listen on and {server} to connect to; printed, never written to -out")
	if err := o.Parse(flags, args); err != nil {
		return nil, err
	}
	if o.Quick {
		o.repeat, o.seconds = 1, 1
	}
	if o.repeat < 1 || o.seconds < 1 {
		return nil, fmt.Errorf("-repeat %d -seconds %d: expected numbers from 1", o.repeat, o.seconds)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	r := new(results)
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
	return writeFolder(o.Out, r.public())
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
