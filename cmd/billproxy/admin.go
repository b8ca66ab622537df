package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/billproxy/billproxy/proxy"
)

// dashboard is the admin page. It shows what /stats returns, once a second.
//
//go:embed dashboard.html
var dashboard string

// statsTimeout bounds the wait for the event loop to copy its state.
const statsTimeout = 2 * time.Second

// contentSecurityPolicy lets the page load nothing but /stats.
const contentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; " +
	"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// statsSource is what the admin server asks of the proxy.
type statsSource interface {
	stats(ctx context.Context) (proxy.Stats, error)
	ready(ctx context.Context) error
}

// proxyDescription is what is fixed about a running proxy.
type proxyDescription struct {
	listen           string
	upstream         upstream
	maxDBConnections int
}

// status is what /stats returns. Durations are nanoseconds.
type status struct {
	Version          string
	Upstream         string
	Listen           string
	MaxDBConnections int
	LogDropped       uint64
	Stats            proxy.Stats
}

// newAdminHandler returns the admin server's pages. They only read.
func newAdminHandler(source statsSource, about proxyDescription, logs *logQueue) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", serveDashboard)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
		defer cancel()
		stats, err := source.stats(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// A client that has gone away needs no answer.
		_ = json.NewEncoder(w).Encode(status{
			Version: versionText(), Upstream: about.upstream.address.String(), Listen: about.listen,
			MaxDBConnections: about.maxDBConnections, LogDropped: logs.droppedCount(), Stats: stats,
		})
	})
	mux.HandleFunc("GET /metrics", serveMetrics(source, about, logs))
	mux.HandleFunc("GET /healthz", probe(func(ctx context.Context) error {
		_, err := source.stats(ctx)
		return err
	}))
	mux.HandleFunc("GET /readyz", probe(source.ready))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// serveMetrics gathers what describes the process and one copy of the stats.
func serveMetrics(source statsSource, about proxyDescription, logs *logQueue) http.HandlerFunc {
	catalogue := newMetrics()
	process := newRegistry(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
		defer cancel()
		stats, err := source.stats(ctx)
		scrape := newRegistry(&collector{
			metrics: catalogue, about: about, logDropped: logs.droppedCount(), stats: stats, up: err == nil,
		})
		promhttp.HandlerFor(prometheus.Gatherers{process, scrape}, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}
}

func serveDashboard(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
	_, _ = io.WriteString(w, dashboard)
}

// probe answers "ok" or, with status 503, why not.
func probe(check func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
		defer cancel()
		w.Header().Set("Cache-Control", "no-store")
		if err := check(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	}
}
