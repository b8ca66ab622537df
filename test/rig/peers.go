package rig

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
	"time"
)

// Every pooler gets the same limits, authentication "trust", no TLS, TCP on both sides
// and no log line per connection. Everything else is the pooler's default unless a
// comment says why not.

// ErrMissing reports that a program is not installed.
var ErrMissing = errors.New("is not installed")

// Limits are what every pooler is told alike.
type Limits struct {
	PoolSize   int           // server connections it may have
	MaxClients int           // client connections it accepts
	QueryWait  time.Duration // how long a client may wait for a server; 0 is the pooler's default
}

// NewDirect makes a target of PostgreSQL itself.
func (r *Rig) NewDirect(ctx context.Context) (*Target, error) {
	var version string
	if err := r.Admin.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return nil, err
	}
	return &Target{Name: Direct, Version: "PostgreSQL " + version, Port: r.Cluster.Port()}, nil
}

// NewBillproxy copies the program: a build during the run must not change what is
// measured.
func (r *Rig) NewBillproxy(ctx context.Context, path string, l Limits) (*Target, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the program of billproxy, which `make build` makes: %w", err)
	}
	program := filepath.Join(r.Dir, "billproxy")
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
	env := []string{
		fmt.Sprintf("BILLPROXY_UPSTREAM_URL=postgres://%s@127.0.0.1:%d/%s?sslmode=disable", User, r.Cluster.Port(), Database),
		fmt.Sprintf("BILLPROXY_LISTEN=127.0.0.1:%d", port),
		"BILLPROXY_ADMIN_LISTEN=127.0.0.1:0",
		fmt.Sprintf("BILLPROXY_DEFAULT_POOL_SIZE=%d", l.PoolSize),
		fmt.Sprintf("BILLPROXY_MAX_CLIENT_CONN=%d", l.MaxClients),
		"BILLPROXY_LOG_LEVEL=warn", // no line per connection, as the other poolers are set
	}
	if l.QueryWait > 0 {
		env = append(env, fmt.Sprintf("BILLPROXY_QUERY_WAIT_TIMEOUT=%v", l.QueryWait))
	}
	return &Target{Name: Billproxy, Version: version, Port: port, Program: Command{
		Name: "billproxy", Path: program, Args: []string{"proxy"}, Env: env,
	}}, nil
}

// Another is the same program on a port of its own, with more environment variables.
func (t *Target) Another(ctx context.Context, env ...string) (*Target, error) {
	another := *t
	var err error
	if another.Port, err = freePort(ctx); err != nil {
		return nil, err
	}
	another.Program.Name = fmt.Sprintf("%s-%d", t.Program.Name, another.Port)
	another.Program.Env = slices.Concat(t.Program.Env, // the last entry of a name counts
		[]string{fmt.Sprintf("BILLPROXY_LISTEN=127.0.0.1:%d", another.Port)}, env)
	another.process = nil
	return &another, nil
}

var pgbouncerVersion = regexp.MustCompile(`^PgBouncer (\d+)\.(\d+)`)

// NewPgBouncer has PgBouncer 1.21 or newer, the first that prepares statements in
// transaction mode.
func (r *Rig) NewPgBouncer(ctx context.Context, path string, l Limits) (*Target, error) {
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
	name := fmt.Sprintf("pgbouncer-%d", port)
	users := filepath.Join(r.Dir, name+"-users.txt")
	if err := os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", User, ""), 0o644); err != nil {
		return nil, err
	}
	file := filepath.Join(r.Dir, name+".ini")
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
`, Database, r.Cluster.Port(), port, users, l.PoolSize, l.MaxClients)
	if l.QueryWait > 0 {
		config += fmt.Sprintf("query_wait_timeout = %g\n", l.QueryWait.Seconds())
	}
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	// PgBouncer refuses to run as root.
	credential, err := r.ServerCredential()
	if err != nil {
		return nil, err
	}
	return &Target{Name: PgBouncer, Version: version, Port: port, Program: Command{
		Name: name, Path: program, Args: []string{file}, Credential: credential,
	}}, nil
}

// NewOdyssey has Odyssey.
func (r *Rig) NewOdyssey(ctx context.Context, path string, l Limits) (*Target, error) {
	program, version, err := findProgram(ctx, path)
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	locks := filepath.Join(r.Dir, "odyssey")
	if err := os.Mkdir(locks, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(r.Dir, "odyssey.conf")
	timeout := ""
	if l.QueryWait > 0 {
		timeout = fmt.Sprintf("\t\tpool_timeout %d\n", l.QueryWait.Milliseconds())
	}
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
%[7]s		pool_discard no
		pool_reserve_prepared_statement yes
		client_fwd_error yes
		client_max %[6]d
	}
}
`, runtime.NumCPU(), locks, port, r.Cluster.Port(), l.PoolSize, l.MaxClients, timeout)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return &Target{Name: Odyssey, Version: version, Port: port, Program: Command{
		Name: "odyssey", Path: program, Args: []string{file},
	}}, nil
}

// NewYardstick runs a command of the user's, which only has to know what
// `pgbench -S` does.
func (r *Rig) NewYardstick(ctx context.Context, commandLine string) (*Target, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	words := strings.Fields(strings.NewReplacer(
		"{port}", strconv.Itoa(port),
		"{server}", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Cluster.Port())),
	).Replace(commandLine))
	program, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fmt.Errorf("yardstick %q: %w", words[0], err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	return &Target{Name: Yardstick, Port: port, ReadsOnly: true, Program: Command{
		Name: "yardstick", Path: program, Args: words[1:],
	}}, nil
}

// findProgram looks a pooler up and asks it for its version.
func findProgram(ctx context.Context, path string) (program, version string, err error) {
	if program, err = exec.LookPath(path); err != nil {
		return "", "", ErrMissing
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
