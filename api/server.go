package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Defaults of [Config].
const (
	defaultMaxConns       = 50
	defaultPoolWait       = 3 * time.Second
	defaultRequestTimeout = 15 * time.Second
)

// Config says what a [Server] needs. The zero value of an optional field stands for its default.
type Config struct {
	// DatabaseURL is the only way to the database, normally the proxy's:
	// postgres://billing@127.0.0.1:6432/billing.
	DatabaseURL string

	// APIKeys are the accepted secret keys. Without any, every request is refused.
	APIKeys []string

	// Logger receives one record per request: failures as errors, all others at debug level. Nil logs nothing.
	Logger *slog.Logger

	// MaxConns bounds the connections to DatabaseURL and with them the requests at work in the database; 50 by default.
	// It replaces pool_max_conns of the URL.
	MaxConns int32

	// PoolWait is how long a request waits for one of these connections before it is refused with 429; 3 s by default.
	PoolWait time.Duration

	// RequestTimeout bounds a request; 15 s by default.
	RequestTimeout time.Duration
}

// A Server is the billing API. It is safe for concurrent use.
type Server struct {
	// Static after New.
	logger         *slog.Logger
	keys           [][sha256.Size]byte
	requestTimeout time.Duration
	mux            *http.ServeMux

	// Safe for concurrent use.
	db      *database
	ids     idSource
	flights flights

	// The goroutine that expires idempotency keys.
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// New returns a Server, to be closed when no longer used; its background work also ends with ctx. It fails on a
// malformed DatabaseURL and does not need the database to be up: /readyz says whether it is.
func New(ctx context.Context, config Config) (*Server, error) {
	if config.DatabaseURL == "" {
		return nil, errors.New("api: no database url")
	}
	db, err := openDatabase(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Server{
		logger:         config.Logger,
		requestTimeout: cmp.Or(config.RequestTimeout, defaultRequestTimeout),
		mux:            http.NewServeMux(),
		db:             db,
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	for _, key := range config.APIKeys {
		s.keys = append(s.keys, sha256.Sum256([]byte(key)))
	}
	s.routes()

	ctx, s.stop = context.WithCancel(ctx)
	s.stopped.Go(func() { s.expireKeys(ctx) })
	return s, nil
}

// Close stops the background work and closes the database connections, waiting for those in use. Stop serving
// [Server.Handler] first. It may be called more than once.
func (s *Server) Close() {
	s.stop()
	s.stopped.Wait()
	s.db.pool.Close()
}

// Handler returns the handler for every path: /v1/…, /healthz and /readyz.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(s.serve)
}

func (s *Server) routes() {
	s.mux.Handle("GET /healthz", endpoint(s.healthz))
	s.mux.Handle("GET /readyz", endpoint(s.readyz))

	s.mux.Handle("POST /v1/customers", s.write(s.createCustomer))
	s.mux.Handle("GET /v1/customers", s.read(s.listCustomers))
	s.mux.Handle("GET /v1/customers/{id}", s.read(s.getCustomer))
	s.mux.Handle("POST /v1/customers/{id}", s.write(s.updateCustomer))

	s.mux.Handle("POST /v1/invoiceitems", s.write(s.createInvoiceItem))
	s.mux.Handle("GET /v1/invoiceitems", s.read(s.listInvoiceItems))
	s.mux.Handle("GET /v1/invoiceitems/{id}", s.read(s.getInvoiceItem))

	s.mux.Handle("POST /v1/invoices", s.write(s.createInvoice))
	s.mux.Handle("GET /v1/invoices", s.read(s.listInvoices))
	s.mux.Handle("GET /v1/invoices/{id}", s.read(s.getInvoice))
	s.mux.Handle("GET /v1/invoices/{id}/lines", s.read(s.listLines))
	s.mux.Handle("POST /v1/invoices/{id}/finalize", s.write(s.finalizeInvoice))
	s.mux.Handle("POST /v1/invoices/{id}/pay", s.write(s.payInvoice))
}
