package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// reloader reads what the files of a variable say now and has it used. If it fails,
// nothing has changed.
type reloader struct {
	variable string // without prefix
	reload   func(context.Context) error
}

// reloading is what a process reads again.
type reloading struct {
	logger    *slog.Logger
	reloaders []reloader

	mu sync.Mutex // held while it is read
}

// all reloads everything and returns what could not be.
func (r *reloading) all(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failures []error
	for _, reloader := range r.reloaders {
		variable := variablePrefix + reloader.variable
		if err := reloader.reload(ctx); err != nil {
			r.logger.Warn("not reloaded, what was read before stays in use", "variable", variable, "error", err)
			failures = append(failures, fmt.Errorf("%s: %w", variable, err))
			continue
		}
		r.logger.Info("reloaded", "variable", variable)
	}
	return errors.Join(failures...)
}

// at reloads everything at each signal until ctx ends.
func (r *reloading) at(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-signals:
			_ = r.all(ctx) // the log tells
		case <-ctx.Done():
			return
		}
	}
}
