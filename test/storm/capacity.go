package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/test/rig"
)

// How long the capacity is measured.
const (
	capacityTime      = 5 * time.Second
	quickCapacityTime = 300 * time.Millisecond
)

// measureCapacity is how many operations PostgreSQL ends per second when as many direct
// connections as a pool has keep it busy, each with one behind the other.
func (b *bench) measureCapacity(ctx context.Context, length time.Duration) (float64, error) {
	conns := make([]*pgx.Conn, poolSize)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx)) // it has served
			}
		}
	}()
	for i := range conns {
		var err error
		if conns[i], err = pgx.Connect(ctx, b.rig.Cluster.URL(rig.User, rig.Database)); err != nil {
			return 0, err
		}
	}
	var workers sync.WaitGroup
	ended := make([]int, poolSize)
	failures := make([]error, poolSize)
	statement := tagged(plainStatement, false, 1)
	begin := time.Now()
	for i, conn := range conns {
		workers.Go(func() {
			for time.Since(begin) < length && failures[i] == nil {
				_, failures[i] = conn.Exec(ctx, statement, int64(ended[i]))
				ended[i]++
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(begin)
	total := 0
	for i := range ended {
		if failures[i] != nil {
			return 0, fmt.Errorf("measure the capacity: %w", failures[i])
		}
		total += ended[i]
	}
	return float64(total) / elapsed.Seconds(), nil
}
