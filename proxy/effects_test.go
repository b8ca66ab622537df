package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool"
)

// describeEffects writes effects as a line: kinds, names, resets and what else there is.
func describeEffects(e *pool.Effects) string {
	if e == nil {
		return ""
	}
	kinds := e.State
	if len(e.Functions) > 0 {
		kinds &^= pool.StateFunctions
	}
	parts := kinds.Names()
	if e.State&pool.StateAny == pool.StateAny {
		parts = append([]string{"anything"}, (kinds &^ pool.StateAny).Names()...)
	}
	for _, name := range e.Names {
		parts = append(parts, "set "+name)
	}
	for _, number := range e.BoundNames {
		parts = append(parts, fmt.Sprint("set $", number))
	}
	for _, name := range e.Resets {
		parts = append(parts, "reset "+name)
	}
	for _, name := range e.Functions {
		parts = append(parts, name+"()")
	}
	if e.Defines {
		parts = append(parts, "definitions")
	}
	for _, name := range e.Defined {
		parts = append(parts, "definition sets "+name)
	}
	for _, name := range e.Statements {
		parts = append(parts, "statement "+name)
	}
	listed := e.State&(pool.StateSettings|pool.StateHiddenSettings) != 0 // then nothing is known of the others either
	for _, flag := range []struct {
		set  bool
		word string
	}{
		{e.ResetsAll, "reset all"},
		{e.Executes, "execute"},
		{e.DrawsByName, "nextval"},
		{e.AsksByName, "currval"},
		{e.Meaning, "meaning"},
		{e.Reading == pool.ReadingReported || e.Reading == pool.ReadingUnknown && !listed, "reading"},
		{listed && e.Reading != pool.ReadingUnknown, "reading as before"},
	} {
		if flag.set {
			parts = append(parts, flag.word)
		}
	}
	return strings.Join(parts, ", ")
}

func TestEffects(t *testing.T) {
	const anything = "anything, meaning"
	tests := map[string][]string{
		"": { // nothing, but perhaps a sequence
			"", ";;", "select 1", "select now(), random()", "values (1)", "table t", "begin; commit", "start transaction read only", "savepoint a; release a",
			"select * from t where a = 'set x = 1' for update", "select f.a from t f for no key update of f skip locked",
			"insert into t values (1)", "insert into s.t (a, b[1], c.d) values (1, '{}', row(1)) returning a", "insert into t as x (a) select b from u",
			"insert into t (a) values ($1) on conflict (a) do update set (b, c) = (excluded.b, 1) where t.a > 1", "insert into t default values",
			"insert into t values ('c:\\') on conflict do nothing", "update t set a = a + 1, (b, c) = (1, 2) from u where t.id = u.id", "update only s.t as x set a = 1",
			"update t x set a = coalesce(a, 0)", "delete from t using u where t.a = u.a and lower(u.b) = 'x'", "with x as (insert into t (a) values (1) returning a) select a from x",
			"with x as (delete from t returning *), y as (update u set a = 1 returning a) insert into v select * from x", "merge into t using u on t.a = u.a when matched then update set b = 1",
			"show search_path", "notify c, 'x'", "lock table t", "fetch 3 from c", "checkpoint", "declare c cursor for select 1", "explain analyze select count(*) from t",
			"explain (analyze, costs off) update t set a = 1", "copy t (a, b) from stdin (format csv)", "copy t to stdout", "copy (select a from t) to stdout with (format csv, header)",
			"set local work_mem = '1MB'", "set transaction isolation level serializable", "set constraints all deferred", "prepare transaction 'x'",
			"select set_config('a.b', 'x', true)", "select pg_advisory_xact_lock(1)", "select pg_notify('c', 'x'), pg_sleep(0)", "select current_setting('a.b', true)",
			"discard plans", "select sum(a) over (partition by b) filter (where a > 1) from t", "select relname from pg_class where relnamespace = pg_my_temp_schema()",
		},
		"set work_mem":                 {"set work_mem = '1MB'", "set session work_mem to 64", "SET Work_Mem TO 'x'; select 1", "begin; set work_mem = 1; rollback", "select set_config('work_mem', $1, false)", "select pg_catalog.set_config('Work_Mem'::text, 'x', $1)"},
		"set search_path, meaning":     {"set search_path = a, b", "set schema 'a'", "select set_config('search_path', 'a', false)"},
		"meaning":                      {"set local search_path to a", "select set_config('search_path', 'a', true)"},
		"set role, meaning":            {"set role x", "set session role none", "set role to default_role"},
		"meaning, reading":             {"rollback to a", "rollback to savepoint a"},
		"reading":                      {"set local time zone 'UTC'", "set local array_nulls = off", "select set_config('DateStyle', 'x', true)"},
		"set array_nulls, reading":     {"set array_nulls = off", "select set_config('array_nulls', $1, false)"},
		"set timezone, reading":        {"set time zone 'UTC'", "set timezone = 'UTC'", "set time zone interval '1' hour"},
		"set client_encoding, reading": {"set names 'UTF8'", "set client_encoding to utf8"},
		"set my.tenant":                {"set my.tenant = 1", `set "my"."Tenant" to 'x'`, "select set_config('my.tenant', 'x', false)"},
		"set time":                     {"set time = 1"},
		"set xmloption, reading":       {"set xml option document"},
		"settings, set work_mem, reset work_mem, meaning":                                                          {"reset work_mem", "set work_mem to default", "set work_mem = default"},
		"settings, set timezone, reset timezone, meaning":                                                          {"reset time zone", "set time zone local", "set time zone default"},
		"settings, reset all, meaning":                                                                             {"reset all"},
		"set session_authorization, set role, meaning":                                                             {"set session authorization x"},
		"settings, set session_authorization, set role, reset session_authorization, reset role, meaning":          {"reset session authorization", "set session authorization default"},
		"set default_transaction_isolation, set default_transaction_read_only, set default_transaction_deferrable": {"set session characteristics as transaction read only"},
		"set $2": {"select set_config($2, $1, false)", "select set_config($2::text, $1::text, false)"},
		"settings, settings that cannot be listed, meaning": {"select set_config('a' || 'b', 'x', false)", "select set_config(name, 'x', false) from t", "select set_config(E'a', 'x', false)"},
		"temporary objects, meaning":                        {"create temp table t (a int)", "create table t (a int default f(1))", "drop table t", "select a into t from u", "create table pg_temp.t as select 1", "alter table t add column a int", "discard temp", "create unlogged table t as table u", "create temp sequence s"},
		"LISTEN":                                            {"listen c", "unlisten *"},
		"advisory locks":                                    {"select pg_advisory_lock(1)", "select pg_try_advisory_lock_shared(1, 2)", "select pg_catalog.pg_advisory_unlock_all()", "insert into t select 1 where pg_try_advisory_lock(1)"},
		"cursors WITH HOLD":                                 {"declare c cursor with hold for select 1", "declare c no scroll cursor without hold for select 1", "close c", "close all"},
		"PREPARE":                                           {"deallocate all", "deallocate prepare all"},
		"PREPARE, statement p":                              {"prepare p as select 1", "PREPARE P (int, numeric(3, 2)) as insert into t values ($1)", "deallocate p", `deallocate prepare "p"`},
		"PREPARE, set my.tenant, statement p":               {"prepare p as select set_config('my.tenant', $1, false)"},
		"LOAD":                                              {"load 'x'"},
		"seed of random()":                                  {"select setseed(0.5)", "set seed = 0.5"},
		"currval and lastval":                               {"discard sequences"},
		"nextval":                                           {"select nextval('s')", "insert into t values (nextval('s'))", "select setval('s', 1)"},
		"currval":                                           {"select currval('s')", "select lastval()"},
		"anything, currval and lastval, reset all, meaning": {"discard all"},
		"anything, statement p, execute, meaning":           {"execute p(1)", "create table t as execute P", `explain analyze execute "p"`},
		"anything, set my.tenant, meaning":                  {"do $$ begin set my.tenant = 1; end $$", "do $$ begin perform set_config('my.tenant', 'x', false); end $$"},
		"f()": {
			"select f(1)", `select s."f"(1)`, "call f()", "insert into t select F(1)", "insert into t (a) values (f(1))",
			"update t set a = f(1)", "delete from t where f(1)", "copy (select f(1)) to stdout", "explain select f(1)", "declare c cursor for select f(1)",
			"select distinct on (a) f(b) from t", "select * from f(1) x",
		},
		"f(), g()":                     {"select a, lower(f(b, (select max(c) from g(1) u))) from t"},
		"insert(), f()":                {`call "insert"(f(1))`, "call insert(f(1))", "select insert(f(1))"},
		"insert()":                     {"merge into t using u on true when not matched then insert (a) values (1)"},
		"now()":                        {"select s.now()", `select "now"()`},
		"delete()":                     {"select delete(1)", "call delete()", "select a from t where delete (a)"},
		"merge(), p\"Q()":              {`select merge('x'), s."p""Q"(1)`},
		"update()":                     {"select update(1), update(2)", "call s.update(1)"},
		"set()":                        {"select * from t order by set(1)"},
		strings.Repeat("x", 63) + "()": {"select " + strings.Repeat("x", 70) + "(1)"},
		"what functions change": {
			"select * from f(1) x (a, b) join t on t.a = x.a", "select x.a from f(1) x", "select a(1), b(1), c(1), d(1), e(1), f(1), g(1), h(1), i(1)",
		},
		"definitions":                             {"commit prepared 'x'"},
		"advisory locks, f()":                     {"select f(1), pg_advisory_lock(1)"},
		"set my.tenant, f()":                      {"select f(set_config('my.tenant', 'x', false))"},
		"temporary objects, f(), meaning":         {"create table t as select f(1)"},
		"PREPARE, f(), statement p":               {"prepare p as select f($1)"},
		"f(), nextval":                            {"select f(nextval('s'))"},
		"temporary objects, definitions, meaning": {"create view v as select f(1)", "create function f() returns int language sql as 'select 1'", "drop function f", "create extension x", "alter function f() set x = 1", "create aggregate a (int) (sfunc = f)"},
		"temporary objects, definitions, definition sets a.b, meaning": {"create or replace function f() returns int language sql as 'select set_config(''a.b'', ''c'', false)'", "create procedure p() language plpgsql as $$ begin set a.b = 1; end $$"},
		"anything, definitions, meaning":                               {"do $$ begin create function f() returns int language sql as 'select 1'; end $$"},
		anything: {
			"do $$ begin null; end $$", "insert into t values (1) on conflict(f)", "copy t from stdin where f(a)", "vacuum", "alter table t alter a set default 1",
			"update pg_settings set setting = 'x'", "select x.f from generate_series(1, 2) x", "grant a to b", "nonsense",
			"select 1 operator(s.+) 2", "refresh materialized view m", "select query_to_xml('select 1', true, true, '')", `select "ts_stat"('select 1')`,
			`select "set_config"('a', 'b', false)`, "select s.pg_advisory_lock(1)",
		},
		"anything, f(), meaning": {
			"select (f(1)).a",
		},
		"anything, what functions change, meaning": {
			`select a, x."ts_stat" from t, f(1) x`, "select x.pg_advisory_lock from t join lateral f(1) x on true",
		},
	}
	for want, texts := range tests {
		for _, text := range texts {
			if got := describeEffects(effectsOf([]byte(text), encodingSafe, true)); got != want {
				t.Errorf("%s\n\tgot  %s\n\twant %s", text, got, want)
			}
		}
	}
}

// A text that is not understood token by token is searched for what it may set.
func TestEffectsOfObscureTexts(t *testing.T) {
	for text, want := range map[string]string{
		`select U&"f"(1)`:                               "anything, definitions, meaning",
		`select 'a\'; set my.tenant = 1; --'`:           "anything, set my.tenant, definitions, meaning",
		"select 1\v; set my.tenant = 1":                 "anything, set my.tenant, definitions, meaning",
		"select U&\"x\", set_config(x, 'y', z)":         "anything, settings that cannot be listed, definitions, meaning",
		"select U&\"x\"; reset_x; update t set a = 'x'": "anything, definitions, meaning",
	} {
		if got := describeEffects(effectsOf([]byte(text), encodingSafe, false)); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	if got := describeEffects(effectsOf([]byte("select '\x83\\'"), encodingUnsafe, true)); got != "anything, definitions, meaning" {
		t.Errorf("in an unsafe encoding: %s", got)
	}
}

func TestEffectsBeginATransaction(t *testing.T) {
	for text, want := range map[string]bool{
		"begin": true, "start transaction": true, "select 1; begin": true, "insert into t values (1); begin": true, "set work_mem = 1; begin": true,
		"select U&\"x\"": true, "commit": false, "end": false, "commit and chain": false, "select 1": false, "savepoint a": false,
		"do $$ begin null; end $$": false, "execute f": false,
	} {
		e := effectsOf([]byte(text), encodingSafe, true)
		if got := e != nil && e.Begins; got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestEffectsWrite(t *testing.T) {
	for text, want := range map[string]bool{
		"insert into t values (1)": true, "update t set a = 1": true, "delete from t": true, "merge into t using u on true when matched then delete": true,
		"copy t from stdin": true, "with x as (delete from t returning a) select a from x": true, "select 1; update t set a = 1": true, "begin; delete from t": true,
		"explain analyze delete from t": true, "select 1": false, "begin": false, "copy t to stdout": false, "select a from t for update": false,
		"insert into t values (f(1))": true, "select f(1)": false, "set work_mem = 1": false, "select nextval('s')": false,
	} {
		e := effectsOf([]byte(text), encodingSafe, true)
		if got := e != nil && e.Writes; got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestBoundParameter(t *testing.T) {
	rest := "\x00\x01\x00\x00\x00\x03\x00\x00\x00\x01a\xff\xff\xff\xff\x00\x00\x00\x02bc\x00\x00"
	for index, want := range []string{"a", "", "bc", ""} {
		got, ok := boundParameter([]byte(rest), index)
		if got != want || ok != (want != "") {
			t.Errorf("parameter %d is %q, %v", index, got, ok)
		}
	}
	for n := range len("\x00\x01\x00\x00\x00\x03\x00\x00\x00\x01a\xff\xff\xff\xff\x00\x00\x00\x02b") {
		if got, ok := boundParameter([]byte(rest[:n]), 2); ok {
			t.Errorf("cut at %d: %q", n, got)
		}
	}
}

// What the text of a read is known to do, it does without effects.
func FuzzEffects(f *testing.F) {
	for _, text := range []string{
		"select 1", "set a.b = 1; select f(1)", "insert into t (a) values (1) on conflict (a) do update set b = 1", "do $$ begin set x = 1; end $$",
		"select set_config('a', 'b', true), set_config($1, 'x', false)", "prepare p as select 1; execute p", `U&"x" 'a\'`,
	} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, standardStrings bool) {
		e := effectsOf(text, encodingSafe, standardStrings)
		if class := classify(text, encodingSafe, nil); class == classRead && e != nil {
			t.Errorf("%q only reads and has effects: %s", text, describeEffects(e))
		}
		if e == nil {
			return
		}
		for _, name := range e.Names {
			if !pool.ValidSettingName(name) {
				t.Errorf("%q sets %q", text, name)
			}
		}
		again := effectsOf(text, encodingSafe, standardStrings)
		if describeEffects(e) != describeEffects(again) || !slices.Equal(e.Names, again.Names) {
			t.Errorf("%q has other effects the second time", text)
		}
	})
}
