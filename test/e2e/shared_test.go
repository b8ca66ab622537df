package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// tableLock makes reads of a table wait, which are plain enough to share a server,
// unlike those at a gate.
type tableLock struct {
	database *database
	conn     *pgx.Conn
}

func lockTable(t testing.TB, d *database, table string) *tableLock {
	t.Helper()
	l := &tableLock{d, connect(t, d.cluster.URL(devpg.Superuser, d.name))}
	if _, err := l.conn.Exec(patient(t), "begin; lock table "+table); err != nil {
		t.Fatal(err)
	}
	return l
}

// await returns when that many backends wait for the lock.
func (l *tableLock) await(t testing.TB, count int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d backends wait for the table", count), func() bool {
		return value[int](t, l.database, "select count(*) from pg_stat_activity where usename = $1 and wait_event_type = 'Lock'", l.database.role) == count
	})
}

func (l *tableLock) release(t testing.TB) {
	t.Helper()
	if _, err := l.conn.Exec(patient(t), "commit"); err != nil {
		t.Error(err)
	}
}

// TestSlowSharedRead has a read that shares its server hang. Others must not wait for
// it, and it must not be lost, whatever befalls it.
func TestSlowSharedRead(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item as select i as id from generate_series(1, 100) as i")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "3"})
	const slow = "select count(*) from item"
	fillPool(t, p, d, 3)
	// A read is shared as long as it is fast; the more often it is, the sooner the
	// proxy forgets that it was not.
	makeShared := func(t *testing.T) {
		t.Helper()
		client := loginWire(t, p.address, d)
		eventually(t, "the read is shared", func() bool {
			for range 100 {
				client.ask(t, slow)
			}
			before := p.poolStats(t, d).SharedGroups
			client.ask(t, slow)
			return p.poolStats(t, d).SharedGroups > before
		})
	}
	// block has a client's read share a server and hang. On a machine that stalls, the
	// read before may have been a slow one, and the proxy lends a server instead.
	block := func(t *testing.T) (*wireClient, *tableLock) {
		t.Helper()
		for {
			makeShared(t)
			client, lock := loginWire(t, p.address, d), lockTable(t, d, "item")
			before := p.poolStats(t, d).SharedGroups
			client.query(t, slow)
			lock.await(t, 1)
			if p.poolStats(t, d).SharedGroups > before {
				return client, lock
			}
			lock.release(t)
			client.until(t, "ReadyForQuery")
		}
	}
	pids := d.pids(t, 3)

	for _, test := range []struct {
		name string
		end  func(*testing.T, *wireClient, *tableLock) *wireClient
		want string
	}{
		{"in the end it is answered", func(t *testing.T, w *wireClient, l *tableLock) *wireClient {
			l.release(t)
			return w
		}, "100"},
		{"cancelled", func(t *testing.T, w *wireClient, l *tableLock) *wireClient {
			w.cancel(t)
			return w
		}, cancelled},
		{"its client dies", func(t *testing.T, w *wireClient, l *tableLock) *wireClient {
			w.vanish(t)
			return nil
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, lock := block(t)
			serveOthers(t, p, d)
			if client = test.end(t, client, lock); client != nil {
				got := client.until(t, "ReadyForQuery")
				if answer := errorCode(got) + strings.Join(firstColumn(got), ""); answer != test.want {
					t.Errorf("got %q, want %s", got, test.want)
				}
				client.usable(t)
			}
			lock.await(t, 0)
			p.waitPool(t, d, "all servers are free", func(s poolStats) bool { return s.ServersIdle == 3 })
			d.expectPIDs(t, pids)
		})
	}
	t.Run("its server dies", func(t *testing.T) {
		client, lock := block(t)
		d.exec(t, "select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = $1 and wait_event_type = 'Lock'", d.role)
		lock.await(t, 1) // it is run again
		lock.release(t)
		if got := client.until(t, "ReadyForQuery"); strings.Join(firstColumn(got), "") != "100" {
			t.Errorf("got %q", got)
		}
	})
}

// TestHiddenWrites has clients run what looks like a read and writes, fast enough to
// share servers if it were one, and now and then so slowly that others are moved out
// of its way. Each must be run once.
func TestHiddenWrites(t *testing.T) {
	t.Parallel()
	const clientCount, callCount = 8, 150
	d := newDatabase(t)
	d.execAsRole(t, `create table call (client int); create sequence turn;
		create function write_down(client int) returns int language plpgsql as $$ begin
			insert into call values (client);
			if nextval('turn') % 60 = 0 then perform pg_sleep(0.03); end if;
			return client;
		end $$;
		create operator !@# (rightarg = int, function = write_down);
		create view hidden as select write_down(0) as client`)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	ctx := patient(t)
	var working sync.WaitGroup
	for i := range clientCount {
		conn := p.connect(t, d)
		sql, want := "select client, $1::int from hidden", 0
		if i%2 == 0 {
			sql, want = "select !@# $1::int, 0", i
		}
		working.Go(func() {
			for range callCount {
				var got, other int
				if err := conn.QueryRow(ctx, sql, i).Scan(&got, &other); err != nil || got != want {
					t.Errorf("client %d: got %d, %v", i, got, err)
					return
				}
				if err := conn.QueryRow(ctx, "select $1::int", i).Scan(&got); err != nil || got != i {
					t.Errorf("client %d: got %d, %v", i, got, err)
					return
				}
			}
		})
	}
	working.Wait()
	if count := value[int](t, d, "select count(*) from call"); count != clientCount*callCount {
		t.Errorf("%d writes, want %d", count, clientCount*callCount)
	}
}

// TestSharedReads has many clients read on few servers, with answers of all sizes,
// while some are cancelled, some die and one writes: every answer is the client's own.
func TestSharedReads(t *testing.T) {
	t.Parallel()
	const clientCount, readCount = 60, 150
	d := newDatabase(t)
	d.execAsRole(t, "create table item as select i as id, 0 as version, repeat(i::text || ' ', i) as body from generate_series(1, 200) as i; create index on item (id)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "3", "SHARED_DEPTH": "32"})
	ctx := patient(t)
	var working sync.WaitGroup
	var committed atomic.Int64
	for i := range clientCount {
		working.Go(func() {
			reader := sharedReader{p.url(d), rand.New(rand.NewPCG(7, uint64(i))), &committed}
			if err := reader.read(ctx, i, readCount); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	writer := p.connect(t, d)
	for version := 1; version <= 50; version++ {
		if _, err := writer.Exec(ctx, "update item set version = $1", version); err != nil {
			t.Errorf("write: %v", err)
		}
		committed.Store(int64(version))
	}
	working.Wait()
	got := p.poolStats(t, d)
	if got.SharedGroups < clientCount || len(got.ServersClosed) > 0 {
		t.Errorf("pool: %+v, want shared groups and no server closed", got)
	}
	t.Logf("%d of %d groups shared a server, %d were run again", got.SharedGroups, got.QueryCount, got.GroupsRunAgain)
}

// sharedReader is a client of TestSharedReads.
type sharedReader struct {
	url       string
	random    *rand.Rand
	committed *atomic.Int64 // the version that every read from now on must see, or a later one
}

func (r sharedReader) read(ctx context.Context, client, count int) error {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}()
	for n := range count {
		if conn == nil {
			var err error
			if conn, err = pgx.Connect(ctx, r.url); err != nil {
				return err
			}
		}
		switch {
		case client%5 == 0 && n%20 == 10: // dies with a read under way
			_ = conn.PgConn().Exec(ctx, "select body from item")
			if err := conn.PgConn().Conn().Close(); err != nil {
				return err
			}
			conn = nil
			continue
		case client%5 == 1 && n%20 == 10: // is cancelled, perhaps
			if err := conn.PgConn().CancelRequest(ctx); err != nil {
				return err
			}
		}
		id := 1 + r.random.IntN(200)
		before := r.committed.Load()
		var gotClient, gotID, version int
		var body string
		err := conn.QueryRow(ctx, "select $1::int, id, version, body from item where id = $2", modes[(client+n)%3], client, id).
			Scan(&gotClient, &gotID, &version, &body)
		var failure *pgconn.PgError
		switch {
		case client%5 == 1 && errors.As(err, &failure) && failure.Code == "57014":
		case err != nil:
			return err
		case gotClient != client || gotID != id || body != strings.Repeat(fmt.Sprint(id, " "), id):
			return fmt.Errorf("asked for item %d, got %d of client %d, %d characters", id, gotID, gotClient, len(body))
		case int64(version) < before:
			return fmt.Errorf("got version %d after version %d was committed", version, before)
		}
	}
	return nil
}
