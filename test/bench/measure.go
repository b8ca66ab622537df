package main

import (
	"context"
	"fmt"
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// measure runs one entrant. Whatever the pooler does is a measurement, also that it
// hangs, fails or ends; an error is a machine's.
func (b *bench) measure(ctx context.Context, e entrant, seconds int) (*measurement, error) {
	m := &measurement{Work: e.work, Target: e.target.Name}
	stopSleepers, err := b.startSleepers(ctx, e.target, e.load.sleepers)
	if err != nil {
		m.Outcome, m.Note = page.Fails, err.Error()
		return m, b.recover(ctx, e.target)
	}
	before, err := b.cpuTimes(e.target)
	if err != nil {
		return nil, err
	}
	stopGuessers := b.startGuessers(ctx, e.target, e.load.guesses)
	result, err := b.pgbench(ctx, e.target, e.load, seconds)
	guesses, guessErr := stopGuessers()
	if err != nil {
		_ = stopSleepers() // the first error counts
		return nil, err
	}
	m.Outcome, m.Note = result.outcome, result.note
	if err := stopSleepers(); err != nil && m.Outcome == page.Succeeded {
		m.Outcome, m.Note = page.Fails, err.Error()
	}
	if m.FailingLogins = guesses; guessErr != nil && m.Outcome == page.Succeeded {
		m.Outcome, m.Note = page.Fails, guessErr.Error()
	}
	if lastWords, ended := e.target.Ended(); ended {
		m.Outcome, m.Note = page.Fails, "its process ended: "+lastWords
	}
	if m.Outcome == page.Succeeded && result.transactions == 0 {
		m.Outcome, m.Note = page.Fails, "no transaction ended"
	}
	if m.Outcome != page.Succeeded {
		b.say("%-22s %-10s %s: %s", m.Work, m.Target, m.Outcome, m.Note)
		return m, b.recover(ctx, e.target)
	}
	after, err := b.cpuTimes(e.target)
	if err != nil {
		return nil, err
	}
	if m.RSSBytes, err = e.target.ResidentBytes(); err != nil {
		return nil, err
	}
	m.fill(result, before, after)
	b.say("%-22s %-10s %8.0f tps  p50 %.3f ms  p99 %.3f ms  %.2f µs/transaction",
		m.Work, m.Target, m.TPS, m.P50, m.P99, m.CPU)
	return m, nil
}

// cpuTimes is the CPU time that two of the three processes at work have used so far.
type cpuTimes struct{ pooler, server time.Duration }

func (b *bench) cpuTimes(t *rig.Target) (c cpuTimes, err error) {
	if c.pooler, err = t.CPUTime(); err != nil {
		return c, err
	}
	c.server, err = b.rig.ServerCPUTime()
	return c, err
}

func (m *measurement) fill(result *pgbenchResult, before, after cpuTimes) {
	perTransaction := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(result.transactions) }
	m.TPS = result.tps
	m.CPU, m.ServerCPU = perTransaction(after.pooler-before.pooler), perTransaction(after.server-before.server)
	m.ClientCPU = perTransaction(result.cpu)
	if len(result.latencies) > 0 {
		m.P50, m.P99 = page.Percentile(result.latencies, 0.50), page.Percentile(result.latencies, 0.99)
	}
}

// recover gives a pooler that failed a fresh process and ends what it left on the
// server.
func (b *bench) recover(ctx context.Context, t *rig.Target) error {
	if t.IsPooler() {
		if err := t.Restart(ctx, b.rig.Dir); err != nil {
			return err
		}
	}
	// Open transactions of the old process would hold their locks until the server
	// sees that it has gone. The other poolers reconnect.
	if _, err := b.rig.Admin.Exec(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
		AND state <> 'idle'`); err != nil {
		return fmt.Errorf("end what %s left on the server: %w", t.Name, err)
	}
	return nil
}
