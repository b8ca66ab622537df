package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// showAll is what the tests compare of a session's settings. It is no read that can
// share a server, and the second is.
var showAll = []string{
	"select name, setting from pg_settings where name in ('application_name', 'client_encoding', 'DateStyle', 'IntervalStyle', " +
		"'TimeZone', 'search_path', 'statement_timeout', 'work_mem', 'extra_float_digits', 'standard_conforming_strings', " +
		"'default_transaction_isolation', 'default_transaction_read_only') order by 1",
	"select now()::text ~ '^[0-9]', '2024-05-06 07:08:09.123+00'::timestamptz, interval '1 day 2 hours', current_setting('search_path'), 1/3::float8",
}

// TestSettingsDoNotLeak has clients with different startup parameters take turns on
// one server.
func TestSettingsDoNotLeak(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, `create schema one; create schema "Two";
		create table one.which as select 'one' as name; create table "Two".which as select 'two' as name; create table which as select 'public' as name`)
	startups := [][]string{
		nil,
		{"application_name", "first", "TimeZone", "Asia/Tokyo", "search_path", "one"},
		{"application_name", "second", "TimeZone", "America/New_York", "DateStyle", "German, DMY", "search_path", `"Two", one`},
		{"client_encoding", "LATIN1", "IntervalStyle", "iso_8601"},
		{"options", "-c statement_timeout=54321 -c search_path=one,public"},
		{"options", "-c work_mem=77kB", "standard_conforming_strings", "off"},
		{"default_transaction_isolation", "serializable", "extra_float_digits", "-5"},
		{"default_transaction_read_only", "on"},
		{"application_name", `it's "quoted" \ and odd; select 1`},
	}
	for _, poolSize := range []string{"1", "3"} {
		t.Run("pool of "+poolSize, func(t *testing.T) {
			p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": poolSize})
			var direct, proxied []*wireClient
			for _, startup := range startups {
				direct = append(direct, loginWire(t, d.cluster.TCPAddress(), d, startup...))
				proxied = append(proxied, loginWire(t, p.address, d, startup...))
			}
			statements := append(slices.Clone(showAll), "select name, E'caf\\u00e9' from which", `select 'a\\b'`, "show timezone",
				"begin; select name from which; create temporary table t on commit drop as select 1; commit", "rollback")
			for round := range 3 {
				for i := range startups {
					i = (i*(round+1) + round) % len(startups)
					for _, sql := range statements {
						want, got := direct[i].ask(t, sql), proxied[i].ask(t, sql)
						if !slices.Equal(got, want) {
							t.Errorf("client %v, %s: through the proxy:\n\t%s\ndirectly:\n\t%s", startups[i], sql,
								strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
						}
					}
				}
			}
		})
	}
}

// TestReportedSettings changes parameters that PostgreSQL reports: they follow the
// client from server to server, and so does their rollback.
func TestReportedSettings(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	changes := []string{
		"set timezone to 'Asia/Tokyo'",
		"set application_name to 'changed'; set datestyle to 'German'",
		"begin; set timezone to 'UTC'; rollback",
		"begin; set timezone to 'Asia/Kolkata'; commit",
		"begin; set timezone to 'Europe/Paris'; savepoint a; set timezone to 'Europe/Rome'; rollback to a; commit",
		"begin; set local timezone to 'Europe/Oslo'; commit",
		"begin; set timezone to 'Europe/Bern'; select 1/0",
		"rollback",
		"set intervalstyle to 'iso_8601'",
		"select set_config('application_name', 'by function', false)",
		"select set_config('application_name', 'by function, local', true)",
		"set client_encoding to 'LATIN1'",
		"set names 'UTF8'",
		"set standard_conforming_strings to off",
		"set standard_conforming_strings to default",
		"reset timezone",
		"set time zone 'Asia/Seoul'; reset all",
		"set time zone interval '+02:30' hour to minute",
		"discard all",
	}
	direct := [2]*wireClient{loginWire(t, d.cluster.TCPAddress(), d), loginWire(t, d.cluster.TCPAddress(), d, "application_name", "other")}
	proxied := [2]*wireClient{loginWire(t, p.address, d), loginWire(t, p.address, d, "application_name", "other")}
	compare := func(client int, sql string) {
		t.Helper()
		want, got := direct[client].ask(t, sql), proxied[client].ask(t, sql)
		if sql == "discard all" { // what is reported again, and in which order, is nobody's business
			return
		}
		if !slices.Equal(got, want) {
			t.Errorf("client %d, %s: through the proxy:\n\t%s\ndirectly:\n\t%s", client, sql, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
	}
	for i, change := range changes {
		client := i % 5 / 4 // the other one changes things too, now and then
		compare(client, change)
		if proxied[client].inTransaction() {
			continue // it has the only server
		}
		for _, show := range showAll {
			compare(1-client, show)
			compare(client, show)
		}
		for client := range 2 {
			if !maps.Equal(proxied[client].parameters, direct[client].parameters) {
				t.Errorf("after %s client %d believes:\n\t%v\ndirectly:\n\t%v", change, client, proxied[client].parameters, direct[client].parameters)
			}
		}
		if t.Failed() {
			t.Fatal(fmt.Sprint("after: ", change))
		}
	}
}
