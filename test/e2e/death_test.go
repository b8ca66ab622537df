package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// situation is what a client is in the middle of when it dies. A holder has a server
// at that time.
type situation struct {
	name  string
	begin func(t *testing.T, w *wireClient)
}

func holders(g *gate) []situation {
	return []situation{
		{"running a query", func(t *testing.T, w *wireClient) {
			w.query(t, "select "+g.call()+", '"+secretMarker+"'")
		}},
		{"running one of several queries", func(t *testing.T, w *wireClient) {
			w.query(t, "insert into lost values (1); select "+g.call()+"; insert into lost values (2)")
		}},
		{"running an extended query with more behind it", func(t *testing.T, w *wireClient) {
			w.send(t, parse("", "select "+g.call()), bind(""), execute(), syncMessage(),
				parse("", "insert into lost values (3)"), bind(""), execute(), syncMessage())
		}},
		{"in a group without sync", func(t *testing.T, w *wireClient) {
			w.send(t, parse("", "insert into lost values (4)"), bind(""), execute(), &pgproto3.Flush{})
			w.until(t, "CommandComplete")
		}},
		{"in copy in", func(t *testing.T, w *wireClient) {
			w.query(t, "copy lost from stdin")
			w.until(t, "CopyInResponse")
			w.send(t, &pgproto3.CopyData{Data: []byte("5\n6\n")})
		}},
		{"in copy in, within a message", func(t *testing.T, w *wireClient) {
			w.query(t, "copy lost from stdin")
			w.until(t, "CopyInResponse")
			data := encode(t, &pgproto3.CopyData{Data: []byte(strings.Repeat("7\n", 100_000))})
			w.write(t, data[:len(data)*3/4])
		}},
		{"in copy in by the extended protocol", func(t *testing.T, w *wireClient) {
			w.send(t, parse("", "copy lost from stdin"), bind(""), execute(), syncMessage())
			w.until(t, "CopyInResponse")
			w.send(t, &pgproto3.CopyData{Data: []byte("8\n")})
		}},
		{"in copy out, unread", func(t *testing.T, w *wireClient) {
			w.query(t, "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout")
			w.until(t, "CopyOutResponse")
		}},
		{"in a large result, unread", func(t *testing.T, w *wireClient) {
			w.query(t, "select repeat('x', 1000), generate_series(1, 100000000)")
			w.until(t, "RowDescription")
		}},
		{"in an open transaction", func(t *testing.T, w *wireClient) {
			w.ask(t, "begin; insert into lost values (9)")
		}},
		{"in a failed transaction", func(t *testing.T, w *wireClient) {
			w.ask(t, "begin; insert into lost values (10)")
			w.ask(t, "select 1/0")
		}},
		{"in a transaction with locks, a cursor and a temporary table", func(t *testing.T, w *wireClient) {
			w.ask(t, "begin; create temporary table scratch (i int); lock table shared_table in share mode; declare c cursor for select 1")
		}},
		{"in a transaction, within a message", func(t *testing.T, w *wireClient) {
			w.ask(t, "begin; insert into lost values (11)")
			query := encode(t, &pgproto3.Query{String: "insert into lost values (12)"})
			w.write(t, query[:10])
		}},
		{"in a long query, within the message", func(t *testing.T, w *wireClient) {
			query := encode(t, &pgproto3.Query{String: "insert into lost select length('" + strings.Repeat("y", 500_000) + "')"})
			w.write(t, query[:len(query)/2])
		}},
		{"in a long bind, within the message", func(t *testing.T, w *wireClient) {
			group := encode(t, parse("", "insert into lost values (length($1))"), bind("", strings.Repeat("z", 500_000)))
			w.write(t, group[:len(group)/2])
		}},
	}
}

// others are clients without a server: they wait for one, or are not yet worth one.
func others() []situation {
	return []situation{
		{"waiting with a query", func(t *testing.T, w *wireClient) {
			w.query(t, "select pg_sleep(30), '"+secretMarker+"'")
		}},
		{"waiting with a begin", func(t *testing.T, w *wireClient) {
			w.query(t, "begin; insert into lost values (20)")
		}},
		{"waiting with an extended query", func(t *testing.T, w *wireClient) {
			w.send(t, parse("", "select pg_sleep(30)"), bind(""), execute(), syncMessage())
		}},
		{"with half a message", func(t *testing.T, w *wireClient) {
			query := encode(t, &pgproto3.Query{String: "insert into lost values (22)"})
			w.write(t, query[:len(query)-4])
		}},
		{"with half a group", func(t *testing.T, w *wireClient) {
			w.send(t, parse("", "insert into lost values (23)"), bind(""), execute())
		}},
		{"doing nothing", func(*testing.T, *wireClient) {}},
	}
}

// TestKilledClients has 2,000 clients die in the middle of something, in waves, and
// expects the same eight backends afterwards.
func TestKilledClients(t *testing.T) {
	t.Parallel()
	const poolSize, clientCount = 8, 2000
	d := newDatabase(t)
	d.execAsRole(t, "create table lost (id int); create table shared_table (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": fmt.Sprint(poolSize)})
	fillPool(t, p, d, poolSize)
	before := d.pids(t, poolSize)
	g := newGate(t, d)
	holding, waiting := holders(g), others()
	random := rand.New(rand.NewPCG(3, 4))
	killed := 0
	for wave := 0; killed < clientCount; wave++ {
		holder := holding[wave%len(holding)]
		var clients []*wireClient
		for range poolSize {
			client := loginWire(t, p.address, d)
			holder.begin(t, client)
			clients = append(clients, client)
		}
		p.waitPool(t, d, "all servers are leased to clients "+holder.name, func(s poolStats) bool { return s.ServersLeased == poolSize })
		for i := range (clientCount+len(holding)-1)/len(holding) - poolSize {
			client := loginWire(t, p.address, d)
			waiting[i%len(waiting)].begin(t, client)
			clients = append(clients, client)
		}
		// Some die with the server that another's death has just made free.
		random.Shuffle(len(clients), func(i, j int) { clients[i], clients[j] = clients[j], clients[i] })
		for i, client := range clients {
			client.die(t, i)
		}
		killed += len(clients)
		p.waitPool(t, d, "all is quiet after clients "+holder.name, func(s poolStats) bool {
			return s.ServersIdle == poolSize && s.ClientsActive == 0 && s.ClientsWaiting == 0
		})
		d.expectPIDs(t, before)
		if t.Failed() {
			t.Fatalf("after clients died %s", holder.name)
		}
		if idle := d.countState(t, "idle"); idle != poolSize {
			t.Fatalf("after clients died %s: %d of %d backends are idle", holder.name, idle, poolSize)
		}
	}
	// What they did not complete has left nothing behind.
	if lost := value[string](t, d, "select coalesce(string_agg(id::text, ' '), '') from lost"); lost != "" {
		t.Errorf("rows of clients that died: %s", lost)
	}
	if count := value[int](t, d, "select count(*) from pg_locks join pg_stat_activity using (pid) where usename = $1", d.role); count != 0 {
		t.Errorf("%d locks are still held", count)
	}
	stats := p.poolStats(t, d)
	if stats.ServerConnects != poolSize || len(stats.ServersClosed) != 0 {
		t.Errorf("pool: %+v, want %d connects and no server closed", stats, poolSize)
	}
	t.Logf("%d clients killed", killed)
	loginWire(t, p.address, d).usable(t)
}

// TestLastWords has clients say goodbye, or nothing, behind work of which some is
// complete. What is committed then is what PostgreSQL commits.
func TestLastWords(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	insert := func(id string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{parse("", "insert into item values ("+id+")"), bind(""), execute()}
	}
	say := func(messages ...pgproto3.FrontendMessage) step { return step{send: messages, until: "nothing"} }
	query := func(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }
	terminate, flush, sync := &pgproto3.Terminate{}, &pgproto3.Flush{}, syncMessage()
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a query, goodbye", []step{say(query("insert into item values (1)"), terminate)}},
		{"two queries, goodbye", []step{say(query("insert into item values (2)"), query("insert into item values (3)"), terminate)}},
		{"a group, goodbye", []step{say(append(insert("4"), sync, terminate)...)}},
		{"a group without sync, goodbye", []step{say(append(insert("5"), terminate)...)}},
		{"a group without sync", []step{say(insert("6")...)}},
		{"a group answered, without sync, goodbye", []step{{send: append(insert("7"), flush), until: "CommandComplete"}, say(terminate)}},
		{"a group answered, without sync", []step{{send: append(insert("8"), flush), until: "CommandComplete"}}},
		{"one group with sync, one without, goodbye", []step{say(append(append(insert("9"), sync), append(insert("10"), terminate)...)...)}},
		{"a transaction, goodbye", []step{simple("begin; insert into item values (11)"), say(terminate)}},
		{"a transaction and a commit, goodbye", []step{simple("begin; insert into item values (12)"), say(query("commit"), terminate)}},
		{"all of a transaction, goodbye", []step{say(query("begin"), query("insert into item values (13)"), query("commit"), terminate)}},
		{"a transaction begun, goodbye", []step{say(query("begin"), query("insert into item values (14)"), terminate)}},
		{"a copy, goodbye", []step{
			simple("copy item from stdin").expecting("CopyInResponse"), say(&pgproto3.CopyData{Data: []byte("15\n")}, terminate),
		}},
		{"a copy that is done, goodbye", []step{
			simple("copy item from stdin").expecting("CopyInResponse"),
			say(&pgproto3.CopyData{Data: []byte("16\n")}, &pgproto3.CopyDone{}, terminate),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			left := func(address string) string {
				d.execAsRole(t, "truncate item")
				client := loginWire(t, address, d)
				for _, s := range test.steps {
					client.play(t, s)
				}
				if tcp, ok := client.conn.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
				client.untilClosed(t)
				p.waitPool(t, d, "all is quiet", func(s poolStats) bool { return s.ClientsActive == 0 && s.ServersIdle == s.serverCount() })
				return value[string](t, d, "select coalesce(string_agg(id::text, ' ' order by id), '') from item")
			}
			want, got := left(d.cluster.TCPAddress()), left(p.address)
			if got != want {
				t.Errorf("through the proxy: %q, directly: %q", got, want)
			}
		})
	}
}

// die ends the client by a reset, by closing the connection, or by closing one
// direction first.
func (w *wireClient) die(t *testing.T, way int) {
	switch way % 3 {
	case 0:
		w.vanish(t)
	case 1:
		_ = w.conn.Close()
	case 2:
		if tcp, ok := w.conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // the proxy may have closed it
		}
		t.Cleanup(func() { _ = w.conn.Close() })
	}
}

// fillPool makes the proxy open all servers it may.
func fillPool(t testing.TB, p *proxyProcess, d *database, poolSize int) {
	t.Helper()
	var clients []*wireClient
	for range poolSize {
		client := loginWire(t, p.address, d)
		client.hold(t)
		clients = append(clients, client)
	}
	for _, client := range clients {
		client.ask(t, "commit")
		_ = client.conn.Close()
	}
	p.waitPool(t, d, "the pool is full and idle", func(s poolStats) bool { return s.ServersIdle == poolSize })
}
