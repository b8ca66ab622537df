package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	idempotencyKeyHeader    = "Idempotency-Key"
	maxIdempotencyKeyLength = 255

	// Keys are kept for keyLifetime at least, and expired ones deleted expiryBatch at a time every expiryInterval.
	keyLifetime    = 24 * time.Hour
	expiryInterval = 10 * time.Minute
	expiryBatch    = 500
)

// An idempotencyKey is what a client put on a POST so that, however often it is sent, it happens once. Its zero value
// stands for a POST without one.
type idempotencyKey struct {
	value       string
	path        string
	fingerprint [sha256.Size]byte // of everything that makes the request what it is
}

func (k idempotencyKey) given() bool { return k.value != "" }

// idempotencyKeyOf returns the key of a request with the given parameters.
func idempotencyKeyOf(r *http.Request, parsed form) (idempotencyKey, *apiError) {
	value := r.Header.Get(idempotencyKeyHeader)
	if value == "" {
		return idempotencyKey{}, nil
	}
	if len(value) > maxIdempotencyKeyLength || !isText(value) {
		return idempotencyKey{}, invalidRequest("", "", "An idempotency key must be UTF-8 text of at most %d bytes.",
			maxIdempotencyKeyLength)
	}
	return idempotencyKey{
		value:       value,
		path:        r.URL.Path,
		fingerprint: parsed.fingerprint(r.Method, r.URL.Path, stripeVersion(r)),
	}, nil
}

// A recordedAnswer is the answer the first request with a key got.
type recordedAnswer struct {
	Path        string
	Fingerprint []byte
	Status      int
	Body        []byte
}

// replay answers a later request with the same key.
func (k idempotencyKey) replay(recorded *recordedAnswer) (response, error) {
	mismatch := func(format string, args ...any) (response, error) {
		return response{}, &apiError{
			status: http.StatusBadRequest, kind: typeIdempotency,
			message: fmt.Sprintf(format, args...) + fmt.Sprintf(
				" Try using a key other than '%s' if you meant to execute a different request.", k.value),
		}
	}
	if recorded.Path != k.path {
		return mismatch("Keys for idempotent requests can only be used for the same endpoint they were first used for "+
			"('%s' vs '%s').", k.path, recorded.Path)
	}
	if string(recorded.Fingerprint) != string(k.fingerprint[:]) {
		return mismatch("Keys for idempotent requests can only be used with the same parameters they were first used with.")
	}
	return response{
		status: recorded.Status,
		header: http.Header{"Idempotent-Replayed": {"true"}},
		body:   recorded.Body,
	}, nil
}

// inUse is the answer while another request with the key is still running.
func (k idempotencyKey) inUse() *apiError {
	return &apiError{
		status: http.StatusConflict, kind: typeInvalidRequest, code: codeIdempotencyKeyInUse, retry: retryYes,
		message: fmt.Sprintf("There is currently another in-progress request using this Idempotency Key '%s' (that "+
			"probably means you submitted twice, and the other request is still going through): please try again later.", k.value),
	}
}

// A keyLookup is what the beginning of a transaction learns about a key.
type keyLookup struct {
	locked   bool            // no other transaction is at work under the key
	recorded *recordedAnswer // nil when this is the first
}

// queue adds the lookup to the batch that begins a transaction, to be filled in when the batch is closed.
//
// The lock is tried, not waited for: waiting would keep a server connection busy doing nothing for each duplicate. Lock
// and look-up are two statements because one statement's snapshot is older than its lock, and would not see the answer
// the previous holder has just committed. The primary key remains the guarantee; the lock only makes refusing fast.
func (l *keyLookup) queue(batch *pgx.Batch, key idempotencyKey) {
	batch.Queue(`SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))`, key.value).
		QueryRow(func(row pgx.Row) error { return row.Scan(&l.locked) })
	batch.Queue(`SELECT path, fingerprint, status, body FROM idempotency_keys WHERE key = $1`, key.value).
		Query(func(rows pgx.Rows) error {
			found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[recordedAnswer])
			if len(found) == 1 {
				l.recorded = found[0]
			}
			return err
		})
}

// record writes the answer to the request with key into the transaction of its work.
func record(ctx context.Context, tx pgx.Tx, key idempotencyKey, resp response) (*recordedAnswer, error) {
	recorded := &recordedAnswer{Path: key.path, Fingerprint: key.fingerprint[:], Status: resp.status, Body: resp.body}
	_, err := tx.Exec(ctx,
		`INSERT INTO idempotency_keys (key, path, fingerprint, status, body) VALUES ($1, $2, $3, $4, $5)`,
		key.value, recorded.Path, recorded.Fingerprint, recorded.Status, recorded.Body)
	if err != nil {
		return nil, fmt.Errorf("record idempotency key: %w", err)
	}
	return recorded, nil
}

// expireKeys deletes expired keys now and then until ctx ends. A database that is down is left alone until next time.
func (s *Server) expireKeys(ctx context.Context) {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if _, err := s.deleteExpiredKeys(ctx, time.Now().Add(-keyLifetime)); err != nil && ctx.Err() == nil {
				s.logger.WarnContext(ctx, "expire idempotency keys", slog.String("error", describe(err)))
			}
		}
	}
}

// deleteExpiredKeys deletes the keys recorded before the given time and returns how many there were. It works in
// batches, each a short transaction of its own, so that it holds nobody up; rows another process is deleting are left
// to it.
func (s *Server) deleteExpiredKeys(ctx context.Context, before time.Time) (int64, error) {
	conn, err := s.db.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	for total := int64(0); ; {
		tag, err := conn.Exec(ctx, `
			DELETE FROM idempotency_keys WHERE key IN (
				SELECT key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2
				FOR UPDATE SKIP LOCKED
			)`, before, expiryBatch)
		if err != nil {
			return total, fmt.Errorf("delete expired idempotency keys: %w", err)
		}
		total += tag.RowsAffected()
		if tag.RowsAffected() < expiryBatch {
			return total, nil
		}
	}
}
