package differential

import (
	"fmt"
	"strings"
)

// setting is a run-time parameter and values for it, as SQL literals are written.
type setting struct {
	name   string
	values []string
}

// settings are parameters that anybody may set. What a value is worth is seen in
// answers and in what PostgreSQL reports.
var settings = []setting{
	{"search_path", []string{"s1", "s2", "s1, public", "s2, s1", "\"$user\", public", "pg_temp, s1", "public", "missing"}},
	{"TimeZone", []string{"UTC", "Asia/Tokyo", "America/New_York", "-3"}},
	{"DateStyle", []string{"ISO, MDY", "German", "SQL, DMY", "ISO"}},
	{"IntervalStyle", []string{"postgres", "iso_8601", "sql_standard"}},
	{"client_encoding", []string{"UTF8", "LATIN1", "utf-8"}},
	{"standard_conforming_strings", []string{"on", "off"}},
	{"escape_string_warning", []string{"on", "off"}},
	{"backslash_quote", []string{"on", "safe_encoding"}},
	{"default_transaction_isolation", []string{"serializable", "repeatable read", "read committed"}},
	{"default_transaction_read_only", []string{"on", "off"}},
	{"statement_timeout", []string{"0", "61s", "2min"}},
	{"idle_in_transaction_session_timeout", []string{"0", "1h"}},
	{"work_mem", []string{"1MB", "8MB"}},
	{"extra_float_digits", []string{"0", "1", "-3"}},
	{"bytea_output", []string{"hex", "escape"}},
	{"application_name", []string{"one", "two", "it''s", ""}},
	{"client_min_messages", []string{"notice", "warning", "error"}},
	{"row_security", []string{"on", "off"}},
	{"array_nulls", []string{"on", "off"}},
	{"transform_null_equals", []string{"on", "off"}},
	{"enable_seqscan", []string{"on", "off"}},
	{"plan_cache_mode", []string{"auto", "force_custom_plan", "force_generic_plan"}},
	{"my.tenant", []string{"7", "8", ""}},
	{"my.last", []string{"x"}},
}

// badSettings are refused.
var badSettings = []setting{
	{"no_such_parameter", []string{"1"}},
	{"DateStyle", []string{"nonsense"}},
	{"TimeZone", []string{"Nowhere/Never"}},
	{"work_mem", []string{"lots"}},
	{"shared_buffers", []string{"1GB"}},
	{"log_statement", []string{"all"}},
	{"client_encoding", []string{"klingon"}},
	{"server_version", []string{"1"}},
	{"default_transaction_isolation", []string{"loose"}},
}

// setting picks a parameter and a value.
func (g *generator) setting() (name, value string) {
	list := settings
	if g.one(20) {
		list = badSettings
	}
	s := pick(g, list)
	if g.one(3) { // those that change what others see, more often
		s = pick(g, settings[:8])
	}
	return s.name, pick(g, s.values)
}

// known is setting without customized parameters. Once set, one of these stays known
// to its server, without a value, and another client can tell: its name is no error.
func (g *generator) known() (name, value string) {
	for {
		if name, value = g.setting(); !strings.HasPrefix(name, "my.") {
			return name, value
		}
	}
}

func (g *generator) knownName() string {
	name, _ := g.known()
	return name
}

func literal(value string) string { return "'" + value + "'" }

// set makes a statement that sets a parameter, for the session or the transaction.
func (g *generator) set() statement {
	name, value := g.setting()
	scope := pick(g, []string{"", "", "session ", "local ", "local "})
	switch {
	case name == "TimeZone" && g.one(3):
		return sql("set %stime zone %s", scope, pick(g, []string{"'Asia/Tokyo'", "default", "local", "5", "interval '-03:30' hour to minute"}))
	case name == "client_encoding" && g.one(3):
		return sql("set %snames %s", scope, literal(value))
	case name == "search_path" && value != "\"$user\", public" && g.one(2):
		return sql("set %ssearch_path to %s", scope, value)
	case g.one(8):
		return sql("set %s%s to default", scope, name)
	case name == "search_path": // one literal would be one name
		return sql("select set_config('search_path', %s, %t)", literal(value), scope == "local ")
	}
	return sql("set %s%s %s %s", scope, name, pick(g, []string{"to", "="}), literal(value))
}

// config makes a call of set_config, with literals or with parameters.
func (g *generator) config() statement {
	name, value := g.setting()
	isLocal := pick(g, []string{"true", "false"})
	switch g.random.IntN(4) {
	case 0:
		return statement{"select set_config($1, $2, $3)", []string{name, value, isLocal}}
	case 1:
		return statement{fmt.Sprintf("select set_config('%s', $1, %s)", name, isLocal), []string{value}}
	case 2:
		return sql("select set_config('%s', %s, %s), current_setting('%s')", name, literal(value), isLocal, name)
	}
	return sql("select set_config('%s', %s, %s)", name, literal(value), isLocal)
}

func (g *generator) reset() statement {
	switch g.random.IntN(6) {
	case 0:
		return sql("reset all")
	case 1:
		return sql("reset time zone")
	case 2:
		return sql("set session characteristics as transaction %s", pick(g, characteristics))
	}
	return sql("reset %s", g.knownName())
}

var characteristics = []string{
	"isolation level serializable", "isolation level read committed", "read only", "read write",
	"isolation level repeatable read, read only", "isolation level serializable, read only",
}

// role makes a statement that makes the client somebody else.
func (g *generator) role() statement {
	return sql("%s", pick(g, []string{
		"set role reader", "set role writer", "set role reader", "set role none", "reset role", "set role boss", "set local role writer",
		"set local role reader", "set session role writer", "set role 'reader'", "set role nobody", "select set_config('role', 'reader', false)",
		"select set_config('role', 'writer', true)", "set session authorization app", "set session authorization default",
		"reset session authorization", "set session authorization reader", "set local session authorization app", "set session authorization boss",
	}))
}

// look makes a statement that shows what settings and roles amount to.
func (g *generator) look() statement {
	switch g.random.IntN(5) {
	case 0:
		return sql("show %s", g.knownName())
	case 1:
		return statement{"select current_setting($1, true)", []string{g.knownName()}}
	}
	return sql("%s", pick(g, sameTexts))
}

// sameTexts mean something else in another session: the registry of prepared
// statements must not mix them up.
var sameTexts = []string{
	"select * from item order by id",
	"select name from item where id = 1",
	"select here()",
	"select current_user, session_user",
	`select '\x41' as escaped`,
	"select date '02/03/2026' = '2026-02-03' as month_first, timestamptz '2026-02-03 04:05' = '2026-02-03 04:05+00' as utc",
	"select date '2026-02-03', timestamptz '2026-02-03 04:05:06+00', interval '1 day 2 hours'",
	"select null = null as equal, '{null}'::text[]",
	"select 0.1::float8 + 0.2::float8, '\\000'::bytea",
	"select chr(233) || 'x'",
	"select current_schemas(true)::text ~ 's1', current_schema()",
	"show search_path",
	"show transaction_isolation",
	"show transaction_read_only",
	"show default_transaction_read_only",
	"show application_name",
	"show TimeZone",
	"select nullif(current_setting('my.tenant', true), ''), nullif(current_setting('my.last', true), ''), nullif(current_setting('my.local', true), '')",
	"select to_regclass('t1') is null, to_regclass('t2') is null, to_regclass('item')::text",
	"select count(*) from pg_listening_channels()",
	"select mode, classid, objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() order by 1, 2, 3",
	"select name, is_holdable from pg_cursors where name in ('c1', 'c2', 'h1', 'h2') order by name",
	"select row_security_active('item'), has_table_privilege('item', 'insert')",
	everySetting,
}

// everySetting shows a lot at once.
const everySetting = `select current_user, session_user, current_setting('search_path'), current_setting('TimeZone'), current_setting('DateStyle'), ` +
	`current_setting('client_encoding'), current_setting('standard_conforming_strings'), current_setting('default_transaction_isolation'), ` +
	`current_setting('statement_timeout'), current_setting('work_mem'), current_setting('application_name'), current_setting('client_min_messages'), ` +
	`current_setting('default_transaction_read_only'), current_setting('role'), current_setting('extra_float_digits'), current_setting('enable_seqscan'), ` +
	`current_setting('row_security'), current_setting('plan_cache_mode'), current_setting('bytea_output'), current_setting('IntervalStyle')`
