package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/test/rig"
)

// slowQuery is what a sleeper repeats.
const slowQuery = "SELECT pg_sleep(0.2)"

// startSleepers runs slow queries, one behind the other on each of count connections, and
// returns when every connection has had an answer. stop waits for the queries under way
// and returns the first error of any.
func (b *bench) startSleepers(ctx context.Context, t *rig.Target, count int) (stop func() error, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var sleepers, started sync.WaitGroup
	stopping := make(chan struct{})
	started.Add(count)
	for range count {
		sleepers.Go(func() {
			once := sync.OnceFunc(started.Done)
			defer once()
			if err := sleep(ctx, t, stopping, once); err != nil {
				cancel(fmt.Errorf("slow query: %w", err))
			}
		})
	}
	started.Wait()
	stop = func() error {
		close(stopping)
		sleepers.Wait()
		err := context.Cause(ctx)
		cancel(errStopped)
		return err
	}
	if ctx.Err() != nil {
		return nil, stop()
	}
	return stop, nil
}

var errStopped = errors.New("stopped")

func sleep(ctx context.Context, t *rig.Target, stopping <-chan struct{}, answered func()) error {
	conn, err := pgx.Connect(ctx, t.URL())
	if err != nil {
		return err
	}
	// A connection that has served may end as it likes.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		if _, err := conn.Exec(ctx, slowQuery); err != nil {
			return err
		}
		answered()
		select {
		case <-stopping:
			return nil
		default:
		}
	}
}
