package pool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestLogin(t *testing.T) {
	f := newFixture(t)
	c := f.newClient()
	c.acquire(f.pool)
	if len(f.world.Dials) != 1 || f.world.Dials[0].Address != f.pools.config.Upstream || f.world.Dials[0].Timeout != 5*time.Second {
		t.Fatalf("dials %+v", f.world.Dials)
	}
	if f.pool.Known() {
		t.Error("the pool knows a server before it has seen one")
	}
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	startup, size, err := pgwire.ParseStartup(conn.Sent())
	if err != nil || size == 0 || startup.Version != pgwire.Version30 {
		t.Fatalf("startup %+v, %v", startup, err)
	}
	var parameters []string
	for _, p := range startup.Parameters {
		parameters = append(parameters, string(p.Name)+"="+string(p.Value))
	}
	if !slices.Equal(parameters, []string{"user=app", "database=shop"}) {
		t.Errorf("startup parameters %q", parameters)
	}
	f.feed(conn, "R", "N|hello", "v", "S|server_version|15.0", "S|TimeZone|Etc/UTC")
	if f.pool.Known() {
		t.Error("the pool knows a server whose login is half read")
	}
	f.feed(conn, "K|7|key7", "Z|I")
	c.want("[lease]")
	if !f.pool.Known() {
		t.Error("the pool does not know the server")
	}
	welcome := pooltest.BackendWords(f.pool.AppendWelcome(nil, nil))
	wantWords(t, "welcome", welcome, []string{"S|server_version|15.0", "S|TimeZone|Etc/UTC"})
	if c.server.cancelPID != 7 || string(c.server.cancelKey) != "key7" {
		t.Errorf("cancel key %d %q", c.server.cancelPID, c.server.cancelKey)
	}
	if c.server.timer.Armed() {
		t.Error("the login's deadline is left armed")
	}
}

// What a server says right behind its first ReadyForQuery is read, too.
func TestLoginReadsWhatFollows(t *testing.T) {
	f := newFixture(t)
	c := f.newClient()
	c.acquire(f.pool)
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	conn.Feed(pooltest.Backend(append(slices.Clone(loginWords), "E|FATAL|57P01|terminated")...))
	conn.End(pooltest.EOF)
	f.world.Settle()
	if c.loss == nil || c.loss.Cause.SQLState != pgwire.AdminShutdown {
		t.Errorf("loss %+v, want the server's last words", c.loss)
	}
}

func TestLoginInAnySplit(t *testing.T) {
	words := []string{"R", "N|hello", "S|server_version|15.0", "S|TimeZone|Etc/UTC", "K|7|key7", "Z|I"}
	all := pooltest.Backend(words...)
	for i := 1; i < len(all); i++ {
		f := newFixture(t)
		c := f.newClient()
		c.acquire(f.pool)
		conn := f.world.Dials[0].Connect()
		conn.Feed(all[:i])
		f.world.Settle()
		c.want()
		conn.Feed(all[i:])
		c.want("[lease]")
	}
}

func TestLoginFails(t *testing.T) {
	long := strings.Repeat("x", maxWholeBytes)
	tests := []struct {
		name   string
		play   func(f *fixture)
		code   pgwire.SQLState
		text   string
		reason CloseReason
	}{
		{
			"cannot connect", func(f *fixture) { f.world.Dials[0].Fail(errors.New("connection refused")) },
			pgwire.CannotConnect, "cannot connect to server postgres:5432: connection refused", ReasonConnectFailed,
		},
		{
			"connect timeout", func(f *fixture) { f.world.Advance(5 * time.Second) },
			pgwire.CannotConnect, "i/o timeout", ReasonConnectFailed,
		},
		{"md5 asked", play("R|5"), pgwire.InvalidAuthorization, `server asks for authentication method md5 for user "app": expected trust`, ReasonLoginFailed},
		{"scram asked", play("R|10"), pgwire.InvalidAuthorization, "method scram-sha-256", ReasonLoginFailed},
		{"password asked", play("R|3"), pgwire.InvalidAuthorization, "method password", ReasonLoginFailed},
		{"gss asked", play("R|7"), pgwire.InvalidAuthorization, "method gss", ReasonLoginFailed},
		{"unknown method asked", play("R|99"), pgwire.InvalidAuthorization, "method 99", ReasonLoginFailed},
		{"error", play("E|FATAL|3D000|no such database"), pgwire.InvalidCatalogName, "no such database", ReasonLoginFailed},
		{"unexpected message", play("R", "D|row"), pgwire.ProtocolViolation, `unexpected message type 'D'`, ReasonLoginFailed},
		{"garbage", playBytes("HTTP/1.1 400"), pgwire.ProtocolViolation, "", ReasonLoginFailed},
		{"short authentication", playBytes("R\x00\x00\x00\x06\x00\x00"), pgwire.ProtocolViolation, "malformed authentication request", ReasonLoginFailed},
		{"short key", playBytes("K\x00\x00\x00\x08\x00\x00\x00\x00"), pgwire.ProtocolViolation, "malformed BackendKeyData", ReasonLoginFailed},
		{"malformed parameter", playBytes("S\x00\x00\x00\x06a\x00"), pgwire.ProtocolViolation, "malformed ParameterStatus", ReasonLoginFailed},
		{"oversized message", play("N|" + long), pgwire.ProtocolViolation, "oversized", ReasonLoginFailed},
		{"closed without words", func(f *fixture) {
			conn := f.world.Dials[0].Connect()
			conn.End(pooltest.EOF)
		}, pgwire.ConnectionFailure, "server closed the connection unexpectedly", ReasonLoginFailed},
		{"no answer", func(f *fixture) {
			f.world.Dials[0].Connect()
			f.world.Advance(5 * time.Second)
		}, pgwire.CannotConnect, "did not complete the login within 5s", ReasonLoginFailed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			c := f.newClient()
			c.acquire(f.pool)
			test.play(f)
			f.world.Settle()
			e := f.pool.lastFailure
			if e == nil || e.SQLState != test.code || !strings.Contains(e.Message, test.text) {
				t.Fatalf("failure %v, want %s with %q", e, test.code, test.text)
			}
			stats := f.pool.Stats()
			if stats.ServersOpening != 0 || f.pools.ServerCount() != 0 || stats.ServerFailures != 1 || stats.ServersClosed[test.reason.String()] != 1 {
				t.Errorf("stats %+v", stats)
			}
			if permanent(test.code) {
				c.want(fmt.Sprintf("[refused %s]", test.code))
			} else {
				c.want()
			}
		})
	}
}

// play answers the dial and says words.
func play(words ...string) func(*fixture) {
	return playBytes(string(pooltest.Backend(words...)))
}

func playBytes(b string) func(*fixture) {
	return func(f *fixture) {
		conn := f.world.Dials[0].Connect()
		conn.Feed([]byte(b))
		f.world.Settle()
		if !conn.Closed() {
			f.Error("the connection is left open")
		}
	}
}

func TestPermanentFailures(t *testing.T) {
	for code, want := range map[pgwire.SQLState]bool{
		"28000": true, "28P01": true, "3D000": true, "42501": true, "0A000": true,
		"53300": false, "57P03": false, "08001": false, "08006": false, "08P01": false, "": false,
	} {
		if got := permanent(code); got != want {
			t.Errorf("%q is permanent: %v, want %v", code, got, want)
		}
	}
}
