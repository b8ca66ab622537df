package rig

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
	Direct           = "direct"
	DirectMany       = "direct, 400" // connections
	PgBouncer        = "PgBouncer"
	PgBouncerHurried = "PgBouncer, 1 s" // is the longest wait
	Odyssey          = "Odyssey"
	Billproxy        = "billproxy"
	Yardstick        = "yardstick"
)

// readyTimeout bounds the start of a pooler.
const readyTimeout = 15 * time.Second

// Target is what clients connect to: PostgreSQL itself or a pooler before it.
type Target struct {
	// Static.
	Name      string
	Version   string
	Port      int
	ReadsOnly bool    // it knows select-only and nothing else
	Program   Command // Path is empty for PostgreSQL itself
	Password  string  // that it asks clients for; empty: it trusts them
	Encrypted bool    // it speaks TLS with clients and nothing else

	// The run at hand, nil for PostgreSQL itself; replaced by restart.
	process *process
}

// IsPooler reports whether it is anything but PostgreSQL itself.
func (t *Target) IsPooler() bool { return t.Program.Path != "" }

// Address is its "host:port".
func (t *Target) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Port)) }

// URL leads to the database of the benchmark.
func (t *Target) URL() string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=%s", User, t.Password, t.Address(), Database, t.SSLMode())
}

// SSLMode is libpq's of the clients.
func (t *Target) SSLMode() string {
	if t.Encrypted {
		return "require"
	}
	return "disable"
}

// Start runs the pooler and returns when a query has passed through it.
func (t *Target) Start(ctx context.Context, dir string) error {
	if !t.IsPooler() {
		return nil
	}
	p, err := startProcess(ctx, dir, t.Program)
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
			return fmt.Errorf("%s ended: %s", t.Name, p.lastWords())
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("%s answers no query: %w: %s", t.Name, err, p.lastWords())
		case <-tick.C:
		}
	}
}

func (t *Target) probe(ctx context.Context) error {
	conn, err := pgconn.Connect(ctx, t.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1").ReadAll()
	// The connection served; nothing depends on how it ends.
	_ = conn.Close(ctx)
	return err
}

// Ended reports whether the pooler's process has ended by itself, and its last words.
func (t *Target) Ended() (lastWords string, ended bool) {
	if !t.IsPooler() || !t.process.hasExited() {
		return "", false
	}
	return t.process.lastWords(), true
}

// Stop ends the pooler.
func (t *Target) Stop() {
	if t.process != nil {
		t.process.stop()
	}
}

// Restart gives a pooler a fresh process on the same port.
func (t *Target) Restart(ctx context.Context, dir string) error {
	t.Stop()
	return t.Start(ctx, dir)
}

// CPUTime is the CPU time the pooler's process has used, 0 for PostgreSQL itself,
// whose processes end with their clients.
func (t *Target) CPUTime() (time.Duration, error) {
	if !t.IsPooler() {
		return 0, nil
	}
	return cpuTime(t.process.pid())
}

// ResidentBytes is the memory of the pooler's process, 0 for PostgreSQL itself.
func (t *Target) ResidentBytes() (int64, error) {
	if !t.IsPooler() {
		return 0, nil
	}
	return residentBytes(t.process.pid())
}
