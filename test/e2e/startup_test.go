package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// lastError returns the error in a transcript in words, or nothing.
func lastError(transcript []string) string {
	for _, line := range slices.Backward(transcript) {
		if strings.HasPrefix(line, "ErrorResponse") {
			return line
		}
	}
	return ""
}

// TestEncryptionRequests asks for encryption that there is none of.
func TestEncryptionRequests(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, nil)
	ssl, gss := encode(t, &pgproto3.SSLRequest{}), encode(t, &pgproto3.GSSEncRequest{})
	for _, test := range []struct {
		name     string
		requests [][]byte
	}{
		{"ssl", [][]byte{ssl}},
		{"gss", [][]byte{gss}},
		{"gss, then ssl", [][]byte{gss, ssl}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dialWire(t, "tcp", p.address)
			for _, request := range test.requests {
				client.write(t, request)
				answer := make([]byte, 1)
				if _, err := client.conn.Read(answer); err != nil || answer[0] != 'N' {
					t.Fatalf("answered %q, %v; want N", answer, err)
				}
			}
			client.startup(t, pgproto3.ProtocolVersion30, "user", d.role, "database", d.name)
			client.until(t, "ReadyForQuery")
			client.usable(t)
		})
	}
	t.Run("for ever", func(t *testing.T) {
		client := dialWire(t, "tcp", p.address)
		client.write(t, slices.Concat(ssl, ssl))
		if got := client.untilClosed(t); len(got) > 0 && errorCode(got) != "FATAL 08P01" {
			t.Errorf("got %q", got)
		}
	})
	// libpq asks by itself.
	for _, sslmode := range []string{"prefer", "allow", "disable"} {
		output, err := program(t, "psql", "-XAt", "-c", "select 'in'", p.url(d, "sslmode", sslmode)).CombinedOutput()
		if err != nil || strings.TrimSpace(string(output)) != "in" {
			t.Errorf("psql with sslmode %s: %v: %s", sslmode, err, output)
		}
	}
	if output, err := program(t, "psql", "-XAt", "-c", "select 'in'", p.url(d, "sslmode", "require")).CombinedOutput(); err == nil {
		t.Errorf("psql with sslmode require got in: %s", output)
	}
}

// TestProtocolVersions negotiates.
func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, nil)
	keyBytes := keyBytesOf32(t, d)
	newest, told32 := 3<<16, `"NewestMinorProtocol":196608,"UnrecognizedOptions":[]`
	if keyBytes == 32 {
		newest, told32 = 3<<16|2, ""
	}
	for _, test := range []struct {
		name       string
		version    uint32
		options    []string
		negotiated string // what NegotiateProtocolVersion says, if it comes
		keyBytes   int
	}{
		{"3.0", 3 << 16, nil, "", 4},
		{"3.2", 3<<16 | 2, nil, told32, keyBytes},
		{"3.9", 3<<16 | 9, nil, fmt.Sprintf(`"NewestMinorProtocol":%d,"UnrecognizedOptions":[]`, newest), keyBytes},
		{"option", 3 << 16, []string{"_pq_.x", "1"}, `"NewestMinorProtocol":196608,"UnrecognizedOptions":["_pq_.x"]`, 4},
		{"3.2 and option", 3<<16 | 2, []string{"_pq_.y", "1"}, fmt.Sprintf(`"NewestMinorProtocol":%d,"UnrecognizedOptions":["_pq_.y"]`, newest), keyBytes},
		{"3.9 and option", 3<<16 | 9, []string{"_pq_.z", "1"}, fmt.Sprintf(`"NewestMinorProtocol":%d,"UnrecognizedOptions":["_pq_.z"]`, newest), keyBytes},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dialWire(t, "tcp", p.address)
			client.startup(t, test.version, append([]string{"user", d.role, "database", d.name}, test.options...)...)
			got := client.until(t, "ReadyForQuery")
			negotiated := strings.HasPrefix(got[0], "NegotiateProtocolVersion")
			if negotiated != (test.negotiated != "") || !strings.Contains(got[0], test.negotiated) {
				t.Errorf("got %q, want %q in NegotiateProtocolVersion", got[0], test.negotiated)
			}
			if len(client.key) != test.keyBytes {
				t.Errorf("the cancel key has %d bytes, want %d", len(client.key), test.keyBytes)
			}
			client.usable(t)
		})
	}
	for _, version := range []uint32{0, 1 << 16, 2 << 16, 4 << 16, 0xffff_0000} {
		client := dialWire(t, "tcp", p.address)
		client.startup(t, version, "user", d.role, "database", d.name)
		got := client.untilClosed(t)
		if code := errorCode(got); code != "FATAL 0A000" && code != "FATAL 08P01" {
			t.Errorf("version %x: got %q", version, got)
		}
	}
}

// TestRefusedLogins compares what a client is told that cannot log in.
func TestRefusedLogins(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(t, "create role "+d.role+"_nologin; create role "+d.role+"_free login; create role "+d.role+"_one login connection limit 0")
	d.exec(t, "create database "+d.name+"_closed allow_connections false")
	defer d.exec(t, "drop role "+d.role+"_nologin; drop role "+d.role+"_free; drop role "+d.role+"_one")
	defer d.exec(t, "drop database "+d.name+"_closed")
	p := startProxy(t, shared.cluster, settings{"QUERY_WAIT_TIMEOUT": "2s"})
	in := func(more ...string) []string { return append([]string{"user", d.role, "database", d.name}, more...) }
	for _, test := range []struct {
		name       string
		parameters []string
	}{
		{"no user", []string{"database", d.name}},
		{"empty user", []string{"user", "", "database", d.name}},
		{"unknown database", []string{"user", d.role, "database", "no_such_database"}},
		{"unknown user", []string{"user", "no_such_user", "database", d.name}},
		{"no database by the user's name", []string{"user", d.role + "_free"}},
		{"user who may not log in", []string{"user", d.role + "_nologin", "database", d.name}},
		{"bad encoding", in("client_encoding", "nonsense")},
		{"bad style", in("datestyle", "nonsense")},
		{"bad time zone", in("TimeZone", "Nowhere/Never")},
		{"bad number", in("statement_timeout", "soon")},
		{"number out of range", in("extra_float_digits", "100")},
		{"unknown parameter", in("no_such_parameter", "1")},
		{"parameter of the server", in("shared_buffers", "1GB")},
		{"parameter of the superuser", in("log_statement", "all")},
		{"parameter that cannot change", in("server_version", "1")},
		{"bad value in options", in("options", "-c statement_timeout=soon")},
		{"unknown parameter in options", in("options", "-c no_such_parameter=1")},
	} {
		t.Run(test.name, func(t *testing.T) {
			login := func(address string) string {
				client := dialWire(t, "tcp", address)
				client.startup(t, pgproto3.ProtocolVersion30, test.parameters...)
				return lastError(client.untilClosed(t))
			}
			want := login(d.cluster.TCPAddress())
			for range 2 {
				if got := login(p.address); got != want {
					t.Errorf("through the proxy:\n\t%s\ndirectly:\n\t%s", got, want)
				}
			}
		})
	}
	loginWire(t, p.address, d).usable(t)

	// What time may mend is tried again, up to QUERY_WAIT_TIMEOUT.
	for _, parameters := range [][]string{
		{"user", d.role + "_one", "database", d.name},
		{"user", d.role, "database", d.name + "_closed"},
	} {
		login := func(address string) pgproto3.ErrorResponse {
			client := dialWire(t, "tcp", address)
			client.startup(t, pgproto3.ProtocolVersion30, parameters...)
			client.untilClosed(t)
			return client.failed
		}
		want, got := login(d.cluster.TCPAddress()), login(p.address)
		if got.Severity != "FATAL" || !slices.Contains([]string{want.Code, "08001", "53400"}, got.Code) || !strings.Contains(got.Message, want.Message) {
			t.Errorf("login with %v: %s %s %q, directly: %s %q", parameters, got.Severity, got.Code, got.Message, want.Code, want.Message)
		}
	}
}

// TestWelcome compares what a client is told at login.
func TestWelcome(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	for _, parameters := range [][]string{
		nil,
		{"application_name", "somebody"},
		{"application_name", "some\"body' \\ ✓"},
		{"TimeZone", "Asia/Tokyo", "DateStyle", "German", "IntervalStyle", "iso_8601"},
		{"timezone", "asia/tokyo", "DATESTYLE", "german"},
		{"client_encoding", "latin1"},
		{"client_encoding", "'UTF-8'"},
		{"options", "-c TimeZone=UTC -c application_name=by\\ options"},
		{"options", "--application-name=dashes -ctimezone=PST8PDT"},
		{"default_transaction_read_only", "on", "standard_conforming_strings", "off"},
		{"search_path", "pg_catalog", "statement_timeout", "123s", "extra_float_digits", "3"},
	} {
		t.Run(strings.Join(parameters, " "), func(t *testing.T) {
			want := loginWire(t, d.cluster.TCPAddress(), d, parameters...).parameters
			for range 2 {
				if got := loginWire(t, p.address, d, parameters...).parameters; !maps.Equal(got, want) {
					t.Errorf("through the proxy:\n\t%v\ndirectly:\n\t%v", got, want)
				}
			}
		})
	}
}

// TestMaxClientConn refuses clients beyond the limit and takes them when there is
// room again.
func TestMaxClientConn(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"MAX_CLIENT_CONN": "3"})
	var clients []*wireClient
	for range 3 {
		clients = append(clients, loginWire(t, p.address, d))
	}
	refused := dialWire(t, "tcp", p.address)
	refused.startup(t, pgproto3.ProtocolVersion30, "user", d.role, "database", d.name)
	if got := refused.untilClosed(t); errorCode(got) != "FATAL 53300" {
		t.Errorf("got %q", got)
	}
	for _, client := range clients {
		client.usable(t)
	}
	if got := p.stats(t).ClientsRefused; got != 1 {
		t.Errorf("%d clients were refused, want 1", got)
	}
	clients[0].vanish(t)
	eventually(t, "the proxy has noticed", func() bool { return p.stats(t).ClientCount == 2 })
	loginWire(t, p.address, d).usable(t)
}

// TestCancelBeyondMaxClientConn cancels although there is no room for a client.
func TestCancelBeyondMaxClientConn(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"MAX_CLIENT_CONN": "1"})
	client, g := loginWire(t, p.address, d), newGate(t, d)
	client.query(t, "select "+g.call())
	g.await(t, 1)
	client.cancel(t)
	if got := client.until(t, "ReadyForQuery"); errorCode(got) != cancelled {
		t.Errorf("got %q", got)
	}
}

// TestClientLoginTimeout closes connections that do not log in.
func TestClientLoginTimeout(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"CLIENT_LOGIN_TIMEOUT": "1s"})
	message := encode(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      map[string]string{"user": d.role, "database": d.name},
	})
	early := loginWire(t, p.address, d)
	for _, sent := range [][]byte{nil, message[:3], message[:len(message)-1]} {
		client := dialWire(t, "tcp", p.address)
		client.write(t, sent)
		if got := client.untilClosed(t); len(got) > 0 && errorCode(got) != "FATAL 08P01" {
			t.Errorf("got %q", got)
		}
	}
	eventually(t, "three sessions ended by the login timeout", func() bool { return p.log.ends("login timeout") == 3 })
	early.usable(t)
}
