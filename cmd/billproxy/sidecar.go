package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/billproxy/billproxy/api"
	"github.com/billproxy/billproxy/pool"
)

// parts says what one process runs.
type parts struct{ proxy, api bool }

// sidecar is what one process runs: the proxy and its admin server, the API, or
// all of them. It is used by one goroutine.
type sidecar struct {
	// Static after openSidecar; nil for what is not among the parts.
	config *config
	logger *slog.Logger
	logs   *logQueue
	proxy  *proxyService
	admin  *httpService
	http   *httpService

	// Static after start.
	api     *api.Server
	failed  chan error // a part, or the PostgreSQL of dev, that ended by itself
	reloads *reloading // what is read again at a signal, or a command

	shutdown chan bool // is told to end the process: in an orderly way, or at once
	atOnce   bool      // of who waits and then stops
}

// openSidecar binds every address, so that a taken port is reported before
// anything else happens.
func openSidecar(ctx context.Context, c *config, logger *slog.Logger, logs *logQueue, parts parts) (*sidecar, error) {
	s := &sidecar{
		config: c, logger: logger, logs: logs,
		failed: make(chan error, 4), reloads: &reloading{logger: logger}, shutdown: make(chan bool, 1),
	}
	var err error
	if parts.proxy {
		s.proxy, err = listenProxy(ctx, c, logger)
		if err == nil {
			s.admin, err = listenHTTP(ctx, "admin", "ADMIN_LISTEN", c.AdminListen, logger)
		}
	}
	if parts.api && err == nil {
		s.http, err = listenHTTP(ctx, "api", "HTTP_LISTEN", c.HTTPListen, logger)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close frees what openSidecar bound, if start has not succeeded.
func (s *sidecar) close() {
	for _, service := range []*httpService{s.admin, s.http} {
		if service != nil {
			service.close()
		}
	}
	if s.proxy != nil {
		s.proxy.close()
	}
}

// start serves. The server behind the proxy is named here, not by the
// configuration, because dev knows it late.
func (s *sidecar) start(ctx context.Context, upstreamURL databaseURL) error {
	apiURL := string(s.config.APIDatabaseURL)
	var to upstream
	if s.proxy != nil || apiURL == "" {
		var err error
		if to, err = parseUpstream(upstreamURL); err != nil {
			return err
		}
	}
	if s.http != nil {
		if apiURL == "" {
			address, password := reachable(string(s.config.Listen)), to.login.Password
			if s.proxy != nil {
				address, password = s.proxy.address, s.proxy.authentication.apiPassword(to)
			}
			mode := s.config.ClientTLSSSLMode.value
			if mode >= pool.SSLVerifyCA {
				return newConfigError("%[1]sAPI_DATABASE_URL is not set: expected a connection URL with sslcert and sslkey, "+
					"because %[1]sCLIENT_TLS_SSLMODE is %[2]s", variablePrefix, mode)
			}
			apiURL = to.proxyURL(address, password, mode >= pool.SSLRequire)
		}
		if len(s.config.APIKeys) == 0 {
			return unsetVariable("API_KEYS", &s.config.APIKeys)
		}
		var err error
		s.api, err = api.New(context.WithoutCancel(ctx), api.Config{
			DatabaseURL: apiURL, APIKeys: s.config.APIKeys, Logger: s.logger,
		})
		if err != nil {
			return err
		}
	}
	if s.proxy != nil {
		if os.Getenv("GOGC") == "" {
			// The data path allocates nothing, so collecting sooner costs nothing, and
			// memory stays close to what the idle clients hold.
			debug.SetGCPercent(proxyGCPercent)
		}
		if s.http != nil && os.Getenv("GOMAXPROCS") == "" {
			// The loop's thread always finds a processor, however busy the API is.
			runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
		}
		if err := s.proxy.start(ctx, s.config, to, s.consoleConfig(ctx, to), s.reloads, s.failed); err != nil {
			return err
		}
		about := proxyDescription{s.proxy.address, to, int(s.config.MaxDBConnections)}
		s.admin.start(newAdminHandler(s.proxy, about, s.logs), s.logger, s.failed)
	}
	if s.http != nil {
		s.http.start(s.api.Handler(), s.logger, s.failed)
	}
	return nil
}

// proxyGCPercent is the garbage collector's target in a process with a proxy.
const proxyGCPercent = 40

// wait returns nil when ctx ends or an administrator says so, or the failure of a part.
func (s *sidecar) wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case orderly := <-s.shutdown:
		s.atOnce = !orderly
		return nil
	case <-ctx.Done():
		return nil
	}
}

// stop ends what start began, the API before the proxy it needs, within
// SHUTDOWN_TIMEOUT, and the admin server last. ctx may have ended.
func (s *sidecar) stop(ctx context.Context) {
	timeout := s.config.ShutdownTimeout
	if s.atOnce {
		timeout = 0
	}
	s.logger.Info("shutting down", "timeout", timeout.String())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(timeout))
	defer cancel()
	if s.http != nil {
		s.http.stop(ctx)
		s.api.Close()
	}
	if s.proxy != nil {
		s.proxy.stop(ctx)
		s.admin.stop(ctx)
	}
}
