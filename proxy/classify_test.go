package proxy

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// classTexts are texts of which the class is known.
var classTexts = []struct {
	class statementClass
	texts []string
}{
	{classRead, []string{
		`SELECT abalance FROM pgbench_accounts WHERE aid = $1;`,
		`select`, `select 1`, `SELECT 1 ;`, `select 1; -- done`, `select 1 /* a /* b */ c */ ;/**/`, "\tselect\n1\r\f",
		`table t`, `table only t`, `values (1), (2)`, `(select 1)`, `((select 1) union all (values (2))) order by 1 limit 1`,
		`with x as (select 1) select * from x`,
		`with x (a, b) as (values (1, 2)) table x`,
		`with recursive t(n) as (values (1) union all select n + 1 from t where n < 100) select sum(n) from t`,
		`with x as materialized (select 1), y as not materialized (select 2) select * from x, y`,
		`select "update", "delete" from "insert" where "into" = 1`,
		`select "a""b", "nextval" from "c(d)"`,
		`select t."nextval"."x", t.a from s.t`,

		// Literals.
		`select 'it''s', E'it\'s', e'\\', E'''', U&'\0041', u&'\', N'x', B'01', x'1F', 'a' 'b'`,
		"select 'a'\n'b', E'a' -- c\n 'b'",
		`select $$it's; delete from t$$, $a$ $$ $b$ $a $a$, $_1$--$_1$, $é$ $é$`,
		`select 'x; delete from t', '-- ', '/*', 'update t set a = 1'`,
		`select 1, 1.5, .5, 1., 1e5, 1.5E-3, 1e+5, 0x1F, 0o17, 0B01, 1_000, $1, $12`,
		`select '` + "\v\x01" + `'`,
		`select 'é', é from "é" where é = 'é'`,

		// Operators and comments.
		`select a+-b, a- -b, -a, @a, a||b, a->'b'->>'c', a #> '{}', a ?| b, a <@ b, !!a, ~a, a != b, a*-1 from t`,
		"select 1 --2\n+ 3", "select 1 -- update t\r, 2", `select 1 +/* delete from t */ 2`, `select 1/*/**/*/+2`, `select 2*/*x*/3`,
		`select a::int, a::numeric(10,2), a::varchar(10)[], a::character varying(9), a::bit varying (3), a[1], a[1:2], a[:] from t`,
		`select cast(a as varchar(10)), cast(b as numeric(10, 2)), timestamp (3) '2000-01-01', interval '1' day from t`,

		// What looks like a call.
		`select count(*), count(distinct a), sum(a) filter (where b > 0), max(a) over (partition by b order by c), lag(a) over w
			from t window w as (order by c rows between 1 preceding and current row)`,
		`select percentile_cont(0.5) within group (order by a) from t`,
		`select rank() filter (where true) over (), pg_catalog.lower('A'), PG_CATALOG . /**/ upper ('a')`,
		`select coalesce(a, 0), nullif(a, b), greatest(1, 2), least(1, 2), extract(year from now()), substring('abc' from 2 for 1),
			position('a' in 'b'), overlay('abc' placing 'x' from 1), trim(both ' ' from a) from t`,
		`select case when (a) then (b) else (c) end, not (a), (a) and (b) or (c), a between (1) and (2), row(1, 2), array(select 1) from t`,
		`select * from t where a in (1, 2) and b in (select c from u) and exists (select 1) and d = any ($1) and e > all (array[1])
			and f <> some ('{}') and (a, b) overlaps (c, d) and g is distinct from (h) and g like ('x')`,
		`select distinct on (a, (b)) a, b from t`,
		`select a from t join u using (a) left join (select 1 as b) x on (b = a) cross join lateral (select 2) y`,
		`select * from (values (1, 'a')) as v (id, name), unnest($1::int[]) u(id), generate_series(1, 3) with ordinality as g(i, n)`,
		`select * from json_to_recordset('[]') as x(a int, b text), rows from (unnest('{1}'::int[]), json_each('{}')) as r`,
		`select a from t group by (a), (b) having (count(*) > 1) order by (a) limit (1) offset (2)`, `select rank() over (partition by (a) order by (b)) from t`,
		`select a, b from t group by rollup (a, b)`, `select a from t GROUP /**/ BY cube(a)`, `select a from t group by grouping sets ((a), ())`,
		`select a from t except (select 1) intersect (select 2)`,
		`select * from t tablesample system (10) repeatable (1)`, `select * from t as x tablesample bernoulli(1.5)`,
		`select a.id, extract(epoch from now() - a.made), lower(a.name), u.x from a, u where a.id in (1, abs(2)) order by a.id, abs(a.x)`,
		`select a.id from a join (select b.id from b) c on lower(a.id) = c.id group by a.id, abs(a.x)`, `select id from a join unnest($1::int[]) u(id) using (id)`,
		`select max(a.x) from a union select b.x, abs(b.x) from b`, `select x.a from (values (abs(1), 2)) x(a, b)`, `select substring(a.b from abs(1)) from a`,
		`select current_date, current_timestamp(3), localtime, current_user, session_user, user, current_catalog`,
		`select t.*, (t).* from t`, `select t.select, t.update_time, updated, deleted_at, into_x from t`,
		`select substring(a for 3), key, no, share from t`, `select a as on, b as group from t`,
		`select * from pg_class, information_schema.tables, pg_catalog.pg_type where false`,
		`select * from t order by a using <`,
	}},
	{classExclusive, []string{
		// Other statements.
		`insert into t values (1)`, `update t set a = 1`, `delete from t`, `merge into t using u on true when matched then delete`,
		`truncate t`, `create table t ()`, `drop table t`, `alter table t add a int`, `lock table t`, `copy t to stdout`,
		`copy (select 1) to stdout`, `explain select 1`, `explain analyze delete from t`, `show all`, `set a = 1`, `reset all`,
		`call p()`, `do $$begin end$$`, `prepare x as select 1`, `execute x`, `declare c cursor for select 1`, `fetch c`, `move c`,
		`close c`, `listen c`, `unlisten c`, `notify c`, `discard all`, `load 'x'`, `vacuum`, `analyze t`, `cluster`, `checkpoint`,
		`reindex table t`, `refresh materialized view v`, `comment on table t is 'x'`, `grant select on t to u`, `revoke all on t from u`,
		`savepoint a`, `release a`, `set transaction read only`, `security label on table t is 'x'`, `import foreign schema s from server x into y`,
		`reassign owned by a to b`, `"select" 1`, `selec 1`, `selects 1`, `where`, `(where`, `(`, `)`, `()`, `((select 1)`, `select 1)`, `select (1`,

		// More than one.
		`select 1; delete from t`, `select 1; select 2`, `select 1;;`, `;;`, `; select 1`, `select 1 /*;*/ ; /*;*/ delete from t`,
		"select 1 -- ;\n; delete from t", `select 1; begin`, `begin; select 1`, `commit; select 1`, `(select 1; select 2)`,

		// Writes and locks in a query.
		`with x as (delete from t returning *) select * from x`, `with x as (select 1) insert into t table x`,
		`with x as (insert into t values (1) returning a) select a from x`, `with x as (update t set a = 1 returning a) table x`,
		`with x as (merge into t using u on true when matched then delete returning *) select 1`, `with x as (select 1) update t set a = 1`,
		`select * into t from u`, `select 1 into temp t`, `select a INTO TEMPORARY TABLE t from u`, "select*into/**/t",
		`select * from t for update`, `select * from t for no key update`, `select * from t for share`, `select * from t for key share`,
		`select * from t for update of t nowait`, `select * from t for /**/ Share skip locked`, "select * from t FOR--\nKEY share",
		`(select * from t for update)`, `select * from (select * from t for share) x`, `table t for update`,
		`with x as (select * from t for key share) select 1`,

		// Functions.
		`select nextval('s')`, `SELECT/**/nextval/**/('s')`, "select nextval --x\n ('s')", "select nextval\n('s')", `select NeXtVaL('s')`,
		`select pg_catalog.set_config('a', 'b', false)`, `select set_config('a', 'b', true)`, `select current_setting('a')`,
		`select "nextval"('s')`, `select "nextval" ('s')`, `select U&"\006eextval"('s')`, `select u&"nextval"('s')`, `select U&"!006eextval" uescape '!' ('s')`,
		`select pg_catalog."nextval"('s')`, `select "pg_catalog".nextval('s')`, `select "pg_catalog".lower('s')`, `select public.lower('s')`,
		`select x.pg_catalog.lower('s')`, `select pg_catalog.x.lower('s')`, `select setval('s', 1)`, `select currval('s'), lastval()`,
		`select pg_advisory_lock(1)`, `select pg_try_advisory_xact_lock(1)`, `select pg_notify('a', 'b')`, `select pg_sleep(1)`,
		`select lo_create(0)`, `select lo_unlink(1)`, `select pg_cancel_backend(1)`, `select pg_terminate_backend(1)`, `select pg_reload_conf()`,
		`select txid_current()`, `select pg_current_xact_id()`, `select random()`, `select setseed(0.5)`, `select gen_random_uuid()`,
		`select clock_timestamp()`, `select timeofday()`, `select query_to_xml('select nextval(''s'')', true, true, '')`,
		`select * from dblink('', 'delete from t') as t(a int)`, `select pg_stat_reset()`, `select pg_read_file('x')`, `select ts_stat('select 1')`,
		`select ts_rewrite('a'::tsquery, 'select 1')`, `select pg_export_snapshot()`, `select pg_backend_pid()`, `select f()`, `select f(1)`,
		`select f ( 1 )`, `select a.f(1)`, `select * from f(1)`, `select * from t, lateral f(t.a)`, `select * from rows from (f(1))`,
		`select 1 where f(1)`, `select 1 order by f(1)`, `values (f(1))`, `with x as (values (nextval('s'))) table x`, `select count(f(1))`,
		`select case when true then f(1) end`, `select 1 + f(1)`, `select -f(1)`, `select 1 operator(public.+) f(1)`, `select array[f(1)]`,
		`select é(1)`, `select lower` + "\u00a0" + `('a')`, `select $1::f(1) || f(1)`, `select 'a' || nextval('s')`, `select e'\'', nextval('s')`,
		`select lower(variadic array[nextval('s')])`, `select exists(select nextval('s'))`, `select sum(nextval('s')) over (order by f(1))`,

		// Functions with names that have a meaning elsewhere.
		`select filter(1)`, `select over(1)`, `select rollup(1)`, `select cube(1)`, `select sets(1)`, `select materialized(1)`, `select recursive(1)`,
		`select not materialized(1)`, `select within(1)`, `select varying(1)`, `select second(now())`, `select key(1)`, `select first(1)`,
		`select join(1)`, `select ilike(1)`, `select cross(1)`, `select tablesample(1)`, `select "coalesce"(1)`, `select public.coalesce(1)`,
		`select public.values(1)`, `select public."in"(1)`, `select public.in(1)`, `select s.exists(1)`, `select s.select(1)`,
		`select distinct on (a) f(1)`, `select distinct on ((a), (b)) filter(1) from t`, `select distinct on (a) over(1) from t`,
		`select a from t partition by rollup(1)`, `select 1 from t order by cube(1)`, `select a from t group by a, rollup(1)`,
		`select by(1)`, `select json_value(1)`, `select any_value(1)`, `select system_user(1)`, `select system(1)`, `select bernoulli(1)`, `select repeatable(1)`,

		// Functions called by other means.
		`select treat('s' as nextval)`, `select ('s').nextval`, `select ('s'::regclass).nextval`, `select $1.nextval`, `select a[1].nextval from t`,
		`select (t.a) . /**/ nextval from t`, `select (array['s'])[1].nextval`, `select ((1)).pg_advisory_lock`, `select (row(1)).f`, `select ('s')."nextval"`,
		`select (select 's').nextval`, `select x.nextval from unnest(array['s']) x`, `select x.nextval from t, unnest(array['s']) with ordinality x`,
		`select lower.nextval from lower('S')`, `select x.nextval from t join lower('S') x on true`, `select x.nextval from (lower('S') x cross join t)`,
		`select x . nextval from rows from (lower('S')) x`, `select x.f from pg_catalog.lower('S') as x`, `select "current_user".f from current_user`,
		`select x.f from t, current_date x`, `select x.f from cast('s' as regclass) x`, `select x.f from t cross join lateral coalesce('s') x`,
		`select 1 from t where exists (select from unnest(array['s']) x where x.nextval > 0)`, `select x.nextval from t join u on (true), lower('S') x`,
		`(select 1) union (select x.nextval from lower('S') x)`, `select x.nextval from ((t cross join lower('S') x) cross join u)`,
		`select x.f from t join u on mode() within group (order by 1) = 1, lower('S') x`, `select x.f from system_user x`,
		`select (1) operator(pg_catalog.+) nextval('s')`, `select lower('s') operator(pg_catalog.||) nextval('s')`, `select 1 operator(pg_catalog.+) 1`,
		`select distinct on (a::timestamp with time zone) nextval('s') from t`, `select distinct on ((select 1)) nextval('s')`,
		`select current_schema`, `select current_schema()`, `select current_schemas(true)`,

		// State of a session.
		`select * from pg_temp.t`, `select * from PG_TEMP . t`, `select * from "pg_temp".t`, `select * from pg_temp_3.t`, `select a::pg_temp.b`,
		`select * from pg_settings`, `select * from pg_catalog.pg_prepared_statements`, `table pg_cursors`, `select * from "pg_settings"`,

		// Strings of which the end depends on a setting, or that have none.
		`select '\'`, `select '\', nextval(', 's')`, `select '\''`, `select 'a' '\'' , 'b'`, `select N'\'`, `select b'\'`, `select x'\'`,
		"select E'a'\n'\\''", `select U&'!0041' uescape '!'`, `select 'a`, `select 'a''`, `select E'a\'`, `select E'\`, `select U&'a`, `select "a`,
		`select "a""`, `select ""`, `select $$a`, `select $$a$`, `select $a$ $A$`, `select $a$ $ab$`, `select $1a$ x $1a$`, `select $`, `select $a`, `select $a b$`,
		`select /*`, `select 1 /* a`, `select 1 /* /* */`, `select 1 /*/`, `select 1 /* *`, `/*/ select 1`,

		// A backslash does not escape here, and what looks inside is outside.
		`select U&'\', nextval('s'), ' '`, `select 'a$$', nextval('s'), '$$'`, `select a$$, nextval('s'), b$$ from t`, `select 1 a$b$, nextval('s') c$b$`,
		`select $a$ $b$, $a$, nextval('s'), $b$`, `select $a$$a$, nextval('s'), $a$$a$`, `select "'", nextval('s'), "'"`, `select '"', nextval('s'), '"'`,
		`select /*'*/ nextval('s') /*'*/`, "select --'\n nextval('s') --'", `select 1 /* -- */, nextval('s')`, "select '--', nextval('s')",
		`select */*x*/nextval('s')`, "select 1 *-- \n nextval('s')", `select e'\\', nextval('s'), '\'`, `select E'a''', nextval('s'), E''''`,

		// Numbers that go on as names in one version or another.
		`select 1a`, `select 1.5a`, `select 1e`, `select 1e+`, `select 0xg`, `select 0x1g`, `select 0b12z`, `select 1from t`, `select $1a`, `select 1é`,
		`select 0x1f$a$, nextval('s') --$a$`, `select 1$a$, nextval('s') --$a$`, `select $1$a$, nextval('s') --$a$`, `select 1_$a$ --$a$`,

		// Bytes that are in no token.
		"select 1\x00", "select \x001", "select 1\x01", "select\v1", "select 1\x7f", `select \1`, `select {1}`, `select '` + "\x00'", "-- \x00",

		// Transactions in other forms.
		`begin read`, `begin isolation level`, `begin isolation level chaos`, `begin read committed`, `begin ,read only`, `begin read only,`,
		`begin read only read write`, `begin read only, read only`, `begin deferrable not deferrable`, `begin not`, `begin atomic`, `begin work work`,
		`begin transaction work`, `begin 1`, `begin (read only)`, `"begin"`, `begin;;`, `start`, `start work`, `start transaction transaction`,
		`start transaction snapshot`, `commit prepared 'x'`, `commit and chain`, `commit and no chain`, `commit work and chain`, `commit 1`, `end 1`,
		`rollback to a`, `rollback to savepoint a`, `rollback transaction to a`, `rollback prepared 'x'`, `rollback and chain`, `abort and no chain`,
		`prepare transaction 'x'`, `(begin)`, `(commit)`, `begin -- x` + "\n" + `, read only`, `set transaction isolation level serializable`,

		`deallocate`, `deallocate all`, `deallocate prepare all`, `deallocate ALL`, `deallocate a b`, `deallocate a, b`, `deallocate a.b`,
		`deallocate prepare a b`, `deallocate prepare prepare a`, `deallocate select`, `deallocate prepare left`, `deallocate 'a'`, `deallocate $1`,
		`deallocate ""`, `deallocate U&"a"`, `deallocate é`, `deallocate a;;`, `deallocate a; select 1`, `deallocate (a)`,
		`deallocate ` + strings.Repeat("a", 64), `deallocate "` + strings.Repeat("a", 64) + `"`, `"deallocate" a`, `deallocate prepare;;`,
	}},
	{classBegin, []string{
		`begin`, `BEGIN`, `Begin;`, `begin work`, `begin transaction;`, ` /* a */ begin -- b`, `begin read only`, `begin transaction read write`,
		`begin isolation level serializable`, `begin isolation level repeatable read`, `begin isolation level read committed, read only`,
		`begin work isolation level read uncommitted read write not deferrable ;`, `begin deferrable, isolation level serializable, read only`,
		`start transaction`, `START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;`, "start\ntransaction\nread\nonly", `begin--`,
	}},
	{classCommit, []string{`commit`, `COMMIT;`, `commit work`, `commit transaction ;`, `end`, `End Work`, `end transaction;--`, `/**/commit/**/`}},
	{classRollback, []string{`rollback`, `ROLLBACK;`, `rollback work`, `rollback transaction`, `abort`, `Abort Work;`, `abort transaction`}},
	{classEmpty, []string{``, ` `, `;`, ` ; `, `-- ping`, "--\n;--", `/**/`, `/* /* */ */ ; -- x`, "\t\r\n\f"}},
	{classDeallocate, []string{
		`deallocate a`, `DEALLOCATE PREPARE a;`, `deallocate "A b"`, `deallocate prepare`, `deallocate prepare prepare`, `deallocate "all"`, `deallocate "select"`,
		`deallocate pdo_stmt_00000001`, `deallocate update`, `deallocate coalesce`, `deallocate lower`, `deallocate a$1 -- x`, `deallocate "é"`, `deallocate"a"`,
	}},
}

func (c statementClass) String() string {
	return [...]string{"exclusive", "read", "begin", "commit", "rollback", "empty", "deallocate"}[c]
}

func TestClassify(t *testing.T) {
	for _, test := range classTexts {
		for _, text := range test.texts {
			if got := classify([]byte(text), encodingSafe, nil); got != test.class {
				t.Errorf("%q is %v, want %v", text, got, test.class)
			}
		}
	}
}

// classSeeds are all of classTexts.
func classSeeds() (seeds []string) {
	for _, test := range classTexts {
		seeds = append(seeds, test.texts...)
	}
	return seeds
}

// TestClassifyUnsafeEncoding: where ASCII bytes may be parts of other characters,
// nothing is known of texts with such characters.
func TestClassifyUnsafeEncoding(t *testing.T) {
	for _, text := range classSeeds() {
		want := classify([]byte(text), encodingSafe, nil)
		if !isASCII([]byte(text)) {
			want = classExclusive
		}
		if got := classify([]byte(text), encodingUnsafe, nil); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	// In SJIS 0x83 0x5c is one character, in GB18030 0x81 0x30 0x81 0x30 is.
	for _, text := range []string{"select '\x83\x5c', nextval('s'), ' '", "select \x81\x30\x81\x30"} {
		if got := classify([]byte(text), encodingUnsafe, nil); got != classExclusive {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// TestClassifyDeep: parentheses and comments may be nested, but not without end.
func TestClassifyDeep(t *testing.T) {
	for _, test := range []struct {
		open, body, shut string
		depth            int
		want             statementClass
	}{
		{"(", "select 1", ")", 64, classRead},
		{"(", "select 1", ")", 65, classExclusive},
		{"(", "select 1", ")", 1 << 20, classExclusive},
		{"/*", "", "*/", 1 << 20, classEmpty},
		{"/*", "*/", "*/", 1 << 20, classExclusive},
	} {
		text := strings.Repeat(test.open, test.depth) + test.body + strings.Repeat(test.shut, test.depth)
		if got := classify([]byte(text), encodingSafe, nil); got != test.want {
			t.Errorf("%d times %q is %v, want %v", test.depth, test.open, got, test.want)
		}
	}
}

func TestClassifyAllocs(t *testing.T) {
	for _, text := range classSeeds() {
		text := []byte(text)
		if allocs := testing.AllocsPerRun(10, func() { classify(text, encodingSafe, nil) }); allocs != 0 {
			t.Errorf("%q: %v allocations", text, allocs)
		}
	}
}

func TestDeallocatedName(t *testing.T) {
	for text, want := range map[string]string{
		`deallocate a`: `a`, `DEALLOCATE PREPARE Ab_1$;`: `ab_1$`, `deallocate "A ""b"""`: `A "b"`, `deallocate/**/prepare`: `prepare`,
		`deallocate Prepare PREPARE --`: `prepare`, `deallocate "prepare";`: `prepare`, `deallocate"é"`: `é`,
		`deallocate ` + strings.Repeat("A", 63): strings.Repeat("a", 63),
	} {
		if name, ok := deallocatedName([]byte(text)); !ok || string(name) != want {
			t.Errorf("%q deallocates %q (%t), want %q", text, name, ok, want)
		}
	}
	for _, test := range classTexts {
		for _, text := range test.texts {
			if name, ok := deallocatedName([]byte(text)); ok != (test.class == classDeallocate) || ok != (len(name) > 0) {
				t.Errorf("%q deallocates %q (%t)", text, name, ok)
			}
		}
	}
}

func TestEncodingOf(t *testing.T) {
	for name, want := range map[string]encodingKind{
		"UTF8": encodingSafe, "utf-8": encodingSafe, "Unicode": encodingSafe, "SQL_ASCII": encodingSafe, "latin 1": encodingSafe,
		"ISO_8859_5": encodingSafe, "ISO-8859-1": encodingSafe, "Windows-1252": encodingSafe, "KOI8-R": encodingSafe, "'UTF8'": encodingSafe,
		"": encodingUnsafe, "SJIS": encodingUnsafe, "Shift_JIS": encodingUnsafe, "MSKANJI": encodingUnsafe, "Windows932": encodingUnsafe,
		"win936": encodingUnsafe, "UHC": encodingUnsafe, "UTF16": encodingUnsafe, "utf8x": encodingUnsafe, "-": encodingUnsafe,
	} {
		if encodingOf(name) != want {
			t.Errorf("of %q: %d, want %d", name, encodingOf(name), want)
		}
	}
}

// TestWordTable: no word is longer than is looked up, and all are found.
func TestWordTable(t *testing.T) {
	longest, words := 0, 0
	for _, entry := range wordTokens {
		if entry.word == "" {
			continue
		}
		words++
		longest = max(longest, len(entry.word))
		l := lexer{text: []byte(strings.ToUpper(entry.word))}
		if got := l.next(); got != tokenName|entry.token {
			t.Errorf("%s is %b, want %b", entry.word, got, tokenName|entry.token)
		}
	}
	if longest != maxWordBytes {
		t.Errorf("the longest word has %d bytes, not %d", longest, maxWordBytes)
	}
	if words > len(wordTokens)/2 {
		t.Errorf("%d words fill a table of %d", words, len(wordTokens))
	}
}

// spans returns the tokens of a text, in their places, up to what is no token.
func spans(text []byte) (tokens []token, places [][2]int) {
	l := lexer{text: text}
	for {
		t := l.next()
		if t&tokenEnd != 0 || t == tokenForbidden {
			return tokens, places
		}
		tokens, places = append(tokens, t), append(places, [2]int{l.start, l.at})
	}
}

// mapped returns a text with the letters from first to last replaced by those from to.
func mapped(text []byte, first, last, to byte) []byte {
	text = bytes.Clone(text)
	for i, c := range text {
		if c >= first && c <= last {
			text[i] = c - first + to
		}
	}
	return text
}

// respelled returns a text with other space and comments between its tokens and
// with its words in other case, none of which means anything to PostgreSQL.
func respelled(text []byte, random *rand.Rand) []byte {
	spaces := []string{" ", "\n", "\t \r\f", "/**/", " -- ; delete from t\n", " /* /* ' */ $$ \" */", "--\r", "\n--'\n"}
	tokens, places := spans(text)
	var spelled []byte
	done := 0
	for i, place := range places {
		spelled = append(spelled, text[done:place[0]]...)
		if random.IntN(3) == 0 {
			// The space keeps an operator from becoming the beginning of a comment.
			spelled = append(append(spelled, ' '), spaces[random.IntN(len(spaces))]...)
		}
		part := text[place[0]:place[1]]
		if tokens[i]&tokenName != 0 {
			switch random.IntN(3) {
			case 0:
				part = mapped(part, 'a', 'z', 'A')
			case 1:
				part = mapped(part, 'A', 'Z', 'a')
			}
		}
		spelled = append(spelled, part...)
		done = place[1]
	}
	return append(spelled, text[done:]...)
}

func FuzzClassify(f *testing.F) {
	for i, text := range classSeeds() {
		f.Add([]byte(text), uint64(i))
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		class := classify(text, encodingSafe, nil)
		if allocs := testing.AllocsPerRun(5, func() { classify(text, encodingSafe, nil) }); allocs != 0 {
			t.Errorf("%q: %v allocations", text, allocs)
		}
		if name, ok := deallocatedName(text); bytes.IndexByte(text, 0) < 0 && ok != (class == classDeallocate) || ok && len(name) == 0 {
			t.Errorf("%q is %v and deallocates %q (%t)", text, class, name, ok)
		}
		if other := classify(text, encodingUnsafe, nil); other != class && (other != classExclusive || isASCII(text)) {
			t.Errorf("%q is %v, in another encoding %v", text, class, other)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		for range 4 {
			spelled := respelled(text, random)
			if got := classify(spelled, encodingSafe, nil); got != class {
				t.Errorf("%q is %v, but %q is %v", text, class, spelled, got)
			}
		}
		for _, around := range [][2]string{{"", "\n; delete from t"}, {"", "\n; select 1"}, {"delete from t; ", ""}, {"select 1; ", "\n"}, {"explain ", ""}} {
			more := around[0] + string(text) + around[1]
			got := classify([]byte(more), encodingSafe, nil)
			if want := classExclusive; got != want && (class != classEmpty || around[0] != "select 1; ") {
				t.Errorf("%q is %v", more, got)
			}
		}
		if class == classRead && bytes.IndexByte(text, ';') < 0 {
			for _, around := range [][2]string{{"(", "\n)"}, {"with x as (", "\n) table x"}, {"select * from t where a in (", "\n)"}} {
				more := around[0] + string(text) + around[1]
				if got := classify([]byte(more), encodingSafe, nil); got != classRead && bytes.Count(text, []byte("(")) < 60 {
					t.Errorf("%q is %v", more, got)
				}
			}
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	for _, test := range []struct{ name, text string }{
		{"select", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"},
		{"literal", "SELECT abalance FROM pgbench_accounts WHERE aid = 123456;"},
		{"begin", "BEGIN;"},
		{"update", "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;"},
		{"join", `SELECT "i"."id", "i"."total", coalesce("i"."paid", 0) AS "paid" FROM "invoices" AS "i" LEFT JOIN "customers" AS "c"
			ON "c"."id" = "i"."customer_id" WHERE "i"."customer_id" = $1 AND "i"."status" IN ('open', 'draft') ORDER BY "i"."created" LIMIT 10`},
	} {
		b.Run(test.name, func(b *testing.B) {
			text := []byte(test.text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				classify(text, encodingSafe, nil)
			}
		})
	}
}
