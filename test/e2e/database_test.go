package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// database is a database and a role with the same name, which nobody but one test
// uses.
type database struct {
	name    string
	role    string
	cluster *devpg.Cluster

	// admin is a superuser's connection to the database, shared by the goroutines
	// of the test.
	mu    sync.Mutex
	admin *pgx.Conn
}

var databaseCount atomic.Int32

// newDatabase creates a database in the shared cluster.
func newDatabase(t testing.TB) *database {
	t.Helper()
	return newDatabaseIn(t, shared.cluster)
}

func newDatabaseIn(t testing.TB, cluster *devpg.Cluster) *database {
	t.Helper()
	name := fmt.Sprintf("e2e_%d", databaseCount.Add(1))
	d := &database{name: name, role: name, cluster: cluster}
	maintenance, err := pgx.Connect(patient(t), cluster.URL(devpg.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer maintenance.Close(patient(t))
	for _, sql := range []string{
		"create role " + name + " login",
		"create database " + name + " owner " + name,
	} {
		if _, err := maintenance.Exec(patient(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	d.reconnect(t)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = d.admin.Close(ctx)
		maintenance, err := pgx.Connect(ctx, cluster.URL(devpg.Superuser, "postgres"))
		if err != nil {
			return // the cluster is gone
		}
		defer maintenance.Close(ctx)
		for _, sql := range []string{
			"drop database " + name + " with (force)",
			"drop role " + name,
		} {
			if _, err := maintenance.Exec(ctx, sql); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

// reconnect replaces the admin connection, for a cluster that was restarted.
func (d *database) reconnect(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.admin != nil {
		_ = d.admin.Close(patient(t))
	}
	admin, err := pgx.Connect(patient(t), d.cluster.URL(devpg.Superuser, d.name))
	if err != nil {
		t.Fatal(err)
	}
	d.admin = admin
}

// directURL leads to the database without the proxy, as the test's role.
func (d *database) directURL(parameters ...string) string {
	return databaseURL(d.cluster.TCPAddress(), d.role, d.name, parameters...)
}

// exec runs SQL as superuser, directly.
func (d *database) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.admin.Exec(patient(t), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// execAsRole runs SQL directly as the test's role, who then owns what it makes.
func (d *database) execAsRole(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(patient(t), d.directURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(patient(t))
	if _, err := conn.Exec(patient(t), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value runs SQL that returns one value as superuser, directly.
func value[T any](t testing.TB, d *database, sql string, args ...any) T {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var v T
	if err := d.admin.QueryRow(patient(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// backend is a row of pg_stat_activity.
type backend struct {
	PID   int32
	State string
	Query string
}

// backends lists what PostgreSQL runs for the role.
func (d *database) backends(t testing.TB) []backend {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	found, err := backendsOf(patient(t), d.admin, d.role)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func backendsOf(ctx context.Context, conn *pgx.Conn, role string) ([]backend, error) {
	rows, err := conn.Query(ctx, `select pid, coalesce(state, ''), coalesce(query, '')
		from pg_stat_activity where usename = $1 and backend_type = 'client backend' order by pid`, role)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[backend])
}

// pids returns the process ids of the role's backends, of which there must be so
// many. A session that has just been closed may still have one for a moment.
func (d *database) pids(t testing.TB, count int) []int32 {
	t.Helper()
	var pids []int32
	eventually(t, fmt.Sprintf("%d backends", count), func() bool {
		pids = d.pidsNow(t)
		return len(pids) == count
	})
	return pids
}

// expectPIDs checks that the backends are the same processes as before.
func (d *database) expectPIDs(t testing.TB, before []int32) {
	t.Helper()
	if after := d.pids(t, len(before)); !slices.Equal(before, after) {
		t.Errorf("backends %v became %v", before, after)
	}
}

// pidsNow is pids, whatever their number.
func (d *database) pidsNow(t testing.TB) []int32 {
	t.Helper()
	var pids []int32
	for _, b := range d.backends(t) { // in order
		pids = append(pids, b.PID)
	}
	return pids
}

// countState counts the backends in a state of pg_stat_activity.
func (d *database) countState(t testing.TB, state string) int {
	t.Helper()
	count := 0
	for _, b := range d.backends(t) {
		if b.State == state {
			count++
		}
	}
	return count
}

// watchBackends samples the number of backends, of which there must be none yet,
// until stop is called, which returns the greatest seen.
func (d *database) watchBackends(t testing.TB) (stop func() int) {
	t.Helper()
	d.pids(t, 0)
	conn := connect(t, d.cluster.URL(devpg.Superuser, "postgres"))
	ctx := patient(t)
	done, greatest := make(chan struct{}), make(chan int, 1)
	go func() {
		most := 0
		for {
			select {
			case <-done:
				greatest <- most
				return
			default:
			}
			found, err := backendsOf(ctx, conn, d.role)
			if err != nil {
				t.Errorf("watch backends: %v", err)
				most = -1
				<-done
				greatest <- most
				return
			}
			most = max(most, len(found))
		}
	}()
	return func() int {
		close(done)
		return <-greatest
	}
}
