package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// neighbours keeps two other clients busy on the same servers, so that a client that
// relies on a server of its own is found out.
func neighbours(t *testing.T, p *proxyProcess, d *database) {
	t.Helper()
	ctx, cancel := context.WithCancel(patient(t))
	var done []chan struct{}
	for i := range 2 {
		conn := p.connect(t, d, "application_name", fmt.Sprintf("neighbour %d", i))
		finished := make(chan struct{})
		done = append(done, finished)
		go func() {
			defer close(finished)
			for n := 0; ctx.Err() == nil; n++ {
				var got int
				if err := conn.QueryRow(ctx, "select $1::int + $2", n, i).Scan(&got); ctx.Err() == nil && (err != nil || got != n+i) {
					t.Errorf("neighbour %d: got %d, %v; want %d", i, got, err, n+i)
					return
				}
			}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for _, finished := range done {
			<-finished
		}
	})
}

// TestPGX uses the driver's ways to run statements, in each of its modes.
func TestPGX(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	neighbours(t, p, d)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			conn := p.connect(t, d, "default_query_exec_mode", mode)
			d.execAsRole(t, "create table note_"+mode+" (id int primary key, body text, data bytea)")
			t.Run("queries", func(t *testing.T) { testQueries(t, conn) })
			t.Run("batch", func(t *testing.T) { testBatch(t, conn, "note_"+mode) })
			t.Run("savepoints", func(t *testing.T) { testSavepoints(t, conn, "note_"+mode) })
			t.Run("copy from", func(t *testing.T) { testCopyFrom(t, conn, "note_"+mode) })
		})
	}
	t.Run("pipeline", func(t *testing.T) { testPipeline(t, p.connect(t, d)) })
	t.Run("prepare by name", func(t *testing.T) { testPrepare(t, p.connect(t, d)) })
}

func testQueries(t *testing.T, conn *pgx.Conn) {
	ctx := patient(t)
	for i := range 20 {
		var n int
		var text string
		var list []int32
		err := conn.QueryRow(ctx, "select $1::int, $2::text, $3::int[]", i, secretMarker, []int32{1, 2, int32(i)}).Scan(&n, &text, &list)
		if err != nil || n != i || text != secretMarker || !slices.Equal(list, []int32{1, 2, int32(i)}) {
			t.Fatalf("got %d, %q, %v, %v for %d", n, text, list, err, i)
		}
		var failure *pgconn.PgError
		if _, err := conn.Exec(ctx, "select 1 / $1::int", i%2); i%2 == 0 && (!errors.As(err, &failure) || failure.Code != "22012") || i%2 == 1 && err != nil {
			t.Fatalf("division by %d: %v", i%2, err)
		}
	}
	rows, err := conn.Query(ctx, "select i, repeat('r', i) from generate_series(1, $1::int) as i", 1000)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for rows.Next() {
		var i int
		var text string
		if err := rows.Scan(&i, &text); err != nil || i != count+1 || len(text) != i {
			t.Fatalf("row %d: %d, %d characters, %v", count, i, len(text), err)
		}
		count++
	}
	if rows.Err() != nil || count != 1000 {
		t.Fatalf("%d rows, %v", count, rows.Err())
	}
}

func testBatch(t *testing.T, conn *pgx.Conn, table string) {
	ctx := patient(t)
	batch := new(pgx.Batch)
	for i := range 50 {
		batch.Queue("insert into "+table+" values ($1, $2)", i, fmt.Sprint("note ", i))
		batch.Queue("select $1::int * 2", i).QueryRow(func(row pgx.Row) error {
			var n int
			if err := row.Scan(&n); err != nil || n != 2*i {
				return fmt.Errorf("got %d, %w for %d", n, err, 2*i)
			}
			return nil
		})
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
	// A batch is one transaction: an error undoes all of it.
	failing := new(pgx.Batch)
	failing.Queue("delete from " + table)
	failing.Queue("select 1 / $1::int", 0)
	failing.Queue("delete from " + table)
	var failure *pgconn.PgError
	if err := conn.SendBatch(ctx, failing).Close(); !errors.As(err, &failure) || failure.Code != "22012" {
		t.Fatalf("failing batch: %v", err)
	}
	var count int
	if err := conn.QueryRow(ctx, "select count(*) from "+table).Scan(&count); err != nil || count != 50 {
		t.Fatalf("%d rows, %v; want 50", count, err)
	}
}

func testSavepoints(t *testing.T, conn *pgx.Conn, table string) {
	ctx := patient(t)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into "+table+" values (100, 'outer')"); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, "insert into "+table+" values (100, 'duplicate')")
			return err
		})
		var failure *pgconn.PgError
		if !errors.As(err, &failure) || failure.Code != "23505" {
			return fmt.Errorf("savepoint: %w", err)
		}
		return pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, "insert into "+table+" values (101, 'inner')")
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "select body from "+table+" where id >= 100 order by id")
	if err != nil {
		t.Fatal(err)
	}
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Equal(bodies, []string{"outer", "inner"}) {
		t.Fatalf("%v, %v", bodies, err)
	}
}

func testCopyFrom(t *testing.T, conn *pgx.Conn, table string) {
	ctx := patient(t)
	const rowCount = 2000
	source := pgx.CopyFromSlice(rowCount, func(i int) ([]any, error) {
		return []any{1000 + i, strings.Repeat("c", i%100), []byte{0, 'x', byte(i)}}, nil
	})
	if n, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "body", "data"}, source); err != nil || n != rowCount {
		t.Fatalf("copied %d rows, %v", n, err)
	}
	var bytes, characters int
	err := conn.QueryRow(ctx, "select sum(get_byte(data, 2)), sum(length(body)) from "+table+" where id >= 1000").Scan(&bytes, &characters)
	wantBytes, wantCharacters := 0, 0
	for i := range rowCount {
		wantBytes += i % 256
		wantCharacters += i % 100
	}
	if err != nil || bytes != wantBytes || characters != wantCharacters {
		t.Fatalf("%d, %d, %v; want %d, %d", bytes, characters, err, wantBytes, wantCharacters)
	}
	// The source fails in the middle: the driver sends CopyFail.
	broken := pgx.CopyFromFunc(func() ([]any, error) { return nil, errors.New("source broke") })
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id"}, broken); err == nil || !strings.Contains(err.Error(), "source broke") {
		t.Fatalf("broken source: %v", err)
	}
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id"}, pgx.CopyFromRows([][]any{{1000}})); err == nil {
		t.Fatal("a duplicate was copied")
	}
	if _, err := conn.Exec(ctx, "select 1"); err != nil {
		t.Fatalf("after a failed copy: %v", err)
	}
}

func testPipeline(t *testing.T, conn *pgx.Conn) {
	ctx := patient(t)
	pipeline := conn.PgConn().StartPipeline(ctx)
	const groups, perGroup = 20, 5
	for group := range groups {
		for i := range perGroup {
			sql := "select $1::int"
			if group%4 == 3 && i == 2 {
				sql = "select 1 / ($1::int - $1::int)"
			}
			pipeline.SendQueryParams(sql, [][]byte{[]byte(fmt.Sprint(group*perGroup + i))}, nil, nil, nil)
		}
		if err := pipeline.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for group := range groups {
		for i := range perGroup {
			results, err := pipeline.GetResults()
			if group%4 == 3 && i == 2 {
				// The error ends the group: the rest of it is skipped.
				reader, ok := results.(*pgconn.ResultReader)
				if err == nil && ok {
					_, err = reader.Close()
				}
				var failure *pgconn.PgError
				if !errors.As(err, &failure) || failure.Code != "22012" {
					t.Fatalf("group %d: %v", group, err)
				}
				break
			}
			reader, ok := results.(*pgconn.ResultReader)
			if err != nil || !ok {
				t.Fatalf("group %d, query %d: %T, %v", group, i, results, err)
			}
			result := reader.Read()
			if want := fmt.Sprint(group*perGroup + i); result.Err != nil || len(result.Rows) != 1 || string(result.Rows[0][0]) != want {
				t.Fatalf("got %q, %v; want %s", result.Rows, result.Err, want)
			}
		}
		results, err := pipeline.GetResults()
		if _, ok := results.(*pgconn.PipelineSync); !ok || err != nil {
			t.Fatalf("end of group %d: %T, %v", group, results, err)
		}
	}
	if err := pipeline.Close(); err != nil {
		t.Fatal(err)
	}
}

func testPrepare(t *testing.T, conn *pgx.Conn) {
	ctx := patient(t)
	for round := range 5 {
		statement, err := conn.Prepare(ctx, "lookup", fmt.Sprintf("select $1::int + %d", round))
		if err != nil || len(statement.ParamOIDs) != 1 {
			t.Fatalf("prepare: %v", err)
		}
		for i := range 5 {
			var n int
			if err := conn.QueryRow(ctx, "lookup", i).Scan(&n); err != nil || n != i+round {
				t.Fatalf("got %d, %v; want %d", n, err, i+round)
			}
		}
		if err := conn.Deallocate(ctx, "lookup"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPGXContext ends a query by its context, in the driver's two ways: closing the
// connection, or asking the server to cancel and keeping it.
func TestPGXContext(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	var first int
	if err := p.connect(t, d).QueryRow(patient(t), "select pg_backend_pid()").Scan(&first); err != nil {
		t.Fatal(err)
	}
	cancelled := func(conn *pgx.Conn) error {
		t.Helper()
		g := newGate(t, d)
		ctx, cancel := context.WithCancel(patient(t))
		result := make(chan error, 1)
		go func() {
			_, err := conn.Exec(ctx, "select "+g.call())
			result <- err
		}()
		g.await(t, 1)
		cancel()
		err := <-result
		g.await(t, 0)
		return err
	}

	conn := p.connect(t, d)
	if err := cancelled(conn); !errors.Is(err, context.Canceled) || !conn.IsClosed() {
		t.Errorf("closing handler: %v, closed: %v", err, conn.IsClosed())
	}

	config, err := pgx.ParseConfig(p.url(d))
	if err != nil {
		t.Fatal(err)
	}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: patience}
	}
	conn, err = pgx.ConnectConfig(patient(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(patient(t))
	var failure *pgconn.PgError
	if err := cancelled(conn); !errors.As(err, &failure) || failure.Code != "57014" || conn.IsClosed() {
		t.Errorf("cancelling handler: %v, closed: %v", err, conn.IsClosed())
	}
	var pid int
	if err := conn.QueryRow(patient(t), "select pg_backend_pid()").Scan(&pid); err != nil || pid != first {
		t.Errorf("after the cancel: backend %d, %v; want still %d", pid, err, first)
	}
}
