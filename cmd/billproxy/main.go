// Command billproxy is a PostgreSQL pooler that runs beside a billing service,
// and a billing API that reaches the database only through it.
//
// This package wires the parts together: command.go lists the subcommands,
// config.go the environment variables, sidecar.go what one process runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2   // of the command line or the environment
	exitSignal  = 128 // plus the signal, after a second one
)

// logFlushTimeout bounds the wait at exit for a slow standard error.
const logFlushTimeout = 2 * time.Second

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		code := exitSignal
		if second, ok := (<-signals).(syscall.Signal); ok {
			code += int(second)
		}
		os.Exit(code)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is main with everything it touches given, and returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	err := runCommand(ctx, args, environ, stdout, stderr)
	if err == nil {
		return 0
	}
	code := exitFailure
	problems := []string{err.Error()}
	if configErr, ok := errors.AsType[*configError](err); ok {
		problems, code = configErr.problems, exitUsage
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		code = exitUsage
	}
	for _, problem := range problems {
		fmt.Fprintln(stderr, "billproxy:", problem)
	}
	return code
}

func runCommand(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	command, rest, help, err := parseCommandLine(args)
	if err != nil {
		return err
	}
	if help != "" {
		_, err := io.WriteString(stdout, help)
		return err
	}
	c, err := loadConfig(environ)
	if err != nil {
		return err
	}
	logger, logs := newLogger(ctx, stderr, c.LogFormat, c.LogLevel)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logFlushTimeout)
		defer cancel()
		logs.close(ctx)
	}()
	return command.run(ctx, &environment{rest, stdout, stderr, c, logger, logs})
}
