package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/migrations"
)

// healthz says that the process serves requests.
func (s *Server) healthz(*http.Request) (response, error) {
	return jsonResponse(http.StatusOK, map[string]string{"status": "ok"}), nil
}

// readyz says whether requests can succeed: the database answers through its DSN and has the schema this program needs.
// A newer schema is fine, as it is while a newer release is rolled out. When not ready, the answer is an error like any
// other, which says why.
func (s *Server) readyz(r *http.Request) (response, error) {
	version, err := s.schemaVersion(r.Context())
	switch {
	case err != nil:
		return response{}, notReady(err, "The database cannot be used: %s.", publicCause(err))
	case version < migrations.Latest():
		return response{}, notReady(nil, "The database schema is at version %d and must be at %d: run `billproxy migrate`.",
			version, migrations.Latest())
	}
	return jsonResponse(http.StatusOK, map[string]any{"status": "ready", "schema_version": version}), nil
}

func (s *Server) schemaVersion(ctx context.Context) (int64, error) {
	conn, err := s.db.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	return migrations.Version(ctx, conn)
}

func notReady(cause error, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, kind: typeAPI, message: fmt.Sprintf(format, args...), cause: cause,
	}
}

// publicCause says in a few words why the database cannot be used. The page is open to everyone, so it names no host;
// the log has the whole error.
func publicCause(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
	}
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok {
		return dnsErr.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	switch {
	case errors.Is(err, errPoolWait):
		return errPoolWait.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	default:
		return "the log says why"
	}
}
