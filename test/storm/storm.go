package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// poolSize is the server connections every pooler may have, and so the operations that
// PostgreSQL works on at a time.
const poolSize = 16

// manyClients is the connections of a service that comes without a pooler and does not
// mind how many they are.
const manyClients = 400

// maxClients leaves room for those that have reconnected before their old connection was
// closed.
const maxClients = 12_000

// contender is a target and how clients use it.
type contender struct {
	*rig.Target
	clients int  // connections it takes at most; 0: as many as the scenario has
	gated   bool // work queues inside PostgreSQL
}

// servers is how many server connections it needs and no more.
func (c contender) servers(s *scenario) int {
	if c.IsPooler() {
		return poolSize
	}
	n := 0
	for _, kind := range s.services {
		n += kind.clients
	}
	return n
}

// bench is one run of the benchmark. It belongs to the goroutine of main.
type bench struct {
	options *options
	stderr  io.Writer

	rig        *rig.Rig
	ledger     *ledger
	contenders []contender

	results *results
}

func newBench(ctx context.Context, o *options, stderr io.Writer) (*bench, error) {
	b := &bench{options: o, stderr: stderr, results: &results{Setup: page.Setup{Quick: o.Quick}, Seed: o.seed}}
	var err error
	b.rig, err = rig.New(ctx, rig.Config{PGBin: o.PGBin, Settings: map[string]string{"max_connections": "500"}, Progress: b.say})
	if err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		b.close(context.WithoutCancel(ctx))
		return nil, err
	}
	return b, nil
}

func (b *bench) prepare(ctx context.Context) error {
	var err error
	if b.ledger, err = newLedger(ctx, b.rig.Admin, poolSize); err != nil {
		return err
	}
	if b.results.Machine, err = rig.ReadMachine(ctx, b.rig.Admin, b.options.Date); err != nil {
		return err
	}
	return b.findContenders(ctx)
}

// findContenders makes a contender of every pooler that is installed, with its defaults
// but for what rig sets, and of PgBouncer also one that lets nobody wait longer than the
// clients do.
func (b *bench) findContenders(ctx context.Context) error {
	limits := rig.Limits{PoolSize: poolSize, MaxClients: maxClients}
	hurried := limits
	hurried.QueryWait = time.Second
	direct := func(ctx context.Context, _ string, _ rig.Limits) (*rig.Target, error) { return b.rig.NewDirect(ctx) }
	for _, kind := range []struct {
		name, path string
		limits     rig.Limits
		make       func(context.Context, string, rig.Limits) (*rig.Target, error)
		contender
	}{
		{rig.Direct, "", limits, direct, contender{clients: poolSize}},
		{rig.DirectMany, "", limits, direct, contender{clients: manyClients, gated: true}},
		{rig.PgBouncer, b.options.PgBouncer, limits, b.rig.NewPgBouncer, contender{}},
		{rig.PgBouncerHurried, b.options.PgBouncer, hurried, b.rig.NewPgBouncer, contender{}},
		{rig.Odyssey, b.options.Odyssey, limits, b.rig.NewOdyssey, contender{}},
		{rig.Billproxy, b.options.Billproxy, limits, b.rig.NewBillproxy, contender{}},
	} {
		if !b.options.targets.MatchString(kind.name) {
			continue
		}
		t, err := kind.make(ctx, kind.path, kind.limits)
		if errors.Is(err, rig.ErrMissing) {
			b.say("%s %v: left out", kind.name, err)
			b.results.Missing = append(b.results.Missing, kind.name)
			continue
		}
		if err != nil {
			return err
		}
		if kind.name == rig.Billproxy {
			t.Program.Env = append(t.Program.Env, b.options.set...)
		}
		t.Name = kind.name
		kind.Target = t
		b.contenders = append(b.contenders, kind.contender)
		b.results.Targets = append(b.results.Targets, page.Program{Name: t.Name, Version: t.Version})
		b.say("%s: %s", t.Name, t.Version)
	}
	return nil
}

// close ends every process and removes every file.
func (b *bench) close(ctx context.Context) {
	for _, c := range b.contenders {
		c.Stop()
	}
	b.rig.Close(ctx)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// run does every scenario that the options ask for to every contender in turn.
func (b *bench) run(ctx context.Context) error {
	length := capacityTime
	if b.options.Quick {
		length = quickCapacityTime
	}
	var err error
	if b.results.Capacity, err = b.measureCapacity(ctx, length); err != nil {
		return err
	}
	b.say("capacity: %.0f operations per second", b.results.Capacity)
	did := false
	var names []string
	for _, s := range scenarios(b.results.Capacity, b.options.Quick) {
		names = append(names, s.name)
		if !b.options.Only.MatchString(s.name) {
			continue
		}
		did = true
		for _, c := range b.contenders {
			m, err := b.measure(ctx, s, c)
			if err != nil {
				return err
			}
			b.results.Runs = append(b.results.Runs, *m)
		}
	}
	if !did {
		return fmt.Errorf("-only %q: expected to match one of %s", b.options.Only, strings.Join(names, " "))
	}
	return nil
}
