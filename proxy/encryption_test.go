package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/reactor"
)

// testTLS is only compared: the encryption of these tests is pretended.
var testTLS = new(tls.Config)

// testEndPoint is that of the proxy's certificate.
var testEndPoint = []byte("the hash of a certificate")

func encrypted(mode pool.SSLMode) func(*Config) {
	return func(c *Config) { c.ClientTLS = ClientTLS{Mode: mode, Config: testTLS, EndPoint: testEndPoint} }
}

// certified is how a handshake ends with a client whose certificate has these common
// names.
func certified(names ...string) tls.ConnectionState {
	certificate := new(x509.Certificate)
	for _, name := range names {
		certificate.Subject.Names = append(certificate.Subject.Names,
			pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name},
			pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "an organization"})
	}
	chain := []*x509.Certificate{certificate}
	return tls.ConnectionState{PeerCertificates: chain, VerifiedChains: [][]*x509.Certificate{chain}}
}

// encrypt asks for TLS and ends the handshake.
func (c *client) encrypt(state tls.ConnectionState) {
	c.f.Helper()
	c.feed(sslRequest)
	if got := c.conn.Sent(); string(got) != "S" {
		c.f.Fatalf("the request was answered with %q", got)
	}
	if role, config := c.conn.Handshaking(); role != reactor.TLSServer || config != testTLS {
		c.f.Fatalf("role %v, configuration %p", role, config)
	}
	c.conn.Encrypt(state)
	c.f.world.Settle()
}

func TestEncryptedStartup(t *testing.T) {
	for _, mode := range []pool.SSLMode{pool.SSLAllow, pool.SSLPrefer, pool.SSLRequire} {
		f := newFixture(t, encrypted(mode))
		c := f.dial()
		c.feed(gssRequest)
		if got := c.conn.Sent(); string(got) != "N" {
			t.Fatalf("GSSENCRequest was answered with %q", got)
		}
		c.encrypt(tls.ConnectionState{})
		c.startup()
		c.welcomed()
		c.ask("1")

		canceler := f.dial()
		canceler.encrypt(tls.ConnectionState{})
		canceler.feed(pgwire.AppendCancelRequest(nil, c.id, c.key))
		canceler.wantEnd()
		if f.ended(endCancelRequest) != 1 {
			t.Errorf("stats %+v", f.proxy.Stats())
		}
	}
}

func TestWhoMustEncrypt(t *testing.T) {
	const refusal = `E|FATAL|28000|no pg_hba.conf entry for host "127.0.0.1", user "app", database "shop", no encryption`
	for _, test := range []struct {
		mode    pool.SSLMode
		address string
		refused string
	}{
		{pool.SSLDisable, "127.0.0.1:40000", ""},
		{pool.SSLAllow, "127.0.0.1:40000", ""},
		{pool.SSLPrefer, "127.0.0.1:40000", ""},
		{pool.SSLRequire, "127.0.0.1:40000", refusal},
		{pool.SSLVerifyFull, "127.0.0.1:40000", refusal},
		{pool.SSLRequire, "[::1]:40000", strings.Replace(refusal, "127.0.0.1", "::1", 1)},
		{pool.SSLRequire, "unix", ""},
	} {
		f := newFixture(t, encrypted(test.mode))
		conn := f.world.NewConn(test.address)
		conn.Handle(f.proxy.Accept(conn))
		c := &client{f: f, conn: conn}
		c.startup()
		if test.refused == "" {
			c.welcomed()
			continue
		}
		c.wantEnd(test.refused)
		if f.ended(endRefused) != 1 || f.proxy.Stats().ClientsRefused != 1 {
			t.Errorf("stats %+v", f.proxy.Stats())
		}
	}
}

// TestEncryptionIsNotSpoken has clients that may not have what they ask for.
func TestEncryptionIsNotSpoken(t *testing.T) {
	for _, address := range []string{"127.0.0.1:40000", "unix"} {
		f := newFixture(t)
		if address == "unix" { // as in PostgreSQL
			f = newFixture(t, encrypted(pool.SSLRequire))
		}
		dial := func() *client {
			conn := f.world.NewConn(address)
			conn.Handle(f.proxy.Accept(conn))
			return &client{f: f, conn: conn}
		}
		c := dial()
		c.feed(sslRequest)
		if got := c.conn.Sent(); string(got) != "N" {
			t.Errorf("%s: the request was answered with %q", address, got)
		}
		c.startup()
		c.welcomed()

		direct := dial()
		direct.feed([]byte{22, 3, 1, 2, 0})
		if got := direct.conn.Sent(); len(got) > 0 || !direct.conn.Closed() {
			t.Errorf("%s: TLS is answered with %q", address, got)
		}
	}
}

func TestDirectEncryption(t *testing.T) {
	f := newFixture(t, encrypted(pool.SSLRequire))
	hello := []byte{22, 3, 1, 2, 0}
	c := f.dial()
	c.feed(hello)
	if _, config := c.conn.Handshaking(); config != testTLS || c.conn.UnreadBytes() != len(hello) {
		t.Fatalf("no handshake has begun with the %d bytes that are left", c.conn.UnreadBytes())
	}
	c.conn.Encrypt(tls.ConnectionState{NegotiatedProtocol: "postgresql"})
	c.startup()
	c.welcomed()

	other := f.dial()
	other.feed(hello)
	other.conn.Encrypt(tls.ConnectionState{})
	other.wantEnd("E|FATAL|08P01|received direct SSL connection request without ALPN protocol negotiation extension")

	// Only at the very beginning.
	late := f.dial()
	late.feed(gssRequest)
	late.conn.Sent()
	late.feed(hello)
	if got := late.conn.Sent(); !strings.Contains(string(got), "invalid length") {
		t.Errorf("TLS behind a request is answered with %q", got)
	}
}

func TestSmuggledPlainText(t *testing.T) {
	f := newFixture(t, encrypted(pool.SSLRequire))
	c := f.dial()
	c.feed(slices.Concat(sslRequest, pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app")))
	c.wantEnd("E|FATAL|08P01|received unencrypted data after encryption request")
	again := f.dial()
	again.encrypt(tls.ConnectionState{})
	again.feed(sslRequest)
	again.wantEnd("E|FATAL|08P01|encryption was requested twice: expected a startup message")
	gss := f.dial()
	gss.encrypt(tls.ConnectionState{})
	gss.feed(gssRequest)
	gss.wantEnd("E|FATAL|08P01|encryption was requested twice: expected a startup message")
}

func TestEndDuringHandshake(t *testing.T) {
	f := newFixture(t, encrypted(pool.SSLRequire))
	c := f.dial()
	c.feed(sslRequest)
	c.close(errors.New("TLS handshake: junk"))
	if f.ended(endHandshake) != 1 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
	slow := f.dial()
	slow.feed(sslRequest)
	f.world.Advance(f.proxy.config.ClientLoginTimeout)
	if !slow.conn.Closed() || f.ended(endLoginTimeout) != 1 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
	leaving := f.dial()
	leaving.feed(sslRequest)
	f.proxy.Shutdown(func() {})
	f.world.Settle()
	if !leaving.conn.Closed() {
		t.Error("a handshake holds up the end of the proxy")
	}
}

func TestCertificates(t *testing.T) {
	const (
		none    = "E|FATAL|28000|connection requires a valid client certificate"
		another = `E|FATAL|28000|certificate authentication failed for user "app"`
	)
	for _, test := range []struct {
		name     string
		mode     pool.SSLMode
		authType AuthType
		state    tls.ConnectionState
		refused  string
	}{
		{"none is asked for", pool.SSLRequire, AuthTrust, tls.ConnectionState{}, ""},
		{"none", pool.SSLVerifyCA, AuthTrust, tls.ConnectionState{}, none},
		{"any", pool.SSLVerifyCA, AuthTrust, certified("somebody"), ""},
		{"not verified", pool.SSLVerifyCA, AuthTrust, tls.ConnectionState{PeerCertificates: certified("app").PeerCertificates}, none},
		{"cert: none", pool.SSLVerifyFull, AuthCert, tls.ConnectionState{}, none},
		{"cert: the user's", pool.SSLVerifyFull, AuthCert, certified("app"), ""},
		{"cert: another's", pool.SSLVerifyFull, AuthCert, certified("somebody"), another},
		{"cert: of several names", pool.SSLVerifyFull, AuthCert, certified("somebody", "app"), another},
		{"cert: without a name", pool.SSLVerifyFull, AuthCert, certified(), another},
		{"cert: a longer name", pool.SSLVerifyFull, AuthCert, certified("app\x00"), another},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, encrypted(test.mode), func(c *Config) { c.AuthType = test.authType })
			c := f.dial()
			c.encrypt(test.state)
			c.conn.Remote = test.authType == AuthCert
			c.startup()
			if test.refused == "" {
				c.welcomed()
				return
			}
			c.wantEnd(test.refused)
			if f.proxy.Stats().ClientsRefused != 1 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
		})
	}
	f := newFixture(t, encrypted(pool.SSLVerifyFull), func(c *Config) { c.AuthType = AuthCert })
	conn := f.world.NewConn("unix")
	conn.Handle(f.proxy.Accept(conn))
	c := &client{f: f, conn: conn}
	c.startup()
	c.wantEnd(`E|FATAL|28000|no pg_hba.conf entry for host "[local]", user "app", database "shop", no encryption`)
}

func TestReplacedCertificate(t *testing.T) {
	f := newFixture(t, encrypted(pool.SSLRequire))
	next := new(tls.Config)
	f.proxy.SetClientTLS(ClientTLS{Mode: pool.SSLRequire, Config: next})
	c := f.dial()
	c.feed(sslRequest)
	if _, config := c.conn.Handshaking(); config != next {
		t.Error("the configuration is the old one")
	}
}

func TestSCRAMOverTLS(t *testing.T) {
	const plus = "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"
	for _, test := range []struct {
		name    string
		channel auth.Channel // as the client sees it
		refused string
	}{
		{"bound", auth.Channel{EndPoint: testEndPoint, Bound: true}, ""},
		{"a client that cannot bind", auth.Channel{}, ""},
		{"somebody in between", auth.Channel{EndPoint: []byte("another hash"), Bound: true}, "E|FATAL|28000|SCRAM channel binding check failed"},
		{"the offer was taken away", auth.Channel{EndPoint: testEndPoint}, "E|FATAL|08P01|the client supports SCRAM channel binding"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, authenticated(t, AuthSCRAM), encrypted(pool.SSLRequire))
			c := f.dial()
			c.encrypt(tls.ConnectionState{})
			if method, data := c.startupAs("app"); method != pgwire.AuthenticationSASL || string(data) != plus {
				t.Fatalf("asked for %v %q", method, data)
			}
			mechanism := auth.Mechanism
			if test.channel.Bound {
				mechanism = auth.MechanismPlus
			}
			exchange := auth.NewSCRAMClient(test.channel, [auth.NonceBytes]byte{9})
			c.feed(pgwire.AppendSASLInitialResponse(nil, mechanism, exchange.First()))
			b := bytes.Clone(c.conn.Sent())
			if b[0] == pgwire.Authentication {
				salt, iterations, err := exchange.Challenge(b[9:])
				if err != nil {
					t.Fatal(err)
				}
				c.feed(pgwire.AppendSASLResponse(nil, exchange.Final(auth.DeriveKeys("pencil", salt, iterations))))
				if test.refused == "" {
					c.verified(exchange)
					return
				}
				b = c.conn.Sent()
			}
			got := pooltest.BackendWords(b)
			if test.refused == "" || len(got) != 1 || !strings.HasPrefix(got[0], test.refused) || !c.conn.Closed() {
				t.Errorf("answer %s, want %q", strings.Join(got, "  "), test.refused)
			}
		})
	}
	// Without TLS the mechanism is not offered, and not accepted.
	f := newFixture(t, authenticated(t, AuthSCRAM))
	c := f.dial()
	c.startupAs("app")
	c.feed(pgwire.AppendSASLInitialResponse(nil, auth.MechanismPlus, "p=tls-server-end-point,,n=,r=abc"))
	c.wantEnd("E|FATAL|08P01|client selected an invalid SASL authentication mechanism")
}
