package e2e

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestSessionMode gives a client a server for as long as it is connected, and the
// next client the same server, clean.
func TestSessionMode(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "POOL_MODE": "session"})
	leave := []string{
		"set search_path to pg_catalog; set work_mem to '77kB'; set timezone to 'Asia/Tokyo'",
		"create temporary table scratch as select 'mine' as owner",
		"prepare by_sql as select 'prepared'",
		"select pg_advisory_lock(4711)",
		"create temporary sequence counter; select nextval('counter')",
		"begin; declare c cursor with hold for select 'held'; commit",
		"listen news",
		"set session characteristics as transaction read only",
	}
	look := []string{
		"show search_path", "show work_mem", "show timezone", "select owner from scratch", "execute by_sql",
		"select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and pid = pg_backend_pid()", "select currval('counter')",
		"fetch all from c", "select * from pg_listening_channels()", "show transaction_read_only",
	}
	// What a fresh session sees, and what one sees that has left all this, according
	// to PostgreSQL itself.
	answers := func(w *wireClient, statements []string) (transcripts [][]string) {
		for _, sql := range statements {
			transcripts = append(transcripts, w.ask(t, sql))
		}
		return transcripts
	}
	fresh := answers(loginWire(t, d.cluster.TCPAddress(), d), look)
	direct := loginWire(t, d.cluster.TCPAddress(), d)
	answers(direct, leave)
	used := answers(direct, look)
	_ = direct.conn.Close()
	eventually(t, "the direct session has gone", func() bool {
		return value[int](t, d, "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711") == 0
	})

	compare := func(t *testing.T, w *wireClient, want [][]string) {
		t.Helper()
		for i, got := range answers(w, look) {
			if !slices.Equal(got, want[i]) {
				t.Errorf("%s: got %q, want %q", look[i], got, want[i])
			}
		}
	}
	var pids []string
	for _, end := range []struct {
		name string
		end  func(*wireClient)
	}{
		{"terminate", func(w *wireClient) { w.send(t, &pgproto3.Terminate{}) }},
		{"reset", func(w *wireClient) { w.vanish(t) }},
		{"in a transaction", func(w *wireClient) {
			w.ask(t, "begin read write; create table lost (id int)")
			w.vanish(t)
		}},
		{"after an error", func(w *wireClient) {
			w.ask(t, "begin; nonsense")
			w.send(t, &pgproto3.Terminate{})
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			client := loginWire(t, p.address, d)
			compare(t, client, fresh)
			pids = append(pids, firstColumn(client.ask(t, "select pg_backend_pid()"))...)
			answers(client, leave)
			compare(t, client, used)
			end.end(client)
			p.waitPool(t, d, "the server is free again", func(s poolStats) bool { return s.ServersIdle == 1 })
		})
	}
	client := loginWire(t, p.address, d)
	compare(t, client, fresh)
	pids = append(pids, firstColumn(client.ask(t, "select pg_backend_pid()"))...)
	if len(slices.Compact(pids)) != 1 {
		t.Errorf("the clients were on backends %q, want one", pids)
	}
	client.usable(t)
}

// TestSessionModeWaits keeps a client waiting as long as the other is connected,
// idle or not.
func TestSessionModeWaits(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "POOL_MODE": "session"})
	holder, waiter := loginWire(t, p.address, d), loginWire(t, p.address, d)
	holder.usable(t)
	waiter.query(t, "select 'served'")
	p.waitPool(t, d, "one waits", func(s poolStats) bool { return s.ClientsWaiting == 1 })
	holder.usable(t)
	if got := p.poolStats(t, d); got.ClientsWaiting != 1 {
		t.Errorf("pool: %+v, want one client waiting", got)
	}
	_ = holder.conn.Close()
	if got := waiter.until(t, "ReadyForQuery"); !slices.Equal(firstColumn(got), []string{"served"}) {
		t.Errorf("got %q", got)
	}
}

// TestStatementMode refuses transactions and runs everything else.
func TestStatementMode(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "POOL_MODE": "statement"})
	loginWire(t, p.address, d).usable(t)
	pids := d.pids(t, 1)
	for _, s := range []step{
		simple("begin"),
		simple("begin; select 1"),
		simple("begin; insert into item values (1)"),
		simple("start transaction isolation level serializable"),
		extended(parse("", "begin"), bind(""), execute()),
	} {
		client := loginWire(t, p.address, d)
		client.send(t, s.send...)
		if got := client.untilClosed(t); errorCode(got) != "FATAL 0A000" {
			t.Errorf("got %q", got)
		}
	}
	client := loginWire(t, p.address, d)
	for _, s := range []step{
		simple("insert into item values (2)"), simple("insert into item values (3); insert into item values (4)"),
		extended(parse("", "insert into item values (5)"), bind(""), execute()), extended(parse("s", "select count(*) from item")),
		simple("copy item from stdin").expecting("CopyInResponse"),
		{send: []pgproto3.FrontendMessage{&pgproto3.CopyData{Data: []byte("6\n")}, &pgproto3.CopyDone{}}},
		simple("nonsense"),
	} {
		client.play(t, s)
	}
	if got := client.play(t, runPrepared("s")); !slices.Equal(firstColumn(got), []string{"5"}) {
		t.Errorf("got %q", got)
	}
	p.waitPool(t, d, "the server is free", func(s poolStats) bool { return s.ServersIdle == 1 })
	d.expectPIDs(t, pids)
	if d.countState(t, "idle") != 1 {
		t.Errorf("the backend is not idle: %+v", d.backends(t))
	}
}
