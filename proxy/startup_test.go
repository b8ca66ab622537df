package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

var (
	sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}
	gssRequest = []byte{0, 0, 0, 8, 4, 210, 22, 48}
)

var defaults = []string{"S|server_version|15.0", "S|TimeZone|Etc/UTC", "S|application_name|"}

func TestStartup(t *testing.T) {
	f := newFixture(t)
	c := f.dial()
	c.startup()
	wantWords(t, "settings", c.welcomed(), defaults)
	if len(c.key) != 4 {
		t.Errorf("a cancel key of %d bytes, want 4", len(c.key))
	}
	if s := f.server(); s.User != "app" || s.Database != "shop" {
		t.Errorf("the server was asked for %q, %q", s.User, s.Database)
	}
	c.ask("1")

	// The second client needs no server to be told what the first was.
	other := f.dial()
	other.startup()
	wantWords(t, "settings", other.welcomed(), defaults)
	if bytes.Equal(other.key, c.key) || other.id == c.id {
		t.Error("two clients have the same cancel key")
	}
	if f.stats().LeaseCount != 2 || f.stats().ClientsActive != 2 {
		t.Errorf("stats %+v", f.stats())
	}
	if f.proxy.Stats().ClientLoginCount != 0 || f.proxy.Stats().ClientCount != 2 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
}

func TestStartupInAnySplit(t *testing.T) {
	packet := pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app", "database", "shop")
	all := slices.Concat(packet, pooltest.Frontend("Q|select 1"))
	for i := 1; i < len(all); i++ {
		f := newFixture(t)
		c := f.dial()
		c.feed(all[:i])
		c.feed(all[i:])
		got := pooltest.BackendWords(c.conn.Sent())
		if len(got) < 4 || got[0] != "R" {
			t.Fatalf("cut at %d: %s", i, strings.Join(got, "  "))
		}
		wantWords(t, "the end", got[len(got)-5:], []string{"Z|I", "T|c", "D|1", "C|SELECT 1", "Z|I"})
	}
}

func TestStartupVariants(t *testing.T) {
	packet := func(version pgwire.ProtocolVersion, parameters ...string) func(*client) {
		return func(c *client) { c.feed(pgwire.AppendStartupMessage(nil, version, parameters...)) }
	}
	tests := []struct {
		name string
		play func(*client)
		want string // the first word of the answer
		code string // if that is an error
		text string
		end  endReason
	}{
		{"protocol 3.0", packet(pgwire.Version30, "user", "app"), "R", "", "", 0},
		{"protocol 3.2", packet(pgwire.Version32, "user", "app"), "v|3.0|", "", "", 0},
		{"protocol 3.7", packet(3<<16|7, "user", "app"), "v|3.0|", "", "", 0},
		{"a protocol option", packet(pgwire.Version30, "user", "app", "_pq_.x", "1"), "v|3.0|_pq_.x", "", "", 0},
		{"protocol 2.0", packet(2<<16, "user", "app"), "E", "08P01", "unsupported frontend protocol 2.0: server supports 3.0 to 3.2", endProtocol},
		{"no user", packet(pgwire.Version30, "database", "shop"), "E", "28000", "no PostgreSQL user name", endRefused},
		{"no replication", packet(pgwire.Version30, "user", "app", "replication", "false"), "R", "", "", 0},
		{"replication", packet(pgwire.Version30, "user", "app", "replication", "database"), "E", "0A000", `replication "database" is not possible`, endRefused},
		{"options", packet(pgwire.Version30, "user", "app", "options", "-c search_path=a --work_mem=1MB"), "R", "", "", 0},
		{"other options", packet(pgwire.Version30, "user", "app", "options", "-d 5"), "E", "0A000", `unsupported word "-d"`, endRefused},
		{"a name that is none", packet(pgwire.Version30, "user", "app", "a b", "1"), "E", "42704", `unrecognized configuration parameter "a b"`, endRefused},
		{"a name from options that is none", packet(pgwire.Version30, "user", "app", "options", "-c a'b=1"), "E", "42704", `unrecognized configuration parameter "a'b"`, endRefused},
		{"garbage", func(c *client) { c.feed([]byte("GET / HTTP/1.1\r\n\r\n")) }, "E", "08P01", "invalid length", endProtocol},
		{"a huge length", func(c *client) { c.feed([]byte{0x7f, 0, 0, 0}) }, "E", "08P01", "invalid length", endProtocol},
		{"no terminator", func(c *client) { c.feed([]byte{0, 0, 0, 9, 0, 3, 0, 0, 'u'}) }, "E", "08P01", "invalid startup packet layout", endProtocol},
		{"a setting that the server refuses", packet(pgwire.Version30, "user", "app", "timezone", "bad"), "E", "22023", "invalid value", endSettings},
		{"a remote client", func(c *client) {
			c.conn.Remote = true
			c.startup()
		}, "E", "28000", "no authentication for client 127.0.0.1:40000", endRefused},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			c := f.dial()
			test.play(c)
			got := pooltest.BackendWords(c.conn.Sent())
			if len(got) == 0 {
				t.Fatal("no answer")
			}
			if test.code == "" {
				if got[0] != test.want || got[len(got)-1] != "Z|I" || c.conn.Closed() {
					t.Errorf("answer %s, closed %v", strings.Join(got, "  "), c.conn.Closed())
				}
				return
			}
			last := got[len(got)-1]
			if !strings.HasPrefix(last, "E|FATAL|"+test.code+"|") || !strings.Contains(last, test.text) || !c.conn.Closed() {
				t.Errorf("answer %s, closed %v", strings.Join(got, "  "), c.conn.Closed())
			}
			if f.ended(test.end) != 1 || f.proxy.Stats().ClientCount != 0 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
			if refused := test.end == endRefused; (f.proxy.Stats().ClientsRefused == 1) != refused {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
			f.checkIdle()
		})
	}
}

func TestStartupKeyOfProtocol32(t *testing.T) {
	for version, keyBytes := range map[string]int{"17.2 (Debian 17.2-1)": 4, "18beta1": 32, "18.0": 32, "devel": 4} {
		f := newFixture(t)
		f.pg.Version = version
		for range 2 { // of the second it is known before the server is asked
			c := f.dial()
			c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version32, "user", "app"))
			words := pooltest.BackendWords(c.conn.Sent())
			if told := words[0] == "v|3.0|"; told != (keyBytes == 4) {
				t.Errorf("with PostgreSQL %s a client that asks for 3.2 is answered %s", version, strings.Join(words, "  "))
			}
			if key := words[len(words)-2]; !strings.HasPrefix(key, "K|") || !strings.HasSuffix(key, fmt.Sprint("|", keyBytes)) {
				t.Errorf("with PostgreSQL %s the answer ends %s, want a cancel key of %d bytes", version, key, keyBytes)
			}
		}
		if f.server().Database != "app" {
			t.Errorf("database %q, want the user's name", f.server().Database)
		}
	}
}

func TestStartupEncryption(t *testing.T) {
	t.Run("ssl, gss, then plain", func(t *testing.T) {
		f := newFixture(t)
		c := f.dial()
		for _, request := range [][]byte{sslRequest, gssRequest} {
			c.feed(request)
			if got := string(c.conn.Sent()); got != "N" {
				t.Fatalf("answer %q, want N", got)
			}
		}
		c.startup()
		c.welcomed()
	})
	for name, request := range map[string][]byte{"ssl": sslRequest, "gss": gssRequest} {
		t.Run(name+" twice", func(t *testing.T) {
			c := newFixture(t).dial()
			c.feed(request)
			c.conn.Sent()
			c.feed(request)
			c.wantEnd("E|FATAL|08P01|encryption was requested twice: expected a startup message")
		})
		t.Run(name+" with plain text behind", func(t *testing.T) {
			c := newFixture(t).dial()
			c.feed(append(bytes.Clone(request), pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app")...))
			c.wantEnd("E|FATAL|08P01|received unencrypted data after encryption request")
		})
	}
}

func TestStartupSettings(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.dial()
	c.startup("TimeZone", "UTC", "search_path", "app", "options", "-c application_name=x -c work_mem=1MB")
	wantWords(t, "settings", c.welcomed(), []string{"S|server_version|15.0", "S|TimeZone|UTC", "S|application_name|x"})
	c.ask("1")
	s := f.server()
	for name, want := range map[string]string{"timezone": "UTC", "search_path": "app", "application_name": "x", "work_mem": "1MB"} {
		if got := s.Setting(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	other := f.login()
	other.ask("2")
	if s.Setting("timezone") != "Etc/UTC" || s.Setting("search_path") != "" {
		t.Error("another client runs with the first one's settings")
	}
	leases := f.stats().LeaseCount
	third := f.dial()
	third.startup("work_mem", "1MB", "search_path", "app", "application_name", "x", "TIMEZONE", "UTC")
	wantWords(t, "settings", third.welcomed(), []string{"S|server_version|15.0", "S|TimeZone|UTC", "S|application_name|x"})
	if f.stats().LeaseCount != leases {
		t.Error("settings that are known were tried again")
	}
}

func TestStartupWaitsForAServer(t *testing.T) {
	f := newFixture(t, oneServer)
	release := f.block()
	c := f.dial()
	c.startup("application_name", "x")
	c.want()
	if f.proxy.Stats().ClientLoginCount != 1 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
	c.send("Q|select 1") // before the answer
	release()
	got := pooltest.BackendWords(c.conn.Sent())
	wantWords(t, "the end", got[len(got)-4:], []string{"T|c", "D|1", "C|SELECT 1", "Z|I"})
}

// Many logins that wait for the same server are all served by it.
func TestStartupOfMany(t *testing.T) {
	f := newFixture(t, oneServer, func(c *Config) { c.MaxClientConn = 2000 })
	f.pg.Login = func(string, string) []string { return []string{} }
	var clients []*client
	for range 1000 {
		c := f.dial()
		c.startup()
		clients = append(clients, c)
	}
	f.pg.Open()[0].Reply("R", "S|TimeZone|UTC", "K|1|key1", "Z|I")
	f.world.Settle()
	for _, c := range clients {
		c.welcomed()
	}
	if f.stats().ServerConnects != 1 || f.stats().ServersIdle != 1 {
		t.Errorf("stats %+v", f.stats())
	}
}

func TestStartupFails(t *testing.T) {
	t.Run("the server refuses", func(t *testing.T) {
		f := newFixture(t)
		f.pg.Login = func(string, string) []string { return []string{"E|FATAL|3D000|database does not exist"} }
		c := f.dial()
		c.startup()
		c.wantEnd("E|FATAL|3D000|database does not exist")
		f.checkIdle()
	})
	t.Run("there is no server", func(t *testing.T) {
		f := newFixture(t)
		f.world.OnDial = func(d *pooltest.Dial) { d.Fail(errors.New("connection refused")) }
		c := f.dial()
		c.startup()
		c.want()
		f.world.Advance(10 * time.Second)
		got := pooltest.BackendWords(c.conn.Sent())
		if len(got) != 1 || !strings.HasPrefix(got[0], "E|FATAL|08001|no server available") || !c.conn.Closed() {
			t.Errorf("answer %s", got)
		}
	})
	t.Run("the server is lost", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.login().ask("1")
		c := f.dial()
		s := f.server()
		s.Conn.Stall() // it does not read the settings
		c.startup("application_name", "x")
		c.want()
		s.Terminate()
		c.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
	})
	t.Run("the client goes", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		for _, end := range []func(*client){func(c *client) { c.close(pooltest.EOF) }, func(c *client) { c.close(errors.New("reset")) }} {
			c := f.dial()
			c.startup()
			end(c)
			d := f.dial()
			d.startup("application_name", "y")
			end(d)
		}
		release()
		f.checkIdle()
	})
	t.Run("the client goes while its settings are tried", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.login().send("X")
		s := f.server()
		s.Conn.Stall()
		c := f.dial()
		c.startup("application_name", "y")
		c.close(pooltest.EOF)
		s.Conn.Flow()
		f.world.Settle()
		f.checkIdle()
		f.login().ask("1")
		if s.Setting("application_name") != "" {
			t.Error("the next client runs with the settings of one that is gone")
		}
	})
	t.Run("no random numbers", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.Entropy = bytes.NewReader([]byte{1, 2}) })
		c := f.dial()
		c.startup()
		got := pooltest.BackendWords(c.conn.Sent())
		if len(got) != 1 || !strings.HasPrefix(got[0], "E|FATAL|57P03|") || !c.conn.Closed() {
			t.Errorf("answer %s", got)
		}
	})
}

func TestLoginTimeout(t *testing.T) {
	tests := map[string]func(*fixture) *client{
		"silent": func(f *fixture) *client { return f.dial() },
		"half a startup message": func(f *fixture) *client {
			c := f.dial()
			c.feed([]byte{0, 0, 0, 100, 0, 3})
			return c
		},
		"after an encryption request": func(f *fixture) *client {
			c := f.dial()
			c.feed(sslRequest)
			c.conn.Sent()
			return c
		},
		"waiting for a server": func(f *fixture) *client {
			f.block()
			c := f.dial()
			c.startup()
			return c
		},
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, oneServer, func(c *Config) { c.Pool.QueryWaitTimeout = 0 })
			f.login().send("X")
			c := begin(f)
			if name == "waiting for a server" {
				c.welcomed() // it does not have to
				return
			}
			f.world.Advance(time.Minute - 1)
			c.want()
			f.world.Advance(1)
			c.wantEnd("E|FATAL|08P01|login did not complete within 1m0s")
			if f.ended(endLoginTimeout) != 1 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
		})
	}
	t.Run("a client that has logged in", func(t *testing.T) {
		f := newFixture(t)
		c := f.login()
		f.world.Advance(time.Hour)
		c.ask("1")
	})
}

func TestMaxClientConn(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxClientConn = 2 })
	first, second := f.login(), f.login()
	third := f.dial()
	third.startup()
	third.wantEnd("E|FATAL|53300|sorry, too many clients already: the limit is 2")
	second.cancel() // which is no client
	if f.proxy.Stats().CancelRequests != 1 || f.proxy.Stats().ClientsRefused != 1 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
	first.send("X")
	f.login().ask("1")
}

func TestCancelRequestIsMalformed(t *testing.T) {
	f := newFixture(t)
	c := f.dial()
	c.feed([]byte{0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1})
	got := pooltest.BackendWords(c.conn.Sent())
	if len(got) != 1 || !strings.HasPrefix(got[0], "E|FATAL|08P01|invalid length 12 of cancel request") || !c.conn.Closed() {
		t.Errorf("answer %s", got)
	}
}

func TestIDsAreNotReused(t *testing.T) {
	f := newFixture(t)
	c := f.login()
	f.proxy.lastID = c.id - 1 // as after 4 billion clients
	d := f.login()
	if d.id == c.id || d.id == 0 {
		t.Errorf("ids %d and %d", c.id, d.id)
	}
	f.proxy.lastID = 1<<32 - 1
	if e := f.login(); e.id == 0 || e.id == c.id || e.id == d.id {
		t.Errorf("id %d", e.id)
	}
}
