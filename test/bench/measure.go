package main

import (
	"context"
	"fmt"
	"time"
)

// measure runs one entrant. Whatever the pooler does is a measurement, also that it
// hangs, fails or ends; an error is a machine's.
func (b *bench) measure(ctx context.Context, e entrant, seconds int) (*measurement, error) {
	m := &measurement{Work: e.work, Target: e.target.name}
	stopSleepers, err := b.startSleepers(ctx, e.target, e.load.sleepers)
	if err != nil {
		m.Outcome, m.Note = fails, err.Error()
		return m, b.recover(ctx, e.target)
	}
	before, err := e.target.cpuTime()
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
	if err := stopSleepers(); err != nil && m.Outcome == succeeded {
		m.Outcome, m.Note = fails, err.Error()
	}
	if m.FailingLogins = guesses; guessErr != nil && m.Outcome == succeeded {
		m.Outcome, m.Note = fails, guessErr.Error()
	}
	if e.target.isPooler() && e.target.process.hasExited() {
		m.Outcome, m.Note = fails, "its process ended: "+e.target.process.lastWords()
	}
	if m.Outcome == succeeded && result.transactions == 0 {
		m.Outcome, m.Note = fails, "no transaction ended"
	}
	if m.Outcome != succeeded {
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

func (m *measurement) fill(t *target, result *pgbenchResult, cpuBefore time.Duration) error {
	cpu, err := t.cpuTime()
	if err != nil {
		return err
	}
	if m.RSSBytes, err = t.residentBytes(); err != nil {
		return err
	}
	m.TPS = result.tps
	m.CPU = float64((cpu - cpuBefore).Microseconds()) / float64(result.transactions)
	if len(result.latencies) > 0 {
		m.P50, m.P99 = percentile(result.latencies, 0.50), percentile(result.latencies, 0.99)
	}
	return nil
}

// recover gives a pooler that failed a fresh process and ends what it left on the
// server.
func (b *bench) recover(ctx context.Context, t *target) error {
	if t.isPooler() {
		if err := t.restart(ctx, b.dir); err != nil {
			return err
		}
	}
	// Open transactions of the old process would hold their locks until the server
	// sees that it has gone. The other poolers reconnect.
	if _, err := b.admin.Exec(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
		AND state <> 'idle'`); err != nil {
		return fmt.Errorf("end what %s left on the server: %w", t.name, err)
	}
	return nil
}
