package differential

import (
	"fmt"
	"strings"
)

// statement is SQL with parameters that are sent beside it, or, in the simple
// protocol, put in their places.
type statement struct {
	sql        string
	parameters []string
}

func sql(format string, args ...any) statement {
	return statement{sql: fmt.Sprintf(format, args...)}
}

// inline puts the parameters in their places.
func (s statement) inline() string {
	text := s.sql
	for i, parameter := range s.parameters {
		text = strings.ReplaceAll(text, fmt.Sprint("$", i+1), literal(strings.ReplaceAll(parameter, "'", "''")))
	}
	return text
}

// feature is a family of statements. A case has some of them: what is rare among all
// is frequent there.
type feature struct {
	name   string
	weight int // of its statements, among those of the case's features
	make   func(*generator) statement

	// replayed: the state that it makes can be given to another server, so that no
	// client of such statements alone keeps one for itself.
	replayed bool
}

// always are the features of every case.
var always = []feature{
	{"look", 30, (*generator).look, true},
	{"transaction", 22, (*generator).transaction, true},
	{"row", 6, (*generator).row, true},
	{"error", 4, (*generator).failure, true},
}

// optional are the features of which a case has some.
var optional = []feature{
	{"set", 25, (*generator).set, true},
	{"set_config", 18, (*generator).config, true},
	{"reset", 8, (*generator).reset, true},
	{"role", 12, (*generator).role, true},
	{"discard", 4, (*generator).discard, true},
	{"hidden setting", 16, (*generator).hiddenSetting, false},
	{"temporary table", 18, (*generator).temporary, false},
	{"notification", 16, (*generator).notification, false},
	{"advisory lock", 16, (*generator).advisory, false},
	{"transaction lock", 8, (*generator).transactionLock, true},
	{"cursor", 14, (*generator).cursor, false},
	{"prepare", 16, (*generator).prepare, false},
	{"sequence", 14, (*generator).sequence, false},
	{"load", 4, (*generator).load, false},
	{"definition", 12, (*generator).definition, false},
}

// transaction begins and ends transactions and savepoints.
func (g *generator) transaction() statement {
	if g.one(3) {
		return sql("%s", pick(g, []string{
			"savepoint a", "savepoint b", "rollback to a", "rollback to savepoint b", "release a", "release savepoint b", "savepoint a",
			"set transaction isolation level repeatable read", "set transaction read only", "set transaction isolation level serializable",
			"commit and chain", "rollback and chain", "rollback to a",
		}))
	}
	return sql("%s", pick(g, []string{
		"begin", "begin", "begin", "start transaction", "begin isolation level repeatable read", "begin read only", "begin isolation level serializable, read write",
		"begin transaction deferrable", "BEGIN WORK",
		"commit", "commit", "commit", "end", "COMMIT WORK", "rollback", "rollback", "abort", "rollback work",
	}))
}

// row reads and writes tables that do not depend on the session.
func (g *generator) row() statement {
	id := g.client + 1 // its own: nobody waits for another's row
	switch g.random.IntN(6) {
	case 0:
		return statement{fmt.Sprintf("update s1.item set name = $1 where id = %d", id), []string{g.word()}}
	case 1:
		return sql("insert into item values (%d, 'new') on conflict (id) do update set name = excluded.name || '!' returning *", id)
	case 2:
		return sql("select id, name from s2.item where id = %d for update", id)
	case 3:
		return statement{"select name from s1.item where id = $1", []string{fmt.Sprint(id)}}
	case 4:
		return sql("with changed as (update s2.item set name = name || '.' where id = %d returning name) select count(*) from changed", id)
	}
	return sql("select count(*) from public.item, s1.item as one")
}

func (g *generator) failure() statement {
	return sql("%s", pick(g, []string{
		"select 1/0", "select * from missing", "nonsense", "select lib.fails('application_name', 'failed')", "select 'x'::int",
		"do $$ begin raise exception 'raised'; end $$", "", "select lib.fails('search_path', 's2')",
	}))
}

func (g *generator) discard() statement {
	return sql("%s", pick(g, []string{
		"discard all", "discard all", "discard plans", "discard temp", "discard sequences", "close all", "unlisten *", "deallocate all", "reset all",
	}))
}

// hiddenSetting changes settings behind the statement's back, but not by a trigger: if one
// can, every write is followed by an inspection, and the others are left untried.
func (g *generator) hiddenSetting() statement {
	name, value := g.setting()
	quoted := literal(value)
	switch g.random.IntN(15) {
	case 0:
		return sql("select lib.%s('%s', %s)", g.hidden("set"), name, quoted)
	case 1:
		return statement{"select lib." + g.hidden("set") + "($1, $2)", []string{name, value}}
	case 2:
		return sql("select lib.%s('%s', %s)", g.hidden("set_local"), name, quoted)
	case 3:
		return statement{"select lib.hidden_config($1, $2, $3)", []string{name, value, pick(g, []string{"true", "false"})}}
	case 4:
		if g.started { // the proxy learns too late that a function has given back what was set at login
			return sql("select lib.%s('work_mem'), lib.hidden_set('work_mem', '3MB')", g.hidden("reset"))
		}
		return sql("select lib.%s('%s')", g.hidden("reset"), g.knownName())
	case 5:
		return sql("select lib.undone_set('%s', %s)", name, quoted)
	case 6:
		return sql("select lib.scoped()")
	case 7:
		return sql("select lib.scoped_set('%s')", g.word())
	case 8:
		return sql("call lib.commits('%s')", g.word())
	case 9:
		return sql("do $$ begin set application_name = '%s'; end $$", g.word())
	case 10:
		return sql("do $$ begin perform set_config('%s', '%s', %s); end $$", name, value, pick(g, []string{"true", "false"}))
	case 11:
		return sql("select lib.%s('%s')", g.hidden("role"), pick(g, []string{"reader", "writer", "app", "none"}))
	case 12:
		return sql("with c as (select set_config('%s', %s, false) as set) select set from c", name, quoted)
	case 13:
		return sql("insert into lib.ticket (owner) select set_config('%s', %s, false)", name, quoted)
	}
	name, value = g.known()
	return sql("update pg_settings set setting = %s where name = '%s'", literal(value), name)
}

// hidden is the name of a function that does something behind the statement's back: one
// that puts together what it runs, or one that does not.
func (g *generator) hidden(what string) string { return pick(g, []string{"hidden_", "plain_"}) + what }

// definition defines a function of the client's own, which leaves the session alone or does
// not, and calls it or, if the case has that, the one of another.
func (g *generator) definition() statement {
	own := "made.f_" + g.name()
	other := own
	if g.foreign {
		other = "made.f_" + pick(g, []string{"a", "b"})
	}
	switch g.random.IntN(8) {
	case 0, 1:
		return sql("create or replace function %s(value text) returns text language plpgsql as $$ begin return %s; end $$", own, pick(g, []string{
			"value", "upper(value)", "lib.echo(value)", "set_config('my.last', value, false)", "set_config('application_name', value, false)",
			"pg_try_advisory_lock(5)", "lib.indirectly(value)",
		}))
	case 2:
		return sql("drop function if exists %s(text)", own)
	case 3:
		return statement{"select " + other + "($1)", []string{g.word()}}
	case 4:
		return sql("select lib.indirectly(lib.echo('%s'))", g.word())
	case 5:
		return sql("select lib.echo('%s')", g.word())
	}
	return sql("select %s('%s')", other, g.word())
}

// temporary uses temporary tables. It does not name pg_temp: a server that has ever
// had temporary tables says something else of a missing one.
func (g *generator) temporary() statement {
	name := pick(g, []string{"t1", "t2", "item"})
	switch g.random.IntN(14) {
	case 0, 1:
		return sql("create temp table %s (id int, name text)", name)
	case 2:
		return sql("create temporary table %s on commit %s as select 1 as id, 'temporary' as name", name, pick(g, []string{"drop", "delete rows", "preserve rows"}))
	case 3:
		return sql("create temp table %s (id serial, name text)", name)
	case 4:
		return sql("select 1 as id, 'into' as name into temp %s", name)
	case 5:
		return sql("drop table %s", pick(g, []string{"t1", "t2"}))
	case 6:
		return sql("drop table if exists t1, t2")
	case 7:
		return sql("insert into %s (id, name) values (3, '%s')", pick(g, []string{"t1", "t2"}), g.word())
	case 8:
		return sql("select lib.%s('%s')", g.hidden("temp"), name)
	case 9:
		return sql("select lib.%s('%s')", g.hidden("drop"), name)
	case 10:
		return sql("create temp view v1 as select 'view' as name")
	case 11:
		return sql("create temp sequence ts; select nextval('ts')")
	case 12:
		return sql("select name from v1")
	}
	return sql("select id, name from %s order by id, name", pick(g, []string{"t1", "t2", "item"}))
}

func (g *generator) notification() statement {
	channel := pick(g, []string{"ch1", "ch2"})
	switch g.random.IntN(9) {
	case 0, 1:
		return sql("listen %s", channel)
	case 2:
		return sql("unlisten %s", channel)
	case 3:
		return sql("unlisten *")
	case 4:
		return sql("select lib.%s('%s')", g.hidden("listen"), channel)
	case 5:
		return sql("select pg_listening_channels()")
	case 6:
		return statement{"select pg_notify($1, $2)", []string{channel, g.word()}}
	}
	return sql("notify %s, '%s'", channel, g.word())
}

func (g *generator) advisory() statement {
	key := fmt.Sprint(1 + g.random.IntN(3))
	switch g.random.IntN(10) {
	case 0, 1, 2:
		return sql("select pg_try_advisory_lock(%s)", key)
	case 3:
		return statement{"select pg_try_advisory_lock($1)", []string{key}}
	case 4:
		return sql("select pg_try_advisory_lock_shared(%s)", key)
	case 5:
		return sql("select lib.%s(%s)", g.hidden("lock"), key)
	case 6:
		return sql("select pg_advisory_unlock_shared(%s)", key)
	case 7:
		return sql("select pg_advisory_unlock_all()")
	}
	return sql("select pg_advisory_unlock(%s)", key)
}

func (g *generator) transactionLock() statement {
	return sql("select %s(%d)", pick(g, []string{"pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"}), 1+g.random.IntN(3))
}

func (g *generator) cursor() statement {
	holdable := pick(g, []string{"h1", "h2"})
	name := pick(g, []string{"c1", "h1", "h2"})
	switch g.random.IntN(9) {
	case 0, 1:
		return sql("declare %s cursor with hold for select id, name from %s.item order by id", holdable, pick(g, []string{"s1", "s2"}))
	case 2:
		return sql("declare c1 scroll cursor for select id, name from s1.item order by id")
	case 3:
		return sql("close %s", name)
	case 4:
		return sql("close all")
	case 5:
		return sql("move 1 from %s", name)
	case 6:
		return sql("select lib.hidden_cursor('c2')")
	}
	return sql("fetch %s from %s", pick(g, []string{"1", "all", "next"}), name)
}

// prepare uses prepared statements in SQL.
func (g *generator) prepare() statement {
	name := pick(g, []string{"q1", "q2"})
	switch g.random.IntN(10) {
	case 0:
		return sql("prepare %s as select name from item where id = 1", name)
	case 1:
		return sql("prepare %s (int) as select $1 + 1 as n", name)
	case 2:
		return sql("prepare %s as select '%s' as word", name, g.word())
	case 3:
		return sql("execute %s", name)
	case 4:
		return sql("execute %s (41)", name)
	case 5:
		return sql("deallocate %s", name)
	case 6:
		return sql("deallocate all")
	case 7:
		return sql("select lib.%s('q1')", g.hidden("prepare"))
	case 8:
		return sql("prepare %s as insert into lib.ticket (owner) values ('prepared') returning id", name)
	}
	return sql("execute %s", name)
}

func (g *generator) sequence() statement {
	name := pick(g, []string{"counter", "other"})
	switch g.random.IntN(8) {
	case 0, 1:
		return sql("select nextval('lib.%s')", name)
	case 2:
		return sql("select currval('lib.%s')", name)
	case 3:
		return sql("select lastval()")
	case 4:
		return sql("insert into lib.ticket (owner) values ('%s')", g.word())
	case 5:
		return sql("select lib.%s()", g.hidden("next"))
	case 6:
		return sql("select setval('lib.other', %d, true)", 2000+g.random.IntN(10))
	}
	return sql("select currval('lib.ticket_id_seq')")
}

// load loads libraries. What they bring stays on a server, and is not looked at.
func (g *generator) load() statement {
	return sql("%s", pick(g, []string{"load 'auto_explain'", "load '$libdir/passwordcheck'", "load 'missing'"}))
}

// word is a value that tells where it comes from.
func (g *generator) word() string {
	g.words++
	return fmt.Sprintf("%c%d", 'a'+g.client, g.words)
}

// separator is between statements of one text, and in none of them.
const separator = " ; "

func joinStatements(statements []string) string { return strings.Join(statements, separator) }

func splitStatements(text string) []string { return strings.Split(text, separator) }
