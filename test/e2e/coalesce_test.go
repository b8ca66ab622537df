package e2e

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestCoalescedReads has many clients ask the same while the only server is taken.
// PostgreSQL counts how often the table is read for them.
func TestCoalescedReads(t *testing.T) {
	t.Parallel()
	const (
		clientCount = 100
		query       = "select id, name from item order by id"
	)
	for name, mode := range map[string]pgx.QueryExecMode{
		"simple": pgx.QueryExecModeSimpleProtocol, "parsed": pgx.QueryExecModeExec, "prepared": pgx.QueryExecModeCacheStatement,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.execAsRole(t, "create table item as select i as id, 'name ' || i as name from generate_series(1, 50) as i; analyze item")
			p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "QUERY_WAIT_TIMEOUT": "1m"})
			ask := func(ctx context.Context, conn *pgx.Conn) ([]map[string]any, error) {
				rows, err := conn.Query(ctx, query, mode)
				if err != nil {
					return nil, err
				}
				return pgx.CollectRows(rows, pgx.RowToMap)
			}
			var conns []*pgx.Conn
			for range clientCount {
				conns = append(conns, p.connect(t, d))
			}
			before, warmCount := scans(t, d), 0
			eventually(t, "the read is shared", func() bool {
				before := p.poolStats(t, d).SharedGroups
				for range 20 {
					warmCount++
					if _, err := ask(patient(t), conns[0]); err != nil {
						t.Fatal(err)
					}
				}
				return p.poolStats(t, d).SharedGroups == before+20
			})
			holder := loginWire(t, p.address, d)
			holder.hold(t)
			var done sync.WaitGroup
			for _, conn := range conns {
				done.Go(func() {
					answer, err := ask(patient(t), conn)
					if err != nil || len(answer) != 50 || answer[6]["name"] != "name 7" {
						t.Errorf("%d rows, error %v", len(answer), err)
					}
				})
			}
			p.waitPool(t, d, "all wait", func(s poolStats) bool { return s.ClientsWaiting == clientCount })
			holder.ask(t, "commit")
			done.Wait()
			// It is once unless the machine stalls meanwhile.
			got := scans(t, d) - before - warmCount
			if got < 1 || got > clientCount/5 {
				t.Errorf("PostgreSQL read the table %d times for %d clients", got, clientCount)
			}
			if coalesced := p.poolStats(t, d).CoalescedReads; coalesced < clientCount-got {
				t.Errorf("%d reads coalesced, but only %d were run", coalesced, got)
			}
		})
	}
}

// scans is how often PostgreSQL has read the table "item".
func scans(t *testing.T, d *database) int {
	t.Helper()
	d.terminate(t) // a backend that ends tells at once what it has done
	return value[int](t, d, "select pg_stat_get_numscans('item'::regclass)")
}
