package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
	"github.com/billproxy/billproxy/proxy"
)

// proxyService is the proxy on its event loop.
type proxyService struct {
	// Static after listenProxy.
	engine    *reactor.Engine
	listeners []*reactor.Listener
	address   string    // bound, "host:port"
	beganAt   time.Time // when the clock of the loop began
	logger    *slog.Logger
	clientTLS proxy.ClientTLS // as it was at first

	// Static after start; the proxy's methods are the loop's to call.
	proxy *proxy.Proxy
	done  chan struct{} // closed when the loop has ended; err is set before
	err   error

	background sync.WaitGroup // what the console has asked for

	// Owned by who starts and then by who reloads.
	to             upstream
	authentication authentication
	clients        map[string]auth.Secret // with their verifiers

	direct atomic.Pointer[upstream] // with what the proxy itself logs in
}

// listenProxy binds the proxy's addresses. Clients are accepted after start.
func listenProxy(ctx context.Context, c *config, logger *slog.Logger) (*proxyService, error) {
	authentication, err := readAuthentication(c)
	if err != nil {
		return nil, err
	}
	if err := checkTrust(ctx, c, authentication.authType); err != nil {
		return nil, err
	}
	clientTLS, err := readClientTLS(c)
	if err != nil {
		return nil, err
	}
	if err := raiseDescriptorLimit(c, logger); err != nil {
		return nil, err
	}
	engine, err := reactor.New(reactor.Options{Logger: logger})
	if err != nil {
		return nil, err
	}
	s := &proxyService{engine: engine, beganAt: time.Now(), logger: logger, authentication: authentication, clientTLS: clientTLS, done: make(chan struct{})}
	if err := s.listen(ctx, reactor.Address{Network: "tcp", Address: string(c.Listen)}); err != nil {
		s.close()
		return nil, listenError("LISTEN", c.Listen, err)
	}
	s.address = s.listeners[0].Addr().Address
	if c.UnixSocketDir != "" {
		path, err := socketPath(c.UnixSocketDir, s.address)
		if err == nil {
			err = s.listen(ctx, reactor.Address{Network: "unix", Address: path})
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("%sUNIX_SOCKET_DIR: %w", variablePrefix, err)
		}
	}
	return s, nil
}

func (s *proxyService) listen(ctx context.Context, address reactor.Address) error {
	listener, err := s.engine.Listen(ctx, address, func(conn reactor.Conn) reactor.Handler {
		return s.proxy.Accept(conn)
	})
	if err != nil {
		return err
	}
	s.listeners = append(s.listeners, listener)
	return nil
}

// close frees what listenProxy bound, if start is not called.
func (s *proxyService) close() { s.engine.Stop() }

// start runs the loop, until stop. reloads learns what can be read again, failed is told
// if the loop ends by itself.
func (s *proxyService) start(ctx context.Context, c *config, to upstream, console proxy.ConsoleConfig, reloads *reloading, failed chan<- error) error {
	clients, err := s.authentication.clients(ctx, to, nil)
	if err != nil {
		return err
	}
	config := proxyConfig(c, to)
	config.AuthType, config.Secrets = s.authentication.authType, clients
	config.AuthQuery = s.authentication.authQuery(to)
	config.Pool.Secrets = s.authentication.servers(to)
	config.ClientTLS = s.clientTLS
	config.Console = console
	if config.Pool.TLS, err = readServerTLS(c, to); err != nil {
		return err
	}
	s.to, s.clients = to.withTLS(config.Pool.TLS), clients
	s.setDirect()
	reloads.reloaders = s.reloaders(c)
	s.proxy = proxy.New(config, s.engine, s.logger)
	go func() {
		// A signal begins an orderly stop; it does not cut connections.
		s.err = s.engine.Run(context.WithoutCancel(ctx))
		close(s.done)
		if s.err != nil {
			failed <- fmt.Errorf("proxy: %w", s.err)
		}
	}()
	for _, listener := range s.listeners {
		s.logger.Info("proxy listening", "address", listener.Addr().String(), "upstream", to.address.String(),
			"auth_type", config.AuthType.String(), "client_tls", config.ClientTLS.Mode.String(), "server_tls", config.Pool.TLS.Mode.String())
	}
	return nil
}

// stop accepts no more clients, lets transactions finish until ctx ends, and
// waits for the end of the loop.
func (s *proxyService) stop(ctx context.Context) {
	drained := make(chan struct{})
	s.engine.Post(func() {
		for _, listener := range s.listeners {
			listener.Close()
		}
		s.proxy.Shutdown(func() { close(drained) })
	})
	select {
	case <-drained:
	case <-s.done:
	case <-ctx.Done():
		s.logger.Warn("transactions cut at the shutdown timeout")
		s.engine.Post(s.proxy.Abort)
	}
	s.engine.Stop()
	<-s.done
	s.background.Wait()
}

// stats copies the state and the counters.
func (s *proxyService) stats(ctx context.Context) (proxy.Stats, error) {
	result := make(chan proxy.Stats, 1)
	if !s.engine.Post(func() { result <- s.proxy.Stats() }) {
		return proxy.Stats{}, errors.New("the proxy has stopped")
	}
	select {
	case stats := <-result:
		return stats, nil
	case <-ctx.Done():
		return proxy.Stats{}, fmt.Errorf("no answer from the proxy: %w", ctx.Err())
	}
}

// ready reports whether clients can be served: a server is connected, or one
// accepts a login now.
func (s *proxyService) ready(ctx context.Context) error {
	stats, err := s.stats(ctx)
	switch {
	case err != nil:
		return err
	case stats.Draining:
		return errors.New("the proxy is shutting down")
	}
	for _, pool := range stats.Pools {
		// A proxy that has all it can do is not helped by a further login.
		if pool.ServersIdle+pool.ServersLeased+pool.ServersShared > 0 {
			return nil
		}
	}
	return s.direct.Load().check(ctx)
}

// setDirect lets ready log in to the server as the proxy does now.
func (s *proxyService) setDirect() {
	to := s.to.withPassword(s.authentication.users[s.to.user].Password())
	s.direct.Store(&to)
}

// reloaders are what the proxy reads again while it runs.
func (s *proxyService) reloaders(c *config) []reloader {
	var all []reloader
	if c.AuthFile != "" {
		all = append(all, reloader{"AUTH_FILE", func(ctx context.Context) error { return s.reloadUsers(ctx, c.AuthFile) }})
	}
	if s.clientTLS.Config != nil {
		all = append(all, reloader{"CLIENT_TLS_CERT_FILE", func(context.Context) error { return s.reloadClientTLS(c) }})
	}
	if s.to.sslMode() != pool.SSLDisable {
		all = append(all, reloader{"SERVER_TLS_CA_FILE", func(context.Context) error { return s.reloadServerTLS(c) }})
	}
	return all
}

// reloadUsers reads AUTH_FILE again. Nothing changes if that fails.
func (s *proxyService) reloadUsers(ctx context.Context, file authFile) error {
	next := s.authentication
	var err error
	if next.users, err = file.read(); err != nil {
		return err
	}
	clients, err := next.clients(ctx, s.to, s.clients)
	if err != nil {
		return err
	}
	servers := next.servers(s.to)
	if err := s.do(func() { s.proxy.SetSecrets(clients, servers) }); err != nil {
		return err
	}
	s.authentication, s.clients = next, clients
	s.setDirect()
	return nil
}

// reloadClientTLS reads the files of CLIENT_TLS_* again.
func (s *proxyService) reloadClientTLS(c *config) error {
	t, err := readClientTLS(c)
	if err != nil {
		return err
	}
	return s.do(func() { s.proxy.SetClientTLS(t) })
}

// reloadServerTLS reads the files of UPSTREAM_URL and SERVER_TLS_* again.
func (s *proxyService) reloadServerTLS(c *config) error {
	to, err := parseUpstream(s.to.url)
	if err != nil {
		return err
	}
	t, err := readServerTLS(c, to)
	if err != nil {
		return err
	}
	if err := s.do(func() { s.proxy.SetServerTLS(t) }); err != nil {
		return err
	}
	s.to = to.withTLS(t)
	s.setDirect()
	return nil
}

// do runs fn on the loop and waits for it.
func (s *proxyService) do(fn func()) error {
	ran := make(chan struct{})
	s.engine.Post(func() {
		fn()
		close(ran)
	})
	select {
	case <-ran:
		return nil
	case <-s.done:
		return errors.New("the proxy has stopped")
	}
}

func proxyConfig(c *config, to upstream) proxy.Config {
	return proxy.Config{
		Pool: pool.Config{
			Upstream:              to.address,
			Mode:                  pool.Mode(c.PoolMode),
			DefaultPoolSize:       int(c.DefaultPoolSize),
			MaxDBConnections:      int(c.MaxDBConnections),
			QueryWaitTimeout:      time.Duration(c.QueryWaitTimeout),
			ServerConnectTimeout:  time.Duration(c.ServerConnectTimeout),
			ServerIdleTimeout:     time.Duration(c.ServerIdleTimeout),
			ServerLifetime:        time.Duration(c.ServerLifetime),
			MaxPreparedStatements: int(c.MaxPreparedStatements),
			SharedReads:           bool(c.SharedReads),
			SharedDepth:           int(c.SharedDepth),
			ShedSQLState:          c.ShedSQLState.code(),
			Shed: shed.Config{
				Target:        time.Duration(c.QueueTarget),
				Interval:      time.Duration(c.QueueInterval),
				MaxWaiters:    int(c.MaxWaiters),
				RetryBudget:   float64(c.RetryBudget) / 100,
				Fair:          bool(c.TenantFairness),
				AdaptiveLimit: bool(c.AdaptiveLimit),
			},
			Random:  mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64())),
			Entropy: rand.Reader,
		},
		MaxClientConn:          int(c.MaxClientConn),
		MaxLoginConn:           int(cmp.Or(c.MaxLoginConn, c.MaxClientConn)),
		Critical:               c.Critical,
		LoginDelay:             bool(c.LoginDelay),
		CoalesceReads:          bool(c.CoalesceReads),
		ParameterizedReads:     bool(c.ParameterizedReads),
		ClientLoginTimeout:     time.Duration(c.ClientLoginTimeout),
		IdleTransactionTimeout: time.Duration(c.IdleTransactionTimeout),
		ClientStallTimeout:     time.Duration(c.ClientStallTimeout),
		Entropy:                rand.Reader,
	}
}
