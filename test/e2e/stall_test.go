package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// endless is a result without an end worth mentioning, of numbered rows.
const endless = "select generate_series(1, 1000000000), repeat('x', 1000)"

// stallOn starts an endless result that the client does not read, and returns when
// the server cannot send any more.
func stallOn(t testing.TB, d *database, clients ...*wireClient) {
	t.Helper()
	for _, client := range clients {
		client.query(t, endless)
	}
	eventually(t, fmt.Sprintf("%d backends are stalled", len(clients)), func() bool {
		return value[int](t, d, "select count(*) from pg_stat_activity where usename = $1 and wait_event = 'ClientWrite'", d.role) == len(clients)
	})
}

// serveOthers has other clients do work while some are stalled.
func serveOthers(t *testing.T, p *proxyProcess, d *database) {
	t.Helper()
	var working sync.WaitGroup
	ctx := patient(t)
	for i := range 4 {
		conn := p.connect(t, d)
		working.Go(func() {
			for n := range 200 {
				var got int
				if err := conn.QueryRow(ctx, "select $1::int", n).Scan(&got); err != nil || got != n {
					t.Errorf("client %d: got %d, %v; want %d", i, got, err, n)
					return
				}
			}
		})
	}
	working.Wait()
}

// TestStalledClient has clients stop reading in the middle of a large result. Nobody
// else notices, and they find all of it when they read on.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxyBinary(t, shared.plainBinary, "proxy", shared.cluster, settings{"DEFAULT_POOL_SIZE": "6"})
	var stalled []*wireClient
	for range 5 {
		stalled = append(stalled, loginWire(t, p.address, d))
	}
	stallOn(t, d, stalled...)
	serveOthers(t, p, d)
	p.checkMemory(t)
	for _, client := range stalled {
		client.until(t, "RowDescription")
		for row := 1; row <= 5000; row++ {
			if got, want := client.until(t, "DataRow")[0], fmt.Sprintf("DataRow %q,", fmt.Sprint(row)); !strings.HasPrefix(got, want) {
				t.Fatalf("row %d is %.40q", row, got)
			}
		}
	}
}

// TestStalledInput has a client send queries and never read the answers.
func TestStalledInput(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxyBinary(t, shared.plainBinary, "proxy", shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	client := loginWire(t, p.address, d)
	queries := encode(t, &pgproto3.Query{String: "select repeat('x', 1000)"})
	for len(queries) < 1<<20 {
		queries = append(queries, queries...)
	}
	ended := make(chan error)
	go func() {
		var err error
		for err == nil {
			_, err = client.conn.Write(queries)
		}
		ended <- err
	}()
	eventually(t, "the proxy or the server stops reading", func() bool {
		return value[int](t, d, "select count(*) from pg_stat_activity where usename = $1 and wait_event in ('ClientWrite', 'ClientRead')", d.role) > 0
	})
	serveOthers(t, p, d)
	p.checkMemory(t)
	_ = client.conn.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the client's writes ended with %v", err)
	}
	p.waitPool(t, d, "the server is free again", func(s poolStats) bool { return s.ServersLeased == 0 && s.ServersResetting == 0 })
}

// TestStallTimeout closes clients that keep a server and do not do their part.
func TestStallTimeout(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "CLIENT_STALL_TIMEOUT": "2s"})
	fillPool(t, p, d, 1)
	pids := d.pids(t, 1)
	long := encode(t, &pgproto3.Query{String: "select '" + strings.Repeat("x", 500_000) + "'"})
	for count, stall := range []struct {
		name  string
		begin func(*testing.T, *wireClient)
		told  string
	}{
		{"reads nothing", func(t *testing.T, w *wireClient) { stallOn(t, d, w) }, ""},
		{"sends half a query", func(t *testing.T, w *wireClient) { w.write(t, long[:len(long)/2]) }, "FATAL 08P01"},
		{"sends half a group", func(t *testing.T, w *wireClient) {
			w.send(t, &pgproto3.Parse{Query: "select 1"}, &pgproto3.Flush{})
		}, "FATAL 08P01"},
	} {
		t.Run(stall.name, func(t *testing.T) {
			client := loginWire(t, p.address, d)
			stall.begin(t, client)
			other := p.connect(t, d)
			var pid int32
			// It waits for the only server.
			if err := other.QueryRow(patient(t), "select pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil || pid != pids[0] {
				t.Errorf("another client was served by %d, %v; want %d", pid, err, pids[0])
			}
			if got := errorCode(client.untilClosed(t)); got != stall.told {
				t.Errorf("the stalled client was told %q, want %q", got, stall.told)
			}
			eventually(t, "the end in the log", func() bool { return p.log.ends("client stalled") == count+1 })
		})
	}
}
