package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const cancelled = "ERROR 57014"

// keyBytesOf32 is how long a cancel key is for a client that asks for protocol 3.2:
// the proxy promises what PostgreSQL would.
func keyBytesOf32(t *testing.T, d *database) int {
	t.Helper()
	var number int
	if err := d.admin.QueryRow(patient(t), "select current_setting('server_version_num')::int").Scan(&number); err != nil {
		t.Fatal(err)
	}
	if number >= 18_00_00 {
		return 32
	}
	return 4
}

// TestCancel cancels by each kind of key, and with wrong ones.
func TestCancel(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	fillPool(t, p, d, 2)
	pids := d.pids(t, 2)
	login := func(t *testing.T, version uint32) *wireClient {
		w := dialWire(t, "tcp", p.address)
		w.startup(t, version, "user", d.role, "database", d.name)
		w.until(t, "ReadyForQuery")
		return w
	}
	for _, version := range []struct {
		name     string
		version  uint32
		keyBytes int
	}{
		{"3.0", pgproto3.ProtocolVersion30, 4},
		{"3.2", pgproto3.ProtocolVersion32, keyBytesOf32(t, d)},
	} {
		t.Run("key of protocol "+version.name, func(t *testing.T) {
			client, g := login(t, version.version), newGate(t, d)
			if len(client.key) != version.keyBytes {
				t.Errorf("the key has %d bytes, want %d", len(client.key), version.keyBytes)
			}
			client.query(t, "select "+g.call())
			g.await(t, 1)
			client.cancel(t)
			if got := client.until(t, "ReadyForQuery"); errorCode(got) != cancelled {
				t.Errorf("got %q", got)
			}
			client.usable(t)

			client.ask(t, "begin")
			client.query(t, "select "+g.call())
			g.await(t, 1)
			client.cancel(t)
			if got := client.until(t, "ReadyForQuery"); errorCode(got) != cancelled || got[len(got)-1] != "ReadyForQuery E" {
				t.Errorf("in a transaction: got %q", got)
			}
			client.ask(t, "rollback")
			client.usable(t)
		})
		t.Run("wrong keys of protocol "+version.name, func(t *testing.T) {
			client, g := login(t, version.version), newGate(t, d)
			client.query(t, "select "+g.call()+", 'through'")
			g.await(t, 1)
			flipped := slices.Clone(client.key)
			flipped[len(flipped)-1] ^= 1
			cancelWire(t, p.address, client.pid, flipped)
			cancelWire(t, p.address, client.pid, append(slices.Clone(client.key), 0, 0, 0, 0))
			cancelWire(t, p.address, client.pid, make([]byte, len(client.key)))
			cancelWire(t, p.address, client.pid+1, client.key)
			cancelWire(t, p.address, uint32(pids[0]), client.key)
			g.await(t, 1)
			g.open(t)
			if got := client.until(t, "ReadyForQuery"); errorCode(got) != "" || len(firstColumn(got)) != 1 {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("pipeline", func(t *testing.T) {
		client, g := login(t, pgproto3.ProtocolVersion30), newGate(t, d)
		client.send(t, &pgproto3.Query{String: "select 1"}, &pgproto3.Query{String: "select " + g.call()})
		client.until(t, "ReadyForQuery")
		g.await(t, 1)
		client.cancel(t)
		if got := client.until(t, "ReadyForQuery"); errorCode(got) != cancelled {
			t.Errorf("got %q", got)
		}
		client.usable(t)
	})
	t.Run("copy in", func(t *testing.T) {
		d.execAsRole(t, "create table item (id int)")
		client := login(t, pgproto3.ProtocolVersion30)
		client.query(t, "copy item from stdin")
		client.until(t, "CopyInResponse")
		client.cancel(t)
		// PostgreSQL looks when data comes, so some has to come after the request.
		row := encode(t, &pgproto3.CopyData{Data: []byte("1\n")})
		var failed atomic.Bool
		var sending sync.WaitGroup
		sending.Go(func() {
			for err := error(nil); err == nil && !failed.Load(); {
				_, err = client.conn.Write(row)
			}
		})
		got := client.until(t, "ReadyForQuery")
		failed.Store(true)
		sending.Wait()
		if errorCode(got) != cancelled {
			t.Errorf("got %q", got)
		}
		client.send(t, &pgproto3.CopyData{Data: []byte("2\n")}, &pgproto3.CopyDone{})
		client.usable(t)
		if count := value[int](t, d, "select count(*) from item"); count != 0 {
			t.Errorf("%d rows were copied", count)
		}
	})
	t.Run("idle", func(t *testing.T) {
		client := login(t, pgproto3.ProtocolVersion30)
		client.cancel(t)
		client.usable(t)
		client.hold(t)
		client.cancel(t)
		client.ask(t, "commit")
		client.usable(t)
	})
	p.waitPool(t, d, "all servers are free", func(s poolStats) bool { return s.ServersIdle == 2 })
	d.expectPIDs(t, pids)
}

// TestCancelWaiting cancels a query that has no server yet.
func TestCancelWaiting(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	holder, waiter := loginWire(t, p.address, d), loginWire(t, p.address, d)
	holder.hold(t)
	for _, group := range [][]pgproto3.FrontendMessage{
		{&pgproto3.Query{String: "select 'never'"}},
		{&pgproto3.Parse{Query: "select 'never'"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}},
	} {
		waiter.send(t, group...)
		p.waitPool(t, d, "one waits", func(s poolStats) bool { return s.ClientsWaiting == 1 })
		waiter.cancel(t)
		got := waiter.until(t, "ReadyForQuery")
		if errorCode(got) != cancelled || got[len(got)-1] != "ReadyForQuery I" || len(firstColumn(got)) != 0 {
			t.Errorf("got %q", got)
		}
	}
	holder.ask(t, "commit")
	waiter.usable(t)
	holder.usable(t)
}

// TestCancelNeighbour cancels one of two clients that take turns on the servers, or
// share them. The other must never notice.
func TestCancelNeighbour(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, poolSize, sql string }{
		{"one server", "1", "select $1::int + 0 * length(pg_sleep($2::float8 / 10e6)::text)"},
		{"two servers", "2", "select $1::int + 0 * length(pg_sleep($2::float8 / 10e6)::text)"},
		{"one shared server", "1", "select $1::int + 0 * count(*)::int from generate_series(1, $2::int)"},
		{"two shared servers", "2", "select $1::int + 0 * count(*)::int from generate_series(1, $2::int)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDatabase(t)
			p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": test.poolSize})
			target := p.connect(t, d)
			ctx := patient(t)
			var hits, stopped atomic.Int64
			var working sync.WaitGroup
			begun := make(chan struct{}) // a query of the target
			work := func(name string, conn *pgx.Conn, seed uint64, mayFail bool) {
				random := rand.New(rand.NewPCG(seed, seed))
				for n := 0; stopped.Load() == 0; n++ {
					if mayFail {
						select {
						case begun <- struct{}{}:
						default:
						}
					}
					var got int
					err := conn.QueryRow(ctx, test.sql, n, random.IntN(10_000)).Scan(&got)
					var failure *pgconn.PgError
					switch {
					case mayFail && errors.As(err, &failure) && failure.Code == "57014" && !conn.IsClosed():
						hits.Add(1)
					case err != nil || got != n:
						t.Errorf("%s: got %d, %v; want %d", name, got, err, n)
						return
					}
				}
			}
			working.Go(func() { work("target", target, 1, true) })
			for i := range uint64(2) {
				neighbour := p.connect(t, d)
				working.Go(func() { work("neighbour", neighbour, 2+i, false) })
			}
			random := rand.New(rand.NewPCG(4, 4))
			for range 200 {
				<-begun
				for range random.IntN(100) {
					runtime.Gosched()
				}
				if err := target.PgConn().CancelRequest(ctx); err != nil {
					t.Errorf("cancel: %v", err)
				}
			}
			stopped.Store(1)
			working.Wait()
			if hits.Load() == 0 {
				t.Error("no cancel has hit its target")
			}
			t.Logf("%d of 200 cancels hit; pool: %+v", hits.Load(), p.poolStats(t, d))
		})
	}
}

// TestCancelAfterDeath has the key of a client that is gone do no harm.
func TestCancelAfterDeath(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	gone, err := pgx.Connect(patient(t), p.url(d))
	if err != nil {
		t.Fatal(err)
	}
	pid, key := gone.PgConn().PID(), gone.PgConn().SecretKey()
	if err := gone.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	client, g := loginWire(t, p.address, d), newGate(t, d)
	client.query(t, "select "+g.call())
	g.await(t, 1)
	cancelWire(t, p.address, pid, key)
	g.open(t)
	if got := client.until(t, "ReadyForQuery"); errorCode(got) != "" {
		t.Errorf("got %q", got)
	}
}
