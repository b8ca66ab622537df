package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestSilentClients opens more connections that say nothing than there may be.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	const limit = 20
	p := startProxy(t, shared.cluster, settings{"MAX_LOGIN_CONN": fmt.Sprint(limit)})
	bystander := loginWire(t, p.address, d)
	var silent []*wireClient
	for range limit {
		silent = append(silent, dialWire(t, "tcp", p.address))
	}
	eventually(t, "all of them are there", func() bool { return p.stats(t).ClientCount == limit+1 })
	for range 3 {
		eventually(t, "a client logs in", func() bool {
			conn, err := pgx.Connect(patient(t), p.url(d))
			if err == nil {
				return conn.Close(patient(t)) == nil
			}
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "53300" {
				t.Fatal(err)
			}
			return false
		})
	}
	bystander.usable(t)
	if ends := p.log.ends("room for another login"); ends < 1 || ends > 3 {
		t.Errorf("%d clients made room, want one or so for each login", ends)
	}
	if got := silent[0].untilClosed(t); errorCode(got) != "FATAL 53300" {
		t.Errorf("the first of the silent clients got %q", got)
	}
}

// TestMalformedLogin spoils logins in the middle. A bystander is served all the while.
func TestMalformedLogin(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	p := startProxy(t, cluster, settings{"UPSTREAM_URL": authURL(cluster.TCPAddress(), "scram", authRoles["scram"]), "CLIENT_LOGIN_TIMEOUT": "1s"})
	bystander := connect(t, authURL(p.address, "scram", authRoles["scram"]))
	startup := encode(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "scram", "database": "postgres"},
	})
	initial := encode(t, &pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=abc")})
	for _, test := range []struct {
		name string
		sent []byte
	}{
		{"a second startup message", startup},
		{"a second startup message behind the first answer", append(initial[:len(initial):len(initial)], startup...)},
		{"a cancel request", []byte("\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x01")},
		{"an encryption request", []byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")},
		{"a length of a gigabyte", packet("p", 1<<30, "SCRAM-SHA-256\x00")},
		{"a negative length", packet("p", 0xffff_fff0, "")},
		{"a length too short", packet("p", 3, "")},
		{"a length inside", packet("p", 22, "SCRAM-SHA-256\x00\x7f\xff\xff\xff")},
		{"junk", []byte(strings.Repeat("\xff\x00\x13", 5000))},
		{"http", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"a query", encode(t, &pgproto3.Query{String: "select 1"})},
		{"the first message again", append(initial[:len(initial):len(initial)], initial...)},
		{"less than a message", initial[:len(initial)-1]},
		{"nothing", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := dialWire(t, "tcp", p.address)
			client.write(t, startup)
			client.until(t, "AuthenticationSASL")
			client.write(t, test.sent)
			got := client.untilClosed(t)
			if code := errorCode(got); code != "FATAL 08P01" {
				t.Errorf("got %q", got)
			}
			if err := bystander.Ping(patient(t)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a drip", func(t *testing.T) {
		client := dialWire(t, "tcp", p.address)
		for _, b := range startup[:20] {
			client.write(t, []byte{b})
			if err := bystander.Ping(patient(t)); err != nil {
				t.Fatal(err)
			}
		}
		if got := client.untilClosed(t); errorCode(got) != "FATAL 08P01" {
			t.Errorf("got %q", got)
		}
	})
	expectLogin(t, p, "scram", authRoles["scram"])
}

// TestGuessing floods the proxy with wrong passwords. Who knows the right one gets in.
func TestGuessing(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	p := startProxy(t, cluster, settings{"UPSTREAM_URL": authURL(cluster.TCPAddress(), "scram", authRoles["scram"])})
	startup := encode(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "scram", "database": "postgres"},
	})
	answers := map[string]int{}
	for i := range 300 {
		client := dialWire(t, "tcp", p.address)
		client.write(t, startup)
		client.until(t, "AuthenticationSASL")
		exchange := &pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=abc")}
		client.write(t, encode(t, exchange))
		nonce := saslNonce(t, client.conn)
		client.write(t, encode(t, &pgproto3.SASLResponse{Data: fmt.Appendf(nil, "c=biws,r=%s,p=%s", nonce, base64.StdEncoding.EncodeToString(make([]byte, 32)))}))
		if i < 10 || i > 290 {
			answers[errorCode(client.untilClosed(t))]++
		}
		if i%100 == 50 {
			if !logsIn(t, p, "scram", authRoles["scram"]) {
				t.Fatal("who knows the password is kept out")
			}
		}
	}
	if answers["FATAL 28P01"] < 10 || answers["FATAL 28P01"]+answers["FATAL 53300"] != 19 {
		t.Errorf("answers %v", answers)
	}
	expectLogin(t, p, "scram", authRoles["scram"])
}

// saslNonce reads AuthenticationSASLContinue byte by byte, so that nothing behind it is
// lost, and returns the nonce of the challenge.
func saslNonce(t *testing.T, conn net.Conn) string {
	t.Helper()
	var got []byte
	for one := make([]byte, 1); !strings.Contains(string(got), ",i=4096"); got = append(got, one[0]) {
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("read %q, then %v", got, err)
		}
	}
	_, rest, _ := strings.Cut(string(got), "r=")
	nonce, _, _ := strings.Cut(rest, ",")
	return nonce
}
