//go:build !pgx

package main

import (
	"context"
	"database/sql"
	"errors"
	"io"

	"github.com/lib/pq"
)

const (
	driverName   = "postgres"
	driverModule = "github.com/lib/pq"
)

func sqlState(err error) (string, bool) {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return string(e.Code), true
	}
	return "", false
}

// copyIn copies rows into a table as the driver's own way is, which is not that of
// database/sql.
func copyIn(ctx context.Context, conn *sql.Conn, table string, rows [][]any) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	statement, err := tx.PrepareContext(ctx, pq.CopyIn(table, "id", "note"))
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := statement.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	if _, err := statement.ExecContext(ctx); err != nil {
		return err
	}
	if err := statement.Close(); err != nil {
		return err
	}
	return tx.Commit()
}

// listen waits for as many payloads on a channel, after running ready.
func listen(ctx context.Context, url, channel string, count int, ready func() error) ([]string, error) {
	listener := pq.NewListener(url, 0, 0, nil)
	defer listener.Close()
	if err := listener.Listen(channel); err != nil {
		return nil, err
	}
	if err := ready(); err != nil {
		return nil, err
	}
	var payloads []string
	for len(payloads) < count {
		select {
		case n := <-listener.Notify:
			if n == nil {
				return payloads, io.ErrUnexpectedEOF // it has connected anew
			}
			payloads = append(payloads, n.Extra)
		case <-ctx.Done():
			return payloads, ctx.Err()
		}
	}
	return payloads, nil
}
