package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestShowClients(t *testing.T) {
	f := newFixture(t, withConsole, oneServer)
	idle := f.login("application_name", "idle one", "search_path", "secret_path")
	idle.ask("1")
	idle.prepare("s", "select 1")
	holder := f.login()
	holder.send("Q|begin", "Q|wait")
	f.world.Settle()
	f.world.Advance(1500 * time.Millisecond)
	waiter := f.login()
	waiter.send("Q|select 1")
	f.world.Advance(2*time.Second + 7*time.Microsecond)
	f.dial() // which has said nothing yet
	console := f.enter("viewer")
	lines := console.show("CLIENTS")
	if len(lines) != 4 {
		t.Fatalf("%d clients: %v", len(lines), lines)
	}
	server := find(t, console.show("SERVERS"), "state", "active")
	wantLine(t, find(t, lines, "id", fmt.Sprint(idle.id)),
		"type", "C", "user", "app", "database", "shop", "replication", "none", "state", "idle", "addr", "127.0.0.1", "port", "40000",
		"local_addr", "127.0.0.1", "local_port", "6432", "connect_time", "2026-11-25 16:00:00 UTC", "request_time", "2026-11-25 16:00:00 UTC",
		"wait", "0", "wait_us", "0", "close_needed", "0", "link", "", "remote_pid", "0", "tls", "", "application_name", "idle one",
		"prepared_statements", "1", "pin_reason", "", "settings", "search_path", "server_pid", "0", "groups", "2")
	wantLine(t, find(t, lines, "id", fmt.Sprint(holder.id)), "state", "active", "link", server["ptr"], "server_pid", server["remote_pid"])
	wantLine(t, find(t, lines, "id", fmt.Sprint(waiter.id)), "state", "waiting", "wait", "2", "wait_us", "7", "link", "",
		"connect_time", "2026-11-25 16:00:01 UTC")
	wantLine(t, find(t, lines, "id", fmt.Sprint(console.id)), "state", "idle", "database", "pgbouncer", "user", "viewer")
	wantLine(t, server, "type", "S", "user", "app", "database", "shop", "link", find(t, lines, "id", fmt.Sprint(holder.id))["ptr"],
		"addr", "server", "port", "0", "close_needed", "0", "shared", "0", "groups", "1", "pin_reason", "")
	for _, l := range lines {
		if strings.Contains(fmt.Sprint(l), "secret_path") {
			t.Errorf("the value of a setting is shown: %v", l)
		}
	}
}

// TestPinReasons shows why a client keeps its server, until it does no more.
func TestPinReasons(t *testing.T) {
	for kind, reason := range map[string]string{
		"temporary": "temporary objects", "listen": "LISTEN", "lock": "advisory locks", "cursor": "cursors WITH HOLD", "prepared": "PREPARE",
	} {
		t.Run(reason, func(t *testing.T) {
			f := newFixture(t, withConsole)
			f.pg.Hazards = []string{"* anything"}
			c, console := f.login(), f.enter("viewer")
			shown := func(want string) {
				t.Helper()
				wantLine(t, find(t, console.show("CLIENTS"), "id", fmt.Sprint(c.id)), "pin_reason", want)
			}
			c.send("Q|set work_mem=64kB")
			c.want("C|SET", "Z|I")
			shown("")
			f.server().State[kind] = 1
			c.ask("f()")
			shown(reason)
			wantLine(t, find(t, console.show("POOLS"), "database", "shop"), "sv_pinned", "1")
			wantLine(t, find(t, console.show("SERVERS"), "state", "active"), "pin_reason", reason)
			f.server().State[kind] = 0
			c.ask("f()")
			shown("")
		})
	}
}

// TestLongTable makes the lines for many clients step by step, while others are served
// and come and go.
func TestLongTable(t *testing.T) {
	const clients = 5 * consoleStepRows
	f := newFixture(t, withConsole, func(c *Config) { c.MaxClientConn = clients + 2 })
	var all []*client
	for range clients {
		all = append(all, f.login())
	}
	console := f.enter("app")
	if got := len(console.show("CLIENTS")); got != clients+1 {
		t.Errorf("%d clients, want %d", got, clients+1)
	}

	session := f.proxy.byID[console.id]
	rowsSent := func() int {
		count := 0
		for _, word := range pooltest.BackendWords(console.conn.Sent()) {
			if strings.HasPrefix(word, "D|") {
				count++
			}
		}
		return count
	}
	console.conn.Stall()
	session.console.query([]byte("SHOW CLIENTS; SHOW VERSION\x00"))
	if running := session.console.running; running == nil || running.sent != consoleStepRows {
		t.Fatalf("the first step has made %+v", running)
	}
	for _, gone := range append(all[:10:10], all[clients-10:]...) { // the turn of some has been
		f.proxy.byID[gone.id].end(endTerminate, "")
	}
	f.world.Settle()
	console.conn.Flow()
	f.world.Settle()
	if got := rowsSent(); got != clients+1-10+1 {
		t.Errorf("%d lines, want %d", got, clients+1-10+1)
	}

	// Who goes in the middle of it, or cancels it, ends it.
	session.console.query([]byte("SHOW CLIENTS\x00"))
	f.proxy.cancel(console.id, console.key)
	f.world.Settle()
	words := pooltest.BackendWords(console.conn.Sent())
	if got := words[len(words)-2:]; got[0] != "E|ERROR|57014|canceling statement due to user request" || got[1] != "Z|I" || len(words) > 2*consoleStepRows {
		t.Errorf("%d messages that end with %q", len(words), got)
	}
	session.console.query([]byte("SHOW CLIENTS\x00"))
	console.close(errors.New("reset"))
	if f.proxy.consoles.stats.ClientsActive != 0 || f.proxy.byID[console.id] != nil {
		t.Error("the client is not gone")
	}
}

// TestSlowReader does not make lines for a client that does not take them.
func TestSlowReader(t *testing.T) {
	const clients = 50 * consoleStepRows
	f := newFixture(t, withConsole, func(c *Config) { c.MaxClientConn = clients + 1 })
	for range clients {
		f.login("application_name", strings.Repeat("long", 100))
	}
	console := f.enter("app")
	console.conn.Stall()
	console.send("Q|SHOW CLIENTS", "Q|SHOW VERSION")
	if got := console.conn.BufferedBytes(); got < 256<<10 || got > 256<<10+100*consoleStepRows*10 {
		t.Errorf("%d bytes wait for the client", got)
	}
	console.conn.Flow()
	f.world.Settle()
	words := pooltest.BackendWords(console.conn.Sent())
	if got := words[len(words)-2:]; got[0] != "C|SHOW" || got[1] != "Z|I" || len(words) < clients {
		t.Errorf("%d messages that end with %q", len(words), got)
	}
}

// FuzzConsole sends any text and any message: the console answers and never panics.
func FuzzConsole(f *testing.F) {
	for _, text := range []string{"SHOW POOLS; SHOW STATS", "SET a TO 'b'", `PAUSE "shop"`, "BEGIN; x", "KILL_CLIENT 1", "SHOW 'x", "DEALLOCATE ALL"} {
		f.Add(text, pooltest.Frontend("P|a|"+text, "B|p|a", "DP|p", "E|p", "CS|a"))
	}
	f.Fuzz(func(t *testing.T, text string, messages []byte) {
		fixture := newFixture(t, withConsole)
		c := fixture.enter("viewer")
		text, _, _ = strings.Cut(text, "\x00")
		if len(text) > maxConsoleMessageBytes/2 {
			return
		}
		c.send("Q|" + strings.ReplaceAll(text, "|", " "))
		words := pooltest.BackendWords(c.conn.Sent())
		if last := words[len(words)-1]; !strings.HasPrefix(last, "Z|") {
			t.Errorf("answered with %q", words)
		}
		c.feed(messages)
		c.feed(pgwire.AppendEmpty(nil, pgwire.Sync))
	})
}

func BenchmarkShowClients(b *testing.B) {
	const clients = 10_000
	f := newFixture(b, withConsole, func(c *Config) { c.MaxClientConn = clients + 1 })
	for range clients {
		f.login("application_name", "billing", "search_path", "app")
	}
	console := f.enter("app")
	session := f.proxy.byID[console.id]
	session.console.query([]byte("SHOW CLIENTS\x00"))
	f.world.Settle()
	console.conn.Sent()
	var steps int
	var took time.Duration
	for b.Loop() {
		began := time.Now()
		session.console.query([]byte("SHOW CLIENTS\x00"))
		for steps++; session.console.running != nil; steps++ {
			session.console.goOn()
		}
		took += time.Since(began)
		f.world.Settle()
		console.conn.Sent()
	}
	b.ReportMetric(float64(took.Microseconds())/float64(steps), "µs/step")
}
