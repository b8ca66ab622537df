package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// stopStep is how often it is looked for backends that have come since.
const stopStep = 5 * time.Millisecond

// stop begins a stall, which lasts until resume is called. It uses the connection of the
// ledger.
func (l *ledger) stop(ctx context.Context, postmaster int, kind stall) (resume func() error, err error) {
	if kind == stallLock {
		tx, err := l.conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE storm.execution IN ACCESS EXCLUSIVE MODE"); err != nil {
			return nil, errors.Join(err, tx.Rollback(ctx))
		}
		return func() error { return tx.Commit(ctx) }, nil
	}
	// What is no backend of the benchmark goes on, and what PostgreSQL needs to let
	// others in.
	rows, err := l.conn.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	if err != nil {
		return nil, err
	}
	backends, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, err
	}
	return stopBackends(ctx, postmaster, backends)
}

// stopBackends sends SIGSTOP to the backends, and to every other that the postmaster
// starts until resume is called: a database that is stalled lets nobody work, however new
// he is.
func stopBackends(ctx context.Context, postmaster int, backends []int) (resume func() error, err error) {
	children, err := childrenOf(postmaster)
	if err != nil {
		return nil, err
	}
	known := make(map[int]bool)
	for _, pid := range children {
		known[pid] = !slices.Contains(backends, pid)
	}
	var stopped []int
	stopNew := func() error {
		children, err := childrenOf(postmaster)
		for _, pid := range children {
			if !known[pid] {
				known[pid] = true
				stopped = append(stopped, pid)
				err = errors.Join(err, send(pid, syscall.SIGSTOP))
			}
		}
		return err
	}
	if err := stopNew(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(stopStep)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			if err := stopNew(); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		err := <-done
		for _, pid := range stopped {
			err = errors.Join(err, send(pid, syscall.SIGCONT))
		}
		return err
	}, nil
}

// send sends a signal to a process that may have ended.
func send(pid int, s syscall.Signal) error {
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%v for process %d: %w", s, pid, err)
	}
	return nil
}

// childrenOf lists the processes that a process has started.
func childrenOf(parent int) ([]int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	if err != nil {
		return nil, fmt.Errorf("list the processes of PostgreSQL: %w", err)
	}
	var children []int
	for _, field := range strings.Fields(string(content)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list the processes of PostgreSQL: %w", err)
		}
		children = append(children, pid)
	}
	return children, nil
}
