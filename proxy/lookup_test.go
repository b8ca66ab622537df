package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// lookupFixture is a proxy that asks PostgreSQL, as the user keeper in the database
// vault, for the secrets of users that the configuration does not have.
type lookupFixture struct {
	*fixture
	log *bytes.Buffer

	// secrets is what PostgreSQL has; "~" is null.
	secrets map[string]string

	// asked is whom it was asked for.
	asked []string
}

func newLookupFixture(t *testing.T, authType AuthType, changes ...func(*Config)) *lookupFixture {
	t.Helper()
	changes = append([]func(*Config){authenticated(t, authType), func(c *Config) {
		c.AuthQuery = AuthQuery{Text: "lookup", User: "keeper", Database: "vault"}
	}}, changes...)
	f := &lookupFixture{
		fixture: newFixture(t, changes...), log: new(bytes.Buffer),
		secrets: map[string]string{
			"found": verifierText("crayon"), "digest": auth.MD5Hash("digest", "crayon"), "expired": "~",
		},
	}
	f.proxy = New(f.proxy.config, f.world, slog.New(slog.NewTextHandler(f.log, nil)))
	f.pg.Lookup = func(user string) []string {
		f.asked = append(f.asked, user)
		secret, ok := f.secrets[user]
		if !ok {
			return nil
		}
		return []string{"D|" + user + "|" + secret}
	}
	return f
}

// wantAsked compares whom PostgreSQL was asked for since the last call.
func (f *lookupFixture) wantAsked(users ...string) {
	f.Helper()
	wantWords(f, "asked for", f.asked, users)
	f.asked = nil
}

// login goes through a login by SCRAM.
func (f *lookupFixture) login(user, password string) *client {
	f.Helper()
	c := f.dial()
	_, _, exchange := c.prove(user, password)
	c.verified(exchange)
	return c
}

func TestLookup(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM)
	f.login("found", "crayon").ask("1")
	f.wantAsked("found")
	keeper := f.pg.Sessions[0]
	if keeper.User != "keeper" || keeper.Database != "vault" || f.world.Works != 0 {
		t.Errorf("%s asked in %s, with %d works", keeper.User, keeper.Database, f.world.Works)
	}
	wantWords(t, "sent to the server", keeper.Received, []string{"P|bp_1|lookup", "B||bp_1|found", "DP|", "E|", "S"})

	// The answer holds for a moment, for the users of the configuration, too.
	f.login("found", "crayon").ask("1")
	f.wantAsked()
	f.login("app", "pencil").ask("1")
	f.wantAsked("app")
	f.world.Advance(lookupLifetime)
	f.login("found", "crayon").ask("1")
	f.wantAsked("found")
	for _, p := range f.proxy.Stats().Pools {
		if p.User == "keeper" && (p.ServersIdle != 1 || p.ClientsActive != 0) {
			t.Errorf("stats %+v", p)
		}
	}
}

func TestLookupByMD5(t *testing.T) {
	f := newLookupFixture(t, AuthMD5)
	c := f.dial()
	method, salt := c.startupAs("digest")
	if method != pgwire.AuthenticationMD5 {
		t.Fatalf("asked for %v", method)
	}
	f.pg.Login = func(user, _ string) []string { return []string{} }
	c.feed(pgwire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash("digest", "crayon"), [4]byte(salt))))
	server := f.pg.Sessions[len(f.pg.Sessions)-1]
	var sent []byte
	server.Conn.OnSent = func(b []byte) { sent = append(sent, b...) }
	server.Conn.Feed(pgwire.AppendAuthentication(nil, pgwire.AuthenticationMD5, "salt"))
	f.world.Settle()
	want := auth.MD5Response(auth.MD5Hash("digest", "crayon"), [4]byte([]byte("salt")))
	if !bytes.Equal(sent, pgwire.AppendPassword(nil, want)) {
		t.Errorf("the server was sent %q, want %s", sent, want)
	}
	f.pg.Login = nil
	f.login("found", "crayon") // who has a verifier is asked for SCRAM
}

// Whoever does not exist costs what others cost, and learns what they learn.
func TestLookupOfNobody(t *testing.T) {
	for _, authType := range []AuthType{AuthSCRAM, AuthMD5, AuthPassword} {
		t.Run(authType.String(), func(t *testing.T) {
			f := newLookupFixture(t, authType)
			for _, user := range []string{"found", "digest", "nobody", "expired", "app"} {
				if authType == AuthMD5 && user == "found" {
					continue // asked for SCRAM
				}
				for range 2 {
					c := f.dial()
					works := f.world.Works
					switch authType {
					case AuthSCRAM:
						salt, iterations, _ := c.prove(user, "wrong")
						if len(salt) != auth.SaltBytes || iterations != authIterations {
							t.Errorf("%s: challenged with salt %x, %d iterations", user, salt, iterations)
						}
					case AuthMD5:
						if method, _ := c.startupAs(user); method != pgwire.AuthenticationMD5 {
							t.Fatalf("%s is asked for %v", user, method)
						}
						c.feed(pgwire.AppendPassword(nil, "md5wrong"))
					default:
						c.startupAs(user)
						c.feed(pgwire.AppendPassword(nil, "wrong"))
					}
					c.wantEnd(refusedProof(user))
					if cost := f.world.Works - works; authType == AuthPassword && cost != 1 || authType != AuthPassword && cost != 0 {
						t.Errorf("%s: %d works", user, cost)
					}
					f.wantAsked(user)
					f.world.Advance(lookupRest)
				}
				f.world.Advance(lookupLifetime)
			}
			for cause, times := range map[string]int{"no such user": 2, "or it has expired": 2} {
				if got := strings.Count(f.log.String(), cause); got != times {
					t.Errorf("%q is in the log %d times, want %d", cause, got, times)
				}
			}
		})
	}
}

// A failure with a remembered secret has PostgreSQL asked again, but not at any rate.
func TestLookupAgain(t *testing.T) {
	t.Run("scram-sha-256", func(t *testing.T) {
		f := newLookupFixture(t, AuthSCRAM)
		f.login("found", "crayon")
		f.secrets["found"] = verifierText("chalk")
		f.world.Advance(lookupRest)
		c := f.dial()
		c.prove("found", "chalk") // of a verifier that is no more
		c.wantEnd(refusedProof("found"))
		f.wantAsked("found", "found")
		f.login("found", "chalk").ask("1")
		f.dial().prove("found", "crayon")
		f.dial().prove("found", "crayon")
		f.wantAsked()
	})
	t.Run("password", func(t *testing.T) {
		f := newLookupFixture(t, AuthPassword)
		for _, change := range []struct{ password, secret string }{
			{"crayon", f.secrets["found"]}, {"chalk", verifierText("chalk")}, {"cheese", auth.MD5Hash("found", "cheese")},
		} {
			f.secrets["found"] = change.secret
			c := f.dial()
			c.startupAs("found")
			c.feed(pgwire.AppendPassword(nil, change.password))
			c.welcomed()
			f.world.Advance(lookupRest)
		}
		f.wantAsked("found", "found", "found")
	})
	t.Run("md5", func(t *testing.T) {
		f := newLookupFixture(t, AuthMD5)
		c := f.dial()
		c.startupAs("digest")
		f.secrets["digest"] = auth.MD5Hash("digest", "chalk")
		f.world.Advance(lookupRest)
		c = f.dial()
		_, salt := c.startupAs("digest")
		c.feed(pgwire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash("digest", "chalk"), [4]byte(salt))))
		c.welcomed()
		delete(f.secrets, "digest")
		f.world.Advance(lookupRest)
		c = f.dial()
		_, salt = c.startupAs("digest")
		c.feed(pgwire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash("digest", "wrong"), [4]byte(salt))))
		c.wantEnd(refusedProof("digest"))
		f.wantAsked("digest", "digest", "digest")
	})
	t.Run("which fails", func(t *testing.T) {
		f := newLookupFixture(t, AuthSCRAM)
		f.login("found", "crayon")
		f.world.Advance(lookupRest)
		f.pg.Lookup = func(string) []string { return []string{"E|ERROR|53200|out of memory"} }
		c := f.dial()
		c.prove("found", "wrong")
		c.wantEnd(refusedProof("found"))
		if !strings.Contains(f.log.String(), `cause="wrong password"`) {
			t.Errorf("log:\n%s", f.log)
		}
	})
	t.Run("the client goes meanwhile", func(t *testing.T) {
		f := newLookupFixture(t, AuthSCRAM)
		f.login("found", "crayon")
		f.world.Advance(lookupRest)
		f.pg.Lookup = func(string) []string { return []string{"wait"} }
		c := f.dial()
		c.prove("found", "wrong")
		c.want()
		c.close(pooltest.EOF)
		f.pg.Sessions[0].Go()
		f.world.Settle()
		if f.proxy.Stats().ClientCount != 1 || f.world.Armed() && f.ended(endAuthentication) != 0 {
			t.Errorf("stats %+v", f.proxy.Stats())
		}
	})
}

// Those who come at the same time share a question, and questions share a server.
func TestLookupsShare(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM, func(c *Config) { c.MaxClientConn = 1000 })
	connect := f.world.OnDial
	f.world.OnDial = nil
	var clients []*client
	for i := range 3 * askedAtOnce {
		c := f.dial()
		c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", fmt.Sprint("user", i/3), "database", "shop"))
		c.want()
		clients = append(clients, c)
	}
	if len(f.world.Dials) != 1 {
		t.Errorf("%d servers are wanted for the questions", len(f.world.Dials))
	}
	f.world.OnDial = connect
	for _, c := range clients {
		if method, _ := c.request(); method != pgwire.AuthenticationSASL {
			t.Fatalf("asked for %v", method)
		}
	}
	var want []string
	for i := range askedAtOnce {
		want = append(want, fmt.Sprint("user", i))
	}
	f.wantAsked(want...)
	if len(f.pg.Sessions) != 1 || f.pg.Sessions[0].Statements() != 1 {
		t.Errorf("%d servers", len(f.pg.Sessions))
	}
}

// In every pool mode, and behind clients of the same pool, the server is given back.
func TestLookupInTheClientsPool(t *testing.T) {
	for _, mode := range []pool.Mode{pool.ModeTransaction, pool.ModeSession, pool.ModeStatement} {
		f := newLookupFixture(t, AuthSCRAM, oneServer, func(c *Config) {
			c.Pool.Mode = mode
			c.AuthQuery.User, c.AuthQuery.Database = "app", "shop"
		})
		app := f.login("app", "pencil")
		app.ask("1")
		app.send("Q|set timezone=Mars")
		app.want("C|SET", "S|TimeZone|Mars", "Z|I")
		app.send("Q|wait")
		late := f.dial()
		late.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "found", "database", "shop"))
		late.want()
		f.pg.Sessions[0].Go()
		app.want("D|waited", "C|SELECT 1", "Z|I")
		if mode == pool.ModeSession {
			late.want()
			app.send("X")
			f.world.Settle()
		}
		if method, _ := late.request(); method != pgwire.AuthenticationSASL {
			t.Fatalf("%s: asked for %v", mode, method)
		}
		if zone := f.pg.Sessions[0].Setting("timezone"); zone != "Etc/UTC" {
			t.Errorf("%s: the query ran with the settings of a client: %s", mode, zone)
		}
		if mode != pool.ModeSession {
			app.ask("1")
		}
	}
}

// What goes wrong is in the log; the client is told no more than that it cannot log in.
func TestLookupFails(t *testing.T) {
	const unavailable = "E|FATAL|57P03|the database system is not accepting connections"
	for name, test := range map[string]struct {
		rows    []string
		columns string
		want    string // in the log
	}{
		"error":             {[]string{"E|ERROR|42501|permission denied for table pg_authid"}, "", "permission denied for table pg_authid"},
		"one column":        {nil, "T|name", "does not return two columns"},
		"three columns":     {nil, "T|name|secret|until", "does not return two columns"},
		"no columns":        {nil, "n", "returns no rows: expected a name and a secret"},
		"two rows":          {[]string{"D|found|~", "D|found|~"}, "", "returns 2 rows"},
		"null name":         {[]string{"D|~|~"}, "", "null user name"},
		"another user":      {[]string{"D|other|" + verifierText("crayon")}, "", "another user"},
		"plain text":        {[]string{"D|found|crayon"}, "", "neither a SCRAM verifier nor an md5 hash"},
		"bad verifier":      {[]string{"D|found|SCRAM-SHA-256$crayon"}, "", "malformed SCRAM verifier"},
		"malformed row":     {[]string{"D|found"}, "", "malformed row"},
		"endless row":       {[]string{"D|found|*70000"}, "", "expected at most"},
		"unexpected column": {[]string{"D|found|~|x"}, "", "malformed row"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newLookupFixture(t, AuthSCRAM)
			lookup := f.pg.Lookup
			f.pg.Lookup, f.pg.LookupColumns = func(string) []string { return test.rows }, test.columns
			for range 3 {
				c := f.dial()
				c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "found", "database", "shop"))
				c.wantEnd(unavailable)
			}
			lines := f.log.String()
			if !strings.Contains(lines, test.want) || strings.Count(lines, "auth query failed\"") < 1 || strings.Contains(lines, "crayon") {
				t.Errorf("log, want %q:\n%s", test.want, lines)
			}
			if got := strings.Count(lines, "level=WARN msg=\"auth query failed\""); got != 1 {
				t.Errorf("%d lines in the log, want 1", got)
			}
			f.dial().prove("app", "pencil") // whom the configuration has
			if f.ended(endRefused) != 3 || f.proxy.Stats().ClientsRefused != 3 {
				t.Errorf("stats %+v", f.proxy.Stats())
			}
			f.pg.Lookup, f.pg.LookupColumns = lookup, ""
			f.login("found", "crayon")
		})
	}
	t.Run("no server", func(t *testing.T) {
		f := newLookupFixture(t, AuthSCRAM)
		connect := f.world.OnDial
		f.world.OnDial = func(d *pooltest.Dial) { d.Fail(errors.New("connection refused")) }
		c, app := f.dial(), f.dial()
		c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "found", "database", "shop"))
		app.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app", "database", "shop"))
		c.want()
		f.world.Advance(10 * time.Second)
		c.wantEnd(unavailable)
		if method, _ := app.request(); method != pgwire.AuthenticationSASL {
			t.Errorf("asked for %v", method)
		}
		if !strings.Contains(f.log.String(), `auth_user=keeper user=found sqlstate=08001 error="no server available`) {
			t.Errorf("log:\n%s", f.log)
		}
		f.world.OnDial = connect
		f.world.Advance(5 * time.Second)
		f.login("found", "crayon")
	})
	t.Run("wrong password of the asker", func(t *testing.T) {
		f := newLookupFixture(t, AuthSCRAM)
		f.pg.Login = func(string, string) []string {
			return []string{"E|FATAL|28P01|password authentication failed for user \"keeper\""}
		}
		c := f.dial()
		c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "found", "database", "shop"))
		c.wantEnd(unavailable)
	})
	t.Run("no answer", func(t *testing.T) {
		f := newLookupFixture(t, AuthSCRAM)
		lookup := f.pg.Lookup
		f.pg.Lookup = func(string) []string { return []string{"wait"} }
		c := f.dial()
		c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "found", "database", "shop"))
		f.world.Advance(askTimeout - 1)
		c.want()
		f.pg.Lookup = lookup
		f.world.Advance(1)
		c.wantEnd(unavailable)
		if !slices.Equal(f.pg.CancelPIDs, []uint32{1}) {
			t.Errorf("canceled %v", f.pg.CancelPIDs)
		}
		f.login("found", "crayon")
		if f.pg.Sessions[0].Conn.Closed() {
			t.Error("the server was not reused")
		}
	})
}

// A question is asked again on another server if the first one goes.
func TestLookupOnALostServer(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM)
	lookup := f.pg.Lookup
	f.pg.Lookup = func(string) []string { return []string{"wait"} }
	c := f.dial()
	c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "found", "database", "shop"))
	f.pg.Lookup = lookup
	f.pg.Sessions[0].Terminate()
	if method, _ := c.request(); method != pgwire.AuthenticationSASL {
		t.Fatalf("asked for %v", method)
	}
	f.wantAsked("found")

	f.pg.Lookup = func(string) []string { return []string{"wait"} }
	c = f.dial()
	c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "other", "database", "shop"))
	for _, s := range f.pg.Open() {
		s.Terminate()
		f.world.Settle()
	}
	for _, s := range f.pg.Open() {
		s.Terminate()
	}
	c.wantEnd("E|FATAL|57P03|the database system is not accepting connections")
}

// A server that has lost the statement is given it again.
func TestLookupOfAStatementThatIsGone(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM)
	f.login("found", "crayon")
	f.pg.Sessions[0].Forget()
	f.world.Advance(lookupLifetime)
	f.login("found", "crayon")
}

// A name that PostgreSQL cannot have is one of nobody.
func TestLookupOfImpossibleNames(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM)
	f.pg.Lookup = func(string) []string {
		return []string{"E|ERROR|22021|invalid byte sequence for encoding \"UTF8\": 0xff"}
	}
	for _, user := range []string{"a\xff", strings.Repeat("x", maxRoleBytes+1)} {
		c := f.dial()
		c.prove(user, "pencil")
		c.wantEnd(refusedProof(user))
	}
	if strings.Contains(f.log.String(), "auth query failed") {
		t.Errorf("log:\n%s", f.log)
	}
}

// What is remembered is bounded.
func TestLookupsAreBounded(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM)
	l := f.proxy.lookup
	for i := range lookupAnswers + 500 {
		l.ask(fmt.Sprint("user", i), lookupLifetime, func(foundSecret) {})
		f.world.Settle()
	}
	if len(l.answers) > lookupAnswers+1 || l.order.Len() > lookupAnswers+1 {
		t.Errorf("%d answers are remembered", len(l.answers))
	}
	f.world.Advance(lookupLifetime)
	f.login("found", "crayon")
	if len(l.answers) != 1 || l.order.Len() != 1 {
		t.Errorf("%d answers are remembered, want 1", len(l.answers))
	}
}

// The proof of a user that was found opens the server, and so does a new one when the
// password has changed.
func TestProofOfFoundUserIsPassedThrough(t *testing.T) {
	f := newLookupFixture(t, AuthSCRAM)
	p := f.proxy.pools.Get("shop", "found")
	f.login("found", "crayon")
	if f.proxy.pools.Get("shop", "found") != p {
		t.Fatal("another pool")
	}
	f.pg.Login = func(user, _ string) []string {
		if user == "found" {
			return []string{"R|10"} // malformed, but it is asked what there is to answer with
		}
		return nil
	}
	for _, s := range f.pg.Open() {
		s.Terminate()
	}
	f.world.Settle()
	c := f.login("found", "crayon")
	c.send("Q|select 1")
	f.world.Settle()
	got := strings.Join(pooltest.BackendWords(c.conn.Sent()), " ")
	if !strings.Contains(got, "server offers SASL mechanisms") {
		t.Errorf("the server was not answered with the client's keys: %s", got)
	}
}

func TestStrangersByMD5(t *testing.T) {
	f := newLookupFixture(t, AuthMD5, func(c *Config) { c.Secrets = nil })
	f.login("found", "crayon")
	if method, _ := f.dial().startupAs("nobody"); method != pgwire.AuthenticationSASL {
		t.Errorf("nobody is asked for %v where all others are asked for SCRAM", method)
	}
}

// Whatever a server answers, it is read in the same way in any pieces, and nobody gets
// in who was not asked for.
func FuzzSecretReply(f *testing.F) {
	verifier := verifierText("crayon")
	f.Add(pooltest.Backend("2", "T|name|secret", "D|found|"+verifier, "C|SELECT 1", "Z|I"), 7)
	f.Add(pooltest.Backend("2", "T|name|secret", "D|found|~", "D|found|"+auth.MD5Hash("found", "crayon"), "Z|I"), 1)
	f.Add(pooltest.Backend("2", "T|name", "D|found", "E|ERROR|42601|no", "Z|I"), 30)
	f.Add([]byte("D\x00\x00\x00\x0e\x00\x02\xff\xff\xff\xfe\x00\x00\x00\x00"), 3)
	f.Fuzz(func(t *testing.T, reply []byte, cut int) {
		var whole, pieces secretReply
		whole.read(reply)
		if cut < 0 || cut > len(reply) {
			cut = len(reply) / 2
		}
		pieces.read(reply[:cut])
		pieces.read(reply[cut:])
		found, e := whole.result("found")
		again, e2 := pieces.result("found")
		if (e == nil) != (e2 == nil) || found.exists != again.exists || !found.secret.Same(again.secret) {
			t.Fatalf("%q: %v, %v in one piece, %v, %v in two", reply, found, e, again, e2)
		}
		if e == nil && found.exists && (found.secret.Password() != "" || whole.rowCount != 1 || string(whole.user) != "found") {
			t.Fatalf("%q: %v", reply, found)
		}
	})
}

// New secrets are those of new logins; clients who are connected stay.
func TestSetSecrets(t *testing.T) {
	f := newFixture(t, authenticated(t, AuthSCRAM))
	login := func(user, password string) *client {
		c := f.dial()
		_, _, exchange := c.prove(user, password)
		c.verified(exchange)
		return c
	}
	app, verified := login("app", "pencil"), login("verified", "pencil")
	asked := f.dial()
	asked.startupAs("app")
	secret, err := auth.ParseSecret("verified", verifierText("chalk"))
	if err != nil {
		t.Fatal(err)
	}
	f.proxy.SetSecrets(map[string]auth.Secret{
		"verified": secret, "new": auth.PasswordSecret("chalk").WithVerifier(authSalt, authIterations),
	}, map[string]auth.Secret{"verified": secret, "new": auth.PasswordSecret("chalk")})
	app.ask("1")
	verified.ask("1")
	login("new", "chalk").ask("1")
	login("verified", "chalk").ask("1")
	for user, password := range map[string]string{"app": "pencil", "verified": "pencil", "new": "pencil"} {
		c := f.dial()
		c.prove(user, password)
		c.wantEnd(refusedProof(user))
	}
	asked.close(pooltest.EOF)
}
