// Package migrations holds the billing schema as embedded SQL and brings a database up to it.
//
// The files are goose migrations, applied in order, each in its own transaction; there is no way down, a mistake is
// mended by a further migration. Run them on a direct URL as the role that shall own the tables, never through the
// proxy and never as a side effect of serving: a release step, or `billproxy migrate`.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

const (
	// lockRetryInterval and lockRetries bound the wait for another migrator to two minutes, well beyond the 30 s after
	// which a lock whose holder died can be taken.
	lockRetryInterval = 500 * time.Millisecond
	lockRetries       = 240

	// ddlLockTimeout bounds how long a statement may wait for a table. A waiting ALTER TABLE makes every later query
	// on that table wait behind it, so it is better to fail and be run again.
	ddlLockTimeout = "2s"

	// undefinedTable is the SQLSTATE of a query on a table that does not exist.
	// See https://www.postgresql.org/docs/current/errcodes-appendix.html.
	undefinedTable = "42P01"
)

// Run applies every migration the database at databaseURL does not have yet and returns how many it applied, also when
// a later one failed. Several processes may call it at once: a lock in the database lets one work while the others
// wait, then find nothing to do. The URL must lead directly to PostgreSQL.
func Run(ctx context.Context, databaseURL string, logger *slog.Logger) (applied int, err error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return 0, fmt.Errorf("parse migration database url: %w", err)
	}
	if _, given := config.RuntimeParams["lock_timeout"]; !given {
		config.RuntimeParams["lock_timeout"] = ddlLockTimeout
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()

	provider, err := newProvider(db, logger)
	if err != nil {
		return 0, err
	}
	results, err := provider.Up(ctx)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		results = partial.Applied
	}
	for _, result := range results {
		logger.InfoContext(ctx, "migration applied",
			slog.Int64("version", result.Source.Version), slog.Duration("duration", result.Duration))
	}
	if err != nil {
		return len(results), fmt.Errorf("apply migrations: %w", err)
	}
	return len(results), nil
}

func newProvider(db *sql.DB, logger *slog.Logger) (*goose.Provider, error) {
	// The lock is a leased row, not a session advisory lock: it cannot be stranded by a pooler, and a migrator that
	// died gives way when its lease ends.
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLockTimeout(lockRetryInterval, lockRetries),
		lock.WithTableLogger(logger),
	)
	if err != nil {
		return nil, fmt.Errorf("create migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithLocker(locker),
		goose.WithDisableGlobalRegistry(true),
	)
	if err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	return provider, nil
}

// Latest returns the version of the newest migration this program carries.
func Latest() int64 {
	entries, err := files.ReadDir(".")
	if err != nil || len(entries) == 0 {
		panic("BUG: no embedded migrations")
	}
	newest := entries[len(entries)-1].Name() // ReadDir sorts by name
	version, err := goose.NumericComponent(newest)
	if err != nil {
		panic("BUG: embedded migration " + newest + " has no version")
	}
	return version
}

// A Querier is what [Version] needs of a connection; a pgx connection, pool or transaction has it.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Version returns the version the database is at: [Latest] when it is up to date, 0 when it was never migrated. It is
// one plain query and may go through the proxy.
func Version(ctx context.Context, db Querier) (int64, error) {
	var version int64
	err := db.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == undefinedTable {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}
