package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Every pooler gets the same pool, authentication "trust", no TLS, TCP on both sides and
// no log line per connection; a client may wait two minutes for a server, PgBouncer's
// default. Everything else is the pooler's default unless a comment says why not.

// errMissing reports that a program is not installed.
var errMissing = errors.New("is not installed")

// site is what the configuration of a pooler depends on.
type site struct {
	dir        string // of files; every user may read it
	serverPort int
	serverUID  *syscall.Credential // of PostgreSQL's processes; nil: ours
}

func newDirect(s site, version string) *target {
	return &target{name: nameDirect, version: version, port: s.serverPort}
}

// newBillproxy copies the program: a build during the run must not change what is
// measured.
func newBillproxy(ctx context.Context, s site, path string) (*target, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the program of billproxy, which `make build` makes: %w", err)
	}
	program := filepath.Join(s.dir, "billproxy")
	if err := os.WriteFile(program, content, 0o755); err != nil {
		return nil, err
	}
	version, err := firstLine(ctx, program, "version")
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	return &target{name: nameBillproxy, version: version, port: port, program: command{
		name: "billproxy", path: program, args: []string{"proxy"},
		env: []string{
			fmt.Sprintf("BILLPROXY_UPSTREAM_URL=postgres://%s@127.0.0.1:%d/%s?sslmode=disable", user, s.serverPort, database),
			fmt.Sprintf("BILLPROXY_LISTEN=127.0.0.1:%d", port),
			"BILLPROXY_ADMIN_LISTEN=127.0.0.1:0",
			fmt.Sprintf("BILLPROXY_DEFAULT_POOL_SIZE=%d", poolSize),
			fmt.Sprintf("BILLPROXY_MAX_CLIENT_CONN=%d", maxClients),
			"BILLPROXY_QUERY_WAIT_TIMEOUT=120s",
			"BILLPROXY_LOG_LEVEL=warn", // no line per connection, as the other poolers are set
		},
	}}, nil
}

// newGuarded is the same program on a port of its own, and asks for a password.
func newGuarded(ctx context.Context, s site, billproxy *target) (*target, error) {
	t := *billproxy
	t.password = "bench"
	users := filepath.Join(s.dir, "billproxy-users.txt")
	if err := os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", user, t.password), 0o600); err != nil {
		return nil, err
	}
	var err error
	if t.port, err = freePort(ctx); err != nil {
		return nil, err
	}
	t.program.name = "billproxy-guarded"
	t.program.env = append(slices.Clone(t.program.env), // the last entry of a name counts
		fmt.Sprintf("BILLPROXY_LISTEN=127.0.0.1:%d", t.port), "BILLPROXY_AUTH_FILE="+users)
	return &t, nil
}

var pgbouncerVersion = regexp.MustCompile(`^PgBouncer (\d+)\.(\d+)`)

func newPgBouncer(ctx context.Context, s site, path string) (*target, error) {
	program, version, err := findProgram(ctx, path)
	if err != nil {
		return nil, err
	}
	match := pgbouncerVersion.FindStringSubmatch(version)
	if match == nil {
		return nil, fmt.Errorf("%s --version printed %q", path, version)
	}
	major, _ := strconv.Atoi(match[1])
	minor, _ := strconv.Atoi(match[2])
	if major == 1 && minor < 21 {
		return nil, fmt.Errorf("%s knows no prepared statements in transaction mode: expected 1.21 or newer", version)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	users := filepath.Join(s.dir, "pgbouncer-users.txt")
	if err := os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", user, ""), 0o644); err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "pgbouncer.ini")
	config := fmt.Sprintf(`[databases]
%[1]s = host=127.0.0.1 port=%[2]d dbname=%[1]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[3]d
unix_socket_dir =
auth_type = trust
auth_file = %[4]s
server_tls_sslmode = disable
pool_mode = transaction
default_pool_size = %[5]d
max_client_conn = %[6]d
max_prepared_statements = 200
log_connections = 0
log_disconnections = 0
`, database, s.serverPort, port, users, poolSize, maxClients)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	// PgBouncer refuses to run as root.
	return &target{name: namePgBouncer, version: version, port: port, program: command{
		name: "pgbouncer", path: program, args: []string{file}, credential: s.serverUID,
	}}, nil
}

func newOdyssey(ctx context.Context, s site, path string) (*target, error) {
	program, version, err := findProgram(ctx, path)
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	locks := filepath.Join(s.dir, "odyssey")
	if err := os.Mkdir(locks, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "odyssey.conf")
	// Its workers are threads: one for each core. Without pool_discard it cleans as
	// little between two transactions as PgBouncer does, and is faster.
	config := fmt.Sprintf(`daemonize no
log_to_stdout yes
log_format "%%p %%t %%l [%%i %%s] (%%c) %%m\n"
log_session no
log_query no
log_stats no
workers %[1]d
locks_dir "%[2]s"
listen {
	host "127.0.0.1"
	port %[3]d
	tls "disable"
}
storage "server" {
	type "remote"
	host "127.0.0.1"
	port %[4]d
	tls "disable"
}
database default {
	user default {
		authentication "none"
		storage "server"
		pool "transaction"
		pool_size %[5]d
		pool_timeout 120000
		pool_discard no
		pool_reserve_prepared_statement yes
		client_fwd_error yes
		client_max %[6]d
	}
}
`, runtime.NumCPU(), locks, port, s.serverPort, poolSize, maxClients)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return &target{name: nameOdyssey, version: version, port: port, program: command{
		name: "odyssey", path: program, args: []string{file},
	}}, nil
}

// newYardstick runs a command of the user's, which only has to know what
// `pgbench -S` does.
func newYardstick(ctx context.Context, s site, commandLine string) (*target, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	words := strings.Fields(strings.NewReplacer(
		"{port}", strconv.Itoa(port),
		"{server}", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.serverPort)),
	).Replace(commandLine))
	program, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fmt.Errorf("yardstick %q: %w", words[0], err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	return &target{name: nameYardstick, port: port, readsOnly: true, program: command{
		name: "yardstick", path: program, args: words[1:],
	}}, nil
}

// findProgram looks a pooler up and asks it for its version.
func findProgram(ctx context.Context, path string) (program, version string, err error) {
	if program, err = exec.LookPath(path); err != nil {
		return "", "", errMissing
	}
	if program, err = filepath.Abs(program); err != nil {
		return "", "", err
	}
	version, err = firstLine(ctx, program, "--version")
	return program, version, err
}

// firstLine runs a program that says its version.
func firstLine(ctx context.Context, program string, args ...string) (string, error) {
	output, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("run %s %s: %w", program, strings.Join(args, " "), err)
	}
	line, _, _ := strings.Cut(string(output), "\n")
	return strings.TrimSpace(line), nil
}

// freePort finds a port below those that systems give to outgoing connections, of
// which the benchmark makes many.
func freePort(ctx context.Context) (int, error) {
	var err error
	for range 50 {
		port := 15432 + rand.IntN(16000)
		var listener io.Closer
		listener, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
