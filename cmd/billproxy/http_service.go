package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds on what an HTTP client may take.
const (
	readHeaderTimeout = 10 * time.Second
	idleHTTPTimeout   = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// httpService is an HTTP server on one address.
type httpService struct {
	name     string
	listener net.Listener
	server   http.Server
	done     chan struct{} // closed when nothing is served any more
}

// listenHTTP binds an address. Requests are served after start.
func listenHTTP(ctx context.Context, name, variable string, address listenAddress, logger *slog.Logger) (*httpService, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", string(address))
	if err != nil {
		return nil, listenError(variable, address, err)
	}
	s := &httpService{name: name, listener: listener, done: make(chan struct{})}
	s.server = http.Server{
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleHTTPTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// address is the "host:port" bound.
func (s *httpService) address() string { return s.listener.Addr().String() }

// close frees what listenHTTP bound, if start is not called.
func (s *httpService) close() { _ = s.listener.Close() }

// start serves until stop. failed is told if serving ends by itself.
func (s *httpService) start(handler http.Handler, logger *slog.Logger, failed chan<- error) {
	s.server.Handler = handler
	logger.Info("http listening", "service", s.name, "address", s.address())
	go func() {
		defer close(s.done)
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("%s: %w", s.name, err)
		}
	}()
}

// stop accepts no more requests, lets those at work finish until ctx ends, and
// cuts the rest.
func (s *httpService) stop(ctx context.Context) {
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
	<-s.done
}
