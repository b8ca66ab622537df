package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// authSalt and authIterations are those of every verifier in these tests.
var authSalt = []byte("0123456789abcdef")

const authIterations = 2

// verifierText is the verifier of a password as PostgreSQL stores it.
func verifierText(password string) string {
	v := auth.NewVerifier(password, authSalt, authIterations)
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", v.Iterations, encode(v.Salt), encode(v.StoredKey[:]), encode(v.ServerKey[:]))
}

// authUsers are the users of these tests: app, whose password is known; hashed, of
// whose password a hash is; verified, of whose password a verifier is; and empty.
func authUsers(tb testing.TB, withVerifiers bool) map[string]auth.Secret {
	tb.Helper()
	users := map[string]auth.Secret{}
	for user, secret := range map[string]string{
		"app": "pencil", "hashed": auth.MD5Hash("hashed", "pencil"), "verified": verifierText("pencil"), "empty": "", "bäcker": "pä ß\u200b",
	} {
		parsed, err := auth.ParseSecret(user, secret)
		if err != nil {
			tb.Fatal(err)
		}
		if withVerifiers {
			parsed = parsed.WithVerifier(authSalt, authIterations)
		}
		users[user] = parsed
	}
	return users
}

// authenticated makes clients prove who they are.
func authenticated(tb testing.TB, authType AuthType) func(*Config) {
	tb.Helper()
	return func(c *Config) {
		c.AuthType = authType
		c.Secrets = authUsers(tb, authType != AuthMD5)
		c.Pool.Secrets = authUsers(tb, false)
		c.Pool.Entropy = rand.NewChaCha8([32]byte{2})
	}
}

// startupAs sends a startup message and returns the method that the proxy asks for,
// and its data.
func (c *client) startupAs(user string) (method pgwire.AuthenticationMethod, data []byte) {
	c.f.Helper()
	c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", user, "database", "shop"))
	return c.request()
}

// request reads an Authentication message.
func (c *client) request() (method pgwire.AuthenticationMethod, data []byte) {
	c.f.Helper()
	c.f.world.Settle()
	b := bytes.Clone(c.conn.Sent())
	if len(b) < 9 || b[0] != pgwire.Authentication || len(b) < 1+int(binary.BigEndian.Uint32(b[1:])) {
		c.f.Fatalf("asked for %s", strings.Join(pooltest.BackendWords(b), "  "))
	}
	return pgwire.AuthenticationMethod(binary.BigEndian.Uint32(b[5:])), b[9 : 1+binary.BigEndian.Uint32(b[1:])]
}

// prove goes through a SCRAM exchange, up to the proof, and returns the salt and the
// iterations that were asked for, and what verifies the answer.
func (c *client) prove(user, password string) (salt []byte, iterations int, exchange *auth.SCRAMClient) {
	c.f.Helper()
	if method, data := c.startupAs(user); method != pgwire.AuthenticationSASL || string(data) != "SCRAM-SHA-256\x00\x00" {
		c.f.Fatalf("asked for %v %q", method, data)
	}
	exchange = auth.NewSCRAMClient(auth.Channel{}, [auth.NonceBytes]byte{9})
	c.feed(pgwire.AppendSASLInitialResponse(nil, auth.Mechanism, exchange.First()))
	method, challenge := c.request()
	salt, iterations, err := exchange.Challenge(challenge)
	if err != nil || method != pgwire.AuthenticationSASLContinue {
		c.f.Fatalf("asked for %v %q: %v", method, challenge, err)
	}
	c.feed(pgwire.AppendSASLResponse(nil, exchange.Final(auth.DeriveKeys(password, salt, iterations))))
	return salt, iterations, exchange
}

// verified reads AuthenticationSASLFinal and leaves what follows.
func (c *client) verified(exchange *auth.SCRAMClient) {
	c.f.Helper()
	b := bytes.Clone(c.conn.Sent())
	if len(b) < 9 || pgwire.AuthenticationMethod(binary.BigEndian.Uint32(b[5:])) != pgwire.AuthenticationSASLFinal {
		c.f.Fatalf("the proof was answered with %s", strings.Join(pooltest.BackendWords(b), "  "))
	}
	if err := exchange.Verify(b[9 : 1+binary.BigEndian.Uint32(b[1:])]); err != nil {
		c.f.Fatal(err)
	}
	rest := pooltest.BackendWords(b[1+binary.BigEndian.Uint32(b[1:]):])
	if len(rest) == 0 || rest[0] != "R" || rest[len(rest)-1] != "Z|I" {
		c.f.Fatalf("the proof was followed by %s", strings.Join(rest, "  "))
	}
}

func refusedProof(user string) string {
	return `E|FATAL|28P01|password authentication failed for user "` + user + `"`
}

func TestSCRAMOfClients(t *testing.T) {
	for user, password := range map[string]string{"app": "pencil", "verified": "pencil", "bäcker": "pä ß "} {
		t.Run(user, func(t *testing.T) {
			f := newFixture(t, authenticated(t, AuthSCRAM))
			c := f.dial()
			c.conn.Remote = true // who proves it may come from anywhere
			_, _, exchange := c.prove(user, password)
			c.verified(exchange)
			c.ask("1")
			if s := f.server(); s.User != user || f.world.Works != 0 {
				t.Errorf("the server was asked for %q, with %d works", s.User, f.world.Works)
			}
		})
	}
}

func TestAuthenticationInAnySplit(t *testing.T) {
	startup := pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app")
	all := slices.Concat(startup, pgwire.AppendPassword(nil, "pencil"), pooltest.Frontend("Q|select 1"))
	for i := 1; i < len(all); i++ {
		f := newFixture(t, authenticated(t, AuthPassword))
		c := f.dial()
		c.feed(all[:i])
		c.feed(all[i:])
		got := pooltest.BackendWords(c.conn.Sent())
		if len(got) < 7 || got[0] != "R|3" || got[1] != "R" {
			t.Fatalf("cut at %d: %s", i, strings.Join(got, "  "))
		}
		wantWords(t, "the end", got[len(got)-5:], []string{"Z|I", "T|c", "D|1", "C|SELECT 1", "Z|I"})
	}
}

func TestPasswordsOfClients(t *testing.T) {
	for _, user := range []string{"app", "hashed", "verified"} {
		t.Run("password of "+user, func(t *testing.T) {
			f := newFixture(t, authenticated(t, AuthPassword))
			c := f.dial()
			if method, _ := c.startupAs(user); method != pgwire.AuthenticationCleartext {
				t.Fatalf("asked for %v", method)
			}
			c.feed(pgwire.AppendPassword(nil, "pencil"))
			c.welcomed()
			c.ask("1")
			if f.world.Works != 1 {
				t.Errorf("%d works, want 1", f.world.Works)
			}
		})
	}
	for _, user := range []string{"app", "hashed"} {
		t.Run("md5 of "+user, func(t *testing.T) {
			f := newFixture(t, authenticated(t, AuthMD5))
			var salts []string
			for range 2 {
				c := f.dial()
				method, salt := c.startupAs(user)
				if method != pgwire.AuthenticationMD5 || len(salt) != 4 {
					t.Fatalf("asked for %v %q", method, salt)
				}
				salts = append(salts, string(salt))
				c.feed(pgwire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash(user, "pencil"), [4]byte(salt))))
				c.welcomed()
				c.ask("1")
			}
			if salts[0] == salts[1] {
				t.Error("the salt is always the same")
			}
		})
	}
	t.Run("md5 with a verifier is scram", func(t *testing.T) {
		f := newFixture(t, authenticated(t, AuthMD5))
		c := f.dial()
		_, _, exchange := c.prove("verified", "pencil")
		c.verified(exchange)
	})
}

// Nothing that a client sees tells one failure from another.
func TestAuthenticationFails(t *testing.T) {
	tests := []struct{ name, user, password, cause string }{
		{"wrong password", "app", "pencils", "wrong password"},
		{"empty password", "app", "", "wrong password"},
		{"verifier", "verified", "pencils", "wrong password"},
		{"unknown user", "nobody", "pencil", "no such user"},
		{"unknown user, empty password", "nobody", "", "no such user"},
		{"user without a password", "empty", "", "the user has no password"},
		{"name with a quote", `a"b`, "pencil", "no such user"},
	}
	for _, authType := range []AuthType{AuthSCRAM, AuthMD5, AuthPassword} {
		for _, test := range tests {
			t.Run(authType.String()+", "+test.name, func(t *testing.T) {
				f := newFixture(t, authenticated(t, authType))
				var log bytes.Buffer
				f.proxy = New(f.proxy.config, f.world, slog.New(slog.NewTextHandler(&log, nil)))
				c := f.dial()
				switch {
				case authType == AuthSCRAM, authType == AuthMD5 && test.user == "verified":
					salt, iterations, _ := c.prove(test.user, test.password)
					if len(salt) != auth.SaltBytes || iterations != authIterations {
						t.Errorf("challenged with salt %x, %d iterations", salt, iterations)
					}
				case authType == AuthMD5:
					_, salt := c.startupAs(test.user)
					c.feed(pgwire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash(test.user, test.password), [4]byte(salt))))
				default:
					c.startupAs(test.user)
					c.feed(pgwire.AppendPassword(nil, test.password))
					if f.world.Works != 1 {
						t.Errorf("%d works, want 1: time tells", f.world.Works)
					}
				}
				c.wantEnd(refusedProof(test.user))
				if f.ended(endAuthentication) != 1 || f.proxy.Stats().ClientsRefused != 1 || len(f.proxy.Stats().Pools) != 0 || len(f.pg.Sessions) != 0 {
					t.Errorf("stats %+v", f.proxy.Stats())
				}
				if line := log.String(); !strings.Contains(line, test.cause) || !strings.Contains(line, "database=shop user=") || strings.Contains(line, "pencil") {
					t.Errorf("log %s, want the cause %q", line, test.cause)
				}
				f.checkIdle()
			})
		}
	}
	t.Run("the response to no hash", func(t *testing.T) {
		f := newFixture(t, authenticated(t, AuthMD5))
		c := f.dial()
		_, salt := c.startupAs("nobody")
		c.feed(pgwire.AppendPassword(nil, auth.MD5Response("", [4]byte(salt))))
		c.wantEnd(refusedProof("nobody"))
	})
	t.Run("a verifier of the empty password", func(t *testing.T) {
		f := newFixture(t, authenticated(t, AuthPassword), func(c *Config) {
			secret, err := auth.ParseSecret("void", verifierText(""))
			if err != nil {
				t.Fatal(err)
			}
			c.Secrets["void"] = secret
		})
		c := f.dial()
		c.startupAs("void")
		c.feed(pgwire.AppendPassword(nil, ""))
		c.wantEnd(refusedProof("void"))
	})
	t.Run("a hash does not do for scram", func(t *testing.T) {
		f := newFixture(t, authenticated(t, AuthSCRAM))
		c := f.dial()
		c.prove("hashed", "pencil")
		c.wantEnd(refusedProof("hashed"))
	})
}

// The salt of a user who does not exist is as stable as that of one who does.
func TestFakeSalt(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM))
	salt := func(f *fixture, user string) string {
		salt, _, _ := f.dial().prove(user, "")
		return string(salt)
	}
	first := salt(f, "nobody")
	if salt(f, "nobody") != first {
		t.Error("the salt changes from login to login")
	}
	if salt(f, "nobody else") == first {
		t.Error("two users have the same salt")
	}
	g := newFixture(t, authenticated(t, AuthSCRAM), func(c *Config) { c.Entropy = rand.NewChaCha8([32]byte{7}) })
	if salt(g, "nobody") == first {
		t.Error("another process has the same salt")
	}
}

func TestAuthenticationViolations(t *testing.T) {
	startup := pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app", "database", "shop")
	initial := pgwire.AppendSASLInitialResponse(nil, auth.Mechanism, "n,,n=,r=abc")
	for name, test := range map[string]struct {
		bytes []byte
		text  string
	}{
		"query":                      {pooltest.Frontend("Q|select 1"), "expected password response, got message type 81"},
		"terminate":                  {pooltest.Frontend("X"), "expected password response, got message type 88"},
		"second startup message":     {startup, "invalid frontend message type 0"},
		"startup after the first":    {slices.Concat(initial, startup), "invalid frontend message type 0"},
		"query after the first":      {slices.Concat(initial, pooltest.Frontend("Q|select 1")), "expected password response, got message type 81"},
		"oversized":                  {[]byte("p\x00\x00\xff\xff"), "invalid length 65535"},
		"no SASL":                    {pgwire.AppendPassword(nil, "pencil"), "malformed SASLInitialResponse"},
		"another mechanism":          {pgwire.AppendSASLInitialResponse(nil, "SCRAM-SHA-256-PLUS", "p=x"), "invalid SASL authentication mechanism"},
		"malformed first":            {pgwire.AppendSASLInitialResponse(nil, auth.Mechanism, "x"), "malformed SCRAM message"},
		"long first":                 {pgwire.AppendSASLInitialResponse(nil, auth.Mechanism, "n,,n=,r="+strings.Repeat("a", 2000)), "malformed SCRAM message"},
		"malformed proof":            {slices.Concat(initial, pgwire.AppendSASLResponse(nil, "-c=")), "malformed SCRAM message"},
		"first instead of the proof": {slices.Concat(initial, initial), "malformed SCRAM message"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, authenticated(t, AuthSCRAM))
			c := f.dial()
			c.startupAs("app")
			c.feed(test.bytes)
			got := pooltest.BackendWords(c.conn.Sent())
			if last := got[len(got)-1]; !strings.HasPrefix(last, "E|FATAL|08P01|") || !strings.Contains(last, test.text) || !c.conn.Closed() {
				t.Errorf("answer %s, want %q", strings.Join(got, "  "), test.text)
			}
			if f.ended(endProtocol) != 1 || len(f.proxy.Stats().Pools) != 0 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
			f.checkIdle()
		})
	}
	for _, authType := range []AuthType{AuthPassword, AuthMD5} {
		for _, body := range []string{"", "pencil", "pencil\x00\x00", "pen\x00cil\x00"} {
			f := newFixture(t, authenticated(t, authType))
			c := f.dial()
			c.startupAs("app")
			c.feed(pgwire.AppendSASLResponse(nil, body))
			c.wantEnd("E|FATAL|08P01|invalid password packet size")
		}
	}
}

// dialFrom returns a client of another address, on another machine or not.
func (f *fixture) dialFrom(address string, remote bool) *client {
	conn := f.world.NewConn(address)
	conn.Remote = remote
	conn.Handle(f.proxy.Accept(conn))
	return &client{f: f, conn: conn}
}

// guess returns a client of that address that has sent a wrong password.
func (f *fixture) guess(address string, remote bool) *client {
	f.Helper()
	c := f.dialFrom(address, remote)
	c.prove("app", "wrong")
	return c
}

// answersAtOnce is how many failures of one address are not delayed, answersApart the
// time between further answers.
const (
	answersAtOnce = 10
	answersApart  = 100 * time.Millisecond
)

func TestFailedLoginsAreDelayed(t *testing.T) {
	for _, remote := range []bool{false, true} {
		f := newFixture(t, authenticated(t, AuthSCRAM))
		for i := range answersAtOnce {
			f.guess(fmt.Sprint("192.0.2.1:", i), remote).wantEnd(refusedProof("app"))
		}
		late, gone, behind := f.guess("192.0.2.1:17", remote), f.guess("192.0.2.1:18", remote), f.guess("192.0.2.1:19", remote)
		late.want()
		f.guess("192.0.2.2:1", remote).wantEnd(refusedProof("app")) // another address
		gone.close(errors.New("reset"))
		late.feed(pgwire.AppendSASLResponse(nil, "more")) // has to wait
		f.world.Advance(answersApart - 1)
		late.want()
		f.world.Advance(1)
		late.wantEnd(refusedProof("app"))
		behind.want()
		f.world.Advance(2 * answersApart)
		behind.wantEnd(refusedProof("app"))

		last := f.guess("192.0.2.1:11", remote)
		last.want()
		f.proxy.Shutdown(func() {})
		last.wantEnd("E|FATAL|57P01|terminating connection due to administrator command")
	}
}

// tooManyFailures is the answer to those who are not heard.
const tooManyFailures = "E|FATAL|53300|too many failed logins from this address: try again later"

// Clients of this machine share an address: who knows the password gets in at once,
// however many do not.
func TestGuessesOnThisMachine(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM), func(c *Config) { c.MaxClientConn = 1000 })
	waiting := 0
	for i := range 300 {
		c := f.guess(fmt.Sprint("127.0.0.1:", i), false)
		switch words := pooltest.BackendWords(c.conn.Sent()); {
		case len(words) == 0:
			waiting++
		case i < answersAtOnce && words[0] == refusedProof("app"), waiting > 0 && words[0] == tooManyFailures:
		default:
			t.Fatalf("guess %d was answered with %q", i, words)
		}
	}
	if waiting != 100 {
		t.Errorf("%d guesses wait, want those of 10 s", waiting)
	}
	right := f.dial()
	_, _, exchange := right.prove("app", "pencil")
	right.verified(exchange)
	right.ask("1")
	f.world.Advance(10 * time.Second)
	if got := f.ended(endAuthentication); got != 300 || f.proxy.Stats().ClientCount != 1 {
		t.Errorf("%d have ended, stats %+v", got, f.proxy.Stats())
	}
}

// Another machine learns no faster what is right than what is wrong.
func TestGuessesFromAnotherMachine(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM), func(c *Config) { c.MaxClientConn = 1000 })
	asked := f.dialFrom("192.0.2.1:9999", true) // and does not answer yet
	asked.startupAs("app")
	for i := range answersAtOnce + 100 {
		f.guess(fmt.Sprint("192.0.2.1:", i), true)
		if i == answersAtOnce {
			right := f.dialFrom("192.0.2.1:9998", true)
			_, _, exchange := right.prove("app", "pencil")
			right.want()
			f.world.Advance(2 * answersApart)
			right.verified(exchange)
			right.ask("1")
		}
	}
	// Two answers have gone out meanwhile.
	f.guess("192.0.2.1:5000", true).want()
	f.guess("192.0.2.1:5001", true).want()
	turnedAway := f.dialFrom("192.0.2.1:5002", true)
	turnedAway.startup()
	turnedAway.wantEnd(tooManyFailures)
	asked.feed(pgwire.AppendSASLInitialResponse(nil, auth.Mechanism, "n,,n=,r=abc"))
	_, challenge := asked.request()
	nonce, _, _ := strings.Cut(strings.TrimPrefix(string(challenge), "r="), ",")
	asked.feed(pgwire.AppendSASLResponse(nil, "c=biws,r="+nonce+",p="+base64.StdEncoding.EncodeToString(make([]byte, 32))))
	asked.wantEnd(tooManyFailures)

	other := f.dialFrom("192.0.2.2:1", true)
	_, _, exchange := other.prove("app", "pencil")
	other.verified(exchange)
	f.world.Advance(11 * time.Second)
	right := f.dialFrom("192.0.2.1:9997", true)
	_, _, exchange = right.prove("app", "pencil")
	right.verified(exchange)
}

// A client that does not wait for its answer leaves nothing behind.
func TestClientGoesDuringTheDelay(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM))
	for range answersAtOnce + 1 {
		c := f.dial()
		c.prove("app", "wrong")
		c.close(pooltest.EOF)
	}
	if f.world.Armed() || f.proxy.Stats().ClientCount != 0 {
		t.Errorf("a timer is left armed: %v, stats %+v", f.world.Armed(), f.proxy.Stats())
	}
}

func TestAuthenticationTimeout(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM))
	c := f.dial()
	c.startupAs("app")
	f.world.Advance(time.Minute)
	c.wantEnd("E|FATAL|08P01|login did not complete within 1m0s")
	f.checkIdle()
}

// Nobody waits for the check of a password but the client, who may go meanwhile.
func TestClientGoesDuringTheCheck(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthPassword))
	c := f.dial()
	c.startupAs("app")
	c.conn.Feed(pgwire.AppendPassword(nil, "pencil"))
	c.close(pooltest.EOF)
	if f.proxy.Stats().ClientCount != 0 || len(f.proxy.Stats().Pools) != 0 || f.ended(endAuthentication) != 0 {
		t.Errorf("stats %+v", f.proxy.Stats())
	}
}

func TestAuthenticationWithoutRandomNumbers(t *testing.T) {
	for _, test := range []struct {
		authType AuthType
		user     string
		bytes    int
	}{{AuthSCRAM, "nobody", 8}, {AuthSCRAM, "app", 8}, {AuthMD5, "app", 3}} {
		f := newFixture(t, authenticated(t, test.authType), func(c *Config) { c.Entropy = bytes.NewReader(make([]byte, test.bytes)) })
		c := f.dial()
		c.feed(slices.Concat(
			pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", test.user),
			pgwire.AppendSASLInitialResponse(nil, auth.Mechanism, "n,,n=,r=abc")))
		got := pooltest.BackendWords(c.conn.Sent())
		if last := got[len(got)-1]; !strings.HasPrefix(last, "E|FATAL|57P03|no random numbers") || !c.conn.Closed() {
			t.Errorf("answer %s", strings.Join(got, "  "))
		}
	}
}

// The proof of a client opens the server to the proxy, which has no more than a
// verifier itself.
func TestProofIsPassedThrough(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM))
	f.pg.Login = func(string, string) []string { return []string{} }
	c := f.dial()
	c.prove("verified", "pencil")
	s := f.server()
	var sent []byte
	s.Conn.OnSent = func(b []byte) { sent = append(sent, b...) }
	say := func(method pgwire.AuthenticationMethod, data string) []byte {
		sent = nil
		s.Conn.Feed(pgwire.AppendAuthentication(nil, method, data))
		f.world.Settle()
		return sent
	}
	exchange := auth.NewSCRAMServer(auth.NewVerifier("pencil", authSalt, authIterations), auth.Channel{}, [auth.NonceBytes]byte{3})
	_, first, err := pgwire.ParseSASLInitialResponse(say(pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00")[pgwire.HeaderBytes:])
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := exchange.First(first)
	if err != nil {
		t.Fatal(err)
	}
	reply, _, ok, err := exchange.Final(say(pgwire.AuthenticationSASLContinue, challenge)[pgwire.HeaderBytes:])
	if !ok || err != nil {
		t.Fatalf("the server refuses the proof: %v", err)
	}
	say(pgwire.AuthenticationSASLFinal, reply)
	s.Reply("R", "S|TimeZone|UTC", "K|1|key1", "Z|I")
	f.world.Settle()
	got := pooltest.BackendWords(c.conn.Sent())
	if len(got) < 2 || got[0] != "R|12" || got[len(got)-1] != "Z|I" {
		t.Errorf("the client got %s", strings.Join(got, "  "))
	}
}

func TestAuthTypeWords(t *testing.T) {
	for _, want := range []AuthType{AuthTrust, AuthPassword, AuthMD5, AuthSCRAM} {
		var got AuthType
		if err := got.UnmarshalText([]byte(want.String())); got != want || err != nil {
			t.Errorf("%s is read as %s, %v", want, got, err)
		}
	}
	if err := new(AuthType).UnmarshalText([]byte("any")); err == nil {
		t.Error(`"any" is accepted`)
	}
}
