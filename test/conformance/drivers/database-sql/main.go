// Command program shows what an application sees of PostgreSQL through database/sql: a
// line of JSON per check. The tag pgx makes it use pgx instead of lib/pq.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	url    = os.Getenv("DATABASE_URL")
	number = os.Getenv("NUMBER")
	table  = "gosql_" + number
)

// check is a name and what is seen under it on a connection.
type check struct {
	name string
	run  func(context.Context, *sql.Conn) (any, error)
}

var checks = []check{
	{"driver", version},
	{"types", types},
	{"prepared", prepared},
	{"prepared-many", preparedMany},
	{"commit-and-rollback", commitAndRollback},
	{"savepoints", savepoints},
	{"failed-transaction", failedTransaction},
	{"errors", sqlErrors},
	{"copy", copyRows},
	{"cancel", cancel},
	{"listen", notifications},
	{"large", large},
	{"settings", settings},
	{"local-settings", localSettings},
	{"role", role},
	{"temporary-table", temporaryTable},
	{"advisory-lock", advisoryLock},
	{"cursors", cursors},
	{"altered-table", alteredTable},
	{"pool", pool},
}

func main() {
	ctx := context.Background()
	db, err := sql.Open(driverName, url)
	if err != nil {
		panic(err)
	}
	for _, c := range checks {
		saw, err := see(ctx, db, c)
		if err != nil {
			saw = fmt.Sprintf("%s %v", state(err), err)
		}
		line, err := json.Marshal(map[string]any{"check": c.name, "saw": saw})
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
	}
}

// see makes one check on the one connection that all share unless it broke.
func see(ctx context.Context, db *sql.DB, c check) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	db.SetMaxIdleConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return c.run(ctx, conn)
}

// state is the SQLSTATE that something has ended with.
func state(err error) string {
	if err == nil {
		return "00000"
	}
	if code, ok := sqlState(err); ok {
		return code
	}
	return err.Error()
}

// one is the single value of a query.
func one(ctx context.Context, conn *sql.Conn, query string, arguments ...any) string {
	var value sql.NullString
	if err := conn.QueryRowContext(ctx, query, arguments...).Scan(&value); err != nil {
		return state(err)
	}
	return value.String
}

func exec(ctx context.Context, conn *sql.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// ids are the ids in the table, below 1000.
func ids(ctx context.Context, conn *sql.Conn) string {
	return one(ctx, conn, "SELECT string_agg(id || note, ',' ORDER BY id) FROM "+table+" WHERE id < 1000")
}

func version(context.Context, *sql.Conn) (any, error) {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == driverModule {
			return fmt.Sprintf("database/sql with %s %s", strings.TrimPrefix(module.Path, "github.com/"), module.Version), nil
		}
	}
	return nil, errors.New("no driver")
}

func types(ctx context.Context, conn *sql.Conn) (any, error) {
	var seen []string
	for _, v := range []struct {
		value any
		name  string
	}{
		{1, "int4"}, {int64(-1 << 62), "int8"}, {"123456.789012345678901234567890", "numeric"}, {0.1, "float8"},
		{"ünï 'quoted' \\ \n", "text"}, {[]byte{0, 255, 92}, "bytea"}, {true, "bool"}, {nil, "text"},
		{time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC), "timestamptz"}, {"3 days 00:00:05", "interval"},
		{"00000000-0000-0000-0000-000000000007", "uuid"}, {`{"a": [1, null]}`, "jsonb"}, {"10.0.0.0/8", "cidr"},
	} {
		var back any
		if err := conn.QueryRowContext(ctx, "SELECT $1::"+v.name, v.value).Scan(&back); err != nil {
			return nil, err
		}
		seen = append(seen, fmt.Sprint(back))
	}
	return seen, nil
}

func prepared(ctx context.Context, conn *sql.Conn) (any, error) {
	statement, err := conn.PrepareContext(ctx, "SELECT $1::int4 + 1")
	if err != nil {
		return nil, err
	}
	defer statement.Close()
	var seen []int
	for i := range 12 {
		var sum int
		if err := statement.QueryRowContext(ctx, i).Scan(&sum); err != nil {
			return nil, err
		}
		seen = append(seen, sum)
	}
	return seen, nil
}

func preparedMany(ctx context.Context, conn *sql.Conn) (any, error) {
	total := 0
	for range 3 {
		for i := range 150 {
			var sum int
			if err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT $1::int4 + %d", i), i).Scan(&sum); err != nil {
				return nil, err
			}
			total += sum
		}
	}
	return total, nil
}

func commitAndRollback(ctx context.Context, conn *sql.Conn) (any, error) {
	if err := exec(ctx, conn, "CREATE TABLE "+table+" (id int PRIMARY KEY, note text)"); err != nil {
		return nil, err
	}
	for i, isolation := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelSerializable} {
		tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: isolation})
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES ($1, 'x')", i+1); err != nil {
			return nil, err
		}
		if i == 0 {
			err = tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			return nil, err
		}
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES (9, 'x')")
	return []string{ids(ctx, conn), state(err), state(tx.Rollback()), ids(ctx, conn)}, nil
}

func savepoints(ctx context.Context, conn *sql.Conn) (any, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	var seen []string
	for _, statement := range []string{
		"SAVEPOINT a", "INSERT INTO " + table + " VALUES (1, 'twice')", "SELECT 1", "ROLLBACK TO a",
		"INSERT INTO " + table + " VALUES (3, 'behind')",
	} {
		_, err := tx.ExecContext(ctx, statement)
		seen = append(seen, state(err))
	}
	seen = append(seen, state(tx.Commit()))
	return append(seen, ids(ctx, conn)), nil
}

func failedTransaction(ctx context.Context, conn *sql.Conn) (any, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	var seen []string
	for _, statement := range []string{"SELECT 1/0", "SELECT 1"} {
		_, err := tx.ExecContext(ctx, statement)
		seen = append(seen, state(err))
	}
	return append(seen, state(tx.Commit()), one(ctx, conn, "SELECT 1")), nil
}

func sqlErrors(ctx context.Context, conn *sql.Conn) (any, error) {
	var seen []string
	for _, query := range []string{
		"SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", "INSERT INTO " + table + " VALUES (1)",
		"INSERT INTO " + table + " VALUES (NULL)", "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
	} {
		_, err := conn.ExecContext(ctx, query)
		seen = append(seen, fmt.Sprint(state(err), strings.ReplaceAll(fmt.Sprint(err), number, "")))
	}
	return seen, nil
}

func copyRows(ctx context.Context, conn *sql.Conn) (any, error) {
	var rows [][]any
	for i := range 5000 {
		rows = append(rows, []any{1000 + i, "copied"})
	}
	seen := []string{state(copyIn(ctx, conn, table, rows))}
	seen = append(seen, one(ctx, conn, "SELECT count(*) || ' ' || sum(id) FROM "+table+" WHERE id >= 1000"))
	return append(seen, state(copyIn(ctx, conn, table, rows[:1])), one(ctx, conn, "SELECT 1")), nil
}

func cancel(ctx context.Context, conn *sql.Conn) (any, error) {
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err := conn.ExecContext(short, "SELECT pg_sleep(60)")
	return err != nil, nil // which error is a race between the client's clock and the answer
}

func notifications(ctx context.Context, conn *sql.Conn) (any, error) {
	return listen(ctx, url, table, 2, func() error {
		return exec(ctx, conn, "NOTIFY "+table+", 'one'", "SELECT pg_notify('"+table+"', 'two')")
	})
}

func large(ctx context.Context, conn *sql.Conn) (any, error) {
	rows, err := conn.QueryContext(ctx, "SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	count, bytes := 0, 0
	for rows.Next() {
		var i int
		var text string
		if err := rows.Scan(&i, &text); err != nil {
			return nil, err
		}
		count++
		bytes += len(text)
	}
	return []int{count, bytes, len(one(ctx, conn, "SELECT $1::text", strings.Repeat("y", 5_000_000)))}, rows.Err()
}

func settings(ctx context.Context, conn *sql.Conn) (any, error) {
	mine := map[string]string{"1": "Asia/Tokyo", "2": "America/New_York"}[number]
	if err := exec(ctx, conn,
		"CREATE SCHEMA s"+number, "CREATE TABLE s"+number+".mine AS SELECT "+number+" AS number",
		"SET search_path = s"+number+", public", "SET TimeZone = '"+mine+"'"); err != nil {
		return nil, err
	}
	seen := []string{one(ctx, conn, "SELECT set_config('app.tenant', $1, false) = $1", number)}
	for range 40 {
		row := one(ctx, conn, "SELECT (SELECT number FROM mine) || current_setting('TimeZone') || current_setting('app.tenant')")
		if ok := fmt.Sprint(row == number+mine+number); !slices.Contains(seen, ok) {
			seen = append(seen, ok)
		}
	}
	return seen, nil
}

func localSettings(ctx context.Context, conn *sql.Conn) (any, error) {
	var seen []string
	for _, statements := range [][]string{
		{"BEGIN", "SET LOCAL statement_timeout = '7s'", "", "COMMIT", ""},
		{"BEGIN", "SET statement_timeout = '8s'", "", "ROLLBACK", ""},
	} {
		for _, statement := range statements {
			if statement == "" {
				seen = append(seen, one(ctx, conn, "SHOW statement_timeout"))
			} else if err := exec(ctx, conn, statement); err != nil {
				return nil, err
			}
		}
	}
	return seen, nil
}

func role(ctx context.Context, conn *sql.Conn) (any, error) {
	err := exec(ctx, conn, "SET ROLE other")
	seen := []string{state(err), one(ctx, conn, "SELECT current_user"), one(ctx, conn, "SELECT current_user")}
	err = exec(ctx, conn, "RESET ROLE")
	return append(seen, state(err), one(ctx, conn, "SELECT current_user")), nil
}

func temporaryTable(ctx context.Context, conn *sql.Conn) (any, error) {
	err := exec(ctx, conn, "CREATE TEMPORARY TABLE scratch (id int)", "INSERT INTO scratch VALUES (1)", "INSERT INTO scratch VALUES (2)")
	return []string{state(err), one(ctx, conn, "SELECT sum(id) FROM scratch"), state(exec(ctx, conn, "DROP TABLE scratch"))}, nil
}

func advisoryLock(ctx context.Context, conn *sql.Conn) (any, error) {
	var seen []string
	for _, call := range []string{"try_advisory_lock", "try_advisory_lock", "advisory_unlock", "advisory_unlock", "advisory_unlock"} {
		seen = append(seen, one(ctx, conn, "SELECT pg_"+call+"($1)", number))
	}
	return seen, nil
}

func cursors(ctx context.Context, conn *sql.Conn) (any, error) {
	if err := exec(ctx, conn, "DECLARE held CURSOR WITH HOLD FOR SELECT * FROM generate_series(1, 100)"); err != nil {
		return nil, err
	}
	var seen []int
	for range 2 {
		rows, err := conn.QueryContext(ctx, "FETCH 60 FROM held")
		if err != nil {
			return nil, err
		}
		count := 0
		for rows.Next() {
			count++
		}
		seen = append(seen, count)
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return seen, exec(ctx, conn, "CLOSE held")
}

func alteredTable(ctx context.Context, conn *sql.Conn) (any, error) {
	name := table + "_altered"
	if err := exec(ctx, conn, "CREATE TABLE "+name+" (a int)", "INSERT INTO "+name+" VALUES (1)"); err != nil {
		return nil, err
	}
	columns := func() string {
		rows, err := conn.QueryContext(ctx, "SELECT * FROM "+name)
		if err != nil {
			return state(err)
		}
		defer rows.Close()
		names, err := rows.Columns()
		for rows.Next() {
		}
		return fmt.Sprint(names, state(err), state(rows.Err()))
	}
	seen := []string{columns()}
	if err := exec(ctx, conn, "ALTER TABLE "+name+" ADD b text DEFAULT 'new'"); err != nil {
		return nil, err
	}
	return append(seen, columns(), columns()), nil
}

// pool uses several connections as servers do.
func pool(ctx context.Context, _ *sql.Conn) (any, error) {
	db, err := sql.Open(driverName, url)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(5)
	var clients sync.WaitGroup
	seen := make([]string, 40)
	for i := range seen {
		clients.Go(func() {
			var sum int
			err := db.QueryRowContext(ctx, "SELECT $1::int4 + 1", i).Scan(&sum)
			seen[i] = fmt.Sprint(sum, state(err))
		})
	}
	clients.Wait()
	return seen, nil
}
