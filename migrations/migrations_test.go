package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/migrations"
)

// cluster is the PostgreSQL of this package's tests.
var cluster *devpg.Cluster

func TestMain(m *testing.M) {
	os.Exit(devpgtest.Run(m, nil, &cluster))
}

var databaseCount atomic.Int64

// newDatabase returns the URL of an empty database.
func newDatabase(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", databaseCount.Add(1))
	connect(t, cluster.URL(devpg.Superuser, "postgres")).exec("CREATE DATABASE " + name)
	return cluster.URL(devpg.Superuser, name)
}

func run(t *testing.T, url string) int {
	t.Helper()
	applied, err := migrations.Run(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

type connection struct {
	*pgx.Conn

	t *testing.T
}

func connect(t *testing.T, url string) connection {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return connection{conn, t}
}

// exec runs statements as one transaction.
func (c connection) exec(statements string) {
	c.t.Helper()
	if _, err := c.Exec(c.t.Context(), statements); err != nil {
		c.t.Fatalf("%s: %v", statements, err)
	}
}

// refuses checks that statements, run as one transaction, break a constraint.
func (c connection) refuses(constraint, statements string) {
	c.t.Helper()
	_, err := c.Exec(c.t.Context(), statements)
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pgErr.ConstraintName != constraint {
		c.t.Errorf("%s\ngot %v, want constraint %s to refuse it", statements, err, constraint)
	}
}

func TestRunAppliesEachOnce(t *testing.T) {
	url := newDatabase(t)
	conn := connect(t, url)
	if version, err := migrations.Version(t.Context(), conn); version != 0 || err != nil {
		t.Errorf("before: version %d, %v", version, err)
	}
	if applied := run(t, url); applied != int(migrations.Latest()) {
		t.Errorf("applied %d, want %d", applied, migrations.Latest())
	}
	if version, err := migrations.Version(t.Context(), conn); version != migrations.Latest() || err != nil {
		t.Errorf("after: version %d, %v; want %d", version, err, migrations.Latest())
	}
	if applied := run(t, url); applied != 0 {
		t.Errorf("applied %d again", applied)
	}
}

func TestConcurrentRunsShareTheWork(t *testing.T) {
	url := newDatabase(t)
	var applied atomic.Int64
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			n, err := migrations.Run(t.Context(), url, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
			}
			applied.Add(int64(n))
		})
	}
	group.Wait()
	if applied.Load() != migrations.Latest() {
		t.Errorf("applied %d in all, want %d", applied.Load(), migrations.Latest())
	}
}

func TestRunReportsWhatFailed(t *testing.T) {
	url := newDatabase(t)
	connect(t, url).exec("CREATE TABLE idempotency_keys ()")
	applied, err := migrations.Run(t.Context(), url, slog.New(slog.DiscardHandler))
	if applied != 1 || err == nil || !strings.Contains(err.Error(), "idempotency_keys") {
		t.Errorf("applied %d, %v; want 1 and an error about idempotency_keys", applied, err)
	}

	_, err = migrations.Run(t.Context(), "postgres://u:secret@[::1", slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("bad url: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := migrations.Run(ctx, url, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestVersionsAreConsecutive(t *testing.T) {
	names, err := fs.Glob(os.DirFS("."), "*.sql")
	if err != nil || len(names) != int(migrations.Latest()) {
		t.Fatalf("%d files, %v; the latest version is %d", len(names), err, migrations.Latest())
	}
	for i, name := range names {
		if !strings.HasPrefix(name, fmt.Sprintf("%05d_", i+1)) {
			t.Errorf("%s is not version %d", name, i+1)
		}
	}
}

// fixture has a draft (in_d) with one line (ii_d), an open invoice (in_o, number ABC-0001) with one line (ii_o), a paid
// one (in_p, ABC-0002) and a pending item (ii_n), all of customer cus_1 in usd; and another customer, cus_2.
const fixture = `
INSERT INTO customers (id, created_at, invoice_prefix) VALUES ('cus_1', now(), 'ABC'), ('cus_2', now(), 'DEF');
INSERT INTO invoices (id, created_at, customer_id, currency, total) VALUES
	('in_d', now(), 'cus_1', 'usd', 5), ('in_o', now(), 'cus_1', 'usd', 5), ('in_p', now(), 'cus_1', 'usd', 5);
INSERT INTO invoice_items (id, created_at, customer_id, currency, amount, period_start, period_end, invoice_id, line_id) VALUES
	('ii_d', now(), 'cus_1', 'usd', 5, now(), now(), 'in_d', 'il_d'),
	('ii_o', now(), 'cus_1', 'usd', 5, now(), now(), 'in_o', 'il_o'),
	('ii_p', now(), 'cus_1', 'usd', 5, now(), now(), 'in_p', 'il_p'),
	('ii_n', now(), 'cus_1', 'usd', 5, now(), now(), NULL, NULL);
UPDATE invoices SET status = 'open', number_prefix = 'ABC', number_sequence = 1, finalized_at = now() WHERE id = 'in_o';
UPDATE invoices SET status = 'open', number_prefix = 'ABC', number_sequence = 2, finalized_at = now() WHERE id = 'in_p';
INSERT INTO invoice_payments (id, created_at, invoice_id, status, amount) VALUES ('inpay_p', now(), 'in_p', 'succeeded', 5);
UPDATE invoices SET status = 'paid', paid_at = now(), amount_paid = 5 WHERE id = 'in_p';
`

const open = "UPDATE invoices SET status = 'open', number_prefix = 'ABC', number_sequence = 3, finalized_at = now()"

func TestSchemaRefusesWhatMustNotBe(t *testing.T) {
	url := newDatabase(t)
	run(t, url)
	conn := connect(t, url)
	conn.exec(fixture)
	tests := []struct{ name, constraint, statements string }{
		{"I1 total without lines", "invoices_sums", `UPDATE invoices SET total = 6 WHERE id = 'in_d'`},
		{"I1 line without total", "invoices_sums", `UPDATE invoice_items SET invoice_id = 'in_d', line_id = 'il_n' WHERE id = 'ii_n'`},
		{"I1 changed line", "invoices_sums", `UPDATE invoice_items SET amount = 6 WHERE id = 'ii_d'`},
		{"I1 removed line", "invoices_sums", `DELETE FROM invoice_items WHERE id = 'ii_d'`},
		{
			"I1 born with a total", "invoices_sums",
			`INSERT INTO invoices (id, created_at, customer_id, currency, total) VALUES ('in_x', now(), 'cus_1', 'usd', 1)`,
		},
		{"I2 total", "invoices_frozen", `UPDATE invoices SET total = 6 WHERE id = 'in_o'`},
		{"I2 currency", "invoices_frozen", `UPDATE invoices SET currency = 'eur' WHERE id = 'in_p'`},
		{"I2 customer", "invoices_frozen", `UPDATE invoices SET customer_id = 'cus_2' WHERE id = 'in_o'`},
		{"I2 number", "invoices_frozen", `UPDATE invoices SET number_sequence = 9 WHERE id = 'in_o'`},
		{"I2 addressee", "invoices_frozen", `UPDATE invoices SET customer_name = 'x' WHERE id = 'in_o'`},
		{"I2 deleted", "invoices_frozen", `DELETE FROM invoices WHERE id = 'in_o'`},
		{"I2 line changed", "invoice_items_frozen", `UPDATE invoice_items SET amount = 6 WHERE id = 'ii_o'`},
		{"I2 line described anew", "invoice_items_frozen", `UPDATE invoice_items SET description = 'x' WHERE id = 'ii_p'`},
		{"I2 line removed", "invoice_items_frozen", `DELETE FROM invoice_items WHERE id = 'ii_o'`},
		{"I2 line taken away", "invoice_items_frozen", `UPDATE invoice_items SET invoice_id = NULL, line_id = NULL WHERE id = 'ii_o'`},
		{"I2 line added", "invoice_items_frozen", `UPDATE invoice_items SET invoice_id = 'in_o', line_id = 'il_n' WHERE id = 'ii_n'`},
		{
			"I3 number twice", "invoices_number_key",
			`UPDATE invoices SET status = 'open', number_prefix = 'ABC', number_sequence = 2, finalized_at = now() WHERE id = 'in_d'`,
		},
		{
			"I3 gap", "invoices_number_gapless",
			`UPDATE invoices SET status = 'open', number_prefix = 'ABC', number_sequence = 4, finalized_at = now() WHERE id = 'in_d'`,
		},
		{
			"I3 draft with a number", "invoices_number_check",
			`UPDATE invoices SET number_prefix = 'ABC', number_sequence = 3 WHERE id = 'in_d'`,
		},
		{
			"I3 issued without a number", "invoices_number_check",
			`UPDATE invoices SET status = 'open', finalized_at = now() WHERE id = 'in_d'`,
		},
		{"I4 born open", "invoices_transition", `INSERT INTO invoices (id, created_at, customer_id, currency, status,
			number_prefix, number_sequence, finalized_at) VALUES ('in_x', now(), 'cus_1', 'usd', 'open', 'ABC', 3, now())`},
		{"I4 void a draft", "invoices_transition", `UPDATE invoices SET status = 'void', voided_at = now() WHERE id = 'in_d'`},
		{"I4 reopen", "invoices_transition", `UPDATE invoices SET status = 'open', paid_at = NULL, amount_paid = 0 WHERE id = 'in_p'`},
		{"I4 back to draft", "invoices_transition", `UPDATE invoices SET status = 'draft', number_prefix = NULL,
			number_sequence = NULL, finalized_at = NULL WHERE id = 'in_o'`},
		{"I4 unknown status", "invoices_status_check", `ALTER TABLE invoices DISABLE TRIGGER invoices_guard;
			UPDATE invoices SET status = 'late', number_prefix = 'ABC', number_sequence = 3, finalized_at = now() WHERE id = 'in_d'`},
		{
			"I4 paid without a time", "invoices_paid_at_check",
			`INSERT INTO invoice_payments (id, created_at, invoice_id, status, amount) VALUES ('inpay_x', now(), 'in_o', 'succeeded', 5);
			UPDATE invoices SET status = 'paid', amount_paid = 5 WHERE id = 'in_o'`,
		},
		{"I4 finalized without a time", "invoices_finalized_at_check", strings.Replace(open, "finalized_at = now()",
			"finalized_at = NULL", 1) + ` WHERE id = 'in_d'`},
		{"I4 void without a time", "invoices_voided_at_check", `UPDATE invoices SET status = 'void' WHERE id = 'in_o'`},
		{
			"I4 uncollectible without a time", "invoices_marked_uncollectible_at_check",
			`UPDATE invoices SET status = 'uncollectible' WHERE id = 'in_o'`,
		},
		{
			"I5 paid twice", "invoice_payments_succeeded_key",
			`INSERT INTO invoice_payments (id, created_at, invoice_id, status, amount) VALUES ('inpay_x', now(), 'in_p', 'succeeded', 5)`,
		},
		{
			"I5 paid without a payment", "invoices_sums",
			`UPDATE invoices SET status = 'paid', paid_at = now(), amount_paid = 5 WHERE id = 'in_o'`,
		},
		{
			"I5 payment of an invoice that stays open", "invoices_sums",
			`INSERT INTO invoice_payments (id, created_at, invoice_id, status, amount) VALUES ('inpay_x', now(), 'in_o', 'succeeded', 5)`,
		},
		{
			"I5 paid in part", "invoices_amount_paid_check",
			`UPDATE invoices SET status = 'paid', paid_at = now(), amount_paid = 4 WHERE id = 'in_o'`,
		},
		{"I5 payment deleted", "invoices_sums", `DELETE FROM invoice_payments WHERE id = 'inpay_p'`},
		{
			"I10 another's item", "invoice_items_invoice_fkey",
			`UPDATE invoice_items SET customer_id = 'cus_2', invoice_id = 'in_d', line_id = 'il_n' WHERE id = 'ii_n'`,
		},
		{
			"I10 another currency", "invoice_items_invoice_fkey",
			`UPDATE invoice_items SET currency = 'eur', invoice_id = 'in_d', line_id = 'il_n' WHERE id = 'ii_n'`,
		},
		{"line without an id", "invoice_items_line_id_check", `UPDATE invoice_items SET invoice_id = 'in_d' WHERE id = 'ii_n'`},
		{"amount beyond the bound", "invoice_items_amount_check", `UPDATE invoice_items SET amount = 100000000 WHERE id = 'ii_n'`},
		{"upper-case currency", "invoice_items_currency_check", `UPDATE invoice_items SET currency = 'USD' WHERE id = 'ii_n'`},
		{"prefix twice", "customers_invoice_prefix_key", `UPDATE customers SET invoice_prefix = 'ABC' WHERE id = 'cus_2'`},
		{
			"key stored for a refusal", "idempotency_keys_status_check",
			`INSERT INTO idempotency_keys (key, path, fingerprint, status, body) VALUES ('k', '/', sha256('x'), 429, '')`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			connection{conn.Conn, t}.refuses(test.constraint, test.statements)
		})
	}
}

func TestSchemaAllowsTheWholeStateMachine(t *testing.T) {
	url := newDatabase(t)
	run(t, url)
	conn := connect(t, url)
	conn.exec(fixture)
	conn.exec(open + ` WHERE id = 'in_d'`)
	conn.exec(`UPDATE invoices SET metadata = '{"a":"b"}', description = 'd' WHERE id = 'in_d'`)
	conn.exec(`UPDATE invoices SET status = 'uncollectible', marked_uncollectible_at = now() WHERE id = 'in_d'`)
	conn.exec(`UPDATE invoices SET status = 'void', voided_at = now() WHERE id = 'in_d'`)
	conn.exec(`UPDATE invoices SET status = 'void', voided_at = now() WHERE id = 'in_o'`)

	conn.exec(`INSERT INTO invoices (id, created_at, customer_id, currency) VALUES ('in_x', now(), 'cus_2', 'jpy')`)
	conn.exec(`DELETE FROM invoices WHERE id = 'in_x'`)
	conn.exec(`INSERT INTO invoices (id, created_at, customer_id, currency) VALUES ('in_z', now(), 'cus_2', 'jpy');
		UPDATE invoices SET status = 'paid', number_prefix = 'DEF', number_sequence = 1, finalized_at = now(), paid_at = now()
		WHERE id = 'in_z'`)

	var numbers []string
	err := conn.QueryRow(t.Context(), `SELECT array_agg(number ORDER BY id) FROM invoices`).Scan(&numbers)
	if want := "[ABC-0003 ABC-0001 ABC-0002 DEF-0001]"; err != nil || fmt.Sprint(numbers) != want {
		t.Errorf("numbers %v, %v; want %s", numbers, err, want)
	}
}

func TestNumbersGrowBeyondFourDigits(t *testing.T) {
	url := newDatabase(t)
	run(t, url)
	conn := connect(t, url)
	var numbers []string
	err := conn.QueryRow(t.Context(), `SELECT array_agg(`+numberExpression(t, conn)+`)
		FROM (VALUES ('A', 1::bigint), ('A', 9999), ('A', 10000), ('A', 123456789)) AS v (number_prefix, number_sequence)`).
		Scan(&numbers)
	if want := "[A-0001 A-9999 A-10000 A-123456789]"; err != nil || fmt.Sprint(numbers) != want {
		t.Errorf("numbers %v, %v; want %s", numbers, err, want)
	}
}

// numberExpression returns how invoices.number is generated.
func numberExpression(t *testing.T, conn connection) string {
	t.Helper()
	var expression string
	err := conn.QueryRow(t.Context(), `SELECT generation_expression FROM information_schema.columns
		WHERE table_name = 'invoices' AND column_name = 'number'`).Scan(&expression)
	if err != nil {
		t.Fatal(err)
	}
	return expression
}
