package main

import "context"

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
	s, err := openSidecar(ctx, e.config, e.logger, e.logs, parts)
	if err != nil {
		return err
	}
	if err := s.start(ctx, e.config.UpstreamURL); err != nil {
		s.close()
		return err
	}
	err = s.wait(ctx)
	s.stop(ctx)
	return err
}
