package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// gate is where queries wait until the test lets them through: an advisory lock
// that a direct connection holds.
type gate struct {
	database *database
	conn     *pgx.Conn
	key      int32
}

var gateCount atomic.Int32

func newGate(t testing.TB, d *database) *gate {
	t.Helper()
	conn, err := pgx.Connect(patient(t), d.cluster.URL(devpg.Superuser, d.name))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{database: d, conn: conn, key: gateCount.Add(1)}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(patient(t), "select pg_advisory_lock($1)", g.key); err != nil {
		t.Fatal(err)
	}
	return g
}

// call is an expression that waits at the gate and is then true.
func (g *gate) call() string {
	return fmt.Sprintf("(pg_advisory_xact_lock_shared(%d) is not null)", g.key)
}

// waiting counts the backends at the gate.
func (g *gate) waiting(t testing.TB) int {
	t.Helper()
	count := 0
	for _, b := range g.database.backends(t) {
		if b.State == "active" && strings.Contains(b.Query, g.call()) {
			count++
		}
	}
	return count
}

// await returns when that many backends wait at the gate.
func (g *gate) await(t testing.TB, count int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d backends at the gate", count), func() bool { return g.waiting(t) == count })
}

// open lets everybody through, from now on.
func (g *gate) open(t testing.TB) {
	t.Helper()
	if err := g.conn.Close(patient(t)); err != nil {
		t.Error(err)
	}
}
