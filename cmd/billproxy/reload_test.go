package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestReload(t *testing.T) {
	var log bytes.Buffer
	var reloaded sync.WaitGroup
	signals := make(chan os.Signal)
	ctx, stop := context.WithCancel(t.Context())
	count := 0
	reloaded.Go(func() {
		reloads := reloading{logger: slog.New(slog.NewTextHandler(&log, nil)), reloaders: []reloader{
			{"BAD", func(context.Context) error { return errors.New("cannot be read") }},
			{"GOOD", func(context.Context) error { count++; return nil }},
		}}
		reloads.at(ctx, signals)
	})
	for range 3 {
		signals <- syscall.SIGHUP
	}
	stop()
	reloaded.Wait()
	if count != 3 {
		t.Errorf("reloaded %d times, want 3", count)
	}
	for _, line := range []string{
		`level=WARN msg="not reloaded, what was read before stays in use" variable=BILLPROXY_BAD error="cannot be read"`,
		"level=INFO msg=reloaded variable=BILLPROXY_GOOD",
	} {
		if got := strings.Count(log.String(), line); got != 3 {
			t.Errorf("the log has %d times %q:\n%s", got, line, &log)
		}
	}
}
