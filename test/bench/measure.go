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
	before, err := e.target.CPUTime()
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
	if err := m.fill(e.target, result, before); err != nil {
		return nil, err
	}
	b.say("%-22s %-10s %8.0f tps  p50 %.3f ms  p99 %.3f ms  %.2f µs/transaction",
		m.Work, m.Target, m.TPS, m.P50, m.P99, m.CPU)
	return m, nil
}

func (m *measurement) fill(t *rig.Target, result *pgbenchResult, cpuBefore time.Duration) error {
	cpu, err := t.CPUTime()
	if err != nil {
		return err
	}
	if m.RSSBytes, err = t.ResidentBytes(); err != nil {
		return err
	}
	m.TPS = result.tps
	m.CPU = float64((cpu - cpuBefore).Microseconds()) / float64(result.transactions)
	if len(result.latencies) > 0 {
		m.P50, m.P99 = page.Percentile(result.latencies, 0.50), page.Percentile(result.latencies, 0.99)
	}
	return nil
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
