package e2e

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
)

// terminate ends the role's backends, and returns when they are gone.
func (d *database) terminate(t testing.TB) {
	t.Helper()
	d.exec(t, "select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = $1", d.role)
}

const terminated = "57P01"

// usable checks that a client still works, on whatever server.
func (w *wireClient) usable(t testing.TB) {
	t.Helper()
	got := w.ask(t, "select 'usable'")
	if len(got) == 0 || got[len(got)-1] != "ReadyForQuery I" || !slices.Equal(firstColumn(got), []string{"usable"}) {
		t.Errorf("the client is not usable any more:\n%s", strings.Join(got, "\n"))
	}
}

func TestTerminatedServer(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})

	t.Run("idle", func(t *testing.T) {
		client := loginWire(t, p.address, d)
		client.usable(t)
		d.terminate(t)
		p.waitPool(t, d, "the proxy has noticed", func(s poolStats) bool { return s.serverCount() == 0 })
		client.usable(t)
	})
	t.Run("simple query", func(t *testing.T) {
		client, g := loginWire(t, p.address, d), newGate(t, d)
		client.query(t, "select "+g.call())
		g.await(t, 1)
		d.terminate(t)
		if got := client.until(t, "ReadyForQuery"); errorCode(got) != "ERROR "+terminated || got[len(got)-1] != "ReadyForQuery I" {
			t.Errorf("got %q", got)
		}
		client.usable(t)
	})
	t.Run("several queries in one message", func(t *testing.T) {
		client, g := loginWire(t, p.address, d), newGate(t, d)
		client.query(t, "select 1; select "+g.call())
		g.await(t, 1)
		d.terminate(t)
		got := client.until(t, "ReadyForQuery")
		if errorCode(got) != "ERROR "+terminated {
			t.Errorf("got %q", got)
		}
		client.usable(t)
	})
	t.Run("pipeline", func(t *testing.T) {
		client, g := loginWire(t, p.address, d), newGate(t, d)
		client.play(t, extended(parse("number", "select $1::text")))
		client.play(t, extended(parse("gate", "select "+g.call())))
		client.send(t, bind("number", "1"), execute(), syncMessage(), bind("gate"), execute(), syncMessage(),
			bind("number", "2"), execute(), syncMessage(), bind("number", "3"), execute(), syncMessage())
		g.await(t, 1)
		d.terminate(t)
		if got := client.until(t, "ReadyForQuery"); !slices.Equal(firstColumn(got), []string{"1"}) {
			t.Errorf("the first group got %q", got)
		}
		for i := range 3 {
			got := client.until(t, "ReadyForQuery")
			if errorCode(got) != "ERROR "+terminated || got[len(got)-1] != "ReadyForQuery I" {
				t.Errorf("group %d got %q", i+2, got)
			}
		}
		client.usable(t)
	})
	t.Run("group without sync", func(t *testing.T) {
		client, g := loginWire(t, p.address, d), newGate(t, d)
		client.send(t, parse("", "select "+g.call()), bind(""), execute(), &pgproto3.Flush{})
		g.await(t, 1)
		d.terminate(t)
		if got := client.until(t, "ErrorResponse"); errorCode(got) != "ERROR "+terminated {
			t.Errorf("got %q", got)
		}
		client.send(t, parse("", "select 'skipped'"), bind(""), execute(), syncMessage())
		if got := client.until(t, "ReadyForQuery"); len(got) != 1 || got[0] != "ReadyForQuery I" {
			t.Errorf("behind the error came %q", got)
		}
		client.usable(t)
	})
	t.Run("copy in", func(t *testing.T) {
		client := loginWire(t, p.address, d)
		client.query(t, "copy item from stdin")
		client.until(t, "CopyInResponse")
		client.send(t, &pgproto3.CopyData{Data: []byte("1\n")})
		d.terminate(t)
		client.send(t, &pgproto3.CopyData{Data: []byte("2\n")}, &pgproto3.CopyDone{})
		if got := client.until(t, "ReadyForQuery"); errorCode(got) != "ERROR "+terminated {
			t.Errorf("got %q", got)
		}
		client.usable(t)
	})
	t.Run("idle in transaction", func(t *testing.T) {
		client := loginWire(t, p.address, d)
		client.hold(t)
		d.terminate(t)
		if got := client.untilClosed(t); errorCode(got) != "FATAL "+terminated {
			t.Errorf("got %q", got)
		}
	})
	t.Run("active in transaction", func(t *testing.T) {
		client, g := loginWire(t, p.address, d), newGate(t, d)
		client.ask(t, "begin")
		client.query(t, "select "+g.call())
		g.await(t, 1)
		d.terminate(t)
		if got := client.untilClosed(t); errorCode(got) != "FATAL "+terminated {
			t.Errorf("got %q", got)
		}
	})
	t.Run("others in the queue", func(t *testing.T) {
		holder, waiter := loginWire(t, p.address, d), loginWire(t, p.address, d)
		holder.hold(t)
		waiter.query(t, "select 'served'")
		p.waitPool(t, d, "one waits", func(s poolStats) bool { return s.ClientsWaiting == 1 })
		d.terminate(t)
		if got := waiter.until(t, "ReadyForQuery"); !slices.Equal(firstColumn(got), []string{"served"}) {
			t.Errorf("the waiter got %q", got)
		}
		if got := holder.untilClosed(t); errorCode(got) != "FATAL "+terminated {
			t.Errorf("the holder got %q", got)
		}
	})
	t.Run("prepared before", func(t *testing.T) {
		client := loginWire(t, p.address, d)
		client.play(t, extended(parse("kept", "select 'kept'")))
		d.terminate(t)
		p.waitPool(t, d, "the proxy has noticed", func(s poolStats) bool { return s.serverCount() == 0 })
		got := client.play(t, extended(bind("kept"), execute()))
		if !slices.Equal(firstColumn(got), []string{"kept"}) {
			t.Errorf("got %q", got)
		}
	})
}

// TestTerminatedUnderLoad ends backends at random, leased and idle ones.
func TestTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "6"})
	traffic := startTraffic(t, p, d, 24)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 25 {
		var pids []int32
		eventually(t, "a backend to terminate", func() bool { pids = d.pidsNow(t); return len(pids) > 0 })
		d.exec(t, "select pg_terminate_backend($1, 60000)", pids[random.IntN(len(pids))])
		if round%5 == 4 {
			d.terminate(t)
		}
		traffic.waitEach("goes on", 1, attempts)
	}
	traffic.settle()
	traffic.finish()
	stats := p.poolStats(t, d)
	if stats.serverCount() > 6 || stats.ServersClosed["server closed the connection"] < 25 {
		t.Errorf("pool: %+v, want at most 6 servers and at least 25 lost", stats)
	}
}

// TestRestartedUnderLoad crashes PostgreSQL and shuts it down, and starts it again.
func TestRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	// An immediate shutdown loses what is not in the operating system's hands.
	cluster := devpgtest.Start(t, map[string]string{"synchronous_commit": "on", "full_page_writes": "on"})
	d := newDatabaseIn(t, cluster)
	p := startProxy(t, cluster, settings{"DEFAULT_POOL_SIZE": "8", "QUERY_WAIT_TIMEOUT": "3s"})
	traffic := startTraffic(t, p, d, 32)
	for _, end := range []struct {
		name string
		end  func(*devpg.Cluster)
	}{
		{"immediate", (*devpg.Cluster).Kill},
		{"fast", func(c *devpg.Cluster) { c.Stop(context.WithoutCancel(t.Context())) }},
	} {
		traffic.waitEach("works before the "+end.name+" shutdown", 5, successes)
		end.end(cluster)
		traffic.waitEach("is answered without a server", 1, attempts)
		if err := cluster.Restart(patient(t)); err != nil {
			t.Fatal(err)
		}
		d.reconnect(t)
		traffic.settle()
	}
	traffic.finish()
	if got := p.poolStats(t, d); got.ServerFailures == 0 || got.serverCount() > 8 {
		t.Errorf("pool: %+v, want failures to connect, and at most 8 servers", got)
	}
	eventually(t, "as few backends", func() bool { return len(d.pidsNow(t)) <= 8 })
}
