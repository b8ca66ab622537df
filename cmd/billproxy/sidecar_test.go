package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
)

func listenSomewhere(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// freePorts lets the program choose its ports.
func freePorts() []string {
	return []string{
		"BILLPROXY_LISTEN=127.0.0.1:0", "BILLPROXY_HTTP_LISTEN=127.0.0.1:0", "BILLPROXY_ADMIN_LISTEN=127.0.0.1:0",
	}
}

// onPostgres is freePorts on the PostgreSQL of this package.
func onPostgres() []string { return onDatabase("postgres") }

func onDatabase(name string) []string {
	return append(freePorts(), "BILLPROXY_API_KEYS=bp_test_key",
		"BILLPROXY_UPSTREAM_URL="+postgres.SocketURL(devpg.Superuser, name))
}

// createDatabase returns the name of an empty database.
func createDatabase(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	conn, err := pgx.Connect(t.Context(), postgres.URL(devpg.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		_ = conn.Close(ctx)
	})
	return name
}

var addressAttribute = regexp.MustCompile(`address=(\S+)`)

// listening waits for the log line of a listener and returns its address.
func (p *program) listening(message string) string {
	p.t.Helper()
	return addressAttribute.FindStringSubmatch(p.stderr.until(p.t, message))[1]
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), "postgres://"+devpg.Superuser+"@"+address+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func request(t *testing.T, method, target, key string, form url.Values) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if key != "" {
		r.SetBasicAuth(key, "")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestServeMigrateAndHealthcheck(t *testing.T) {
	database := createDatabase(t)
	if code, stdout, stderr := start(t, t.TempDir(), onDatabase(database), "migrate").wait(); code != 0 ||
		!strings.Contains(stdout, "migrations applied: ") || strings.Contains(stdout, "applied: 0") {
		t.Fatalf("migrate: exit code %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := start(t, t.TempDir(), onDatabase(database), "migrate").wait(); code != 0 || !strings.Contains(stdout, "applied: 0") {
		t.Fatalf("second migrate: exit code %d: %s", code, stdout)
	}
	p := start(t, t.TempDir(), onDatabase(database), "serve")
	p.listening("proxy listening")
	admin, api := p.listening("service=admin"), p.listening("service=api")

	for _, target := range []string{"http://" + admin + "/readyz", "http://" + api + "/readyz"} {
		if code, stdout, stderr := start(t, t.TempDir(), nil, "healthcheck", target).wait(); code != 0 {
			t.Errorf("healthcheck %s: exit code %d: %s%s", target, code, stdout, stderr)
		}
	}
	if code, stdout, stderr := start(t, t.TempDir(), []string{"BILLPROXY_ADMIN_LISTEN=" + admin}, "healthcheck").wait(); code != 0 || stdout != "ok\n" {
		t.Errorf("healthcheck: exit code %d: %s%s", code, stdout, stderr)
	}
	if status, text := request(t, http.MethodPost, "http://"+api+"/v1/customers", "bp_test_key", url.Values{"name": {"Ada"}}); status != http.StatusOK ||
		!strings.Contains(text, `"object": "customer"`) {
		t.Errorf("create a customer: %d %s", status, text)
	}
	if status, text := request(t, http.MethodGet, "http://"+admin+"/metrics", "", nil); status != http.StatusOK ||
		!strings.Contains(text, `pgbouncer_pools_client_active_connections{database="`+database+`",user="postgres"}`) {
		t.Errorf("metrics: %d %s", status, text)
	}
	p.signal(syscall.SIGTERM)
	if code, _, stderr := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, append(onPostgres(), "BILLPROXY_UNIX_SOCKET_DIR="+dir), "proxy")
	_, port, err := net.SplitHostPort(p.listening("proxy listening"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), "user=postgres dbname=postgres host="+dir+" port="+port)
	if err != nil {
		t.Fatal(err)
	}
	var answer int
	if err := conn.QueryRow(t.Context(), "SELECT 42").Scan(&answer); err != nil || answer != 42 {
		t.Errorf("got %d, %v", answer, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGTERM)
	if code, _, stderr := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".s.PGSQL.*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestShutdownLetsTransactionsFinish(t *testing.T) {
	p := start(t, t.TempDir(), onPostgres(), "proxy")
	address := p.listening("proxy listening")
	admin := p.listening("service=admin")
	conn, idle := connect(t, address), connect(t, address)
	if err := idle.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.stderr.until(t, "client closed") // the idle one
	if err := idle.Ping(t.Context()); err == nil {
		t.Error("an idle client still works")
	}
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new client: %v", err)
	}
	if status, _ := request(t, http.MethodGet, "http://"+admin+"/readyz", "", nil); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", status)
	}
	if status, _ := request(t, http.MethodGet, "http://"+admin+"/healthz", "", nil); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("commit: %v", err)
	}
	if code, _, stderr := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestShutdownTimeoutCutsTransactions(t *testing.T) {
	p := start(t, t.TempDir(), append(onPostgres(), "BILLPROXY_SHUTDOWN_TIMEOUT=200ms"), "proxy")
	conn := connect(t, p.listening("proxy listening"))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.stderr.until(t, "transactions cut")
	if code, _, stderr := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	_, err = tx.Exec(t.Context(), "SELECT 1")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "57P01" {
		t.Errorf("the client got %v", err)
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	p := start(t, t.TempDir(), append(onPostgres(), "BILLPROXY_SHUTDOWN_TIMEOUT=1h"), "proxy")
	conn := connect(t, p.listening("proxy listening"))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.stderr.until(t, "shutting down")
	p.signal(syscall.SIGINT)
	if code, _, stderr := p.wait(); code != exitSignal+int(syscall.SIGINT) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestDev(t *testing.T) {
	dir := devpgtest.ReachableDir(t)
	var invoice string
	for _, run := range []string{"first", "second"} {
		t.Run(run, func(t *testing.T) {
			p := start(t, dir, freePorts(), "dev")
			proxyAddress := p.listening("proxy listening")
			admin, api := p.listening("service=admin"), p.listening("service=api")
			psql := p.stdout.until(t, "psql")
			curl := p.stdout.until(t, "/v1/invoices/")
			readyz := p.stdout.until(t, "/readyz")
			if !strings.Contains(psql, proxyAddress) || !strings.Contains(curl, api) || !strings.Contains(readyz, admin) {
				t.Errorf("banner:\n%s\n%s\n%s", psql, curl, readyz)
			}
			target := regexp.MustCompile(`http://\S+`).FindString(curl)
			status, text := request(t, http.MethodGet, target, devAPIKey, nil)
			var object struct{ ID, Object string }
			if err := json.Unmarshal([]byte(text), &object); err != nil || status != http.StatusOK || object.Object != "invoice" {
				t.Errorf("%s: %d %s", target, status, text)
			}
			if invoice != "" && object.ID != invoice {
				t.Errorf("invoice %s became %s", invoice, object.ID)
			}
			invoice = object.ID
			if status, text := request(t, http.MethodGet, "http://"+admin+"/readyz", "", nil); status != http.StatusOK {
				t.Errorf("/readyz: %d %s", status, text)
			}
			conn, err := pgx.Connect(t.Context(), "postgres://billing@"+proxyAddress+"/billing?sslmode=disable")
			if err != nil {
				t.Fatal(err)
			}
			var superuser, owner bool
			err = conn.QueryRow(t.Context(), `SELECT rolsuper, pg_get_userbyid(datdba) = rolname
				FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()`).Scan(&superuser, &owner)
			if err != nil || superuser || !owner {
				t.Errorf("superuser %v, owner %v, %v", superuser, owner, err)
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
			p.signal(syscall.SIGINT)
			if code, _, stderr := p.wait(); code != 0 {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			if _, err := os.Stat(filepath.Join(dir, devFolder, "postgres", "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("PostgreSQL was not shut down: %v", err)
			}
		})
	}
}

func TestDevReportsTheDeathOfPostgres(t *testing.T) {
	dir := devpgtest.ReachableDir(t)
	p := start(t, dir, freePorts(), "dev")
	p.stdout.until(t, "/readyz")
	lock, err := os.ReadFile(filepath.Join(dir, devFolder, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(string(lock), "\n")
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := p.wait()
	if code != exitFailure || !strings.Contains(stderr, "billproxy: PostgreSQL stopped") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
