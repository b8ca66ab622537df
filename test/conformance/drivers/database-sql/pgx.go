//go:build pgx

package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	driverName   = "pgx"
	driverModule = "github.com/jackc/pgx/v5"
)

func sqlState(err error) (string, bool) {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code, true
	}
	return "", false
}

// copyIn copies rows into a table as the driver's own way is, which is not that of
// database/sql.
func copyIn(ctx context.Context, conn *sql.Conn, table string, rows [][]any) error {
	return conn.Raw(func(driverConn any) error {
		_, err := driverConn.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "note"}, pgx.CopyFromRows(rows))
		return err
	})
}

// listen waits for as many payloads on a channel, after running ready.
func listen(ctx context.Context, url, channel string, count int, ready func() error) ([]string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return nil, err
	}
	if err := ready(); err != nil {
		return nil, err
	}
	var payloads []string
	for len(payloads) < count {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return payloads, err
		}
		payloads = append(payloads, n.Payload)
	}
	return payloads, nil
}
