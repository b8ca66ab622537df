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
