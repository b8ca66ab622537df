package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Names of targets, as the report shows them.
const (
	nameDirect    = "direct"
	namePgBouncer = "PgBouncer"
	nameOdyssey   = "Odyssey"
	nameBillproxy = "billproxy"
	nameYardstick = "yardstick"
)

// poolSize is the server connections every pooler may have.
const poolSize = 16

// maxClients is the client connections every pooler is told to accept.
const maxClients = 10_000

// readyTimeout bounds the start of a pooler.
const readyTimeout = 15 * time.Second

// target is what clients connect to: PostgreSQL itself or a pooler before it.
type target struct {
	// Static.
	name      string
	version   string
	port      int
	readsOnly bool    // it knows select-only and nothing else
	program   command // path is empty for PostgreSQL itself
	password  string  // that it asks clients for; empty: it trusts them
	encrypted bool    // it speaks TLS with clients and nothing else

	// The run at hand, nil for PostgreSQL itself; replaced by restart.
	process *process
}

func (t *target) isPooler() bool { return t.program.path != "" }

func (t *target) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.port)) }

// url leads to the database of the benchmark.
func (t *target) url() string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=%s", user, t.password, t.address(), database, t.sslMode())
}

// sslMode is libpq's of the clients.
func (t *target) sslMode() string {
	if t.encrypted {
		return "require"
	}
	return "disable"
}

// start runs the pooler and returns when a query has passed through it.
func (t *target) start(ctx context.Context, dir string) error {
	if !t.isPooler() {
		return nil
	}
	p, err := startProcess(ctx, dir, t.program)
	if err != nil {
		return err
	}
	t.process = p
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := t.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", t.name, p.lastWords())
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("%s answers no query: %w: %s", t.name, err, p.lastWords())
		case <-tick.C:
		}
	}
}

func (t *target) probe(ctx context.Context) error {
	conn, err := pgconn.Connect(ctx, t.url())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1").ReadAll()
	// The connection served; nothing depends on how it ends.
	_ = conn.Close(ctx)
	return err
}

func (t *target) stop() {
	if t.process != nil {
		t.process.stop()
	}
}

// restart gives a pooler a fresh process on the same port.
func (t *target) restart(ctx context.Context, dir string) error {
	t.stop()
	return t.start(ctx, dir)
}

// cpuTime is the CPU time the pooler's process has used, 0 for PostgreSQL itself,
// whose processes end with their clients.
func (t *target) cpuTime() (time.Duration, error) {
	if !t.isPooler() {
		return 0, nil
	}
	return cpuTime(t.process.pid())
}

// residentBytes is the memory of the pooler's process, 0 for PostgreSQL itself.
func (t *target) residentBytes() (int64, error) {
	if !t.isPooler() {
		return 0, nil
	}
	return residentBytes(t.process.pid())
}
