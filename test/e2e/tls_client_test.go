package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
)

// encryption is the certificates of a proxy and of its clients.
type encryption struct {
	dir         string
	authority   *devpgtest.Authority
	certificate string // of the proxy
	key         string
}

// newEncryption issues a certificate for localhost.
func newEncryption(t *testing.T) *encryption {
	t.Helper()
	dir := t.TempDir()
	e := &encryption{dir: dir, authority: devpgtest.NewAuthority(t, dir, "ca")}
	e.certificate, e.key = e.authority.Issue(t, "proxy", &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
	})
	return e
}

// settings are those of a proxy whose clients are encrypted.
func (e *encryption) settings(mode string, changes settings) settings {
	all := settings{
		"CLIENT_TLS_SSLMODE": mode, "CLIENT_TLS_CERT_FILE": e.certificate, "CLIENT_TLS_KEY_FILE": e.key,
		"CLIENT_TLS_CA_FILE": e.authority.File,
	}
	maps.Copy(all, changes)
	return all
}

// localhost is the address by its name.
func localhost(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("localhost", port)
}

// expectConnected logs in with psql and pgx.
func expectConnected(t *testing.T, url string) {
	t.Helper()
	for name, err := range map[string]error{"psql": psqlError(t, url), "pgx": pgxError(t, url)} {
		if err != nil {
			t.Errorf("%s %s: %v", name, url, err)
		}
	}
}

// expectNotConnected fails to log in with psql and pgx, and compares what they say.
func expectNotConnected(t *testing.T, url, psql, pgx string) {
	t.Helper()
	if err := psqlError(t, url); err == nil || !strings.Contains(err.Error(), psql) {
		t.Errorf("psql %s: %v, want %q", url, err, psql)
	}
	if err := pgxError(t, url); err == nil || !strings.Contains(err.Error(), pgx) {
		t.Errorf("pgx %s: %v, want %q", url, err, pgx)
	}
}

func psqlError(t *testing.T, url string) error {
	t.Helper()
	output, err := program(t, "psql", "-XAtwc", "select 'let in'", "-d", url).CombinedOutput()
	if err == nil && string(output) == "let in\n" {
		return nil
	}
	return errors.New(string(output))
}

func pgxError(t *testing.T, url string) error {
	t.Helper()
	conn, err := pgx.Connect(patient(t), url)
	if err != nil {
		return err
	}
	return conn.Close(patient(t))
}

func TestEncryptedClients(t *testing.T) {
	t.Parallel()
	e, d := newEncryption(t), newDatabase(t)
	clientCertificate, clientKey := e.authority.Issue(t, "client", &x509.Certificate{Subject: pkix.Name{CommonName: d.role}})
	strangers := devpgtest.NewAuthority(t, t.TempDir(), "strangers")
	strangerCertificate, strangerKey := strangers.Issue(t, "client", &x509.Certificate{Subject: pkix.Name{CommonName: d.role}})

	for _, mode := range []string{"allow", "prefer"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, d.cluster, e.settings(mode, settings{"UPSTREAM_URL": d.directURL()}))
			address := localhost(t, p.address)
			for _, clientMode := range []string{"disable", "allow", "prefer", "require"} {
				expectConnected(t, databaseURL(address, d.role, d.name, "sslmode", clientMode))
			}
			for _, clientMode := range []string{"verify-ca", "verify-full"} {
				expectConnected(t, databaseURL(address, d.role, d.name, "sslmode", clientMode, "sslrootcert", e.authority.File))
				expectNotConnected(t, databaseURL(address, d.role, d.name, "sslmode", clientMode, "sslrootcert", strangers.File),
					"certificate verify failed", "certificate signed by unknown authority")
			}
			expectNotConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "verify-full", "sslrootcert", e.authority.File),
				`does not match host name "127.0.0.1"`, "cannot validate certificate for 127.0.0.1")
		})
	}

	t.Run("disable", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, d.cluster, e.settings("disable", settings{"UPSTREAM_URL": d.directURL()}))
		expectConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "prefer"))
		expectNotConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require"),
			"server does not support SSL, but SSL was required", "server refused TLS connection")
	})

	t.Run("require", func(t *testing.T) {
		t.Parallel()
		sockets := t.TempDir()
		p := startProxy(t, d.cluster, e.settings("require", settings{"UPSTREAM_URL": d.directURL(), "UNIX_SOCKET_DIR": sockets}))
		expectConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require"))
		expectConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "allow")) // refused first, then encrypted
		refusal := `no pg_hba.conf entry for host "127.0.0.1", user "` + d.role + `", database "` + d.name + `", no encryption`
		expectNotConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "disable"), refusal, refusal)
		if failure, ok := errors.AsType[*pgconn.PgError](pgxError(t, databaseURL(p.address, d.role, d.name))); !ok || failure.Code != "28000" || failure.Severity != "FATAL" {
			t.Errorf("without encryption: %v", failure)
		}
		// As in PgBouncer this is about TCP.
		_, port, err := net.SplitHostPort(p.address)
		if err != nil {
			t.Fatal(err)
		}
		expectConnected(t, databaseURL("", d.role, d.name, "host", sockets, "port", port))
	})

	t.Run("verify-ca", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, d.cluster, e.settings("verify-ca", settings{"UPSTREAM_URL": d.directURL()}))
		expectConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require", "sslcert", clientCertificate, "sslkey", clientKey))
		expectNotConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require"),
			"connection requires a valid client certificate", "connection requires a valid client certificate (SQLSTATE 28000)")
		expectNotConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require", "sslcert", strangerCertificate, "sslkey", strangerKey),
			"alert unknown ca", "connection requires a valid client certificate") // pgx sends none that is not asked for
	})

	t.Run("cert", func(t *testing.T) {
		t.Parallel()
		sockets := t.TempDir()
		p := startProxy(t, d.cluster, e.settings("verify-full",
			settings{"UPSTREAM_URL": d.directURL(), "AUTH_TYPE": "cert", "UNIX_SOCKET_DIR": sockets}))
		certified := []string{"sslmode", "require", "sslcert", clientCertificate, "sslkey", clientKey}
		expectConnected(t, databaseURL(p.address, d.role, d.name, certified...))
		refusal := `certificate authentication failed for user "postgres"`
		expectNotConnected(t, databaseURL(p.address, "postgres", d.name, certified...), refusal, refusal+" (SQLSTATE 28000)")
		_, port, err := net.SplitHostPort(p.address)
		if err != nil {
			t.Fatal(err)
		}
		refusal = `no pg_hba.conf entry for host "[local]", user "` + d.role + `", database "` + d.name + `", no encryption`
		expectNotConnected(t, databaseURL("", d.role, d.name, "host", sockets, "port", port), refusal, refusal)
	})

	t.Run("versions", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, d.cluster, e.settings("require", settings{"UPSTREAM_URL": d.directURL(), "CLIENT_TLS_PROTOCOLS": "tlsv1.2"}))
		expectConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require"))
		if err := psqlError(t, databaseURL(p.address, d.role, d.name, "sslmode", "require", "ssl_min_protocol_version", "TLSv1.3")); err == nil ||
			!strings.Contains(err.Error(), "protocol version") {
			t.Errorf("a version that is turned off: %v", err)
		}
	})
}

// TestChannelBinding logs in by SCRAM over TLS.
func TestChannelBinding(t *testing.T) {
	t.Parallel()
	e, cluster := newEncryption(t), newAuthCluster(t)
	const role = "scram"
	p := startProxy(t, cluster, e.settings("prefer", settings{"UPSTREAM_URL": authURL(cluster.TCPAddress(), role, authRoles[role])}))
	for _, binding := range []string{"require", "prefer", "disable"} {
		url := databaseURL(p.address, role, "postgres", "sslmode", "require", "channel_binding", binding, "password", authRoles[role])
		expectConnected(t, url)
	}
	wrong := databaseURL(p.address, role, "postgres", "sslmode", "require", "channel_binding", "require", "password", "wrong")
	expectNotConnected(t, wrong, "password authentication failed", "password authentication failed")
	plain := databaseURL(p.address, role, "postgres", "sslmode", "disable", "channel_binding", "require", "password", authRoles[role])
	expectNotConnected(t, plain, "channel binding required", "channel binding required")
}

// dialTLS asks for TLS, or begins with it, and returns the encrypted connection.
func dialTLS(t *testing.T, address string, direct bool, config *tls.Config) *wireClient {
	t.Helper()
	w := dialWire(t, "tcp", address)
	if !direct {
		w.askEncryption(t, &pgproto3.SSLRequest{}, 'S')
	}
	encrypted := tls.Client(w.conn, config)
	if err := encrypted.HandshakeContext(patient(t)); err != nil {
		t.Fatal(err)
	}
	w.conn, w.frontend = encrypted, pgproto3.NewFrontend(encrypted, encrypted)
	return w
}

// anyServer trusts whoever answers.
func anyServer(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	e, d := newEncryption(t), newDatabase(t)
	p := startProxy(t, d.cluster, e.settings("require", settings{"UPSTREAM_URL": d.directURL()}))
	if err := pgxError(t, databaseURL(p.address, d.role, d.name, "sslmode", "require", "sslnegotiation", "direct")); err != nil {
		t.Error(err)
	}

	w := dialTLS(t, p.address, true, anyServer("postgresql"))
	w.startup(t, pgproto3.ProtocolVersion30, "user", d.role, "database", d.name)
	w.until(t, "ReadyForQuery")
	if got := firstColumn(w.ask(t, "select 1")); len(got) != 1 || got[0] != "1" {
		t.Errorf("got %q", got)
	}

	w = dialTLS(t, p.address, true, anyServer())
	if got := w.untilClosed(t); len(got) != 1 || !strings.Contains(got[0], "FATAL 08P01") || !strings.Contains(got[0], "without ALPN") {
		t.Errorf("without ALPN: %q", got)
	}
	w = dialWire(t, "tcp", p.address)
	if err := tls.Client(w.conn, anyServer("http/1.1")).HandshakeContext(patient(t)); err == nil || !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("another protocol: %v", err)
	}

	// Without encryption there is nothing to say to such a client.
	plain := startProxy(t, d.cluster, settings{"UPSTREAM_URL": d.directURL()})
	w = dialWire(t, "tcp", plain.address)
	if err := tls.Client(w.conn, anyServer("postgresql")).HandshakeContext(patient(t)); !errors.Is(err, io.EOF) {
		t.Errorf("a proxy without TLS answers TLS with %v", err)
	}
}

// TestEncryptionIsRequestedOnce has clients that smuggle plain text in, or ask again.
func TestEncryptionIsRequestedOnce(t *testing.T) {
	t.Parallel()
	e, d := newEncryption(t), newDatabase(t)
	p := startProxy(t, d.cluster, e.settings("allow", settings{"UPSTREAM_URL": d.directURL()}))
	startup := encode(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": d.role, "database": d.name},
	})

	w := dialWire(t, "tcp", p.address)
	w.write(t, append(encode(t, &pgproto3.SSLRequest{}), startup...))
	if got := w.untilClosed(t); len(got) != 1 || !strings.Contains(got[0], "received unencrypted data after encryption request") {
		t.Errorf("plain text behind the request: %q", got)
	}

	w = dialTLS(t, p.address, false, anyServer())
	w.send(t, &pgproto3.SSLRequest{})
	if got := w.untilClosed(t); len(got) != 1 || !strings.Contains(got[0], "encryption was requested twice") {
		t.Errorf("a request over TLS: %q", got)
	}

	// GSSAPI is refused and TLS may follow.
	w = dialWire(t, "tcp", p.address)
	w.askEncryption(t, &pgproto3.GSSEncRequest{}, 'N')
	w.askEncryption(t, &pgproto3.SSLRequest{}, 'S')
	w.vanish(t)

	junk := dialWire(t, "tcp", p.address)
	junk.askEncryption(t, &pgproto3.SSLRequest{}, 'S')
	junk.write(t, []byte("GET / HTTP/1.1\r\n\r\n"))
	junk.untilGone(t)
	eventually(t, "the failed handshakes are logged", func() bool { return p.log.ends("TLS handshake failed") == 2 })
}

// askEncryption asks for it and wants that answer.
func (w *wireClient) askEncryption(t *testing.T, request pgproto3.FrontendMessage, want byte) {
	t.Helper()
	w.send(t, request)
	answer := make([]byte, 1)
	if _, err := io.ReadFull(w.conn, answer); err != nil || answer[0] != want {
		t.Fatalf("%T was answered %q, %v, want %q", request, answer, err, want)
	}
}

// untilGone reads until the connection ends, whatever comes.
func (w *wireClient) untilGone(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, w.conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

func TestEncryptedTraffic(t *testing.T) {
	t.Parallel()
	e, d := newEncryption(t), newDatabase(t)
	p := startProxy(t, d.cluster, e.settings("require", settings{"UPSTREAM_URL": d.directURL()}))
	conn := connect(t, databaseURL(p.address, d.role, d.name, "sslmode", "require"))
	large := strings.Repeat("0123456789abcdef", 1<<20)
	var got string
	if err := conn.QueryRow(patient(t), "select $1::text", large).Scan(&got); err != nil || got != large {
		t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(large))
	}

	// The key is never sent in the clear.
	w := dialTLS(t, p.address, false, anyServer())
	w.startup(t, pgproto3.ProtocolVersion30, "user", d.role, "database", d.name)
	w.until(t, "ReadyForQuery")
	w.query(t, "select pg_sleep(60)")
	eventually(t, "the query runs", func() bool { return d.countState(t, "active") == 1 })
	canceler := dialTLS(t, p.address, true, anyServer("postgresql"))
	canceler.send(t, &pgproto3.CancelRequest{ProcessID: w.pid, SecretKey: w.key})
	if answer := canceler.untilClosed(t); len(answer) > 0 {
		t.Errorf("a cancel request was answered: %q", answer)
	}
	if got := errorCode(w.until(t, "ReadyForQuery")); got != "ERROR 57014" {
		t.Errorf("cancelled: %q", got)
	}
}

// TestCertificateReload replaces the certificate of a running proxy.
func TestCertificateReload(t *testing.T) {
	t.Parallel()
	e, d := newEncryption(t), newDatabase(t)
	p := startProxy(t, d.cluster, e.settings("require", settings{"UPSTREAM_URL": d.directURL()}))
	trusting := func(file string) string {
		return databaseURL(localhost(t, p.address), d.role, d.name, "sslmode", "verify-full", "sslrootcert", file)
	}
	old := connect(t, trusting(e.authority.File))

	nextDir := t.TempDir()
	next := devpgtest.NewAuthority(t, nextDir, "next")
	certificate, key := next.Issue(t, "proxy", &x509.Certificate{DNSNames: []string{"localhost"}})
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	reload := func(message string) {
		t.Helper()
		before := len(p.Log.Find(message))
		p.signal(t, syscall.SIGHUP)
		eventually(t, message, func() bool { return len(p.Log.Find(message)) > before })
	}
	move(certificate, e.certificate)
	reload("not reloaded, what was read before stays in use") // it does not fit the key
	expectConnected(t, trusting(e.authority.File))
	move(key, e.key)
	if err := os.Chmod(e.key, 0o644); err != nil {
		t.Fatal(err)
	}
	reload("not reloaded, what was read before stays in use")
	expectConnected(t, trusting(e.authority.File))
	if err := os.Chmod(e.key, 0o600); err != nil {
		t.Fatal(err)
	}
	reload("reloaded")
	expectConnected(t, trusting(next.File))
	expectNotConnected(t, trusting(e.authority.File), "certificate verify failed", "unknown authority")
	if err := old.Ping(patient(t)); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
}

// stuff is a ClientHello of which nothing follows.
func stuff() []byte {
	b := make([]byte, 5+100)
	b[0], b[1], b[2] = 22, 3, 1
	binary.BigEndian.PutUint16(b[3:], 2000)
	return b
}

// TestStalledHandshakes has more clients that never end their handshakes than there
// are handshakes at a time.
func TestStalledHandshakes(t *testing.T) {
	t.Parallel()
	e, d := newEncryption(t), newDatabase(t)
	p := startProxy(t, d.cluster, e.settings("require", settings{"UPSTREAM_URL": d.directURL(), "CLIENT_LOGIN_TIMEOUT": "20s"}))
	for range 300 {
		w := dialWire(t, "tcp", p.address)
		w.askEncryption(t, &pgproto3.SSLRequest{}, 'S')
		w.write(t, stuff())
	}
	// It waits until the first of them have been given up.
	expectConnected(t, databaseURL(p.address, d.role, d.name, "sslmode", "require"))
}

// TestPrivateKeyMode starts proxies whose keys others may read.
func TestPrivateKeyMode(t *testing.T) {
	t.Parallel()
	e := newEncryption(t)
	exposed := filepath.Join(e.dir, "exposed.key")
	text, err := os.ReadFile(e.key)
	if err := errors.Join(err, os.WriteFile(exposed, text, 0o644), os.Chmod(exposed, 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string]settings{
		"BILLPROXY_CLIENT_TLS_KEY_FILE": e.settings("require", settings{"CLIENT_TLS_KEY_FILE": exposed}),
		"BILLPROXY_SERVER_TLS_KEY_FILE": {"SERVER_TLS_CERT_FILE": e.certificate, "SERVER_TLS_KEY_FILE": exposed},
		"sslkey":                        {"UPSTREAM_URL": "postgres://u@127.0.0.1:1/d?sslmode=require&sslcert=" + e.certificate + "&sslkey=" + exposed},
	} {
		env := settings{"UPSTREAM_URL": "postgres://u@127.0.0.1:1/d", "LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0"}
		maps.Copy(env, changes)
		p := startProcess(t, shared.raceBinary, "proxy", env)
		p.expectExit(t, 2)
		if said := p.log.String(); !strings.Contains(said, name) || !strings.Contains(said, "has mode 0644: expected 06") {
			t.Errorf("%s: billproxy said %s", name, said)
		}
	}
}
