package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// withConsole turns the console on: app is an administrator, viewer may look.
func withConsole(c *Config) {
	c.Console = ConsoleConfig{
		Databases: []string{"pgbouncer", "billproxy"}, AdminUsers: []string{"app"}, StatsUsers: []string{"viewer"},
		Version:  ConsoleVersion("0.1.0"),
		Settings: []ConsoleSetting{{Key: "max_client_conn", Value: "100", Default: "10000"}, {Key: "auth_file", Changeable: true}},
		Host:     "db.example", Port: 5433, Database: "shop",
		BeganAt: time.Date(2026, 11, 25, 16, 0, 0, 0, time.UTC),
	}
}

// enter returns a client at the console.
func (f *fixture) enter(user string) *client {
	f.Helper()
	return f.login("user", user, "database", "pgbouncer")
}

// line is one line of a table.
type line map[string]string

// show runs a SHOW command and returns the rows.
func (c *client) show(what string) []line {
	c.f.Helper()
	c.send("Q|SHOW " + what)
	return c.table()
}

// table reads the answer to a command that returns rows.
func (c *client) table() []line {
	c.f.Helper()
	c.f.world.Settle()
	words := pooltest.BackendWords(c.conn.Sent())
	if len(words) < 3 || words[0][0] != 'T' || !slices.Equal(words[len(words)-2:], []string{"C|SHOW", "Z|I"}) {
		c.f.Fatalf("got %s", strings.Join(words, "  "))
	}
	names := strings.Split(words[0], "|")[1:]
	var lines []line
	for _, word := range words[1 : len(words)-2] {
		l := line{}
		for i, value := range strings.Split(word, "|")[1:] {
			l[names[i]] = value
		}
		lines = append(lines, l)
	}
	return lines
}

// find returns the line of a table in which a column has that value.
func find(tb testing.TB, lines []line, column, value string) line {
	tb.Helper()
	for _, l := range lines {
		if l[column] == value {
			return l
		}
	}
	tb.Fatalf("no line with %s %q in %v", column, value, lines)
	return nil
}

// wantLine compares some columns of a line, given as pairs.
func wantLine(tb testing.TB, l line, pairs ...string) {
	tb.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got, ok := l[pairs[i]]; !ok || got != pairs[i+1] {
			tb.Errorf("%s is %q, want %q, in %v", pairs[i], got, pairs[i+1], l)
		}
	}
}

func TestConsoleLogin(t *testing.T) {
	f := newFixture(t, withConsole)
	for _, database := range []string{"pgbouncer", "billproxy"} {
		c := f.dial()
		c.startup("database", database, "application_name", "monitor", "extra_float_digits", "3", "no_such_setting", "1")
		settings := c.welcomed()
		if !slices.Contains(settings, "S|client_encoding|UTF8") || !slices.Contains(settings, "S|standard_conforming_strings|on") {
			t.Errorf("told %q", settings)
		}
		c.send("X")
		c.wantEnd()
	}
	stranger := f.dial()
	stranger.startup("user", "stranger", "database", "pgbouncer")
	stranger.wantEnd(`E|FATAL|42501|permission denied for database "pgbouncer"`)
	if len(f.pg.Open()) > 0 || len(f.world.Dials) > 0 {
		t.Error("the console has opened a server")
	}
}

// TestConsolePassword has those at the console prove who they are like anybody else, and
// tells nobody before who is an administrator.
func TestConsolePassword(t *testing.T) {
	f := newFixture(t, withConsole, authenticated(t, AuthPassword))
	for _, test := range []struct{ user, password, want string }{
		{"app", "wrong", refusedProof("app")},
		{"app", "", refusedProof("app")},
		{"hashed", "wrong", refusedProof("hashed")},
		{"stranger", "wrong", refusedProof("stranger")},
		{"hashed", "pencil", `E|FATAL|42501|permission denied for database "pgbouncer"`},
	} {
		c := f.dial()
		c.startup("user", test.user, "database", "pgbouncer")
		c.want("R|3")
		c.feed(pgwire.AppendPassword(nil, test.password))
		c.wantEnd(test.want)
	}
	c := f.dial()
	c.startup("database", "pgbouncer")
	c.want("R|3")
	c.feed(pgwire.AppendPassword(nil, "pencil"))
	c.welcomed()
	wantLine(t, c.show("CLIENTS")[0], "user", "app", "database", "pgbouncer")
}

// TestConsoleWhenFull lets an operator in when there is no room for other clients.
func TestConsoleWhenFull(t *testing.T) {
	f := newFixture(t, withConsole, func(c *Config) { c.MaxClientConn = 1 })
	f.login()
	refused := f.dial()
	refused.startup()
	refused.wantEnd("E|FATAL|53300|sorry, too many clients already: the limit is 1")
	wantLine(t, find(t, f.enter("app").show("LISTS"), "list", "used_clients"), "items", "2")
}

// TestNoConsole is a proxy without one, to which such a database is like others.
func TestNoConsole(t *testing.T) {
	f := newFixture(t)
	f.login("database", "pgbouncer").ask("1")
}

func TestConsoleQueries(t *testing.T) {
	f := newFixture(t, withConsole)
	c := f.enter("app")
	for _, test := range []struct {
		query string
		want  []string
	}{
		{"", []string{"I", "Z|I"}},
		{" -- ping", []string{"I", "Z|I"}},
		{" ; /* nothing */ ;", []string{"I", "Z|I"}},
		{"show version", []string{"T|version", "D|PgBouncer 1.25.0-compatible (billproxy 0.1.0)", "C|SHOW", "Z|I"}},
		{"SELECT VERSION;", []string{"T|version", "D|PgBouncer 1.25.0-compatible (billproxy 0.1.0)", "C|SHOW", "Z|I"}},
		{`SHOW "Version" -- of the program`, []string{"T|version", "D|PgBouncer 1.25.0-compatible (billproxy 0.1.0)", "C|SHOW", "Z|I"}},
		{"SHOW TimeZone; show STATE", []string{
			"T|timezone", "D|GMT", "C|SHOW",
			"T|key|value", "D|active|yes", "D|paused|no", "D|suspended|no", "C|SHOW", "Z|I",
		}},
		{"SHOW CONFIG", []string{"T|key|value|default|changeable", "D|max_client_conn|100|10000|no", "D|auth_file|||yes", "C|SHOW", "Z|I"}},
		{"SHOW HELP", []string{"N|Console usage", "C|SHOW", "Z|I"}},
		{"SET client_encoding TO 'UTF8'", []string{"N|SET ignored", "C|SET", "Z|I"}},
		{"set application_name = 'monitor'", []string{"C|SET", "Z|I"}},
		{"SET max_client_conn = 7", []string{"E|ERROR|0A000|SET max_client_conn is not supported: set BILLPROXY_MAX_CLIENT_CONN and start again", "Z|I"}},
		{"SET x", []string{"E|ERROR|42601|syntax error in SET: expected SET name = value", "Z|I"}},
		{"SHOW STATE; SHOW nothing", []string{`E|ERROR|42601|unknown command "SHOW nothing": expected one of SHOW HELP`, "Z|I"}},
		{"SELECT 1 + 1", []string{`E|ERROR|42601|unknown command "SELECT": expected one of SHOW HELP`, "Z|I"}},
		{"frobnicate", []string{`E|ERROR|42601|unknown command "frobnicate": expected one of SHOW HELP`, "Z|I"}},
		{"SHOW 'unfinished", []string{"E|ERROR|42601|syntax error in a command to the admin console: expected one of SHOW HELP", "Z|I"}},
		{"SHOW FDS", []string{"E|ERROR|0A000|SHOW FDS is not supported: connections are not handed over to another process", "Z|I"}},
		{"SUSPEND", []string{"E|ERROR|0A000|SUSPEND is not supported: connections are not handed over to another process: use SHUTDOWN WAIT_FOR_SERVERS", "Z|I"}},
		{"SHUTDOWN WAIT_FOR_CLIENTS", []string{"E|ERROR|0A000|SHUTDOWN is not supported: the process is not the proxy's to end", "Z|I"}},
		{"RELOAD", []string{"E|ERROR|0A000|RELOAD is not supported: this process reads nothing again", "Z|I"}},
		{"RELOAD it", []string{`E|ERROR|42601|unexpected "it" behind RELOAD`, "Z|I"}},
		{"DISABLE", []string{"E|ERROR|42601|DISABLE takes an argument: expected database", "Z|I"}},
		{"BEGIN; SHOW TIMEZONE", []string{"C|BEGIN", "T|timezone", "D|GMT", "C|SHOW", "Z|T"}},
		{"ENABLE shop", []string{`E|ERROR|55000|database "shop" is not disabled`, "Z|E"}},
		{"SHOW TIMEZONE", []string{"E|ERROR|25P02|current transaction is aborted, commands ignored until end of transaction block", "Z|E"}},
		{"COMMIT", []string{"C|ROLLBACK", "Z|I"}},
		{"start transaction isolation level serializable; END", []string{"C|START TRANSACTION", "C|COMMIT", "Z|I"}},
		{"set session characteristics as transaction read only; set datestyle to iso, mdy", []string{"N|SET ignored", "C|SET", "N|SET ignored", "C|SET", "Z|I"}},
		{"DISCARD ALL; DEALLOCATE PREPARE x", []string{"C|DISCARD ALL", "C|DEALLOCATE", "Z|I"}},
	} {
		t.Run(test.query, func(t *testing.T) {
			c.f.TB = t
			c.send("Q|" + test.query)
			c.want(test.want...)
		})
	}
	c.f.TB = t
	c.feed(pgwire.AppendMessage(nil, pgwire.FunctionCall, []byte("1234")))
	c.want("E|ERROR|0A000|the admin console has no functions to call", "Z|I")
	c.feed(pgwire.AppendQuery(nil, strings.Repeat("x", maxConsoleMessageBytes)))
	c.wantEnd("E|FATAL|08P01|a message of 16390 bytes is too long for the admin console: expected at most 16384")
}

// TestConsoleViewer lets a user of STATS_USERS look and nothing else.
func TestConsoleViewer(t *testing.T) {
	f := newFixture(t, withConsole)
	c := f.enter("viewer")
	for name := range shows {
		if len(c.show(name)) == 0 && name != "SERVERS" && name != "USERS" && !slices.Contains(ownTables, name) {
			t.Errorf("SHOW %s has no rows", name)
		}
	}
	for name, command := range consoleCommands {
		query := name
		if command.argument == argumentRequired {
			query += " 1"
		}
		c.send("Q|" + query)
		c.want("E|ERROR|42501|permission denied: "+name+" takes a user in ADMIN_USERS", "Z|I")
	}
}

func TestConsoleExtended(t *testing.T) {
	f := newFixture(t, withConsole)
	c := f.enter("app")
	version := "D|PgBouncer 1.25.0-compatible (billproxy 0.1.0)"
	for _, test := range []struct {
		name       string
		send, want []string
	}{
		{"all at once", []string{"P||SHOW VERSION", "B||", "DP|", "E|", "S"}, []string{"1", "2", "T|version", version, "C|SHOW", "Z|I"}},
		{"prepare", []string{"P|v|SHOW VERSION", "DS|v", "S"}, []string{"1", "t", "T|version", "Z|I"}},
		{"run what was prepared", []string{"B||v", "E|", "B|p|v", "E|p", "E|p", "S"}, []string{"2", version, "C|SHOW", "2", version, "C|SHOW", "C|SHOW", "Z|I"}},
		{"prepare again", []string{"P|v|SHOW STATE", "B||v", "S"}, []string{`E|ERROR|42P05|prepared statement "v" already exists`, "Z|I"}},
		{"close", []string{"CS|v", "CS|never was", "P|v|SHOW STATE", "CS|v", "S"}, []string{"3", "3", "1", "3", "Z|I"}},
		{"a command", []string{"P||DISABLE other", "DS|", "B||", "DP|", "E|", "E|", "S"}, []string{"1", "t", "n", "2", "n", "C|DISABLE", "E|ERROR|55000|portal cannot be run: it has been", "Z|I"}},
		{"nothing", []string{"P||-- ping", "DS|", "B||", "E|", "S"}, []string{"1", "t", "n", "2", "I", "Z|I"}},
		{"an error skips to Sync", []string{"P||frobnicate", "B||", "E|", "S", "S"}, []string{`E|ERROR|42601|unknown command "frobnicate": expected one of SHOW HELP`, "Z|I", "Z|I"}},
		{"no such statement", []string{"B||none", "S"}, []string{`E|ERROR|26000|prepared statement "none" does not exist`, "Z|I"}},
		{"no such portal", []string{"E|none", "S", "DP|none", "S"}, []string{`E|ERROR|34000|portal "none" does not exist`, "Z|I", `E|ERROR|34000|portal "none" does not exist`, "Z|I"}},
		{"a parameter", []string{"P||SHOW VERSION", "B|||x", "S"}, []string{"1", `E|ERROR|08P01|bind message supplies 1 parameters, but prepared statement "" requires 0`, "Z|I"}},
		{"two commands", []string{"P||SHOW VERSION; SHOW STATE", "S"}, []string{"E|ERROR|42601|cannot insert multiple commands into a prepared statement", "Z|I"}},
		{"portals end with the transaction", []string{"P||SHOW VERSION", "B|p|", "S", "E|p", "S"}, []string{"1", "2", "Z|I", `E|ERROR|34000|portal "p" does not exist`, "Z|I"}},
		{"but not before", []string{"Q|begin", "P||SHOW VERSION", "B|p|", "S", "E|p", "S", "Q|commit"}, []string{"C|BEGIN", "Z|T", "1", "2", "Z|T", version, "C|SHOW", "Z|T", "C|COMMIT", "Z|I"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.TB = t
			c.send(test.send...)
			c.want(test.want...)
		})
	}
	c.send("Q|SHOW LISTS")
	all := pooltest.BackendWords(c.conn.Sent())
	rows := all[1 : len(all)-2]
	some := func(rows byte) []byte { return pgwire.AppendMessage(nil, pgwire.Execute, []byte{0, 0, 0, 0, rows}) }
	c.feed(slices.Concat(pooltest.Frontend("P||SHOW LISTS", "B||"), some(3), some(1), some(100), pooltest.Frontend("S")))
	c.want(slices.Concat([]string{"1", "2"}, rows[:3], []string{"s"}, rows[3:4], []string{"s"}, rows[4:], []string{"C|SHOW", "Z|I"})...)
}

// TestConsoleFormats asks for numbers in the binary format.
func TestConsoleFormats(t *testing.T) {
	c := newFixture(t, withConsole).enter("app")
	bind := func(formats ...byte) []byte {
		body := []byte{0, 0, 0, 0, 0, 0, 0, byte(len(formats))}
		for _, format := range formats {
			body = append(body, 0, format)
		}
		return pgwire.AppendMessage(nil, pgwire.Bind, body)
	}
	c.send("P||SHOW LISTS")
	c.want("1")
	for _, formats := range [][]byte{{1}, {0, 1}} {
		c.feed(bind(formats...))
		c.feed(pgwire.AppendMessage(nil, pgwire.Execute, []byte{0, 0, 0, 0, 1}))
		c.want("2", "D|databases|\x00\x00\x00\x02", "s")
	}
	c.feed(bind(0, 1, 1))
	c.want("E|ERROR|08P01|bind message has 3 result formats but query has 2 columns")
	c.send("S", "P||SHOW LISTS")
	c.want("Z|I", "1")
	c.feed(bind(2))
	c.want("E|ERROR|08P01|invalid message format")
}
