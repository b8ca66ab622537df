package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout is below the default PoolWait, so that a database that does not answer is reported as such and not as
// a full pool.
const connectTimeout = 2 * time.Second

// errPoolWait is returned when no connection became free within PoolWait.
var errPoolWait = errors.New("no free database connection")

// A querier is a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// A database lends connections. It dials on first use.
type database struct {
	pool *pgxpool.Pool
	wait time.Duration
}

func openDatabase(ctx context.Context, config Config) (*database, error) {
	poolConfig, err := pgxpool.ParseConfig(config.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse api database url: %w", err)
	}
	poolConfig.MaxConns = cmp.Or(config.MaxConns, defaultMaxConns)
	connConfig := poolConfig.ConnConfig
	connConfig.ConnectTimeout = min(connConfig.ConnectTimeout, connectTimeout)
	if _, given := connConfig.RuntimeParams["application_name"]; !given {
		connConfig.RuntimeParams["application_name"] = "billproxy-api"
	}
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, fmt.Errorf("open api database pool: %w", err)
	}
	return &database{pool: pool, wait: cmp.Or(config.PoolWait, defaultPoolWait)}, nil
}

// acquire borrows a connection, to be given back with Release. It returns errPoolWait when none becomes free in time.
func (d *database) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	waitCtx, cancel := context.WithTimeout(ctx, d.wait)
	defer cancel()
	conn, err := d.pool.Acquire(waitCtx)
	if err != nil && waitCtx.Err() != nil && ctx.Err() == nil {
		return nil, errPoolWait
	}
	return conn, err
}

// read runs op outside a transaction, each of its statements on its own.
func (d *database) read(ctx context.Context, op operation) (response, error) {
	conn, err := d.acquire(ctx)
	if err != nil {
		return response{}, err
	}
	defer conn.Release()
	value, err := op(ctx, conn)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, value), nil
}

// one reads the single row of a query into a T, and returns nil when there is none.
func one[T any](ctx context.Context, db querier, sql string, args ...any) (*T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return row, err
}

// all reads the rows of a query into Ts.
func all[T any](ctx context.Context, db querier, sql string, args ...any) ([]*T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[T])
}
