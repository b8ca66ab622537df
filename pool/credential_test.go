package pool

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// secrets makes that the secret of user "app".
func secrets(secret auth.Secret) func(*Config) {
	return func(c *Config) {
		c.Secrets = map[string]auth.Secret{"app": secret}
		c.Entropy = rand.NewChaCha8([32]byte{1})
	}
}

func secret(tb testing.TB, text string) auth.Secret {
	tb.Helper()
	s, err := auth.ParseSecret("app", text)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var (
	testSalt     = []byte("0123456789abcdef")
	testVerifier = auth.NewVerifier("pencil", testSalt, 2)
)

// verifierSecret knows of the password "pencil" no more than the verifier.
func verifierSecret(tb testing.TB) auth.Secret {
	tb.Helper()
	// Base64 of testSalt, StoredKey and ServerKey.
	return secret(tb, fmt.Sprintf("SCRAM-SHA-256$2:MDEyMzQ1Njc4OWFiY2RlZg==$%s:%s", base64Key(testVerifier.StoredKey), base64Key(testVerifier.ServerKey)))
}

func base64Key(key auth.Key) string { return base64.StdEncoding.EncodeToString(key[:]) }

// asked returns what the pool answers to an authentication request.
func (f *fixture) asked(conn *pooltest.Conn, method pgwire.AuthenticationMethod, data string) []byte {
	f.Helper()
	conn.Feed(pgwire.AppendAuthentication(nil, method, data))
	f.world.Settle()
	return bytes.Clone(conn.Sent())
}

// open dials for a client and returns the server's end, the startup packet read.
func (f *fixture) open() (*testClient, *pooltest.Conn) {
	f.Helper()
	c := f.newClient()
	c.acquire(f.pool)
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	conn.Sent()
	return c, conn
}

// scram is the server's part of an exchange, up to AuthenticationSASLFinal.
func (f *fixture) scram(conn *pooltest.Conn, verifier auth.Verifier) {
	f.Helper()
	s := auth.NewSCRAMServer(verifier, auth.Channel{}, [auth.NonceBytes]byte{7})
	initial := f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00")
	mechanism, first, err := pgwire.ParseSASLInitialResponse(initial[pgwire.HeaderBytes:])
	if err != nil || mechanism != auth.Mechanism {
		f.Fatalf("%q, %v", initial, err)
	}
	challenge, err := s.First(first)
	if err != nil {
		f.Fatal(err)
	}
	final := f.asked(conn, pgwire.AuthenticationSASLContinue, challenge)
	if len(final) == 0 {
		f.Fatalf("no proof: %v", f.pool.lastFailure)
	}
	reply, _, ok, err := s.Final(final[pgwire.HeaderBytes:])
	if !ok || err != nil {
		f.Fatalf("the proof %q is refused: %v", final, err)
	}
	conn.Feed(pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASLFinal, reply))
	f.world.Settle()
}

func TestPasswordLogin(t *testing.T) {
	hash := auth.MD5Hash("app", "pencil")
	response := auth.MD5Response(hash, [4]byte{1, 2, 3, 4})
	for _, test := range []struct {
		name   string
		secret string
		method pgwire.AuthenticationMethod
		data   string
		want   string
	}{
		{"password", "pencil", pgwire.AuthenticationCleartext, "", "pencil"},
		{"md5", "pencil", pgwire.AuthenticationMD5, "\x01\x02\x03\x04", response},
		{"md5 from a hash", hash, pgwire.AuthenticationMD5, "\x01\x02\x03\x04", response},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, secrets(secret(t, test.secret)))
			c, conn := f.open()
			if got, want := f.asked(conn, test.method, test.data), pgwire.AppendPassword(nil, test.want); !bytes.Equal(got, want) {
				t.Fatalf("answer %q, want %q", got, want)
			}
			f.feed(conn, loginWords...)
			c.want("[lease]")
		})
	}
}

func TestSCRAMLogin(t *testing.T) {
	f := newFixture(t, secrets(auth.PasswordSecret("pencil")))
	a, b := f.newClient(), f.newClient()
	a.acquire(f.pool)
	b.acquire(f.pool)
	for _, c := range []*testClient{a, b} {
		conn := f.world.Dials[0].Connect()
		f.world.Settle()
		conn.Sent()
		f.scram(conn, testVerifier)
		f.feed(conn, loginWords...)
		c.want("[lease]")
	}
	if f.world.Works != 1 {
		t.Errorf("the keys were derived %d times, want once", f.world.Works)
	}
	// After a change of the password the server's salt is another.
	f.newClient().acquire(f.pools.Get("other", "app"))
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	conn.Sent()
	f.scram(conn, auth.NewVerifier("pencil", []byte("another salt"), 3))
	if f.world.Works != 2 {
		t.Errorf("the keys were derived %d times, want twice", f.world.Works)
	}
}

// Servers that are challenged while the keys are being derived wait for the same.
func TestSCRAMDerivesOnceForMany(t *testing.T) {
	f := newFixture(t, secrets(auth.PasswordSecret("pencil")))
	var conns []*pooltest.Conn
	var challenges []string
	for range 2 {
		f.newClient().acquire(f.pool)
		conn := f.world.Dials[0].Connect()
		f.world.Settle()
		conn.Sent()
		initial := f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")
		_, first, _ := pgwire.ParseSASLInitialResponse(initial[pgwire.HeaderBytes:])
		challenge, err := auth.NewSCRAMServer(testVerifier, auth.Channel{}, [auth.NonceBytes]byte{}).First(first)
		if err != nil {
			t.Fatal(err)
		}
		conns, challenges = append(conns, conn), append(challenges, challenge)
	}
	for i, conn := range conns {
		conn.Feed(pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASLContinue, challenges[i]))
	}
	f.world.Settle()
	for _, conn := range conns {
		if len(conn.Sent()) == 0 {
			t.Error("a server was not answered")
		}
	}
	if f.world.Works != 1 {
		t.Errorf("the keys were derived %d times, want once", f.world.Works)
	}
}

// A server that goes while its keys are derived is not written to.
func TestSCRAMServerGoesMeanwhile(t *testing.T) {
	f := newFixture(t, secrets(auth.PasswordSecret("pencil")))
	_, conn := f.open()
	initial := f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")
	_, first, _ := pgwire.ParseSASLInitialResponse(initial[pgwire.HeaderBytes:])
	challenge, err := auth.NewSCRAMServer(testVerifier, auth.Channel{}, [auth.NonceBytes]byte{}).First(first)
	if err != nil {
		t.Fatal(err)
	}
	conn.Feed(pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASLContinue, challenge))
	conn.Feed(pooltest.Backend("E|FATAL|57P03|starting up"))
	f.world.Settle()
	if got := conn.Sent(); len(got) != 0 || f.pool.lastFailure.SQLState != pgwire.CannotConnectNow {
		t.Errorf("sent %q, failure %v", got, f.pool.lastFailure)
	}
}

// With a verifier alone there are no keys until a client has shown them.
func TestSCRAMPassThrough(t *testing.T) {
	f := newFixture(t, secrets(verifierSecret(t)))
	c, conn := f.open()
	f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")
	c.want("[refused 28000]")
	if e := f.pool.lastFailure; !strings.Contains(e.Message, "no client has proved to know it") {
		t.Errorf("failure %v", e)
	}
	f.world.Advance(minRetryDelay)
	keys := auth.DeriveKeys("pencil", testSalt, 2)
	f.pool.Learn(auth.Secret{}, &keys)
	c, conn = f.open()
	f.scram(conn, testVerifier)
	f.feed(conn, loginWords...)
	c.want("[lease]")
	if f.world.Works != 0 {
		t.Error("keys were derived that were known")
	}

	// They are of no use with another salt.
	f.newClient().acquire(f.pools.Get("other", "app"))
	conn = f.world.Dials[0].Connect()
	f.world.Settle()
	conn.Sent()
	initial := f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")
	_, first, _ := pgwire.ParseSASLInitialResponse(initial[pgwire.HeaderBytes:])
	challenge, err := auth.NewSCRAMServer(auth.NewVerifier("pencil", []byte("another salt"), 2), auth.Channel{}, [auth.NonceBytes]byte{}).First(first)
	if err != nil {
		t.Fatal(err)
	}
	f.asked(conn, pgwire.AuthenticationSASLContinue, challenge)
	if e := f.pools.Get("other", "app").lastFailure; e == nil || !strings.Contains(e.Message, `the SCRAM verifier of user "app" is not that of the server`) {
		t.Errorf("failure %v", e)
	}
}

// A password that is known needs no client's help.
func TestLearnWithoutNeed(t *testing.T) {
	f := newFixture(t, secrets(auth.PasswordSecret("pencil").WithVerifier(testSalt, 2)))
	f.pool.Learn(auth.Secret{}, &auth.Keys{})
	_, conn := f.open()
	f.scram(conn, testVerifier)
	newFixture(t).pool.Learn(auth.Secret{}, &auth.Keys{}) // and where there is no secret, there is nothing to learn
}

// What a client has proved to know is all there is for a user who is not configured.
func TestLearnedSecrets(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Entropy = rand.NewChaCha8([32]byte{5}) })
	keys := auth.DeriveKeys("pencil", testSalt, 2)
	f.pool.Learn(verifierSecret(t), &keys)
	c, conn := f.open()
	f.scram(conn, testVerifier)
	f.feed(conn, loginWords...)
	c.want("[lease]")
	f.pools.SetSecrets(map[string]auth.Secret{"other": auth.PasswordSecret("chalk")}) // is no concern of theirs
	if f.pool.credential.derived == nil {
		t.Error("what was learned is forgotten")
	}
	f.pool.Learn(auth.Secret{}, nil) // of a client that was trusted
	if f.pool.credential.derived == nil {
		t.Error("what was learned is forgotten")
	}
	hash, err := auth.ParseSecret("app", auth.MD5Hash("app", "chalk"))
	if err != nil {
		t.Fatal(err)
	}
	f.pool.Learn(hash, nil)
	if c := f.pool.credential; c.derived != nil || c.secret.MD5("app") == "" || len(f.pools.credentials) != 0 {
		t.Errorf("the new secret is not learned: %+v", c)
	}
}

// New secrets take the place of old ones, and keys that are still good stay.
func TestSetSecrets(t *testing.T) {
	f := newFixture(t, secrets(verifierSecret(t)))
	keys := auth.DeriveKeys("pencil", testSalt, 2)
	f.pool.Learn(auth.Secret{}, &keys)
	other := f.pools.Get("other", "app")
	set := func(secret auth.Secret) { f.pools.SetSecrets(map[string]auth.Secret{"app": secret}) }
	set(verifierSecret(t))
	if f.pool.credential.derived == nil || other.credential != f.pool.credential {
		t.Errorf("unchanged secrets are not kept: %+v, %+v", f.pool.credential, other.credential)
	}
	set(auth.PasswordSecret("pencil"))
	if c := f.pool.credential; c.derived != nil || c.secret.Password() != "pencil" {
		t.Errorf("credential %+v", c)
	}
	_, conn := f.open()
	f.scram(conn, testVerifier)
	f.pools.SetSecrets(nil)
	if c := f.pool.credential; c.configured || !c.secret.Empty() || c.derived != nil {
		t.Errorf("credential %+v of a user who is not configured any more", c)
	}
}

func TestPasswordLoginFails(t *testing.T) {
	hash := auth.MD5Hash("app", "pencil")
	type request struct {
		method pgwire.AuthenticationMethod
		data   string
	}
	mechanisms := request{pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00"}
	for _, test := range []struct {
		name     string
		secret   string
		requests []request
		code     pgwire.SQLState
		text     string
	}{
		{"hash and password", hash, []request{{pgwire.AuthenticationCleartext, ""}}, "28000", `method password for user "app": expected md5 or trust`},
		{"hash and scram", hash, []request{mechanisms}, "28000", `method scram-sha-256 for user "app": expected md5 or trust`},
		{"gss", "pencil", []request{{pgwire.AuthenticationGSS, ""}}, "28000", `method gss for user "app": expected scram-sha-256, md5, password or trust`},
		{"empty password", "", []request{{pgwire.AuthenticationCleartext, ""}}, "28000", "expected trust, because no password is known"},
		{"short salt", "pencil", []request{{pgwire.AuthenticationMD5, "abc"}}, "08P01", "malformed authentication request"},
		{
			"other mechanisms", "pencil",
			[]request{{pgwire.AuthenticationSASL, "SCRAM-SHA-256-PLUS\x00OAUTHBEARER\x00\x00"}},
			"28000",
			`server offers SASL mechanisms "SCRAM-SHA-256-PLUS, OAUTHBEARER": expected SCRAM-SHA-256`,
		},
		{"malformed challenge", "pencil", []request{mechanisms, {pgwire.AuthenticationSASLContinue, "r=x,s=AA==,i=1"}}, "28000", "nonce"},
		{"challenge out of turn", "pencil", []request{{pgwire.AuthenticationSASLContinue, "r=x,s=AA==,i=1"}}, "08P01", "out of turn"},
		{"end out of turn", "pencil", []request{mechanisms, {pgwire.AuthenticationSASLFinal, "v=AA=="}}, "28000", "out of turn"},
		{"a server that does not prove itself", "pencil", []request{mechanisms, {pgwire.AuthenticationOK, ""}}, "08P01", "out of turn"},
		{"another method meanwhile", "pencil", []request{mechanisms, {pgwire.AuthenticationCleartext, ""}}, "08P01", "out of turn"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, secrets(secret(t, test.secret)))
			_, conn := f.open()
			for _, r := range test.requests {
				f.asked(conn, r.method, r.data)
			}
			e := f.pool.lastFailure
			if e == nil || e.SQLState != test.code || !strings.Contains(e.Message, test.text) || !conn.Closed() {
				t.Fatalf("failure %v, want %s with %q", e, test.code, test.text)
			}
			if strings.Contains(e.Message, "pencil") || strings.Contains(e.Message, hash) {
				t.Errorf("the error shows a secret: %v", e)
			}
		})
	}
	t.Run("a server without the password", func(t *testing.T) {
		f := newFixture(t, secrets(auth.PasswordSecret("pencil")))
		c, conn := f.open()
		initial := f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")
		_, first, _ := pgwire.ParseSASLInitialResponse(initial[pgwire.HeaderBytes:])
		challenge, err := auth.NewSCRAMServer(testVerifier, auth.Channel{}, [auth.NonceBytes]byte{}).First(first)
		if err != nil {
			t.Fatal(err)
		}
		f.asked(conn, pgwire.AuthenticationSASLContinue, challenge)
		f.asked(conn, pgwire.AuthenticationSASLFinal, "v="+base64Key(auth.Key{}))
		c.want("[refused 28000]")
		if e := f.pool.lastFailure; !strings.Contains(e.Message, "has not proved that it knows the password") {
			t.Errorf("failure %v", e)
		}
	})
	t.Run("no random numbers", func(t *testing.T) {
		f := newFixture(t, secrets(auth.PasswordSecret("pencil")), func(c *Config) { c.Entropy = bytes.NewReader(nil) })
		_, conn := f.open()
		f.asked(conn, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")
		if e := f.pool.lastFailure; e == nil || !strings.Contains(e.Message, "no random numbers") {
			t.Errorf("failure %v", e)
		}
	})
}

// Secrets of users are kept, what is made for others is not.
func TestCredentialsAreBounded(t *testing.T) {
	f := newFixture(t, secrets(auth.PasswordSecret("pencil")))
	for i := range 100 {
		f.pools.Get("shop", fmt.Sprint(i))
	}
	if len(f.pools.credentials) != 1 || f.pools.Get("a", "app").credential != f.pool.credential {
		t.Errorf("%d credentials", len(f.pools.credentials))
	}
}
