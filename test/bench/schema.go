package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

const (
	// schemaRows is large enough that a type change takes a moment.
	schemaRows = 20_000
	// schemaSteps is the changes in one run.
	schemaSteps = 5
	// schemaSeconds is the shortest run.
	schemaSeconds = 3
	// schemaPgbenchClients is pgbench's; each ends at its first error.
	schemaPgbenchClients = 8
	// schemaPgxClients is the connections in each of pgx's modes.
	schemaPgxClients = 2
)

// schemaChange is a statement that operators run under load, on a direct connection.
type schemaChange struct {
	name string
	// statement makes change number step, from 0, to the table.
	statement func(table string, step int) string
}

var schemaChanges = []schemaChange{
	{"ALTER TABLE … ADD COLUMN", func(table string, step int) string {
		return fmt.Sprintf("ALTER TABLE %s ADD COLUMN added_%d integer", table, step)
	}},
	{"CREATE INDEX", func(table string, step int) string {
		return fmt.Sprintf("CREATE INDEX ON %s (amount, id)", table)
	}},
	{"ALTER TABLE … ALTER COLUMN … TYPE", func(table string, step int) string {
		return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN amount TYPE %s", table, []string{"bigint", "integer"}[step%2])
	}},
}

// schemaClient is a way to run a statement again and again.
type schemaClient struct {
	name string
	// knowsShape is true for clients that were told the columns before they executed:
	// PostgreSQL's own error is then the only right answer to a change of columns.
	knowsShape bool
	mode       pgx.QueryExecMode
}

const schemaPgbench = "pgbench -M prepared"

var schemaPgxModes = []schemaClient{
	{"pgx, simple protocol", false, pgx.QueryExecModeSimpleProtocol},
	{"pgx, exec", false, pgx.QueryExecModeExec},
	{"pgx, describe exec", true, pgx.QueryExecModeDescribeExec},
	{"pgx, cache describe", true, pgx.QueryExecModeCacheDescribe},
	{"pgx, cache statement", true, pgx.QueryExecModeCacheStatement},
}

// runSchema changes a table while clients of every kind use it, and counts the errors
// they see. What PostgreSQL does to direct clients is the reference.
func (b *bench) runSchema(ctx context.Context) error {
	for i, change := range schemaChanges {
		for j, t := range b.targets {
			if t.ReadsOnly {
				continue
			}
			if err := b.measureSchema(ctx, t, change, fmt.Sprintf("schema_%d_%d", i, j)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) measureSchema(ctx context.Context, t *rig.Target, change schemaChange, table string) error {
	for _, statement := range []string{
		"CREATE TABLE " + table + " (id integer PRIMARY KEY, amount integer NOT NULL, note text)",
		"INSERT INTO " + table + " SELECT i, i, 'row ' || i FROM generate_series(1, " + strconv.Itoa(schemaRows) + ") i",
		"ANALYZE " + table,
	} {
		if _, err := b.rig.Admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	read := "SELECT * FROM " + table + " WHERE id = "
	script := filepath.Join(b.rig.Dir, table+".sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, "\\set id random(1, %d)\n%s:id;\nUPDATE %s SET amount = amount + 1 WHERE id = :id;\n",
		schemaRows, read, table), 0o644); err != nil {
		return err
	}
	seconds := max(b.options.seconds, schemaSeconds)
	stopping := make(chan struct{})
	counts := make([]clientCount, len(schemaPgxModes))
	var clients sync.WaitGroup
	for i, client := range schemaPgxModes {
		for range schemaPgxClients {
			clients.Go(func() { counts[i].repeat(ctx, t, client.mode, read+"$1", stopping) })
		}
	}
	changed := make(chan error, 1)
	clients.Go(func() {
		changed <- b.changeSchema(ctx, change, table, time.Duration(seconds)*time.Second/(schemaSteps+1))
	})
	result, err := b.pgbench(ctx, t, load{
		protocol: "prepared", clients: schemaPgbenchClients, script: []string{"-f", script}, sampling: readSampling,
	}, seconds)
	changeErr := <-changed
	close(stopping)
	clients.Wait()
	if err := errors.Join(err, changeErr); err != nil {
		return err
	}
	b.addSchema(t, change, schemaMeasurement{Client: schemaPgbench, Transactions: result.transactions, Errors: pgbenchErrors(result)})
	for i, client := range schemaPgxModes {
		b.addSchema(t, change, schemaMeasurement{
			Client: client.name, KnowsShape: client.knowsShape,
			Transactions: int(counts[i].transactions.Load()), Errors: counts[i].errors,
		})
	}
	if _, ended := t.Ended(); ended || result.outcome == page.Hangs {
		return b.recover(ctx, t)
	}
	return nil
}

func (b *bench) addSchema(t *rig.Target, change schemaChange, m schemaMeasurement) {
	m.Target, m.Change = t.Name, change.name
	b.results.Schema = append(b.results.Schema, m)
	b.say("%-22s %-10s %s, %s: %d transactions, errors: %s", workSchema, t.Name, m.Change, m.Client, m.Transactions, page.Tally(m.Errors))
}

// changeSchema makes the changes, an interval before each.
func (b *bench) changeSchema(ctx context.Context, change schemaChange, table string, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for step := range schemaSteps {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		statement := change.statement(table, step)
		if _, err := b.rig.Admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// clientCount is what the clients of one mode saw.
type clientCount struct {
	transactions atomic.Int64

	// Guarded by mu.
	mu     sync.Mutex
	errors map[string]int // by SQLSTATE, or what happened on the client
}

// repeat is one client: it goes on after errors, on a new connection if it must.
func (c *clientCount) repeat(ctx context.Context, t *rig.Target, mode pgx.QueryExecMode, query string, stopping <-chan struct{}) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for id := 1; ; id = id%schemaRows + 1 {
		select {
		case <-stopping:
			return
		case <-ctx.Done():
			return
		default:
		}
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.Connect(ctx, t.URL()); err != nil {
				c.count(err, true)
				return
			}
		}
		if err := readRow(ctx, conn, query, mode, id); err != nil {
			if ctx.Err() == nil {
				c.count(err, conn.IsClosed())
			}
			continue
		}
		c.transactions.Add(1)
	}
}

// readRow decodes what it reads: a client may fail on rows that are not as it was told.
func readRow(ctx context.Context, conn *pgx.Conn, query string, mode pgx.QueryExecMode, id int) error {
	rows, err := conn.Query(ctx, query, mode, id)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if _, err := rows.Values(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// count enters an error of a connection under what the client can know of it.
func (c *clientCount) count(err error, closed bool) {
	state := "undecodable"
	if serverErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		state = serverErr.Code
	} else if closed {
		state = "no answer"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = make(map[string]int)
	}
	c.errors[state]++
}

// clientAborted is what pgbench prints about a client that ends at an error.
var clientAborted = regexp.MustCompile(`(?m)^pgbench: error: client \d+ .*aborted.*?(?:(?:ERROR|FATAL): +(.*))?$`)

// sqlstates are the SQLSTATEs of the messages that pgbench, which prints no codes, is
// known to get.
var sqlstates = map[string]string{
	"cached plan must not change result type": "0A000",
}

// pgbenchErrors counts the clients that ended.
func pgbenchErrors(result *pgbenchResult) map[string]int {
	counts := make(map[string]int)
	if result.outcome == page.Hangs {
		return map[string]int{string(page.Hangs): schemaPgbenchClients}
	}
	for _, match := range clientAborted.FindAllStringSubmatch(result.complaints, -1) {
		state, known := sqlstates[match[1]]
		switch {
		case known:
		case match[1] == "":
			state = "no answer"
		default:
			state = match[1]
		}
		counts[state]++
	}
	if len(counts) == 0 && result.outcome == page.Fails {
		counts[result.note]++
	}
	return counts
}
