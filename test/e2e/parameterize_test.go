package e2e

import (
	"testing"
	"time"
)

// TestParameterizedReads sends simple queries so often that they are run with parameters
// in the place of their constants, and compares every byte of the replies with what
// PostgreSQL answers to the queries as they are written.
func TestParameterizedReads(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, `
		create type mood as enum ('sad', 'ok', 'happy');
		create domain positive as int check (value > 0);
		create table item (
			id int primary key, small smallint, big bigint, exact numeric(12, 3), approximate double precision, flag boolean,
			name text, code char(5), short varchar(4), tag "char", at timestamptz, day date, span interval, mood mood,
			count positive, uuid uuid, body bytea, facts jsonb, list int[], address inet, kind oid);
		insert into item select i, i, i::bigint << 33, i / 8.0, i / 3.0, i % 2 = 0, 'name ''' || i || '''', i::text, i::text, i::text::"char",
			timestamptz '2026-01-01 00:00:00+00' + make_interval(days => i), date '2026-01-01' + i, make_interval(hours => i),
			(enum_range(null::mood))[1 + i % 3], i, lpad(to_hex(i), 32, '0')::uuid, decode(lpad(to_hex(i), 2, '0'), 'hex'),
			jsonb_build_object('n', i), array[i, i + 1], ('10.0.0.' || i)::inet, i
		from generate_series(1, 50) i;
		create index on item (name) where flag = true;
		analyze item`)
	// Sent in turn, so often that each has been prepared, also where it fails.
	queries := []string{
		"select * from item where id = 7",
		"select id, name from item where id <= 3 and 1 = 1 order by id",
		"select id from item where small = 7 or big = 60129542144 or kind = 9",
		"select id from item where big = 8589934592",
		"select id from item where exact = 0.125 or exact >= 6 order by 1 limit 3",
		"select id from item where approximate > 16",
		"select id from item where flag = 'yes' and id < 9",
		"select id from item where name = 'name ''7'''",
		"select id from item where name = 'name ''7''' and flag = true",
		"select id from item where code = '7' or code = '8    '",
		"select id from item where short = '7'",
		"select id from item where tag = '7'",
		"select id from item where at = '2026-01-08 00:00:00+00'",
		"select id from item where at > 'epoch' and day < '2026-01-04' order by id",
		"select id from item where day = 'today' or span = '7 hours'",
		"select id from item where mood = 'happy' and id < 9",
		"select id from item where count = 7 or uuid = '00000000-0000-0000-0000-000000000007'",
		`select id from item where body = '\x07'`,
		`select id from item where facts = '{"n": 7}' or facts ->> 'n' = '8'`,
		"select id from item where list = '{7,8}' or address = '10.0.0.9'",
		"select id, name = 'x', 'a' = 'b' from item where (id = 1) is not false and name <> ''",
		"select count(*), max(id) from item where id > 10 group by flag = 'yes'",
		"select id = 1 as first, count(*) from item group by id = 1 order by 1",
		"select distinct on (id = 1) id from item order by id = 1, id",
		"with one as (select id from item where id = 1) select * from one where id = 1 union select 2 where 1 = 1 order by 1",
		"select (select name from item i where i.id = 1) as name, exists (select from item where id = 99)",
		"select coalesce(name = 'x', false), nullif(id = 1, true) from item where id = 1",
		"select sum(id) filter (where flag = 'yes') over (order by id = 1) from item where id < 4",
		"select",
		"select 1 = 1, '' = ''",

		// Errors, of parsing, of planning and of running.
		"select id from item where id = 'seven'",
		"select id from item where mood = 'angry'",
		"select id from item where nothing = 7",
		"select id from nowhere where id = 7",
		"select id from item where name = 7 order by id",
		"select 1 / (id - 7) from item where id = 7",
		"select name::int from item where id >= 1",
		"select id = 1, count(*) from item group by id = 2",
		"select id from item where id = 7 and",
		"select id from item where at = 'no time'",
		"select id from item where id = 99999999999999999",
	}
	var script []step
	for _, sql := range queries {
		for range 8 {
			script = append(script, simple(sql))
		}
	}
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	// A query that seems slow is sent as it is written, so on a busy machine it takes longer.
	least, sent := 3*30, 0
	for deadline := time.Now().Add(patience); p.poolStats(t, d).ParameterizedReads < least; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d queries were sent with parameters, want at least %d", p.poolStats(t, d).ParameterizedReads, sent, least)
		}
		runTwins(t, p, d, "", script)
		sent += len(script)
	}
	got := p.poolStats(t, d)
	t.Logf("%d of %d queries were sent with parameters, %d were run again", got.ParameterizedReads, sent, got.GroupsRunAgain)
}
