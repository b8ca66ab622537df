package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// hazardQuery is the question what functions can do.
func hazardQuery(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../pool/hazards.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestHazards asks PostgreSQL what functions can do to a session.
func TestHazards(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	query := hazardQuery(t)
	plpgsql := func(body string) string {
		return "create procedure f() language plpgsql as $x$ declare x text; begin\n" + body + "\nend $x$"
	}
	sql := func(body string) string {
		return "create function f() returns void language sql as $x$ " + body + " $x$"
	}
	helper := func(name, body string) string {
		return "create function " + name + "() returns void language plpgsql as $x$ begin " + body + "; end $x$;"
	}
	trigger := func(body string) string {
		return "create function g() returns trigger language plpgsql as $x$ begin " + body + "; return new; end $x$;"
	}
	const table = "create table t (a int, status text, local int);"
	for setup, want := range map[string]string{
		"select 1": "",
		// Functions that leave the session alone.
		plpgsql("update t set a = 1; update only public.t as x set (a, b) = (1, 2) where x.a = 2;"):                             "",
		plpgsql("insert into t values (1) on conflict (a) do update set a = 2; /* set x = 1 */"):                                "",
		plpgsql("-- set the status\nupdate \"T\" -- of all\n set status = 1;"):                                                  "",
		plpgsql("select a into x from t; perform set_config('my.tenant', 'x', true), pg_advisory_xact_lock(1); set local a=1;"): "local",
		plpgsql("perform set_config('my.tenant', 'x', true), set_config('my.user', x, true); SET LOCAL My.A = 1;"):              "",
		plpgsql("set local my.a = 1; perform set_config('my.' || x, 'y', true);"):                                               "local, settings",
		plpgsql("perform set_config('my.a', set_config('search_path', x, true), true);"):                                        "local, set my.a",
		plpgsql("set transaction read only; set constraints all deferred; perform nextval('s');"):                               "",
		table + sql("insert into t values (1); update t set a = 2"):                                                             "",
		"create type r as range (subtype = text)":                                                                               "",
		"create aggregate total (int) (sfunc = int4pl, stype = int)":                                                            "",
		"create extension hstore; create extension pgcrypto; create extension citext; create extension \"uuid-ossp\"; create extension btree_gist; create extension postgres_fdw; create extension file_fdw": "",
		"create table s (id serial, at timestamptz default now(), check (id > 0)); create view v as select lower('A'), pg_try_advisory_xact_lock(1)":                                                         "",
		// Settings.
		plpgsql("perform set_config('My.Tenant', 'x', false), set_config('work_mem', x, x is null);"): "local, set my.tenant, set work_mem",
		plpgsql("set session work_mem = '1MB'; SET\nSearch_Path TO a; set \"my\" . tenant = 1;"):      "set my.tenant, set search_path, set work_mem",
		plpgsql("-- don't update the\nset work_mem = 1;"):                                             "set work_mem",
		plpgsql("x := 'update x --';\n set work_mem = 1;"):                                            "set work_mem",
		plpgsql("-- update the path\n set work_mem = 1;"):                                             "set work_mem",
		plpgsql("for x in select a from t for update loop set work_mem = 1; end loop;"):               "set work_mem",
		plpgsql("/* update\n -- */ set work_mem = 1;"):                                                "set work_mem",
		plpgsql("set /* x */ work_mem = 1; reset geqo;"):                                              "set geqo, set work_mem",
		plpgsql("set /* it's */ work_mem = 1;"):                                                       "settings",
		plpgsql("perform set_config('work_mem', x -- , true)\n , false);"):                            "local, set work_mem",
		plpgsql("perform set_config(x, 'y', true);"):                                                  "local, settings",
		plpgsql("set time zone 'UTC';"):                                                               "set time, settings",
		plpgsql("reset all;"):                                                                         "set all, settings",
		plpgsql("update pg_catalog.pg_settings set setting = 1;"):                                     "set setting, settings",
		// The rest.
		plpgsql("execute 'select 1';"):                                     "anything",
		plpgsql("perform query_to_xml('select 1', true, true, '');"):       "anything",
		plpgsql("create temp table x (a int);"):                            "temporary",
		table + sql("create table x (a int); select a into temp y from t"): "temporary",
		table + sql("select a into y from t"):                              "temporary",
		plpgsql("listen x;"):                                               "channels",
		plpgsql("perform pg_try_advisory_lock(1);"):                        "locks",
		sql("declare c cursor with hold for select 1"):                     "cursors",
		sql("prepare p as select 1"):                                       "prepared",
		plpgsql("perform lastval();"):                                      "numbers",
		"create extension pg_trgm":                                         "set_limit set pg_trgm.similarity_threshold",
		"create extension tablefunc":                                       "connectby anything, crosstab anything, crosstab2 anything, crosstab3 anything, crosstab4 anything, normal_rand anything",
		"create function f(text, text, boolean) returns text language internal as 'set_config_by_name'": "anything",
		// What is kept as a tree, in which functions are numbers.
		"create function f() returns text begin atomic select set_config('a.b', 'c', false); end": "* local, * settings",
		"create function f(a bigint default lastval()) returns bigint language sql as 'select a'": "* numbers",
		"create view v as select set_config('a.b', 'c', false)":                                   "* local, * settings",
		"create table s (a text default set_config('a.b', 'c', false))":                           "* local, * settings, + local, + settings",
		"create table s (a int check (pg_try_advisory_lock(a)))":                                  "* locks, + locks",
		"create domain s as bigint check (pg_try_advisory_lock(value))":                           "* locks, + locks",
		table + "create policy p on t using (pg_try_advisory_lock(a))":                            "* locks, + locks",
		table + "create rule r as on update to t do also select pg_advisory_unlock_all()":         "* locks, + locks",
		"create operator !! (procedure = pg_try_advisory_lock, rightarg = bigint)":                "* locks",
		"create aggregate s (text, boolean) (sfunc = set_config, stype = text)":                   "* local, * settings",
		// Functions that call each other, or are called without being named.
		plpgsql("perform pg_advisory_lock(1);") + ";" + helper("g", "call f()") + helper("h", "perform 1, G ( ) -- lib.h\n") + helper("i", "perform gg()"):  "g locks, h locks, locks",
		sql("select pg_advisory_lock(1)") + `; create function "G"() returns void begin atomic select f(); end`:                                             "* locks, locks",
		`create function "F"() returns bigint language sql as 'select lastval()'`:                                                                           "* numbers",
		helper("g", "listen x") + "create function f() returns void begin atomic select g(); end":                                                           "channels, g channels",
		table + trigger("listen x") + "create trigger x before insert on t execute function g()":                                                            "* channels, + channels",
		helper("h", "listen x") + table + trigger("perform h()") + "create constraint trigger x after insert on t for each row execute function g()":        "* channels, + channels, h channels",
		"create function f() returns bigint language plpgsql as 'begin return lastval(); end'; create domain s as bigint default f()":                       "* numbers, + numbers",
		"create function f(text, text, boolean) returns text language internal as 'set_config_by_name'; create table s (a text default f('a', 'b', false))": "* anything",
		table + trigger("null") + "create trigger x before insert on t execute function g()":                                                                "",
		helper("g", "perform lastval()") + "create view v as select 1 as a from (select g()) x":                                                             "* numbers",
	} {
		tx, err := d.admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		_, err = tx.Exec(t.Context(), setup)
		if err == nil {
			_, err = tx.Exec(t.Context(), "set local search_path to pg_catalog, pg_temp")
		}
		if err == nil {
			rows, _ := tx.Query(t.Context(), query)
			got, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Errorf("%s: %v", setup, err)
		}
		for i, hazard := range got { // of f, unless it says otherwise
			got[i] = strings.TrimPrefix(hazard, "f ")
		}
		slices.Sort(got)
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s\n\tgot  %s\n\twant %s", setup, got, want)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHarmlessFunctions counts what it costs to call functions that leave sessions alone,
// where another does not, and has one replaced, through the proxy by another user, so that
// it does not either.
func TestHarmlessFunctions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create function plus(a int) returns int language plpgsql as 'begin return a + 1; end'")
	d.execAsRole(t, "create function harmful() returns void language plpgsql as 'begin execute ''listen x''; end'")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	a, b := loginWire(t, p.address, d), loginWire(t, p.address, d)
	admin := loginWire(t, p.address, d, "user", devpg.Superuser)
	a.ask(t, "select plus(1)")
	a.ask(t, "select 1") // behind the first inspection
	before := p.poolStats(t, d).Inspections
	const calls = 200
	for range calls / 2 {
		a.ask(t, "select plus(1)")
		b.ask(t, "begin; select plus(2); commit")
	}
	// A pause of a second makes one necessary.
	if after := p.poolStats(t, d).Inspections; after-before > calls/10 {
		t.Errorf("%d inspections behind %d calls", after-before, calls)
	}
	admin.ask(t, "create or replace function plus(a int) returns int language plpgsql as 'begin perform set_config(''app.tenant'', a::text, false); return a + 1; end'")
	for range 3 {
		a.ask(t, "select plus(1)")
		b.ask(t, "select plus(2)")
		for tenant, client := range map[string]*wireClient{"1": a, "2": b} {
			if got := firstColumn(client.ask(t, "select current_setting('app.tenant')")); !slices.Equal(got, []string{tenant}) {
				t.Errorf("client %s sees %q", tenant, got)
			}
		}
	}
}
