package main

import (
	"context"
	"log/slog"
	"os"
)

// reloader reads what the files of a variable say now and has it used. If it fails,
// nothing has changed.
type reloader struct {
	variable string // without prefix
	reload   func(context.Context) error
}

// reloadAt reloads everything at each signal until ctx ends.
func reloadAt(ctx context.Context, signals <-chan os.Signal, logger *slog.Logger, reloaders []reloader) {
	for {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		for _, r := range reloaders {
			variable := variablePrefix + r.variable
			if err := r.reload(ctx); err != nil {
				logger.Warn("not reloaded, what was read before stays in use", "variable", variable, "error", err)
				continue
			}
			logger.Info("reloaded", "variable", variable)
		}
	}
}
