package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// looks shows the state that a session may have. Only numbers that differ from server
// to server are left out.
var looks = []string{
	"show search_path", "show work_mem", "show timezone", "show statement_timeout", "show default_transaction_isolation",
	"show session_authorization", "show role", "select current_user, session_user", "show application_name", "show xmloption",
	"select nullif(current_setting('app.tenant', true), '')",
	"select relname from pg_class where relnamespace = pg_my_temp_schema() and relkind = 'r' order by 1",
	"select * from pg_listening_channels() order by 1",
	"select objid, mode, count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() group by 1, 2 order by 1, 2",
	"select name from pg_cursors order by 1",
	"select name, statement from pg_prepared_statements where from_sql order by 1",
}

// stateScripts are what sessions do that changes them, as "client: statement".
var stateScripts = map[string][]string{
	"set": {
		"a: set search_path to pg_catalog, public", "b: set work_mem to '77kB'", "a: set statement_timeout = 54321", "b: set statement_timeout to default",
		"a: set session work_mem = '88kB'; set timezone to 'Asia/Tokyo'", "b: set time zone 'Europe/Paris'", "a: reset work_mem", "b: set time zone local",
		"a: set xml option document", "b: set session characteristics as transaction isolation level serializable", "a: reset all", "b: discard all",
	},
	"set in transactions": {
		"a: begin; set work_mem = '77kB'; commit", "b: begin; set work_mem = '88kB'; rollback",
		"a: begin; set work_mem = '99kB'; savepoint s; set work_mem = '111kB'; rollback to s; commit",
		"b: begin; set search_path to pg_catalog; select 1/0", "b: rollback",
		"a: begin; savepoint s; set local statement_timeout = 1234; release s; commit",
		"b: set work_mem = '222kB'; select 1/0", "a: set work_mem = '333kB'; begin; set work_mem = '444kB'; select 1/0", "a: commit",
		"b: begin", "b: set work_mem = '555kB'", "b: savepoint s", "b: reset work_mem", "b: show work_mem", "b: rollback to s", "b: show work_mem", "b: commit",
		"a: begin", "a: reset all", "a: show work_mem", "a: set timezone to 'Asia/Tokyo'", "a: commit",
	},
	"set_config": {
		"a: select set_config('search_path', 'pg_catalog', false)", "b: select set_config('app.tenant', 'b', false)",
		"a: select set_config('app.tenant', 'a', true), current_setting('app.tenant')", "b: begin; select set_config('app.tenant', 'bb', false); rollback",
		"a: select set_config('app.' || 'tenant', 'aa', false)", "b: select set_config(lower('APP.TENANT'), 'bbb', false)",
		"a: begin; select set_config('work_mem', '77kB', is_local => true); select pg_catalog.set_config('work_mem', '88kB', false); commit",
		"b: do $$ begin perform set_config('app.tenant', 'do', false); end $$", "a: reset app.tenant", "b: set app.tenant to 'x y'",
	},
	"hidden set": {
		"a: select hide_settings('77kB')", "b: select hide_settings('88kB')", "a: call hide_custom('a')", "b: select * from hide_settings('99kB')",
		"a: begin; select hide_settings('111kB'); rollback", "b: do $$ begin set work_mem = '222kB'; set search_path = pg_catalog; end $$",
	},
	"temporary tables": {
		"a: create temporary table scratch as select 'a' as owner", "b: select * from scratch", "a: select * from scratch", "a: insert into scratch values ('more')",
		"b: create temp table scratch (owner text)", "b: select * from scratch", "a: select count(*) from scratch", "a: drop table scratch", "a: select * from scratch",
		"b: discard temp", "a: select 1 as owner into temp scratch", "a: select * from scratch", "b: create table pg_temp.other (x int)",
		"b: begin; create temp table gone (x int) on commit drop; commit", "a: select hide_temporary()", "a: table hidden", "b: table hidden",
		"a: create temp view seen as select 1", "b: begin; create temp table undone (x int); rollback", "a: discard all",
	},
	"temporary shadow": {
		"a: create temp table t as select 'temporary' as name", "b: select name from t", "a: select name from t", "a: drop table t", "a: select name from t", "b: select name from t",
	},
	"listen": {"a: listen news", "b: select * from pg_listening_channels()", "b: listen olds", "a: unlisten news", "b: unlisten *", "a: begin; listen undone; rollback", "a: do $$ begin listen done; end $$"},
	"locks": {
		"a: select pg_advisory_lock(4711)", "b: select pg_try_advisory_lock(4711)", "a: select pg_advisory_unlock(4711)", "b: select pg_try_advisory_lock(4711)",
		"b: select pg_advisory_unlock_all()", "a: begin; select pg_advisory_xact_lock(4711); commit", "b: begin; select pg_advisory_lock(4712); rollback",
		"a: select hide_lock(4713)", "b: select pg_try_advisory_lock(4713)", "a: discard all", "b: select pg_try_advisory_lock(4713)",
	},
	"cursors": {
		"a: begin; declare c cursor with hold for select generate_series(1, 5); commit", "b: fetch c", "a: fetch 2 from c", "a: fetch 2 from c", "a: close c", "a: fetch c",
		"b: begin; declare c cursor for select 1; fetch c; commit", "b: fetch c", "b: declare d cursor with hold for select 'd'", "a: fetch d", "b: fetch d", "b: close all",
	},
	"prepare": {
		"a: prepare p as select 'a', $1::int", "b: execute p(1)", "a: execute p(1)", "b: prepare p (text) as select 'b', $1", "b: execute p('x')", "a: execute p(2)",
		"a: deallocate p", "a: execute p(3)", "b: deallocate all", "b: execute p('y')", "a: prepare s as select set_config('app.tenant', $1, false)", "a: execute s('by execute')",
		"a: begin; prepare undone as select 1; rollback", "a: execute undone", "a: deallocate all",
	},
	"role": {
		"a: set role other_role", "b: select current_user = 'other_role'", "a: select current_user = 'other_role'", "a: begin; set local role none; commit", "a: select current_user = 'other_role'",
		"b: begin; set role other_role; rollback", "b: select current_user = 'other_role'", "a: set work_mem = '77kB'", "a: reset role", "a: set role none", "b: select set_config('role', 'other_role', false)", "b: discard all",
	},
	"search path": {
		"a: set search_path to one", "b: set search_path to two", "a: select name from which", "b: select name from which", "a: set search_path to two", "a: select name from which",
		"b: begin; set local search_path to one; select name from which; commit", "b: select name from which", "a: reset search_path", "a: select name from which",
	},
}

// stateSetup makes what the scripts need.
const stateSetup = `
	create schema one; create schema two; create table one.which as select 'one' as name; create table two.which as select 'two' as name;
	create table t as select 'permanent' as name;
	create function hide_settings(text) returns text language plpgsql as $$ begin perform set_config('work_mem', $1, false); return $1; end $$;
	create procedure hide_custom(text) language plpgsql as $$ begin perform set_config('app.tenant', $1, false); end $$;
	create function hide_temporary() returns void language plpgsql as $$ begin create temp table hidden as select 1; end $$;
	create function hide_lock(int) returns void language sql as $$ select pg_advisory_lock($1) $$`

// TestSessionState has two clients change their sessions, on servers that they share
// and on connections of their own: nothing may differ, and nothing may be left for
// the next.
func TestSessionState(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, stateSetup)
	d.exec(t, fmt.Sprintf("do $$ begin create role other_role; exception when duplicate_object then null; end $$; grant other_role to %s", d.role))
	logins := map[string][]string{
		"plain":         nil,
		"with settings": {"application_name", "mine", "search_path", "public", "options", "-c work_mem=4321kB", "TimeZone", "UTC"},
	}
	for loginName, login := range logins {
		p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
		for name, script := range stateScripts {
			t.Run(loginName+", "+name, func(t *testing.T) {
				run := func(address string) (transcripts []string) {
					clients := map[string]*wireClient{"a": loginWire(t, address, d, login...), "b": loginWire(t, address, d)}
					for _, step := range script {
						who, sql, _ := strings.Cut(step, ": ")
						answer := clients[who].ask(t, sql)
						slices.Sort(answer) // when a parameter is reported is nobody's business
						transcripts = append(transcripts, step+"\n\t"+strings.Join(answer, "\n\t"))
						for who, client := range clients {
							if client.inTransaction() {
								continue
							}
							for _, look := range looks {
								transcripts = append(transcripts, "behind "+step+", "+who+": "+look+"\n\t"+strings.Join(client.ask(t, look), "\n\t"))
							}
						}
					}
					for _, client := range clients {
						client.send(t, &pgproto3.Terminate{})
						_ = client.conn.Close()
					}
					return transcripts
				}
				want := run(d.cluster.TCPAddress())
				got := run(p.address)
				slices.Sort(want)
				slices.Sort(got)
				for i := range want {
					if want[i] != got[i] {
						t.Errorf("through the proxy:\n%s\ndirectly:\n%s", got[i], want[i])
					}
				}
				p.waitPool(t, d, "the servers are free again", func(s poolStats) bool { return s.ServersLeased+s.ServersResetting == 0 })
				if s := p.poolStats(t, d); len(s.ServersClosed) > 0 {
					t.Errorf("servers were closed: %v", s.ServersClosed)
				}
			})
		}
	}
}

// TestPins names what keeps a client on a server, as long as it does.
func TestPins(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	w := loginWire(t, p.address, d)
	for _, step := range []struct {
		sql  string
		want string
	}{
		{"set search_path to public; set work_mem = '77kB'; set my.tenant = 'x'", ""},
		{"select set_config('my.other', 'y', false)", ""},
		{"create temporary table scratch (a int)", "temporary objects"},
		{"listen news", "temporary objects, LISTEN"},
		{"drop table scratch", "LISTEN"},
		{"select pg_advisory_lock(1)", "LISTEN, advisory locks"},
		{"unlisten *", "advisory locks"},
		{"select pg_advisory_unlock(1)", ""},
		{"begin; create temporary table scratch (a int) on commit drop; commit", ""},
		{"begin; declare c cursor with hold for select 1; commit", "cursors WITH HOLD"},
		{"prepare q as select 1", "cursors WITH HOLD, PREPARE"},
		{"close c", "PREPARE"},
		{"execute q", "PREPARE"},
		{"deallocate q", ""},
		{"select setseed(0.5)", "seed of random()"},
	} {
		w.ask(t, step.sql)
		pinned := func() string {
			for _, client := range p.stats(t).PinnedClients {
				if client.ID == w.pid {
					return strings.Join(client.Reasons, ", ")
				}
			}
			return ""
		}
		eventually(t, fmt.Sprintf("behind %s the client is pinned by %q", step.sql, step.want), func() bool { return pinned() == step.want })
	}
	if _, metrics := p.adminGet(t, "/metrics"); !strings.Contains(metrics, `billproxy_clients_pinned{database="`+d.name+`",reason="seed of random()",user="`+d.role+`"} 1`) {
		t.Error("the metrics do not tell of the pinned client")
	}
}

// TestPlainWorkIsNotInspected counts what the state of sessions costs those that
// change none: nothing, but for the first that writes.
func TestPlainWorkIsNotInspected(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table work (id int primary key, n int)")
	p := startProxy(t, shared.cluster, nil)
	w := loginWire(t, p.address, d)
	w.ask(t, "insert into work values (0, 0)") // what writes come upon is asked for once
	w.ask(t, "select 1")                       // behind that question
	before := p.poolStats(t, d).Inspections
	for _, sql := range []string{
		"insert into work values (1, 1), (2, 2) on conflict (id) do update set n = excluded.n", "select * from work where id = 1 for update",
		"begin; update work set n = n + 1 where id = 1; select n from work; commit", "begin", "set local work_mem = '77kB'", "delete from work where id = 2", "commit",
	} {
		w.ask(t, sql)
	}
	if after := p.poolStats(t, d).Inspections; after != before {
		t.Errorf("%d inspections", after-before)
	}
}

// TestHiddenSettings has a function set what no client of the pool has ever named.
func TestHiddenSettings(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, stateSetup)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	a, b := loginWire(t, p.address, d), loginWire(t, p.address, d)
	a.ask(t, "call hide_custom('mine')")
	for range 3 {
		if got := firstColumn(b.ask(t, "select 'other' || current_setting('app.tenant', true)")); !slices.Equal(got, []string{"other"}) && !slices.Equal(got, []string{"NULL"}) {
			t.Errorf("another client sees %q", got)
		}
		if got := firstColumn(a.ask(t, "select current_setting('app.tenant', true)")); !slices.Equal(got, []string{"mine"}) {
			t.Errorf("the client sees %q", got)
		}
	}
}

// TestNotifications reach a client that listens, whatever else goes on.
func TestNotifications(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	listener, other := loginWire(t, p.address, d), loginWire(t, p.address, d)
	listener.ask(t, "listen news")
	for i := range 20 {
		other.ask(t, fmt.Sprintf("notify news, 'number %d'", i))
		if got := listener.until(t, "NotificationResponse"); !strings.Contains(got[len(got)-1], fmt.Sprintf("number %d", i)) {
			t.Fatalf("got %q", got)
		}
		listener.ask(t, "select pg_listening_channels()") // which is followed by an inspection
	}
}

// TestPinnedServerIsLost ends the connection of a client whose session is lost with
// its server, as PostgreSQL does, and no other.
func TestPinnedServerIsLost(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	pinned, free := loginWire(t, p.address, d), loginWire(t, p.address, d)
	free.ask(t, "set work_mem = '77kB'")
	pid := firstColumn(pinned.ask(t, "select pg_backend_pid() from pg_advisory_lock(1)"))[0]
	p.waitPool(t, d, "the client is pinned", func(s poolStats) bool { return s.ServersLeased == 1 })
	d.exec(t, "select pg_terminate_backend("+strings.Trim(pid, `"`)+")")
	if got := pinned.untilClosed(t); errorCode(got) != "FATAL 57P01" {
		t.Errorf("got %q", got)
	}
	if got := firstColumn(free.ask(t, "show work_mem")); !slices.Equal(got, []string{"77kB"}) && !slices.Equal(got, []string{`"77kB"`}) {
		t.Errorf("the other client has work_mem %q", got)
	}
}
