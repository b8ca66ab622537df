package main

import (
	"context"
	"errors"
	"time"

	"github.com/billproxy/billproxy/test/page"
)

// measure does a scenario to a contender, whose process is a fresh one. Whatever becomes
// of that is a measurement; an error is a machine's.
func (b *bench) measure(ctx context.Context, s scenario, c contender) (*measurement, error) {
	if c.clients > 0 {
		s = s.forClients(c.clients)
	}
	m := &measurement{Scenario: s.name, Target: c.Name, Servers: c.servers(&s)}
	c.Stop()
	if err := b.ledger.reset(ctx); err != nil {
		return nil, err
	}
	if err := c.Start(ctx, b.rig.Dir); err != nil {
		return nil, err
	}
	defer c.Stop()
	log, stalled, err := b.storm(ctx, &s, c, m)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if lastWords, ended := c.Ended(); ended {
		err = errors.Join(err, errors.New("its process ended: "+lastWords))
	}
	if err != nil {
		m.Outcome, m.Note = page.Fails, err.Error()
		b.say("%-12s %-15s %s: %s", m.Scenario, m.Target, m.Outcome, m.Note)
		return m, nil
	}
	begun, err := b.ledger.begun(ctx)
	if err != nil {
		return nil, err
	}
	c.Stop()
	account, err := b.ledger.settle(ctx, log)
	if err != nil {
		return nil, err
	}
	account.Begun = begun
	m.Account = *account
	m.summarize(&s, log, stalled)
	b.say("%-12s %-15s %s", m.Scenario, m.Target, m)
	return m, nil
}

// storm plays the clients. It returns what they wrote down, and when PostgreSQL went on
// after a stall, which is zero if there was none.
func (b *bench) storm(ctx context.Context, s *scenario, c contender, m *measurement) (log *runLog, stalled time.Duration, err error) {
	statement := plainStatement
	if c.gated {
		statement = gatedStatement
	}
	g, err := newGenerator(c.Port, s, schedule(b.options.seed, s), statement)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started, done := make(chan time.Time, 1), make(chan struct{})
	go func() {
		defer close(done)
		log, err = g.run(ctx, started)
	}()
	select {
	case <-done:
		return log, 0, err
	case start := <-started:
		before, cpuErr := c.CPUTime()
		stalled, stallErr := b.stall(ctx, s, start)
		if stallErr != nil {
			cancel(stallErr)
		}
		<-done
		after, afterErr := c.CPUTime()
		m.PoolerCPU = (after - before).Seconds() / time.Since(start).Seconds()
		return log, stalled, errors.Join(err, stallErr, cpuErr, afterErr)
	}
}

// stall keeps PostgreSQL from working while the scenario wants that, and returns when
// that has ended.
func (b *bench) stall(ctx context.Context, s *scenario, start time.Time) (end time.Duration, err error) {
	if s.stall == stallNone {
		return 0, nil
	}
	from, to := s.span(phaseDuring)
	if err := waitUntil(ctx, start.Add(from)); err != nil {
		return 0, err
	}
	resume, err := b.ledger.stop(ctx, b.rig.Cluster.PID(), s.stall)
	if err != nil {
		return 0, err
	}
	err = waitUntil(ctx, start.Add(to))
	return time.Since(start), errors.Join(err, resume())
}

func waitUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
