package main

import (
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
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// The scale of pgbench's tables: each unit is 100,000 accounts, of 15 MB with their index,
// and one branch, which TPC-B updates. Writers need as many branches as clients; readers
// look at the accounts of the first units, which the default shared_buffers hold: how
// PostgreSQL replaces buffers is not what is measured.
const (
	scale     = 64
	readScale = 5
)

// hotScriptFile reads few rows, again and again.
const (
	hotScriptFile = "hot.sql"
	hotScript     = "\\set aid random(1, 100)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
)

// limits are what every pooler is told: a client may wait as long as PgBouncer lets it by
// default.
var limits = rig.Limits{PoolSize: poolSize, MaxClients: 10_000, QueryWait: 2 * time.Minute}

// poolSize is the server connections every pooler may have.
const poolSize = 16

// guardPassword is what a billproxy is told to ask for.
const guardPassword = "bench"

// bench is one run of the benchmark. It belongs to the goroutine of main.
type bench struct {
	options *options
	stderr  io.Writer

	rig     *rig.Rig
	targets []*rig.Target
	guarded *rig.Target // a billproxy that asks clients for a password

	results *results
}

// newBench starts everything. It takes a minute, most of it to fill the tables.
func newBench(ctx context.Context, o *options, stderr io.Writer) (*bench, error) {
	b := &bench{options: o, stderr: stderr, results: &results{Setup: page.Setup{Quick: o.Quick}, Seconds: o.seconds, Repeat: o.repeat}}
	var err error
	b.rig, err = rig.New(ctx, rig.Config{PGBin: o.PGBin, Settings: map[string]string{"max_connections": "500"}, Progress: b.say})
	if err != nil {
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		b.close(context.WithoutCancel(ctx))
		return nil, err
	}
	return b, nil
}

func (b *bench) start(ctx context.Context) error {
	if err := b.fillTables(ctx); err != nil {
		return err
	}
	if err := b.findTargets(ctx); err != nil {
		return err
	}
	for _, t := range b.targets {
		if err := t.Start(ctx, b.rig.Dir); err != nil {
			return err
		}
		b.results.Targets = append(b.results.Targets, page.Program{Name: t.Name, Version: t.Version})
	}
	if err := b.guarded.Start(ctx, b.rig.Dir); err != nil {
		return err
	}
	var err error
	b.results.Machine, err = rig.ReadMachine(ctx, b.rig.Admin, b.options.Date)
	return err
}

func (b *bench) fillTables(ctx context.Context) error {
	b.say("filling pgbench's tables, scale %d", scale)
	cmd := exec.CommandContext(ctx, filepath.Join(b.rig.Cluster.BinDir(), "pgbench"), "-i", "-q", "-s", strconv.Itoa(scale),
		"-h", "127.0.0.1", "-p", strconv.Itoa(b.rig.Cluster.Port()), "-U", rig.User, rig.Database)
	cmd.Env = rig.ChildEnvironment(nil)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill pgbench's tables: %w: %s", err, output)
	}
	return os.WriteFile(filepath.Join(b.rig.Dir, hotScriptFile), []byte(hotScript), 0o644)
}

// findTargets makes a target of every pooler that is installed; the report has a
// sentence about each that is not.
func (b *bench) findTargets(ctx context.Context) error {
	direct, err := b.rig.NewDirect(ctx)
	if err != nil {
		return err
	}
	b.targets = append(b.targets, direct)
	peers := []struct {
		name, path string
		make       func(context.Context, string, rig.Limits) (*rig.Target, error)
	}{
		{rig.PgBouncer, b.options.PgBouncer, b.rig.NewPgBouncer},
		{rig.Odyssey, b.options.Odyssey, b.rig.NewOdyssey},
	}
	for _, peer := range peers {
		t, err := peer.make(ctx, peer.path, limits)
		if errors.Is(err, rig.ErrMissing) {
			b.say("%s %v: left out", peer.name, err)
			b.results.Missing = append(b.results.Missing, peer.name)
			continue
		}
		if err != nil {
			return err
		}
		b.targets = append(b.targets, t)
	}
	t, err := b.rig.NewBillproxy(ctx, b.options.Billproxy, limits)
	if err != nil {
		return err
	}
	if b.guarded, err = b.newGuarded(ctx, t, guardPassword); err != nil {
		return err
	}
	b.targets = append(b.targets, t)
	if strings.TrimSpace(b.options.yardstick) != "" {
		if t, err = b.rig.NewYardstick(ctx, b.options.yardstick); err != nil {
			return err
		}
		b.targets = append(b.targets, t)
	}
	for _, t := range b.targets {
		b.say("%s: %s", t.Name, t.Version)
	}
	return nil
}

// billproxy is the target of that name.
func (b *bench) billproxy() *rig.Target {
	return b.targets[slices.IndexFunc(b.targets, func(t *rig.Target) bool { return t.Name == rig.Billproxy })]
}

// newGuarded is the same program on a port of its own, and asks for a password unless
// that is empty.
func (b *bench) newGuarded(ctx context.Context, billproxy *rig.Target, password string, env ...string) (*rig.Target, error) {
	t, err := billproxy.Another(ctx, env...)
	if err != nil || password == "" {
		return t, err
	}
	t.Password = password
	users := filepath.Join(b.rig.Dir, t.Program.Name+"-users.txt")
	t.Program.Env = append(t.Program.Env, "BILLPROXY_AUTH_FILE="+users)
	return t, os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", rig.User, password), 0o600)
}

// close ends every process and removes every file.
func (b *bench) close(ctx context.Context) {
	for _, t := range b.targets {
		t.Stop()
	}
	if b.guarded != nil {
		b.guarded.Stop()
	}
	b.rig.Close(ctx)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// run does all work that the options ask for.
func (b *bench) run(ctx context.Context) error {
	did := false
	var names []string
	for i, c := range contests(b.targets, b.guarded, b.rig.Dir, b.options.Quick) {
		name := c.entrants[0].work
		names = append(names, name)
		if !b.options.Only.MatchString(name) {
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
	}{{workIdle, b.runIdle}, {workSchema, b.runSchema}, {workGate, b.runGate}, {workSecured, b.runSecured}} {
		names = append(names, part.name)
		if !b.options.Only.MatchString(part.name) {
			continue
		}
		did = true
		if err := part.run(ctx); err != nil {
			return err
		}
	}
	if !did {
		return fmt.Errorf("-only %q: expected to match one of %s", b.options.Only, strings.Join(names, " "))
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
	if !b.options.Quick {
		for i, e := range c.entrants {
			r, err := b.measure(ctx, e, 1)
			if err != nil {
				return err
			}
			if out[i] = r.Outcome != page.Succeeded; out[i] {
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
			out[i] = r.Outcome != page.Succeeded
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
		if _, err := b.rig.Admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
