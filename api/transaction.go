package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxAttempts bounds how often a transaction that lost a deadlock or serialization conflict is run.
	maxAttempts = 3

	// rollbackTimeout bounds giving up: a connection that cannot even roll back is closed.
	rollbackTimeout = time.Second
)

// An outcome is the answer of a transaction that came to an end.
type outcome struct {
	response response
	recorded *recordedAnswer // as found or written under the request's idempotency key; nil without one
}

// execute runs op once: in a transaction of its own, and under a key only if no request with that key has been answered
// before. Work and recorded answer are one transaction, so that there is no moment, crash included, at which one exists
// without the other.
func (s *Server) execute(ctx context.Context, key idempotencyKey, op operation) (response, error) {
	if !key.given() {
		out, err := s.transactWithRetry(ctx, key, op)
		return out.response, err
	}
	return s.flights.do(ctx, key, func() (outcome, error) { return s.transactWithRetry(ctx, key, op) })
}

// transactWithRetry runs a transaction again that PostgreSQL rolled back in favour of another.
func (s *Server) transactWithRetry(ctx context.Context, key idempotencyKey, op operation) (outcome, error) {
	for attempt := 1; ; attempt++ {
		out, err := s.transact(ctx, key, op)
		if err == nil || attempt == maxAttempts || !isConflict(err) {
			return out, err
		}
	}
}

func (s *Server) transact(ctx context.Context, key idempotencyKey, op operation) (outcome, error) {
	conn, err := s.db.acquire(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer conn.Release()

	// From here on the client leaving changes nothing: finishing is cheaper than a cancelled connection, and the retry
	// that is sure to come finds its answer recorded.
	ctx, cancel := detach(ctx)
	defer cancel()

	var lookup keyLookup
	tx, err := begin(ctx, conn, key, &lookup)
	if err != nil {
		return outcome{}, fmt.Errorf("begin transaction: %w", err)
	}
	defer rollback(ctx, tx)

	switch {
	case !key.given():
	case !lookup.locked:
		return outcome{}, key.inUse()
	case lookup.recorded != nil:
		replayed, err := key.replay(lookup.recorded)
		return outcome{replayed, lookup.recorded}, err
	}

	value, err := op(ctx, tx)
	resp, err := settle(ctx, tx, key, value, err)
	if err != nil {
		return outcome{}, err
	}
	var recorded *recordedAnswer
	if key.given() {
		if recorded, err = record(ctx, tx, key, resp); err != nil {
			return outcome{}, err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return outcome{}, fmt.Errorf("commit: %w", err)
	}
	return outcome{resp, recorded}, nil
}

// settle turns what an operation returned into the answer to commit, or into the error to roll back for.
func settle(ctx context.Context, tx pgx.Tx, key idempotencyKey, value any, err error) (response, error) {
	if err == nil {
		return jsonResponse(http.StatusOK, value), nil
	}
	refusal, refused := errors.AsType[*apiError](err)
	switch {
	case !refused:
		return response{}, err
	case refusal.commit:
		return refusal.response(), nil
	case !key.given():
		return response{}, refusal
	}
	// The refusal is the key's answer and must be recorded, but nothing the operation wrote may stay.
	if _, err := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT operation"); err != nil {
		return response{}, fmt.Errorf("roll back to savepoint: %w", err)
	}
	return refusal.response(), nil
}

// detach returns a context that keeps the deadline of ctx but does not end when the client leaves.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline)
}

// begin starts a transaction and, when there is a key, looks it up, in one round trip. The caller must end the
// transaction or roll it back before it releases conn.
func begin(ctx context.Context, conn *pgxpool.Conn, key idempotencyKey, lookup *keyLookup) (pgx.Tx, error) {
	batch := &pgx.Batch{}
	// Said aloud because what locks protect here is read by a statement after the one that locked.
	batch.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	// Bounds the wait for a row that another request holds. LOCAL: it ends with the transaction.
	batch.Queue("SET LOCAL lock_timeout = '2s'")
	if key.given() {
		lookup.queue(batch, key)
		batch.Queue("SAVEPOINT operation")
	}
	results := conn.SendBatch(ctx, batch)
	if err := results.Close(); err != nil {
		rollback(ctx, results.Tx())
		return nil, err
	}
	return results.Tx(), nil
}

// rollback gives up tx, also when ctx has ended; it does nothing after a commit. A connection on which it fails is
// closed when it is released.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}
