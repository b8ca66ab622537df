package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

const (
	idleClients = 9000
	// idleQuiet is the time between the last query and the look at the memory.
	idleQuiet = 5 * time.Second
	// idleWarmUp is the clients that come and go before memory is looked at first, so
	// that what a process needs once is not counted.
	idleWarmUp = 100
	// idleDialers is the logins under way at a time.
	idleDialers = 16
	// idleQuery is the one query of each.
	idleQuery = "SELECT abalance FROM pgbench_accounts WHERE aid = 1"
	// spareFiles is the descriptors left for everything that is not an idle client.
	spareFiles = 300
)

// runIdle measures the memory that clients who do nothing cost each pooler.
func (b *bench) runIdle(ctx context.Context) error {
	count := idleClients
	if b.options.Quick {
		count = 1000
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(count)+spareFiles > limit.Cur {
		return fmt.Errorf("%s: the limit of open files is %d: expected at least %d (ulimit -n)", workIdle, limit.Cur, count+spareFiles)
	}
	var poolers []*rig.Target
	for _, t := range b.targets {
		if t.IsPooler() && !t.ReadsOnly {
			poolers = append(poolers, t)
		}
	}
	order := make([]int, len(poolers))
	for i := range order {
		order[i] = i
	}
	for repetition := range b.options.repeat {
		for _, i := range rotated(order, repetition) {
			m, err := b.measureIdle(ctx, poolers[i], count)
			if err != nil {
				return err
			}
			m.Repetition = repetition + 1
			b.results.Idle = append(b.results.Idle, *m)
		}
	}
	return nil
}

func (b *bench) measureIdle(ctx context.Context, t *rig.Target, count int) (*idleMeasurement, error) {
	if err := t.Restart(ctx, b.rig.Dir); err != nil {
		return nil, err
	}
	m := &idleMeasurement{Target: t.Name, Clients: count}
	conns, err := logInMany(t.Address(), idleWarmUp)
	closeAll(conns)
	if err == nil {
		if m.BeforeBytes, err = t.ResidentBytes(); err != nil {
			return nil, err
		}
		conns, err = logInMany(t.Address(), count)
		defer closeAll(conns)
	}
	if err != nil {
		m.Outcome, m.Note = page.Fails, err.Error()
		b.say("%-22s %-10s %s: %s", workIdle, t.Name, m.Outcome, m.Note)
		return m, b.recover(ctx, t)
	}
	select {
	case <-time.After(idleQuiet):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.AfterBytes, err = t.ResidentBytes(); err != nil {
		return nil, err
	}
	b.say("%-22s %-10s %d clients, %.0f bytes each", workIdle, t.Name, count, m.perClient())
	return m, nil
}

// logInMany opens connections, all of which the caller closes, also after an error.
func logInMany(address string, count int) ([]net.Conn, error) {
	conns := make([]net.Conn, count)
	failures := make([]error, idleDialers)
	var dialers sync.WaitGroup
	for d := range idleDialers {
		dialers.Go(func() {
			for i := d; i < count && failures[d] == nil; i += idleDialers {
				conns[i], failures[d] = logIn(address, idleQuery)
			}
		})
	}
	dialers.Wait()
	return conns, cmp.Or(failures...)
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
}
