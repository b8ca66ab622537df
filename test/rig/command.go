package rig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// Main runs a benchmark as a process: run gets the command line and a context that ends
// with the process's first signal, and flag.ErrHelp from it stands for a wrong command
// line, of which it has told. It is for main alone, and returns if all went well.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	// The kernel ends our children with the thread that started them: the main
	// thread lives as long as the process.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintln(os.Stderr, name+": interrupted")
		os.Exit(130)
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}
