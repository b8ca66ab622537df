package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// The database of the benchmark and the user of every connection.
const (
	database = "bench"
	user     = devpg.Superuser
)

// The scale of pgbench's tables: each unit is 100,000 accounts and one branch, which
// TPC-B updates. Writers need as many branches as clients; readers look at the accounts
// of the first units, about as much as the default shared_buffers hold.
const (
	scale     = 64
	readScale = 10
)

// hotScriptFile reads few rows, again and again.
const (
	hotScriptFile = "hot.sql"
	hotScript     = "\\set aid random(1, 100)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
)

// bench is one run of the benchmark. It belongs to the goroutine of main.
type bench struct {
	options *options
	stderr  io.Writer
	dir     string

	cluster *devpg.Cluster
	admin   *pgx.Conn // a direct connection
	targets []*target
	guarded *target // a billproxy that asks clients for a password

	results *results
}

// newBench starts everything. It takes a minute, most of it to fill the tables.
func newBench(ctx context.Context, o *options, stderr io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp("", "billproxy-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, stderr: stderr, dir: dir, results: &results{Quick: o.quick, Seconds: o.seconds, Repeat: o.repeat}}
	// PostgreSQL and PgBouncer may be another user than we are.
	err = os.Chmod(dir, 0o755)
	if err == nil {
		err = b.start(ctx)
	}
	if err != nil {
		b.close(context.WithoutCancel(ctx))
		return nil, err
	}
	return b, nil
}

func (b *bench) start(ctx context.Context) error {
	// First, so that every child inherits it.
	if err := raiseFileLimit(); err != nil {
		return err
	}
	if err := b.startServer(ctx); err != nil {
		return err
	}
	if err := b.findTargets(ctx); err != nil {
		return err
	}
	for _, t := range b.targets {
		if err := t.start(ctx, b.dir); err != nil {
			return err
		}
		b.results.Targets = append(b.results.Targets, targetFacts{t.name, t.version})
	}
	if err := b.guarded.start(ctx, b.dir); err != nil {
		return err
	}
	var err error
	b.results.Machine, err = readMachine(ctx, b.admin, b.options.date)
	return err
}

func (b *bench) startServer(ctx context.Context) error {
	var err error
	b.cluster, err = devpg.Start(ctx, devpg.Config{
		DataDir:  filepath.Join(b.dir, "data"),
		BinDir:   cmp.Or(b.options.pgBin, os.Getenv("BILLPROXY_PG_BIN")),
		Settings: map[string]string{"max_connections": "500"},
		Progress: func(message string) { b.say("%s", message) },
	})
	if err != nil {
		return err
	}
	admin, err := pgx.Connect(ctx, b.cluster.URL(user, "postgres"))
	if err != nil {
		return err
	}
	_, err = admin.Exec(ctx, "CREATE DATABASE "+database)
	if err = errors.Join(err, admin.Close(ctx)); err != nil {
		return err
	}
	b.say("filling pgbench's tables, scale %d", scale)
	cmd := exec.CommandContext(ctx, filepath.Join(b.cluster.BinDir(), "pgbench"), "-i", "-q", "-s", strconv.Itoa(scale),
		"-h", "127.0.0.1", "-p", strconv.Itoa(b.cluster.Port()), "-U", user, database)
	cmd.Env = childEnvironment(nil)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill pgbench's tables: %w: %s", err, output)
	}
	if err := os.WriteFile(filepath.Join(b.dir, hotScriptFile), []byte(hotScript), 0o644); err != nil {
		return err
	}
	b.admin, err = pgx.Connect(ctx, b.cluster.URL(user, database))
	return err
}

// findTargets makes a target of every pooler that is installed; the report has a
// sentence about each that is not.
func (b *bench) findTargets(ctx context.Context) error {
	s := site{dir: b.dir, serverPort: b.cluster.Port()}
	if owner, err := os.Stat(b.cluster.DataDir()); err != nil {
		return err
	} else if stat, ok := owner.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		s.serverUID = &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
	}
	var version string
	if err := b.admin.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return err
	}
	b.targets = append(b.targets, newDirect(s, "PostgreSQL "+version))
	peers := []struct {
		name, path string
		make       func(context.Context, site, string) (*target, error)
	}{
		{namePgBouncer, b.options.pgbouncer, newPgBouncer},
		{nameOdyssey, b.options.odyssey, newOdyssey},
	}
	for _, peer := range peers {
		t, err := peer.make(ctx, s, peer.path)
		if errors.Is(err, errMissing) {
			b.say("%s %v: left out", peer.name, err)
			b.results.Missing = append(b.results.Missing, peer.name)
			continue
		}
		if err != nil {
			return err
		}
		b.targets = append(b.targets, t)
	}
	t, err := newBillproxy(ctx, s, b.options.billproxy)
	if err != nil {
		return err
	}
	if b.guarded, err = newGuarded(ctx, s, t); err != nil {
		return err
	}
	b.targets = append(b.targets, t)
	if strings.TrimSpace(b.options.yardstick) != "" {
		if t, err = newYardstick(ctx, s, b.options.yardstick); err != nil {
			return err
		}
		b.targets = append(b.targets, t)
	}
	for _, t := range b.targets {
		b.say("%s: %s", t.name, t.version)
	}
	return nil
}

// raiseFileLimit makes room for the idle clients' sockets, here and in our children.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	// Set even if nothing changes: otherwise children get back the lower limit that we
	// were started with.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", limit.Max, err)
	}
	return nil
}

// close ends every process and removes every file.
func (b *bench) close(ctx context.Context) {
	for _, t := range b.targets {
		t.stop()
	}
	if b.guarded != nil {
		b.guarded.stop()
	}
	if b.admin != nil {
		_ = b.admin.Close(ctx) // the server ends next
	}
	if b.cluster != nil {
		b.cluster.Stop(ctx)
		if err := os.RemoveAll(b.cluster.DataDir()); err != nil {
			b.say("%v", err)
		}
	}
	if err := os.RemoveAll(b.dir); err != nil {
		b.say("%v", err)
	}
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// run does all work that the options ask for.
func (b *bench) run(ctx context.Context) error {
	did := false
	var names []string
	for i, c := range contests(b.targets, b.guarded, b.dir, b.options.quick) {
		name := c.entrants[0].work
		names = append(names, name)
		if !b.options.only.MatchString(name) {
			continue
		}
		did = true
		if err := b.runContest(ctx, c, i); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{workIdle, b.runIdle}, {workSchema, b.runSchema}, {workSecured, b.runSecured}} {
		names = append(names, part.name)
		if !b.options.only.MatchString(part.name) {
			continue
		}
		did = true
		if err := part.run(ctx); err != nil {
			return err
		}
	}
	if !did {
		return fmt.Errorf("-only %q: expected to match one of %s", b.options.only, strings.Join(names, " "))
	}
	return nil
}

// runContest repeats the entrants of a contest, first once for a second to open the
// server connections. Whoever fails is not asked again.
func (b *bench) runContest(ctx context.Context, c contest, number int) error {
	if err := b.settle(ctx, c.writes); err != nil {
		return err
	}
	out := make([]bool, len(c.entrants))
	order := make([]int, len(c.entrants))
	for i := range order {
		order[i] = i
	}
	if !b.options.quick {
		for i, e := range c.entrants {
			r, err := b.measure(ctx, e, 1)
			if err != nil {
				return err
			}
			if out[i] = r.Outcome != succeeded; out[i] {
				b.results.Runs = append(b.results.Runs, *r)
			}
		}
	}
	for repetition := range b.options.repeat {
		for _, i := range rotated(order, repetition+number) {
			if out[i] {
				continue
			}
			r, err := b.measure(ctx, c.entrants[i], b.options.seconds)
			if err != nil {
				return err
			}
			r.Repetition = repetition + 1
			b.results.Runs = append(b.results.Runs, *r)
			out[i] = r.Outcome != succeeded
		}
	}
	return nil
}

// rotated is the list begun at another place.
func rotated(order []int, by int) []int {
	by %= len(order)
	return slices.Concat(order[by:], order[:by])
}

// settle removes what earlier writes left to do, so that no entrant does it for another.
func (b *bench) settle(ctx context.Context, writes bool) error {
	if !writes {
		return nil
	}
	b.say("vacuum and checkpoint")
	for _, statement := range []string{
		"VACUUM (ANALYZE) pgbench_accounts, pgbench_tellers, pgbench_branches", "TRUNCATE pgbench_history", "CHECKPOINT",
	} {
		if _, err := b.admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
