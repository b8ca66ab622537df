package proxy

import (
	"strings"
)

// maxWordBytes is the length of the longest word in wordTokens.
const maxWordBytes = 34

// wordTokens has what is to be known of a word besides that it is one.
var wordTokens = makeWordTable()

// wordTable finds words by their hash, or behind where that points. It is several
// times as fast as a map, whose hash function is made for more than some letters.
type wordTable [1 << 11]struct {
	word  string
	token token
}

// nextWordHash is the hash of a word with one more byte.
func nextWordHash(hash uint32, c byte) uint32 { return hash*31 + uint32(c) }

// of returns what is known of a word with that hash, 0 if nothing is.
func (t *wordTable) of(word []byte, hash uint32) token {
	for {
		entry := &t[hash%uint32(len(t))]
		if entry.word == string(word) || entry.word == "" {
			return entry.token
		}
		hash++
	}
}

// find returns what is known of a word.
func (t *wordTable) find(word []byte) token {
	hash := uint32(0)
	for _, c := range word {
		hash = nextWordHash(hash, c)
	}
	return t.of(word, hash)
}

// add makes more known of a word.
func (t *wordTable) add(word string, known token) {
	hash := uint32(0)
	for i := range len(word) {
		hash = nextWordHash(hash, word[i])
	}
	for {
		entry := &t[hash%uint32(len(t))]
		if entry.word == word || entry.word == "" {
			entry.word = word
			entry.token |= known
			return
		}
		hash++
	}
}

func makeWordTable() *wordTable {
	var table wordTable
	for _, group := range [...]struct {
		words string
		token token
	}{
		{reservedWords, tokenReserved | tokenKeyword},
		{functionOrTypeWords, tokenReserved},
		{columnWords, tokenKeyword},
		{functionNames, tokenFunction},
		{forbiddenWords, tokenForbidden},
		{"select values table with", tokenSelect},
		{"as with recursive tablesample group order partition grouping bit char character nchar", tokenNaming},
		{"from", tokenFrom},
		{"join lateral only", tokenJoin},
		{"where", tokenWhere},
		{"order having limit offset union intersect except", tokenBehindTables},
		{"on", tokenOn},
		{"for", tokenFor},
		{"key no share", tokenLock},
		{"group", tokenGroup},
		{"by", tokenBy},
		{"cube rollup", tokenRollup},
		{"pg_catalog", tokenCatalog},
		{harmlessNames, tokenHarmless},
		{stateNames, tokenState},
	} {
		for word := range strings.FieldsSeq(group.words) {
			table.add(word, group.token)
		}
	}
	return &table
}

// The keywords that cannot be the name of a function are those in these two
// groups of version 13. A function that has the name of a later one, or of a
// keyword in another group, needs no quotes.
// See https://www.postgresql.org/docs/current/sql-keywords-appendix.html
const (
	reservedWords = `all analyse analyze and any array as asc asymmetric both case cast check collate column constraint
		create current_catalog current_date current_role current_time current_timestamp current_user default deferrable
		desc distinct do else end except false fetch for foreign from grant group having in initially intersect into
		lateral leading limit localtime localtimestamp not null offset on only or order placing primary references
		returning select session_user some symmetric table then to trailing true union unique user using variadic when
		where window with`

	columnWords = `between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping
		inout int integer interval least national nchar none normalize nullif numeric out overlay position precision
		real row setof smallint substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement
		xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable`
)

// functionOrTypeWords are reserved but for names of functions and types; the last
// one came with version 16.
const functionOrTypeWords = `authorization binary collation concurrently cross current_schema freeze full ilike inner is
	isnull join left like natural notnull outer overlaps right similar tablesample verbose system_user`

// forbiddenWords make a query write or lock. Those of the second line call a function
// by the name of a type; put parentheses in front of an expression; decide what the
// string in front means; create the schema for temporary tables, if search_path
// begins with it; and are a function since version 16 only.
const forbiddenWords = `insert update delete merge into
	treat operator uescape current_schema system_user`

// functionNames are functions that PostgreSQL brings in pg_catalog since version 13
// or longer. None of them is volatile, runs a query that it is given, or tells one
// server from another; and but for the age of a transaction they may run in a
// parallel worker, which nothing may that depends on the session.
//
// Harmless ones are missing that nobody calls often, or whose names users give to
// functions of their own. Volatile ones are missing even where running them twice
// does no harm: a UUID from gen_random_uuid must not go to two clients that ask for
// one each, and a clock_timestamp tells when its own client asked.
const functionNames = `
	array_agg avg bit_and bit_or bool_and bool_or corr count covar_pop covar_samp cume_dist dense_rank every first_value
	json_agg json_object_agg jsonb_agg jsonb_object_agg lag last_value lead max min mode nth_value ntile percent_rank
	percentile_cont percentile_disc rank regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx
	regr_sxy regr_syy row_number stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance

	abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd degrees
	div exp factorial floor gcd lcm ln log log10 min_scale mod pi pow power radians round scale sign sin sind sinh sqrt
	tan tand tanh trim_scale trunc width_bucket

	ascii bit_length btrim char_length character_length chr concat concat_ws convert convert_from convert_to decode
	encode format get_bit get_byte hashtext hashtextextended initcap left length like lower lpad ltrim md5
	octet_length overlaps parse_ident quote_ident quote_literal quote_nullable regexp_match regexp_matches
	regexp_replace regexp_split_to_array regexp_split_to_table repeat replace reverse right rpad rtrim set_bit set_byte
	sha224 sha256 sha384 sha512 split_part starts_with string_to_array strpos substr to_ascii to_hex translate upper

	age date date_part date_trunc isfinite justify_days justify_hours justify_interval make_date make_interval make_time
	make_timestamp make_timestamptz now statement_timestamp timezone to_char to_date to_number to_timestamp
	transaction_timestamp

	array_to_json json_array_elements json_array_elements_text json_array_length json_build_array json_build_object
	json_each json_each_text json_extract_path json_extract_path_text json_object json_object_keys json_populate_record
	json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_elements
	jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text
	jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists
	jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_populate_record
	jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
	jsonb_typeof row_to_json to_json to_jsonb

	array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions
	array_prepend array_remove array_replace array_to_string array_upper cardinality generate_series
	generate_subscripts unnest

	daterange int4range int8range isempty lower_inc lower_inf numrange range_merge tsrange tstzrange upper_inc upper_inf

	phraseto_tsquery plainto_tsquery setweight to_tsquery to_tsvector ts_headline ts_rank ts_rank_cd websearch_to_tsquery

	bool bpchar float4 float8 int2 int4 int8 oid regclass text timestamptz timetz varbit

	col_description current_database format_type has_column_privilege has_database_privilege has_function_privilege
	has_schema_privilege has_sequence_privilege has_table_privilege num_nonnulls num_nulls obj_description
	pg_column_size pg_encoding_to_char pg_function_is_visible pg_get_constraintdef pg_get_expr
	pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result pg_get_functiondef
	pg_get_indexdef pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence pg_get_triggerdef pg_get_userbyid
	pg_has_role pg_size_bytes pg_size_pretty pg_table_is_visible pg_type_is_visible pg_typeof
	shobj_description to_regclass to_regtype version`

// harmlessNames are functions of pg_catalog besides functionNames that leave a session
// as it is.
const harmlessNames = `
	clock_timestamp current_schema current_schemas current_setting gen_random_uuid inet_client_addr inet_client_port inet_server_addr inet_server_port
	lo_close lo_creat lo_create lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64 lo_open lo_put lo_tell
	lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite
	pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_backend_pid pg_blocking_pids pg_cancel_backend
	pg_conf_load_time pg_current_snapshot pg_current_wal_insert_lsn pg_current_wal_lsn pg_current_xact_id
	pg_current_xact_id_if_assigned pg_database_size pg_get_viewdef pg_indexes_size pg_is_in_recovery
	pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_my_temp_schema pg_notify pg_notification_queue_usage
	pg_postmaster_start_time pg_relation_filenode pg_relation_size pg_sleep pg_sleep_for pg_sleep_until pg_snapshot_xmin
	pg_stat_get_activity pg_table_size pg_tablespace_size pg_terminate_backend pg_total_relation_size
	pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_visible_in_snapshot pg_wal_lsn_diff pg_xact_status
	random row_security_active timeofday to_regnamespace to_regproc to_regrole txid_current txid_current_if_assigned
	txid_current_snapshot txid_status xmlagg`

// stateNames are functions of pg_catalog that change a session or tell of it, or run SQL
// that they are given. hazards.sql has them too.
const stateNames = `
	set_config setseed nextval setval currval lastval
	pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
	pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all
	cursor_to_xml cursor_to_xmlschema database_to_xml database_to_xml_and_xmlschema database_to_xmlschema query_to_xml
	query_to_xml_and_xmlschema query_to_xmlschema schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema table_to_xml
	table_to_xml_and_xmlschema table_to_xmlschema ts_rewrite ts_stat`

// byteKind is what a byte is at the beginning of a token.
type byteKind uint8

const (
	byteBad byteKind = iota
	byteSpace
	byteWord
	byteDigit
	byteOperator
	byteQuote
	byteDoubleQuote
	byteDollar
	byteDot
	byteSingle // a token by itself, in singleTokens
)

// byteKinds takes all bytes of characters outside ASCII for letters, as PostgreSQL
// does. Vertical tabs are space since version 16 only, so they are bad.
var byteKinds = makeByteKinds()

func makeByteKinds() (kinds [256]byteKind) {
	for _, group := range [...]struct {
		bytes string
		kind  byteKind
	}{
		{" \t\n\r\f", byteSpace},
		{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", byteWord},
		{"0123456789", byteDigit},
		{"~!@#^&|`?+-*/%<>=", byteOperator},
		{"'", byteQuote},
		{`"`, byteDoubleQuote},
		{"$", byteDollar},
		{".", byteDot},
		{"()[],;:", byteSingle},
	} {
		for i := range len(group.bytes) {
			kinds[group.bytes[i]] = group.kind
		}
	}
	for c := 0x80; c < len(kinds); c++ {
		kinds[c] = byteWord
	}
	return kinds
}

// foldedBytes has the bytes that may be in a name, in lower case if they are in
// ASCII; 0 stands for the others.
var foldedBytes = makeFoldedBytes()

func makeFoldedBytes() (folded [256]byte) {
	for i, kind := range byteKinds {
		c := byte(i)
		switch {
		case c >= 'A' && c <= 'Z':
			folded[i] = c + 'a' - 'A'
		case kind == byteWord, kind == byteDigit, kind == byteDollar:
			folded[i] = c
		}
	}
	return folded
}

var singleTokens = [256]token{
	'(': tokenOpen, ')': tokenClose, ',': tokenComma, ';': tokenSemicolon, '[': tokenOther, ']': tokenOther, ':': tokenOther,
}
