package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
)

// operator runs every command of the console in these tests. PostgreSQL has no such role.
const operator = "operator"

// console opens a connection to the console.
func (p *proxyProcess) console(t testing.TB, user string, parameters ...string) *pgx.Conn {
	t.Helper()
	return connect(t, databaseURL(p.address, user, "pgbouncer", parameters...))
}

// startConsole runs a proxy that has an operator.
func startConsole(t testing.TB, changes settings) (*proxyProcess, *pgx.Conn) {
	t.Helper()
	env := settings{"ADMIN_USERS": operator}
	for name, value := range changes {
		env[name] = value
	}
	p := startProxy(t, shared.cluster, env)
	return p, p.console(t, operator)
}

// show returns the rows of a SHOW command.
func show(t testing.TB, conn *pgx.Conn, what string) []map[string]any {
	t.Helper()
	rows, err := conn.Query(patient(t), "SHOW "+what)
	if err != nil {
		t.Fatalf("SHOW %s: %v", what, err)
	}
	table, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatalf("SHOW %s: %v", what, err)
	}
	return table
}

// showOne returns the row in which a column has that value.
func showOne(t testing.TB, conn *pgx.Conn, what, column string, value any) map[string]any {
	t.Helper()
	table := show(t, conn, what)
	for _, row := range table {
		if fmt.Sprint(row[column]) == fmt.Sprint(value) {
			return row
		}
	}
	t.Fatalf("SHOW %s has no %s %v: %v", what, column, value, table)
	return nil
}

// operate runs a command.
func operate(t testing.TB, conn *pgx.Conn, command string) {
	t.Helper()
	if tag, err := conn.Exec(patient(t), command); err != nil || tag.String() != strings.Fields(command)[0] {
		t.Fatalf("%s: %q, %v", command, tag, err)
	}
}

// consoleTables are all that the console shows.
var consoleTables = []string{
	"CLIENTS", "SERVERS", "POOLS", "DATABASES", "USERS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "LISTS", "CONFIG", "STATE", "MEM", "VERSION",
	"SHED", "STORMS",
}

// TestConsoleDrivers reads every table with pgx in each of its modes, and with
// database/sql.
func TestConsoleDrivers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p, _ := startConsole(t, nil)
	client := p.connect(t, d, "application_name", "billing")
	if err := client.Ping(patient(t)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			conn := p.console(t, operator, "default_query_exec_mode", mode, "application_name", "monitor_"+mode)
			for range 2 { // the second time with what was prepared
				for _, table := range consoleTables {
					if len(show(t, conn, table)) == 0 {
						t.Errorf("SHOW %s has no rows", table)
					}
				}
			}
			if err := conn.Ping(patient(t)); err != nil {
				t.Errorf("ping: %v", err)
			}
			me := showOne(t, conn, "CLIENTS", "application_name", "monitor_"+mode)
			if me["database"] != "pgbouncer" || me["user"] != operator || me["id"] != int32(conn.PgConn().PID()) {
				t.Errorf("the client is shown as %v", me)
			}
			at, err := time.Parse("2006-01-02 15:04:05", me["connect_time"].(string)[:19])
			if err != nil || at.Before(time.Now().Add(-48*time.Hour)) {
				t.Errorf("connected at %v, %v", me["connect_time"], err)
			}
			other := showOne(t, conn, "CLIENTS", "application_name", "billing")
			local := client.PgConn().Conn().LocalAddr().String()
			if got := fmt.Sprintf("%s:%d", other["addr"], other["port"]); got != local || fmt.Sprintf("%s:%d", other["local_addr"], other["local_port"]) != p.address {
				t.Errorf("the client at %s is shown as %v", local, other)
			}
			var pid int32
			if err := client.QueryRow(patient(t), "select client_port from pg_stat_activity where pid = pg_backend_pid()").Scan(&pid); err != nil {
				t.Fatal(err)
			}
			if server := showOne(t, conn, "SERVERS", "local_port", pid); server["database"] != d.name || server["state"] != "idle" {
				t.Errorf("the server is shown as %v", server)
			}
			var failure *pgconn.PgError
			if _, err := conn.Exec(patient(t), "SHOW nothing"); !errors.As(err, &failure) || failure.Code != "42601" {
				t.Errorf("SHOW nothing: %v", err)
			}
			if tx, err := conn.Begin(patient(t)); err != nil {
				t.Errorf("begin: %v", err)
			} else if _, err := tx.Exec(patient(t), "SHOW STATE"); err != nil || tx.Commit(patient(t)) != nil {
				t.Errorf("in a transaction: %v", err)
			}
		})
	}
	t.Run("database/sql", func(t *testing.T) {
		config, err := pgx.ParseConfig(databaseURL(p.address, operator, "billproxy"))
		if err != nil {
			t.Fatal(err)
		}
		db := stdlib.OpenDB(*config)
		defer db.Close()
		var name string
		var count int64
		rows, err := db.QueryContext(patient(t), "SHOW TOTALS")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(&name, &count); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(rows.Err(), db.PingContext(patient(t))); err != nil || name != "avg_client_login_count" {
			t.Errorf("the last is %s, %v", name, err)
		}
		if _, err := db.ExecContext(patient(t), "RECONNECT"); err != nil {
			t.Error(err)
		}
		var setting sql.NullString
		if err := db.QueryRowContext(patient(t), "SHOW client_encoding").Scan(&setting); err != nil || setting.String != "UTF8" {
			t.Errorf("%v, %v", setting, err)
		}
	})
}

// TestConsolePSQL has psql print tables.
func TestConsolePSQL(t *testing.T) {
	t.Parallel()
	p, _ := startConsole(t, nil)
	cmd := program(t, "psql", "-XAt", "-d", databaseURL(p.address, operator, "pgbouncer"))
	cmd.Stdin = strings.NewReader("show state;\nSHOW VERSION \\; SHOW TIMEZONE;\n\\gset\nSHOW HELP;\n\\x\nSHOW STATE;\nSHOW FDS;\n")
	var printed, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &complaints
	if err := cmd.Run(); err != nil {
		t.Errorf("psql: %v", err)
	}
	for _, want := range []string{"active|yes\npaused|no\nsuspended|no\nPgBouncer ", "key|active\nvalue|yes\n"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("psql printed\n%s\nwithout\n%s", &printed, want)
		}
	}
	for _, want := range []string{"NOTICE:  Console usage", "KILL_CLIENT id", "SHOW FDS is not supported"} {
		if !strings.Contains(complaints.String(), want) {
			t.Errorf("psql printed\n%s\nwithout\n%s", &complaints, want)
		}
	}
}

// TestConsoleExporter sends what pgbouncer_exporter and others do, and reads what they
// need.
func TestConsoleExporter(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p, _ := startConsole(t, nil)
	conn := p.console(t, operator, "default_query_exec_mode", "simple_protocol")
	client := loginWire(t, p.address, d)
	client.usable(t)
	number := func(value any) float64 { // of a text
		t.Helper()
		n, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		if err != nil {
			t.Errorf("%v is no number", value)
		}
		return n
	}
	lists := map[string]float64{}
	for _, row := range show(t, conn, "LISTS;") {
		lists[row["list"].(string)] = number(row["items"])
	}
	for _, name := range []string{"databases", "users", "pools", "free_clients", "used_clients", "login_clients", "free_servers", "used_servers", "dns_names", "dns_zones", "dns_queries"} {
		if _, ok := lists[name]; !ok {
			t.Errorf("SHOW LISTS has no %s", name)
		}
	}
	if lists["used_clients"] != 3 || lists["free_servers"]+lists["used_servers"] != 1 {
		t.Errorf("lists: %v", lists)
	}
	for _, key := range []string{"max_client_conn", "max_user_connections"} {
		number(showOne(t, conn, "CONFIG;", "key", key)["value"])
	}
	stats := showOne(t, conn, "STATS_TOTALS", "database", d.name)
	for _, name := range []string{"query_count", "xact_count", "bytes_received", "bytes_sent", "query_time", "server_assignment_count", "client_login_count"} {
		value, ok := stats[name].(pgtype.Numeric)
		if n, err := value.Int64Value(); !ok || err != nil || n.Int64 < 1 {
			t.Errorf("%s is %v, %v", name, stats[name], err)
		}
	}
}

// pins are statements that keep a client on its server, and those that free it.
var pins = []struct{ pin, reason, unpin string }{
	{"create temporary table scratch (i int)", "temporary objects", "drop table scratch"},
	{"listen news", "LISTEN", "unlisten news"},
	{"select pg_advisory_lock(1)", "advisory locks", "select pg_advisory_unlock(1)"},
	{"begin; declare c cursor with hold for select 1; commit", "cursors WITH HOLD", "close c"},
	{"prepare p as select 1", "PREPARE", "deallocate p"},
	{"select setseed(0.5)", "seed of random()", ""},
	{"load 'plpgsql'", "LOAD", ""},
}

// TestConsolePinReason shows why a client keeps its server, until it does no more.
func TestConsolePinReason(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(t, "alter role "+d.role+" superuser") // LOAD
	p, console := startConsole(t, nil)
	for _, test := range pins {
		t.Run(test.reason, func(t *testing.T) {
			w := loginWire(t, p.address, d)
			shown := func(want string) {
				t.Helper()
				eventually(t, "the client is pinned by "+strconv.Quote(want), func() bool {
					return showOne(t, console, "CLIENTS", "id", w.pid)["pin_reason"] == want
				})
			}
			w.ask(t, "select 1")
			shown("")
			w.ask(t, test.pin)
			shown(test.reason)
			client := showOne(t, console, "CLIENTS", "id", w.pid)
			server := showOne(t, console, "SERVERS", "ptr", client["link"])
			if server["pin_reason"] != test.reason || server["link"] != client["ptr"] || server["remote_pid"] != client["server_pid"] || server["state"] != "active" {
				t.Errorf("client %v, server %v", client, server)
			}
			if test.unpin != "" {
				w.ask(t, test.unpin)
				shown("")
			}
		})
	}
}

// TestConsoleSettingsNeverPin runs a client that only sets and queries, on the servers of
// others, and looks all the time.
func TestConsoleSettingsNeverPin(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p, console := startConsole(t, settings{"DEFAULT_POOL_SIZE": "2"})
	neighbours(t, p, d)
	w := loginWire(t, p.address, d)
	for i := range 20 {
		for _, statement := range []string{
			fmt.Sprintf("set work_mem = '%dkB'", 64+i), "set search_path to public, pg_catalog", "set app.tenant = '" + secretMarker + "'",
			"select set_config('timezone', 'Asia/Tokyo', false)", "begin; set local statement_timeout = 54321; select 1; commit", "set role none",
			"select 1", "reset work_mem", fmt.Sprintf("set application_name = 'round %d'", i),
		} {
			w.ask(t, statement)
			client := showOne(t, console, "CLIENTS", "id", w.pid)
			if client["pin_reason"] != "" {
				t.Fatalf("behind %q the client is pinned: %v", statement, client)
			}
		}
		eventually(t, "the settings of the client are shown", func() bool {
			client := showOne(t, console, "CLIENTS", "id", w.pid)
			names := strings.Split(client["settings"].(string), ", ")
			return client["application_name"] == fmt.Sprintf("round %d", i) && slices.Contains(names, "app.tenant") &&
				slices.Contains(names, "timezone") && !slices.Contains(names, "work_mem")
		})
	}
}

// TestConsoleUsers lets in whom it should.
func TestConsoleUsers(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	path := writeUserlist(t, map[string]string{"scram_other": authRoles["scram_other"], "md5": authRoles["md5"]})
	login := func(p *proxyProcess, role, password string) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(authURL(p.address, role, password))
		if err != nil {
			t.Fatal(err)
		}
		config.Database = "pgbouncer"
		return pgx.ConnectConfig(patient(t), config)
	}
	code := func(err error) string {
		if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
			return failure.Code
		}
		return fmt.Sprint(err)
	}
	expect := func(p *proxyProcess, role, wantLogin, wantCommand string) {
		t.Helper()
		conn, err := login(p, role, authRoles[role])
		if got := code(err); err != nil || wantLogin != "" {
			if got != wantLogin {
				t.Errorf("%s: login: %s, want %q", role, got, wantLogin)
			}
			return
		}
		defer conn.Close(patient(t))
		for _, table := range consoleTables {
			if text := fmt.Sprint(show(t, conn, table)); strings.Contains(text, secretMarker) {
				t.Errorf("SHOW %s shows a secret: %s", table, text)
			}
		}
		_, err = conn.Exec(patient(t), "RELOAD")
		if err != nil && code(err) != wantCommand || err == nil && wantCommand != "" {
			t.Errorf("%s: RELOAD: %v, want %q", role, err, wantCommand)
		}
		if _, err := login(p, role, "wrong"); code(err) != "28P01" {
			t.Errorf("%s with a wrong password: %v", role, err)
		}
	}
	upstream := authURL(cluster.TCPAddress(), "scram", authRoles["scram"])

	p := startProxy(t, cluster, settings{"UPSTREAM_URL": upstream, "AUTH_FILE": path})
	expect(p, "scram", "", "") // the user of the URL
	expect(p, "scram_other", "42501", "")
	if _, err := login(p, "nobody", "wrong"); code(err) != "28P01" {
		t.Errorf("nobody: %v", err)
	}

	p = startProxy(t, cluster, settings{"UPSTREAM_URL": upstream, "AUTH_FILE": path, "ADMIN_USERS": "scram_other", "STATS_USERS": "md5, scram"})
	expect(p, "scram_other", "", "")
	expect(p, "md5", "", "42501")
	expect(p, "scram", "", "42501")

	p = startProxy(t, cluster, settings{"UPSTREAM_URL": upstream, "AUTH_FILE": path, "ADMIN_USERS": ","})
	expect(p, "scram", "42501", "")

	// Where everybody is believed, nobody may do more than look.
	p = startProxy(t, cluster, settings{"UPSTREAM_URL": databaseURL(cluster.TCPAddress(), "postgres", "postgres")})
	conn := p.console(t, "postgres")
	if _, err := conn.Exec(patient(t), "SHUTDOWN"); code(err) != "42501" {
		t.Errorf("SHUTDOWN: %v", err)
	}
}

// TestConsoleName leaves the database of the URL what it is.
func TestConsoleName(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(t, "create database billproxy owner "+d.role)
	t.Cleanup(func() {
		if _, err := d.admin.Exec(context.WithoutCancel(t.Context()), "drop database billproxy with (force)"); err != nil {
			t.Error(err)
		}
	})
	p := startProxy(t, shared.cluster, settings{"UPSTREAM_URL": databaseURL(shared.cluster.TCPAddress(), d.role, "billproxy")})
	var name string
	if err := connect(t, databaseURL(p.address, d.role, "billproxy")).QueryRow(patient(t), "select current_database()").Scan(&name); err != nil || name != "billproxy" {
		t.Errorf("%q, %v", name, err)
	}
	if len(show(t, p.console(t, d.role), "VERSION")) != 1 {
		t.Error("there is no console")
	}
}

// TestConsolePause pauses a database under load: no backend is left, and nobody notices
// but by the time it takes.
func TestConsolePause(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p, console := startConsole(t, settings{"DEFAULT_POOL_SIZE": "4", "QUERY_WAIT_TIMEOUT": "5s"})
	ctx, cancel := context.WithCancel(patient(t))
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for i := range 8 {
		conn := p.connect(t, d)
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var got int
				text := "select $1::int"
				if i%2 == 0 {
					text = "select $1::int from (select txid_current()) as written"
				}
				if err := conn.QueryRow(ctx, text, n).Scan(&got); ctx.Err() == nil && (err != nil || got != n) {
					t.Errorf("client %d: got %d, %v, want %d", i, got, err, n)
					return
				}
			}
		})
	}
	for range 5 {
		p.waitPool(t, d, "clients are served", func(s poolStats) bool { return s.serverCount() > 0 })
		operate(t, console, "PAUSE "+d.name)
		d.pids(t, 0)
		if row := showOne(t, console, "DATABASES", "name", d.name); row["paused"] != int32(1) || row["current_connections"] != int32(0) {
			t.Errorf("paused: %v", row)
		}
		eventually(t, "clients wait", func() bool { return showOne(t, console, "POOLS", "database", d.name)["cl_waiting"] == int32(8) })
		operate(t, console, "RESUME "+d.name)
	}
	before := d.pidsNow(t)
	operate(t, console, "RECONNECT "+d.name)
	operate(t, console, "WAIT_CLOSE "+d.name)
	eventually(t, "other backends have taken the place of all", func() bool {
		now := d.pidsNow(t)
		return len(now) > 0 && !slices.ContainsFunc(now, func(pid int32) bool { return slices.Contains(before, pid) })
	})
}

// TestConsoleKill ends clients, and those of one database.
func TestConsoleKill(t *testing.T) {
	t.Parallel()
	d, other := newDatabase(t), newDatabase(t)
	p, console := startConsole(t, nil)
	one, two, elsewhere := loginWire(t, p.address, d), loginWire(t, p.address, d), loginWire(t, p.address, other)
	one.hold(t)
	operate(t, console, fmt.Sprintf("KILL_CLIENT %d", one.pid))
	if got := errorCode(one.untilClosed(t)); got != "FATAL 57P01" {
		t.Errorf("told %s", got)
	}
	two.usable(t)
	two.hold(t)
	operate(t, console, "KILL "+d.name)
	if got := errorCode(two.untilClosed(t)); got != "FATAL 57P01" {
		t.Errorf("told %s", got)
	}
	d.pids(t, 0)
	elsewhere.usable(t)
	operate(t, console, "RESUME "+d.name)
	loginWire(t, p.address, d).usable(t)
	operate(t, console, "DISABLE "+d.name)
	w := dialWire(t, "tcp", p.address)
	w.startup(t, 3<<16, "user", d.role, "database", d.name)
	if got := errorCode(w.untilClosed(t)); got != "FATAL 57P03" {
		t.Errorf("told %s", got)
	}
	operate(t, console, "ENABLE "+d.name)
	loginWire(t, p.address, d).usable(t)
}

// TestConsoleShutdown ends the process.
func TestConsoleShutdown(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	t.Run("orderly", func(t *testing.T) {
		p, console := startConsole(t, nil)
		w := loginWire(t, p.address, d)
		w.hold(t)
		operate(t, console, "SHUTDOWN WAIT_FOR_SERVERS")
		eventually(t, "the proxy refuses clients", func() bool { return refusesConnections(t, "tcp", p.address) })
		if got := w.ask(t, "commit"); got[0] != "CommandComplete COMMIT" {
			t.Errorf("got %q", got)
		}
		if got := errorCode(w.untilClosed(t)); got != "FATAL 57P01" {
			t.Errorf("told %s", got)
		}
		p.expectExit(t, 0)
	})
	t.Run("at once", func(t *testing.T) {
		p, console := startConsole(t, nil)
		w := loginWire(t, p.address, d)
		w.hold(t)
		if _, err := console.Exec(patient(t), "SHUTDOWN"); err == nil {
			t.Error("SHUTDOWN was answered")
		}
		if got := errorCode(w.untilClosed(t)); got != "FATAL 57P01" {
			t.Errorf("told %s", got)
		}
		p.expectExit(t, 0)
	})
}

// TestConsoleReload reads the file of users again, and says if it cannot be used.
func TestConsoleReload(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	path := writeUserlist(t, map[string]string{"scram": authRoles["scram"]})
	p := startProxy(t, cluster, settings{"UPSTREAM_URL": databaseURL(cluster.TCPAddress(), "scram", "postgres"), "AUTH_FILE": path})
	config, err := pgx.ParseConfig(authURL(p.address, "scram", authRoles["scram"]))
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "pgbouncer"
	console, err := pgx.ConnectConfig(patient(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close(patient(t))
	rewriteUserlist(t, path, map[string]string{"scram": authRoles["scram"], "scram_other": authRoles["scram_other"]})
	operate(t, console, "RELOAD")
	expectLogin(t, p, "scram_other", authRoles["scram_other"])
	if err := os.WriteFile(path, []byte("\"scram\" "+secretMarker), 0o600); err != nil {
		t.Fatal(err)
	}
	var failure *pgconn.PgError
	if _, err := console.Exec(patient(t), "RELOAD"); !errors.As(err, &failure) || failure.Code != "F0000" || !strings.Contains(failure.Message, path) {
		t.Errorf("RELOAD: %v", err)
	}
	expectLogin(t, p, "scram_other", authRoles["scram_other"])
}
