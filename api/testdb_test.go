package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/migrations"
)

// cluster is the PostgreSQL of this package's tests.
var cluster *devpg.Cluster

func TestMain(m *testing.M) {
	os.Exit(devpgtest.Run(m, nil, &cluster))
}

// A testDB is a migrated database of one test.
type testDB struct {
	t    *testing.T
	url  string
	pool *pgxpool.Pool // past the API, for looking and meddling
}

var databaseCount atomic.Int64

// migratedTemplate makes the database that those of the tests are copies of.
var migratedTemplate = sync.OnceValues(func() (string, error) {
	const name = "migrated"
	ctx := context.Background()
	if err := createDatabase(ctx, name, "template1"); err != nil {
		return "", err
	}
	_, err := migrations.Run(ctx, cluster.URL(devpg.Superuser, name), slog.New(slog.DiscardHandler))
	return name, err
})

// newTestDB returns a database whose invariants are checked when the test ends.
func newTestDB(t *testing.T) *testDB {
	t.Helper()
	template, err := migratedTemplate()
	if err != nil {
		t.Fatal(err)
	}
	db := newDatabase(t, template)
	t.Cleanup(db.checkInvariants)
	return db
}

func newDatabase(t *testing.T, template string) *testDB {
	t.Helper()
	name := fmt.Sprintf("test_%d", databaseCount.Add(1))
	if err := createDatabase(t.Context(), name, template); err != nil {
		t.Fatal(err)
	}
	db := &testDB{t: t, url: cluster.URL(devpg.Superuser, name)}
	pool, err := pgxpool.New(t.Context(), db.url+"&pool_max_conns=3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db.pool = pool
	return db
}

func createDatabase(ctx context.Context, name, template string) error {
	conn, err := pgx.Connect(ctx, cluster.URL(devpg.Superuser, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
	return err
}

func (db *testDB) exec(sql string, args ...any) {
	db.t.Helper()
	if _, err := db.pool.Exec(db.t.Context(), sql, args...); err != nil {
		db.t.Fatal(err)
	}
}

// count returns the number a query results in.
func (db *testDB) count(sql string, args ...any) int {
	db.t.Helper()
	var n int
	if err := db.pool.QueryRow(db.t.Context(), sql, args...).Scan(&n); err != nil {
		db.t.Fatal(err)
	}
	return n
}

// trigger makes every INSERT into table run the PL/pgSQL statements of body first.
func (db *testDB) trigger(table, body string) {
	db.t.Helper()
	db.exec(`CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + body + ` RETURN NEW; END $$`)
	db.exec(`CREATE TRIGGER meddle BEFORE INSERT ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION meddle()`)
}

// lockRow holds a row of table locked until the returned function is called.
func (db *testDB) lockRow(table, id string) (release func()) {
	db.t.Helper()
	tx, err := db.pool.Begin(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	if _, err := tx.Exec(db.t.Context(), "SELECT FROM "+table+" WHERE id = $1 FOR UPDATE", id); err != nil {
		db.t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(context.WithoutCancel(db.t.Context())); err != nil {
			db.t.Error(err)
		}
	}
}

// gate makes every INSERT into table wait. The first function returns when one is waiting, the second lets them all go.
func (db *testDB) gate(table string) (awaitFirst, open func()) {
	db.t.Helper()
	db.exec("CREATE SEQUENCE arrivals; CREATE TABLE gate_is_open ()")
	db.trigger(table, `PERFORM nextval('arrivals');
		WHILE NOT EXISTS (SELECT FROM gate_is_open) LOOP PERFORM pg_sleep(0.01); END LOOP;`)
	awaitFirst = func() {
		for db.count("SELECT count(*) FROM arrivals WHERE is_called") == 0 {
			if err := db.t.Context().Err(); err != nil {
				db.t.Fatal(err)
			}
		}
	}
	return awaitFirst, func() { db.exec("INSERT INTO gate_is_open DEFAULT VALUES") }
}

// invariants are queries for what must never be; each returns what it found as text.
var invariants = map[string]string{
	"I1 total is the sum of the lines": `SELECT id FROM invoices AS i
		WHERE total <> (SELECT coalesce(sum(amount), 0) FROM invoice_items WHERE invoice_id = i.id)
			OR amount_due <> greatest(total, 0) OR amount_paid + amount_remaining <> amount_due`,
	"I3 numbers of a prefix are 1 to n": `SELECT number_prefix FROM invoices WHERE number_prefix IS NOT NULL
		GROUP BY number_prefix
		HAVING min(number_sequence) <> 1 OR max(number_sequence) <> count(*) OR count(DISTINCT number_sequence) <> count(*)`,
	"I3 the counter is where the numbers end": `SELECT c.id FROM customers AS c
		WHERE next_invoice_sequence <> 1 + (SELECT count(*) FROM invoices WHERE customer_id = c.id AND status <> 'draft')`,
	"I4 a final status has its time": `SELECT id FROM invoices
		WHERE (status = 'draft') <> (finalized_at IS NULL) OR (status = 'paid') <> (paid_at IS NOT NULL)`,
	"I5 an invoice is paid once and in full": `SELECT i.id FROM invoices AS i
		LEFT JOIN invoice_payments AS p ON p.invoice_id = i.id AND p.status = 'succeeded'
		GROUP BY i.id HAVING count(p.id) > 1 OR coalesce(sum(p.amount), 0) <> i.amount_paid
			OR i.status = 'paid' AND i.amount_paid <> i.amount_due`,
	"I10 an item is on an invoice of its customer and currency": `SELECT ii.id FROM invoice_items AS ii
		JOIN invoices AS i ON i.id = ii.invoice_id
		WHERE (i.customer_id, i.currency) <> (ii.customer_id, ii.currency)`,
}

func (db *testDB) checkInvariants() {
	ctx := context.WithoutCancel(db.t.Context())
	for name, query := range invariants {
		rows, err := db.pool.Query(ctx, query)
		if err != nil {
			db.t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			db.t.Fatal(err)
		}
		if len(found) > 0 {
			db.t.Errorf("%s: broken by %s", name, strings.Join(found, ", "))
		}
	}
}
