package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestThousandClients has 1,000 clients connected at once over 8 servers.
func TestThousandClients(t *testing.T) {
	t.Parallel()
	const clientCount, poolSize = 1000, 8
	d := newDatabase(t)
	d.execAsRole(t, "create table visit (client int, sequence int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": fmt.Sprint(poolSize)})
	stopWatching := d.watchBackends(t)

	ctx := patient(t)
	connected := make(chan struct{})
	var arriving, working sync.WaitGroup
	arriving.Add(clientCount)
	for i := range clientCount {
		working.Go(func() {
			conn, err := pgx.Connect(ctx, p.url(d))
			arriving.Done()
			if err != nil {
				t.Errorf("client %d: connect: %v", i, err)
				return
			}
			defer conn.Close(ctx)
			<-connected
			if err := visit(ctx, conn, i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	arriving.Wait()
	if got := p.stats(t).ClientCount; got != clientCount {
		t.Errorf("the proxy has %d clients, want %d", got, clientCount)
	}
	close(connected)
	working.Wait()

	if most := stopWatching(); most < 1 || most > poolSize {
		t.Errorf("PostgreSQL had up to %d backends of the pool, want 1 to %d", most, poolSize)
	}
	if got := p.poolStats(t, d); got.ServerConnects > poolSize || got.WaitTimeouts != 0 {
		t.Errorf("pool: %+v, want at most %d connects and no timeouts", got, poolSize)
	}
	wrong := value[int](t, d, `select count(*) from (select client from visit group by client
		having count(*) <> 3 or min(sequence) <> 1 or max(sequence) <> 3) as wrong`)
	if visitors := value[int](t, d, "select count(distinct client) from visit"); visitors != clientCount || wrong != 0 {
		t.Errorf("%d clients left rows, %d of them wrong ones; want %d, 0", visitors, wrong, clientCount)
	}
}

// visit does what a client does: every answer must be its own.
func visit(ctx context.Context, conn *pgx.Conn, client int) error {
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	for sequence := 1; sequence <= 3; sequence++ {
		mode := modes[(client+sequence)%len(modes)]
		var gotClient, gotSequence int
		var gotText string
		err := conn.QueryRow(ctx, "insert into visit values ($1, $2) returning client, sequence, $3::text",
			mode, client, sequence, secretMarker).Scan(&gotClient, &gotSequence, &gotText)
		if err != nil {
			return err
		}
		if gotClient != client || gotSequence != sequence || gotText != secretMarker {
			return fmt.Errorf("got the row %d, %d, %q for %d, %d", gotClient, gotSequence, gotText, client, sequence)
		}
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var first, second, rows int
		if err := tx.QueryRow(ctx, "select pg_backend_pid(), count(*) from visit where client = $1", client).Scan(&first, &rows); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "select pg_backend_pid()").Scan(&second); err != nil {
			return err
		}
		if first != second || rows != 3 {
			return fmt.Errorf("transaction on backends %d and %d saw %d rows, want one backend and 3 rows", first, second, rows)
		}
		return nil
	})
}

// TestMaxDBConnections has pools compete for fewer servers than they may have.
func TestMaxDBConnections(t *testing.T) {
	t.Parallel()
	const limit = 3
	databases := []*database{newDatabase(t), newDatabase(t), newDatabase(t)}
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "3", "MAX_DB_CONNECTIONS": fmt.Sprint(limit)})
	serverCount := func() int {
		count := 0
		for _, pool := range p.stats(t).Pools {
			count += pool.serverCount()
		}
		return count
	}
	// One after the other: idle servers make room.
	for range 2 {
		for _, d := range databases {
			var clients []*wireClient
			for range limit {
				client := loginWire(t, p.address, d)
				client.hold(t)
				clients = append(clients, client)
			}
			if got := serverCount(); got != limit {
				t.Errorf("%d servers, want %d", got, limit)
			}
			for _, client := range clients {
				client.ask(t, "commit")
			}
		}
	}
	// All at once: nobody starves.
	ctx := patient(t)
	stop := make(chan struct{})
	watched := make(chan int)
	go func() {
		most := 0
		for {
			select {
			case <-stop:
				watched <- most
				return
			default:
				most = max(most, serverCount())
			}
		}
	}()
	var working sync.WaitGroup
	for _, d := range databases {
		for range 5 {
			conn := p.connect(t, d)
			working.Go(func() {
				for n := range 40 {
					var got int
					err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
						return tx.QueryRow(ctx, "select $1::int from txid_current()", n).Scan(&got)
					})
					if err != nil || got != n {
						t.Errorf("database %s: got %d, %v; want %d", d.name, got, err, n)
						return
					}
				}
			})
		}
	}
	working.Wait()
	close(stop)
	if most := <-watched; most > limit {
		t.Errorf("the proxy had up to %d servers, want at most %d", most, limit)
	}
	eventually(t, "PostgreSQL has as few backends", func() bool {
		total := 0
		for _, d := range databases {
			total += len(d.pidsNow(t))
		}
		return total <= limit
	})
}
