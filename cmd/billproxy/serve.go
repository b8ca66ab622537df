package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// runServe runs the proxy and the API in one process.
func runServe(ctx context.Context, e *environment) error {
	return runSidecar(ctx, e, parts{proxy: true, api: true})
}

// runProxy runs the proxy alone.
func runProxy(ctx context.Context, e *environment) error {
	return runSidecar(ctx, e, parts{proxy: true})
}

// runAPI runs the API alone; the proxy is another process.
func runAPI(ctx context.Context, e *environment) error {
	return runSidecar(ctx, e, parts{api: true})
}

func runSidecar(ctx context.Context, e *environment, parts parts) error {
	// From here on a signal to reload ends nothing, also one that comes early.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	s, err := openSidecar(ctx, e.config, e.logger, e.logs, parts)
	if err != nil {
		return err
	}
	if err := s.start(ctx, e.config.UpstreamURL); err != nil {
		s.close()
		return err
	}
	reloading, stopReloading := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() { s.reloads.at(reloading, hangups) })
	err = s.wait(ctx)
	stopReloading()
	reloads.Wait()
	s.stop(ctx)
	return err
}
