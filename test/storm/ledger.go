package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// serviceTime is how long PostgreSQL works on an operation. It sleeps, so that capacity
// is a number of servers and not what clients and poolers leave of the processor.
const serviceTime = 8 * time.Millisecond

// The statements of an operation. The gated one lets as many work at a time as a pool has
// servers, for clients that come without a pooler: the others wait inside PostgreSQL.
var (
	plainStatement = fmt.Sprintf("INSERT INTO storm.execution (operation, began) VALUES ($1, clock_timestamp()) RETURNING id, pg_sleep(%g)",
		serviceTime.Seconds())
	gatedStatement = "SELECT storm.gated_charge($1)"
)

// tagged is a statement with a comment for the database, in sqlcommenter's form: a pooler
// that wants to know that this is a retry has to find out for itself.
// See https://google.github.io/sqlcommenter/spec/
func tagged(statement string, critical bool, attempt int) string {
	priority := ""
	if critical {
		priority = "priority='critical',"
	}
	return fmt.Sprintf("%s /*%stry='%d'*/", statement, priority, attempt)
}

// The sequence counts what was begun, also what is rolled back. The number of the attempt
// is the last thing in the statement but for four signs. No table is logged, so that no
// operation waits for the disk.
const ledgerSchema = `
CREATE SCHEMA storm;
CREATE UNLOGGED SEQUENCE storm.begun;
CREATE UNLOGGED TABLE storm.execution (
	id bigint DEFAULT nextval('storm.begun'),
	operation bigint,
	attempt integer DEFAULT left(right(current_query(), 4), 1)::integer,
	began timestamptz
);
CREATE UNLOGGED TABLE storm.abandonment (operation bigint, attempt integer, at timestamptz);
CREATE FUNCTION storm.gated_charge(number bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	execution bigint;
BEGIN
	PERFORM pg_advisory_xact_lock(number %% %[2]d);
	INSERT INTO storm.execution (operation, began) VALUES (number, clock_timestamp()) RETURNING id INTO execution;
	PERFORM pg_sleep(%[1]g);
	RETURN execution;
END $$;
`

// ledger is what PostgreSQL knows of the operations.
type ledger struct{ conn *pgx.Conn }

// account is what a run has cost PostgreSQL.
type account struct {
	Begun    int64 `json:"begun"`    // executions, also those that were cut off
	Ended    int64 `json:"ended"`    // executions that were committed
	Unique   int64 `json:"unique"`   // operations that were executed at least once
	ForGone  int64 `json:"for_gone"` // executions that began when their client had gone
	Sessions int64 `json:"sessions"` // of clients and poolers
}

// newLedger makes the tables and functions.
func newLedger(ctx context.Context, conn *pgx.Conn, gates int) (*ledger, error) {
	_, err := conn.Exec(ctx, fmt.Sprintf(ledgerSchema, serviceTime.Seconds(), gates))
	return &ledger{conn}, err
}

// reset ends what an earlier target has left on the server and forgets it.
func (l *ledger) reset(ctx context.Context) error {
	for _, statement := range []string{
		`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`,
		"TRUNCATE storm.execution, storm.abandonment",
		"ALTER SEQUENCE storm.begun RESTART",
		"SELECT pg_stat_reset()",
	} {
		if _, err := l.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// begun is how many executions have begun.
func (l *ledger) begun(ctx context.Context) (n int64, err error) {
	err = l.conn.QueryRow(ctx, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM storm.begun").Scan(&n)
	return n, err
}

// settle compares what clients gave up with what was executed until the end of the run.
// The target has been stopped.
func (l *ledger) settle(ctx context.Context, log *runLog) (*account, error) {
	abandoned := pgx.CopyFromSlice(len(log.abandoned), func(i int) ([]any, error) {
		a := log.abandoned[i]
		return []any{a.operation, a.attempt, log.start.Add(a.at)}, nil
	})
	columns := []string{"operation", "attempt", "at"}
	if _, err := l.conn.CopyFrom(ctx, pgx.Identifier{"storm", "abandonment"}, columns, abandoned); err != nil {
		return nil, fmt.Errorf("write down what was abandoned: %w", err)
	}
	a := new(account)
	err := l.conn.QueryRow(ctx, `
		SELECT count(*), count(DISTINCT operation), count(*) FILTER (WHERE at < began)
		FROM storm.execution LEFT JOIN storm.abandonment USING (operation, attempt)
		WHERE began < $1`, log.start.Add(log.end)).Scan(&a.Ended, &a.Unique, &a.ForGone)
	if err != nil {
		return nil, fmt.Errorf("count the executions: %w", err)
	}
	err = l.conn.QueryRow(ctx, "SELECT sessions FROM pg_stat_database WHERE datname = current_database()").Scan(&a.Sessions)
	return a, err
}
