package pool

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/reactor"
)

// testTLS is only compared: the encryption of these tests is pretended.
var testTLS = new(tls.Config)

// serverState is how a handshake with a server ends.
var serverState = tls.ConnectionState{
	PeerCertificates:   []*x509.Certificate{{Raw: []byte("certificate"), SignatureAlgorithm: x509.SHA256WithRSA}},
	NegotiatedProtocol: "postgresql",
}

func encrypted(mode SSLMode) func(*Config) {
	return func(c *Config) { c.TLS = ServerTLS{Mode: mode, Config: testTLS} }
}

// connectDial connects the only dial.
func (f *fixture) connectDial() *pooltest.Conn {
	f.Helper()
	if len(f.world.Dials) != 1 {
		f.Fatalf("%d dials, want 1", len(f.world.Dials))
	}
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	return conn
}

// wantRequest reads an SSLRequest and answers it.
func (f *fixture) wantRequest(conn *pooltest.Conn, answer string) {
	f.Helper()
	if got := conn.Sent(); !bytes.Equal(got, []byte{0, 0, 0, 8, 4, 210, 22, 47}) {
		f.Fatalf("sent %q, want an SSLRequest", got)
	}
	conn.Feed([]byte(answer))
	f.world.Settle()
}

// handshake ends the handshake that has begun.
func (f *fixture) handshake(conn *pooltest.Conn) {
	f.Helper()
	if role, config := conn.Handshaking(); role != reactor.TLSClient || config != testTLS {
		f.Fatalf("role %v, configuration %p", role, config)
	}
	if got := conn.Sent(); len(got) > 0 {
		f.Fatalf("sent %q before the end of the handshake", got)
	}
	conn.Encrypt(serverState)
	f.world.Settle()
}

// wantStartup reads the startup message and logs the server in.
func (f *fixture) wantStartup(conn *pooltest.Conn) {
	f.Helper()
	if got := conn.Sent(); !bytes.Contains(got, []byte("user\x00app")) {
		f.Fatalf("sent %q, want a startup message", got)
	}
	f.feed(conn, loginWords...)
}

func TestEncryption(t *testing.T) {
	const hba = "E|FATAL|28000|no pg_hba.conf entry"
	encrypt := func(f *fixture) *pooltest.Conn {
		conn := f.connectDial()
		f.wantRequest(conn, "S")
		f.handshake(conn)
		return conn
	}
	for _, test := range []struct {
		name      string
		mode      SSLMode
		play      func(f *fixture) *pooltest.Conn // up to the startup message
		encrypted bool
	}{
		{"disable", SSLDisable, func(f *fixture) *pooltest.Conn { return f.connectDial() }, false},
		{"allow", SSLAllow, func(f *fixture) *pooltest.Conn { return f.connectDial() }, false},
		{"allow, refused", SSLAllow, func(f *fixture) *pooltest.Conn {
			f.feed(f.connectDial(), hba)
			return encrypt(f)
		}, true},
		{"prefer", SSLPrefer, encrypt, true},
		{"prefer, not spoken", SSLPrefer, func(f *fixture) *pooltest.Conn {
			conn := f.connectDial()
			f.wantRequest(conn, "N")
			return conn
		}, false},
		{"prefer, refused", SSLPrefer, func(f *fixture) *pooltest.Conn {
			f.feed(encrypt(f), hba)
			return f.connectDial()
		}, false},
		{"prefer, failed", SSLPrefer, func(f *fixture) *pooltest.Conn {
			conn := f.connectDial()
			f.wantRequest(conn, "S")
			conn.End(errors.New("TLS handshake: no common version"))
			f.world.Settle()
			return f.connectDial()
		}, false},
		{"require", SSLRequire, encrypt, true},
		{"verify-full", SSLVerifyFull, encrypt, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, encrypted(test.mode))
			c := f.newClient()
			c.acquire(f.pool)
			f.wantStartup(test.play(f))
			c.want("[lease]")
			if f.pool.Stats().ServerFailures != 0 || f.pools.ServerCount() != 1 {
				t.Errorf("stats %+v", f.pool.Stats())
			}

			// What cancels it goes the same way.
			c.send("Q|wait")
			c.server.Cancel()
			if !test.encrypted {
				f.cancelDial().End(pooltest.EOF)
				return
			}
			request := encrypt(f)
			got, _, err := pgwire.ParseStartup(request.Sent())
			if err != nil || got.Kind != pgwire.StartupCancel || string(got.CancelKey) != "key7" {
				t.Errorf("cancel request %+v, %v", got, err)
			}
			request.End(pooltest.EOF)
			f.world.Settle()
			if c.server.cancelInFlight {
				t.Error("the cancel request is not over")
			}
		})
	}
}

func TestEncryptionFails(t *testing.T) {
	answer := func(answer string) func(*fixture) {
		return func(f *fixture) { f.wantRequest(f.connectDial(), answer) }
	}
	direct := func(c *Config) { c.TLS.Direct = true }
	for _, test := range []struct {
		name   string
		mode   SSLMode
		change func(*Config)
		play   func(*fixture)
		code   pgwire.SQLState
		text   string
	}{
		{"not spoken", SSLRequire, nil, answer("N"), pgwire.CannotConnect, "server does not support SSL, but SSL was required"},
		{"smuggled", SSLRequire, nil, answer("SR\x00\x00\x00\x08\x00\x00\x00\x00"), pgwire.ProtocolViolation, "received unencrypted data after SSL response"},
		{"an error", SSLRequire, nil, answer("E"), pgwire.CannotConnect, "server sent an error response during SSL exchange"},
		{"another answer", SSLRequire, nil, answer("G"), pgwire.ProtocolViolation, `invalid response to SSL negotiation: 'G'`},
		{"a failed handshake", SSLVerifyFull, nil, func(f *fixture) {
			conn := f.connectDial()
			f.wantRequest(conn, "S")
			conn.End(errors.New("TLS handshake: not trusted"))
		}, pgwire.CannotConnect, "cannot encrypt the connection to server postgres:5432: TLS handshake: not trusted"},
		{"no end of the handshake", SSLRequire, nil, func(f *fixture) {
			f.wantRequest(f.connectDial(), "S")
			f.world.Advance(5 * time.Second)
		}, pgwire.CannotConnect, "did not complete the login within 5s"},
		{"refused twice", SSLPrefer, nil, func(f *fixture) {
			conn := f.connectDial()
			f.wantRequest(conn, "S")
			f.handshake(conn)
			f.feed(conn, "E|FATAL|28000|first")
			f.feed(f.connectDial(), "E|FATAL|28000|second")
		}, pgwire.InvalidAuthorization, "second; an attempt before it: first"},
		{"another refusal", SSLAllow, nil, func(f *fixture) {
			f.feed(f.connectDial(), "E|FATAL|3D000|no such database")
		}, pgwire.InvalidCatalogName, "no such database"},
		{"no time for a second attempt", SSLAllow, nil, func(f *fixture) {
			f.feed(f.connectDial(), "E|FATAL|28000|no entry")
			f.world.Advance(5 * time.Second)
		}, pgwire.CannotConnect, "did not complete the login within 5s; an attempt before it: no entry"},
		{"direct to another protocol", SSLRequire, direct, func(f *fixture) {
			conn := f.connectDial()
			conn.Encrypt(tls.ConnectionState{PeerCertificates: serverState.PeerCertificates})
		}, pgwire.ProtocolViolation, "without ALPN protocol negotiation extension"},
	} {
		t.Run(test.name, func(t *testing.T) {
			changes := []func(*Config){encrypted(test.mode)}
			if test.change != nil {
				changes = append(changes, test.change)
			}
			f := newFixture(t, changes...)
			c := f.newClient()
			c.acquire(f.pool)
			test.play(f)
			f.world.Settle()
			e := f.pool.lastFailure
			if e == nil || e.SQLState != test.code || !strings.Contains(e.Message, test.text) {
				t.Fatalf("failure %v, want %s with %q", e, test.code, test.text)
			}
			if stats := f.pool.Stats(); stats.ServersOpening != 0 || f.pools.ServerCount() != 0 || stats.ServerFailures != 1 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

func TestDirectEncryption(t *testing.T) {
	f := newFixture(t, encrypted(SSLRequire), func(c *Config) { c.TLS.Direct = true })
	c := f.newClient()
	c.acquire(f.pool)
	conn := f.connectDial()
	f.handshake(conn)
	f.wantStartup(conn)
	c.want("[lease]")
}

func TestNoEncryptionOverUnixSockets(t *testing.T) {
	f := newFixture(t, encrypted(SSLVerifyFull), func(c *Config) { c.Upstream.Network = "unix" })
	c := f.newClient()
	c.acquire(f.pool)
	f.wantStartup(f.connectDial())
	c.want("[lease]")
}

// TestCancelIsNotSentInTheClear has a server that speaks TLS no longer.
func TestCancelIsNotSentInTheClear(t *testing.T) {
	f := newFixture(t, encrypted(SSLPrefer))
	c := f.newClient()
	c.acquire(f.pool)
	conn := f.connectDial()
	f.wantRequest(conn, "S")
	f.handshake(conn)
	f.wantStartup(conn)
	c.send("Q|wait")
	c.server.Cancel()
	request := f.connectDial()
	f.wantRequest(request, "N")
	if got := request.Sent(); len(got) > 0 || !request.Closed() || c.server.cancelInFlight {
		t.Errorf("sent %q, closed %v", got, request.Closed())
	}
	if f.world.Settle(); f.world.Armed() && c.server.cancelTimer.Armed() {
		t.Error("a timer is left armed")
	}
}

func TestReplacedEncryption(t *testing.T) {
	f := newFixture(t, encrypted(SSLRequire))
	next := new(tls.Config)
	f.pools.SetServerTLS(ServerTLS{Mode: SSLRequire, Config: next})
	f.newClient().acquire(f.pool)
	conn := f.connectDial()
	f.wantRequest(conn, "S")
	if _, config := conn.Handshaking(); config != next {
		t.Error("the configuration is the old one")
	}
}

// TestSCRAMOverTLS binds the proof to the certificate of the server.
func TestSCRAMOverTLS(t *testing.T) {
	const both, plain = "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00", "SCRAM-SHA-256\x00\x00"
	endPoint := auth.ServerEndPoint(serverState.PeerCertificates[0])
	for _, test := range []struct {
		name    string
		mode    SSLMode
		binding ChannelBinding
		offer   string
		want    string // how the exchange begins
		failure string
	}{
		{"bound", SSLRequire, BindingPrefer, both, "SCRAM-SHA-256-PLUS\x00....p=tls-server-end-point,,", ""},
		{"not offered", SSLRequire, BindingPrefer, plain, "SCRAM-SHA-256\x00....y,,", ""},
		{"not wanted", SSLRequire, BindingDisable, both, "SCRAM-SHA-256\x00....n,,", ""},
		{"not encrypted", SSLDisable, BindingPrefer, both, "SCRAM-SHA-256\x00....n,,", ""},
		{"required", SSLRequire, BindingRequire, both, "SCRAM-SHA-256-PLUS\x00....p=tls-server-end-point,,", ""},
		{"required and not offered", SSLRequire, BindingRequire, plain, "", "channel binding is required, but not possible"},
		{"required and not encrypted", SSLDisable, BindingRequire, both, "", "channel binding is required, but not possible"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, secrets(auth.PasswordSecret("pencil")), encrypted(test.mode), func(c *Config) { c.TLS.ChannelBinding = test.binding })
			c := f.newClient()
			c.acquire(f.pool)
			conn := f.connectDial()
			if test.mode != SSLDisable {
				f.wantRequest(conn, "S")
				f.handshake(conn)
			}
			conn.Sent()
			initial := f.asked(conn, pgwire.AuthenticationSASL, test.offer)
			if test.failure != "" {
				if e := f.pool.lastFailure; e == nil || !strings.Contains(e.Message, test.failure) || len(initial) > 0 {
					t.Errorf("failure %v, answer %q", e, initial)
				}
				return
			}
			mechanism, first, err := pgwire.ParseSASLInitialResponse(initial[pgwire.HeaderBytes:])
			if got := mechanism + "\x00...." + string(first); err != nil || !strings.HasPrefix(got, test.want) {
				t.Fatalf("the exchange begins with %q, %v", got, err)
			}
			channel := auth.Channel{Bound: mechanism == auth.MechanismPlus}
			if channel.Bound {
				channel.EndPoint = endPoint
			}
			server := auth.NewSCRAMServer(testVerifier, channel, [auth.NonceBytes]byte{7})
			challenge, err := server.First(first)
			if err != nil {
				t.Fatal(err)
			}
			final := f.asked(conn, pgwire.AuthenticationSASLContinue, challenge)
			reply, _, ok, err := server.Final(final[pgwire.HeaderBytes:])
			if !ok || err != nil {
				t.Fatalf("the proof %q is refused: %v", final, err)
			}
			conn.Feed(pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASLFinal, reply))
			f.feed(conn, loginWords...)
			c.want("[lease]")
		})
	}
}

// TestBindingIsRequired has servers that do without a proof, or with a weaker one.
func TestBindingIsRequired(t *testing.T) {
	for _, word := range []string{"R", "R|3", "R|5"} {
		f := newFixture(t, secrets(auth.PasswordSecret("pencil")), encrypted(SSLRequire), func(c *Config) { c.TLS.ChannelBinding = BindingRequire })
		f.newClient().acquire(f.pool)
		conn := f.connectDial()
		f.wantRequest(conn, "S")
		f.handshake(conn)
		conn.Sent()
		f.feed(conn, word)
		if e := f.pool.lastFailure; e == nil || !strings.Contains(e.Message, "channel binding is required") || len(conn.Sent()) > 0 {
			t.Errorf("%s: failure %v", word, e)
		}
	}
}

func TestSSLModes(t *testing.T) {
	for i, word := range sslModeNames {
		var m SSLMode
		if err := m.UnmarshalText([]byte(strings.ToUpper(word))); err != nil || m != SSLMode(i) || m.String() != word {
			t.Errorf("%s became %v, %v", word, m, err)
		}
	}
	var m SSLMode
	if err := m.UnmarshalText([]byte("some")); err == nil || !strings.Contains(err.Error(), `"some": expected disable, allow`) {
		t.Errorf("an unknown mode: %v", err)
	}
}
