package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/test/launch"
)

// encryptedRules is pg_hba.conf of a server that asks whether it is encrypted.
const encryptedRules = `
local all postgres trust
host all postgres 127.0.0.1/32 trust
hostssl all only_tls 127.0.0.1/32 scram-sha-256
hostnossl all only_plain 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
`

// encryptedCluster is a server with encryptedRules.
type encryptedCluster struct {
	*devpg.Cluster
	authority *devpgtest.Authority
	admin     *pgx.Conn
}

func newEncryptedCluster(t *testing.T) *encryptedCluster {
	t.Helper()
	rules := filepath.Join(devpgtest.ReachableDir(t), "pg_hba.conf")
	if err := os.WriteFile(rules, []byte(encryptedRules), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &encryptedCluster{Cluster: devpgtest.Start(t, map[string]string{"hba_file": rules}), authority: devpgtest.NewAuthority(t, t.TempDir(), "ca")}
	c.admin = connect(t, c.URL(devpg.Superuser, "postgres"))
	for _, role := range []string{"only_tls", "only_plain", "certified"} {
		c.exec(t, fmt.Sprintf("create role %s login password '%s'", role, secretMarker))
	}
	c.present(t, c.authority)
	return c
}

func (c *encryptedCluster) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := c.admin.Exec(patient(t), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// present has the server show a certificate of the authority for localhost, and
// trust those of clients.
func (c *encryptedCluster) present(t *testing.T, authority *devpgtest.Authority) {
	t.Helper()
	certificate, key := authority.Issue(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	owner, err := os.Stat(c.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	identity := owner.Sys().(*syscall.Stat_t)
	for from, to := range map[string]string{certificate: "server.crt", key: "server.key", authority.File: "root.crt"} {
		text, err := os.ReadFile(from)
		to = filepath.Join(c.DataDir(), to)
		if err := errors.Join(err, os.WriteFile(to, text, 0o600), os.Chown(to, int(identity.Uid), int(identity.Gid))); err != nil {
			t.Fatal(err)
		}
	}
	c.exec(t, "alter system set ssl = on", "alter system set ssl_ca_file = 'root.crt'", "select pg_reload_conf()")
	verified := databaseURL(localhost(t, c.TCPAddress()), devpg.Superuser, "postgres", "sslmode", "verify-full", "sslrootcert", authority.File)
	eventually(t, "the server shows its certificate", func() bool { return pgxError(t, verified) == nil })
}

// url leads to the server as a role, by the name of its host.
func (c *encryptedCluster) url(t *testing.T, role string, parameters ...string) string {
	t.Helper()
	return withPassword(t, databaseURL(localhost(t, c.TCPAddress()), role, "postgres", parameters...))
}

func withPassword(t *testing.T, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword(parsed.User.Username(), secretMarker)
	return parsed.String()
}

// expectServers has a client of the proxy see whether its server is encrypted.
func expectServers(t *testing.T, p *proxyProcess, role string, encrypted bool) {
	t.Helper()
	conn := connect(t, withPassword(t, databaseURL(p.address, role, "postgres")))
	var got bool
	if err := conn.QueryRow(patient(t), "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&got); err != nil || got != encrypted {
		t.Errorf("encrypted: %v, %v, want %v", got, err, encrypted)
	}
	expectReady(t, p)
}

// expectNoServers wants logins to fail, and the log to say why.
func expectNoServers(t *testing.T, p *proxyProcess, why string) {
	t.Helper()
	if status, text := p.adminGet(t, "/readyz"); status == http.StatusOK {
		t.Errorf("/readyz: %s", text)
	}
	conn, err := pgconn.Connect(patient(t), withPassword(t, databaseURL(p.address, "only_tls", "postgres")))
	if err == nil {
		_ = conn.Close(patient(t))
		t.Error("a client is let in")
	}
	var failures []launch.Record
	eventually(t, "the log says why", func() bool {
		failures = p.Log.Find("server login failed")
		return len(failures) > 0
	})
	if !strings.Contains(failures[0].Text("error"), why) {
		t.Errorf("the log says %v, want %q", failures, why)
	}
}

func TestEncryptedServers(t *testing.T) {
	t.Parallel()
	c := newEncryptedCluster(t)
	strangers := devpgtest.NewAuthority(t, t.TempDir(), "strangers")
	for _, test := range []struct {
		role      string
		mode      string
		encrypted bool
	}{
		{"only_plain", "disable", false},
		{"only_plain", "allow", false},
		{"only_tls", "allow", true}, // at the second attempt
		{"only_plain", "prefer", false},
		{"only_tls", "prefer", true},
		{"only_tls", "require", true},
	} {
		t.Run(test.mode+"/"+test.role, func(t *testing.T) {
			t.Parallel()
			expectServers(t, startProxy(t, c.Cluster, settings{"UPSTREAM_URL": c.url(t, test.role, "sslmode", test.mode)}), test.role, test.encrypted)
		})
	}
	t.Run("verified", func(t *testing.T) {
		t.Parallel()
		for _, mode := range []string{"verify-ca", "verify-full"} {
			verified := c.url(t, "only_tls", "sslmode", mode, "sslrootcert", c.authority.File, "channel_binding", "require")
			expectServers(t, startProxy(t, c.Cluster, settings{"UPSTREAM_URL": verified}), "only_tls", true)
			override := settings{"UPSTREAM_URL": c.url(t, "only_tls"), "SERVER_TLS_SSLMODE": mode, "SERVER_TLS_CA_FILE": c.authority.File}
			expectServers(t, startProxy(t, c.Cluster, override), "only_tls", true)
		}
	})
	t.Run("not verified", func(t *testing.T) {
		t.Parallel()
		impatient := func(url string) settings { return settings{"UPSTREAM_URL": url, "QUERY_WAIT_TIMEOUT": "2s"} }
		for _, mode := range []string{"require", "verify-ca", "verify-full"} {
			url := c.url(t, "only_tls", "sslmode", mode, "sslrootcert", strangers.File)
			expectNoServers(t, startProxy(t, c.Cluster, impatient(url)), "certificate signed by unknown authority")
		}
		byAddress := withPassword(t, databaseURL(c.TCPAddress(), "only_tls", "postgres", "sslmode", "verify-full", "sslrootcert", c.authority.File))
		expectNoServers(t, startProxy(t, c.Cluster, impatient(byAddress)), `server certificate for "localhost" does not match host name "127.0.0.1"`)
		expectNoServers(t, startProxy(t, c.Cluster, impatient(c.url(t, "only_tls"))),
			`no pg_hba.conf entry for host "127.0.0.1", user "only_tls", database "postgres", no encryption`)
		unencrypted := withPassword(t, databaseURL(shared.cluster.TCPAddress(), "only_tls", "postgres", "sslmode", "require"))
		expectNoServers(t, startProxy(t, c.Cluster, impatient(unencrypted)), "server does not support SSL, but SSL was required")
	})
	t.Run("certificate of the proxy", func(t *testing.T) {
		t.Parallel()
		certificate, key := c.authority.Issue(t, "certified", &x509.Certificate{Subject: pkix.Name{CommonName: "certified"}})
		for _, changes := range []settings{
			{"UPSTREAM_URL": c.url(t, "certified", "sslmode", "require", "sslcert", certificate, "sslkey", key)},
			{"UPSTREAM_URL": c.url(t, "certified", "sslmode", "require"), "SERVER_TLS_CERT_FILE": certificate, "SERVER_TLS_KEY_FILE": key},
		} {
			expectServers(t, startProxy(t, c.Cluster, changes), "certified", true)
		}
	})
	t.Run("both sides", func(t *testing.T) {
		t.Parallel()
		e := newEncryption(t)
		p := startProxy(t, c.Cluster, e.settings("require", settings{"UPSTREAM_URL": c.url(t, "only_tls", "sslmode", "require")}))
		conn := connect(t, withPassword(t, databaseURL(p.address, "only_tls", "postgres", "sslmode", "require", "channel_binding", "require")))
		large := strings.Repeat("0123456789abcdef", 1<<18)
		var got string
		if err := conn.QueryRow(patient(t), "select $1::text", large).Scan(&got); err != nil || got != large {
			t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(large))
		}
		canceled := make(chan error, 1)
		go func() {
			_, err := conn.Exec(patient(t), "select pg_sleep(60)")
			canceled <- err
		}()
		const asleep = "select count(*) from pg_stat_activity where usename = 'only_tls' and wait_event = 'PgSleep'"
		eventually(t, "the query runs", func() bool {
			var count int
			return c.admin.QueryRow(patient(t), asleep).Scan(&count) == nil && count == 1
		})
		if err := conn.PgConn().CancelRequest(patient(t)); err != nil {
			t.Error(err)
		}
		if failure, ok := errors.AsType[*pgconn.PgError](<-canceled); !ok || failure.Code != "57014" {
			t.Errorf("cancelled: %v", failure)
		}
	})
	t.Run("reload", func(t *testing.T) {
		t.Parallel()
		trusted := filepath.Join(t.TempDir(), "trusted.crt")
		copyFile(t, strangers.File, trusted)
		url := c.url(t, "only_tls", "sslmode", "verify-full", "sslrootcert", trusted)
		p := startProxy(t, c.Cluster, settings{"UPSTREAM_URL": url, "QUERY_WAIT_TIMEOUT": "2s"})
		expectNoServers(t, p, "certificate signed by unknown authority")
		copyFile(t, c.authority.File, trusted)
		p.signal(t, syscall.SIGHUP)
		eventually(t, "reloaded", func() bool { return len(p.Log.Find("reloaded")) == 1 })
		eventually(t, "a server logs in", func() bool {
			return pgxError(t, withPassword(t, databaseURL(p.address, "only_tls", "postgres"))) == nil
		})
		expectReady(t, p)
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err := errors.Join(err, os.WriteFile(to, text, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestDirectServer has a proxy in front of a server that begins with TLS, which
// something in between ends.
func TestDirectServer(t *testing.T) {
	t.Parallel()
	d, e := newDatabase(t), newEncryption(t)
	pair, err := tls.LoadX509KeyPair(e.certificate, e.key)
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string, 1) // the first that was asked for
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"postgresql"},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			select {
			case names <- hello.ServerName:
			default:
			}
			return nil, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		relayAll(t, listener, d.cluster.TCPAddress())
	}()
	p := startProxy(t, d.cluster, settings{"UPSTREAM_URL": databaseURL(localhost(t, listener.Addr().String()), d.role, d.name,
		"sslmode", "verify-full", "sslrootcert", e.authority.File, "sslnegotiation", "direct")})
	expectConnected(t, databaseURL(p.address, d.role, d.name))
	expectReady(t, p)
	p.stop(t)
	_ = listener.Close()
	<-relayed
	if name := <-names; name != "localhost" {
		t.Errorf("the server was asked for as %q", name)
	}
}

// relayAll copies between what is accepted and an address until the listener is closed.
func relayAll(t *testing.T, listener net.Listener, address string) {
	t.Helper()
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		to, err := new(net.Dialer).DialContext(patient(t), "tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
		go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
	}
}
