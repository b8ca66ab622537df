package main

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/pool"
)

func TestKeyMode(t *testing.T) {
	certificate, key := devpgtest.NewAuthority(t, t.TempDir(), "ca").Issue(t, "server", &x509.Certificate{})
	files := variableFile{"BILLPROXY_X_CERT_FILE", certificate}
	owner := os.FileMode(0o640)
	if os.Geteuid() != 0 {
		owner = 0o600
	}
	for mode, allowed := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o640: owner == 0o640, 0o644: false, 0o660: false, 0o604: false, 0o650: false, 0o620: false,
	} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		_, err := readKeyPair(files, variableFile{"BILLPROXY_X_KEY_FILE", key})
		mistake, ok := errors.AsType[*configError](err)
		if allowed && err != nil || !allowed && (!ok || !strings.Contains(mistake.Error(), "BILLPROXY_X_KEY_FILE is "+key)) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	// A file of another user, as far as we may make one.
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(key, 1, 1), os.Chmod(key, 0o640)); err != nil {
			t.Fatal(err)
		}
		if _, err := readKeyPair(files, variableFile{"BILLPROXY_X_KEY_FILE", key}); err == nil {
			t.Error("the key of another user is accepted though its group may read it")
		}
	}
}

func TestKeyPairs(t *testing.T) {
	dir := t.TempDir()
	ca := devpgtest.NewAuthority(t, dir, "ca")
	certificate, key := ca.Issue(t, "server", &x509.Certificate{})
	_, otherKey := ca.Issue(t, "other", &x509.Certificate{})
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ certificate, key, problem string }{
		{certificate, key, ""},
		{"", key, "C is not set"},
		{certificate, "", "K is not set"},
		{"/missing", key, "C: open /missing: no such file"},
		{certificate, "/missing", "K: open /missing: no such file"},
		{certificate, dir, "expected a regular file"},
		{junk, key, "expected a certificate and its key"},
		{certificate, otherKey, "private key does not match"},
	} {
		_, err := readKeyPair(variableFile{"C", test.certificate}, variableFile{"K", test.key})
		if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("%s, %s: %v, want %q", test.certificate, test.key, err, test.problem)
		}
	}
	if _, err := readAuthorities(variableFile{"A", junk}); err == nil || !strings.Contains(err.Error(), "A is "+junk) {
		t.Errorf("authorities of junk: %v", err)
	}
}

func TestServerTLS(t *testing.T) {
	for _, name := range []string{"PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	ca := devpgtest.NewAuthority(t, dir, "ca")
	certificate, key := ca.Issue(t, "proxy", &x509.Certificate{})
	exposed := filepath.Join(dir, "exposed.key")
	text, err := os.ReadFile(key)
	if err := errors.Join(err, os.WriteFile(exposed, text, 0o644), os.Chmod(exposed, 0o644)); err != nil {
		t.Fatal(err)
	}
	const tcp = "postgres://u@db/b?"
	for _, test := range []struct {
		url     string
		environ string
		want    pool.ServerTLS // but for its configuration
		problem string
	}{
		{tcp, "", pool.ServerTLS{Mode: pool.SSLPrefer}, ""},
		{tcp + "sslmode=disable", "", pool.ServerTLS{}, ""},
		{tcp + "sslmode=allow", "", pool.ServerTLS{Mode: pool.SSLAllow}, ""},
		{tcp + "sslmode=require", "", pool.ServerTLS{Mode: pool.SSLRequire}, ""},
		{tcp + "sslmode=require&sslrootcert=" + ca.File, "", pool.ServerTLS{Mode: pool.SSLVerifyCA}, ""},
		{tcp + "sslmode=verify-ca&sslrootcert=" + ca.File, "", pool.ServerTLS{Mode: pool.SSLVerifyCA}, ""},
		{tcp + "sslmode=verify-full&sslrootcert=" + ca.File, "", pool.ServerTLS{Mode: pool.SSLVerifyFull}, ""},
		{tcp + "sslrootcert=system", "", pool.ServerTLS{Mode: pool.SSLVerifyFull}, ""},
		{tcp + "sslnegotiation=direct&sslmode=require", "", pool.ServerTLS{Mode: pool.SSLRequire, Direct: true}, ""},
		{tcp + "channel_binding=require", "", pool.ServerTLS{Mode: pool.SSLPrefer, ChannelBinding: pool.BindingRequire}, ""},
		{tcp + "channel_binding=disable", "", pool.ServerTLS{Mode: pool.SSLPrefer, ChannelBinding: pool.BindingDisable}, ""},
		{"postgres:///b?host=/run/pg&user=u&sslmode=require", "", pool.ServerTLS{}, ""},
		{"host=db user=u sslmode=require sslcert=" + certificate + " sslkey='" + key + "'", "", pool.ServerTLS{Mode: pool.SSLRequire}, ""},
		{tcp, "SERVER_TLS_SSLMODE=require", pool.ServerTLS{Mode: pool.SSLRequire}, ""},
		{tcp, "SERVER_TLS_CA_FILE=" + ca.File, pool.ServerTLS{Mode: pool.SSLPrefer}, ""},
		{tcp + "sslmode=require", "SERVER_TLS_CA_FILE=" + ca.File, pool.ServerTLS{Mode: pool.SSLVerifyCA}, ""},
		{tcp + "sslmode=verify-full&sslrootcert=" + ca.File, "SERVER_TLS_SSLMODE=disable", pool.ServerTLS{}, ""},
		{tcp + "sslmode=verify-full", "SERVER_TLS_CA_FILE=system", pool.ServerTLS{Mode: pool.SSLVerifyFull}, ""},

		{tcp + "sslmode=verify-full", "", pool.ServerTLS{}, "SERVER_TLS_CA_FILE"},
		{tcp, "SERVER_TLS_SSLMODE=verify-ca", pool.ServerTLS{}, "SERVER_TLS_CA_FILE"},
		{tcp + "sslnegotiation=direct", "SERVER_TLS_SSLMODE=prefer", pool.ServerTLS{}, "sslnegotiation is direct"},
		{tcp, "SERVER_TLS_CERT_FILE=" + certificate, pool.ServerTLS{}, "SERVER_TLS_KEY_FILE is not set"},
		{tcp, "SERVER_TLS_CA_FILE=/missing", pool.ServerTLS{}, "SERVER_TLS_CA_FILE: open /missing"},
		{tcp + "sslcert=" + certificate + "&sslkey=" + exposed, "", pool.ServerTLS{}, "has mode 0644"},
		{"host=db user=u sslcert=" + certificate + " sslkey=" + exposed, "", pool.ServerTLS{}, "has mode 0644"},
	} {
		environ := []string{"BILLPROXY_UPSTREAM_URL=" + test.url}
		if test.environ != "" {
			environ = append(environ, "BILLPROXY_"+test.environ)
		}
		c, err := loadConfig(environ)
		if err != nil {
			t.Fatal(err)
		}
		to, err := parseUpstream(c.UpstreamURL)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readServerTLS(c, to)
		if test.problem != "" {
			if _, ok := errors.AsType[*configError](err); !ok || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%s %s: %v, want %q", test.url, test.environ, err, test.problem)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", test.url, test.environ, err)
			continue
		}
		if (got.Config == nil) != (got.Mode == pool.SSLDisable) {
			t.Errorf("%s %s: configuration %v with mode %v", test.url, test.environ, got.Config, got.Mode)
		}
		if again := to.withTLS(got).sslMode(); again != got.Mode && got.Mode != pool.SSLVerifyCA && got.Mode != pool.SSLVerifyFull {
			t.Errorf("%s %s: the proxy itself logs in with %v, servers with %v", test.url, test.environ, again, got.Mode)
		}
		got.Config = nil
		if got != test.want {
			t.Errorf("%s %s: %+v, want %+v", test.url, test.environ, got, test.want)
		}
	}
}

func TestCertificateOfHost(t *testing.T) {
	commonName := func(name string) *x509.Certificate { return &x509.Certificate{Subject: pkix.Name{CommonName: name}} }
	dns := &x509.Certificate{Subject: pkix.Name{CommonName: "db.example"}, DNSNames: []string{"a.example", "*.b.example"}}
	address := &x509.Certificate{Subject: pkix.Name{CommonName: "db.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1")}}
	for _, test := range []struct {
		certificate *x509.Certificate
		host        string
		want        bool
	}{
		{dns, "a.example", true},
		{dns, "A.Example", true},
		{dns, "x.b.example", true},
		{dns, "x.y.b.example", false},
		{dns, "b.example", false},
		{dns, "db.example", false}, // an alternative name of the kind replaces the common name
		{address, "192.0.2.1", true},
		{address, "192.0.2.2", false},
		{address, "db.example", true}, // it has none of the kind
		{commonName("db.example"), "db.example", true},
		{commonName("db.example"), "DB.example", true},
		{commonName("db.example"), "example", false},
		{commonName("192.0.2.1"), "192.0.2.1", true},
		{commonName("*.example.org"), "db.example.org", true},
		{commonName("*.example.org"), "a.db.example.org", false},
		{commonName("*.example.org"), "example.org", false},
		{commonName("*.example.org"), ".example.org", false},
		{commonName("*.org"), "example.org", false},
		{commonName("*.0.2.1"), "192.0.2.1", false},
		{commonName("*"), "db", false},
		{commonName(""), "", false},
	} {
		if got := isCertificateOf(test.certificate, test.host); got != test.want {
			t.Errorf("%s with %v %v, host %s: %v, want %v", test.certificate.Subject.CommonName,
				test.certificate.DNSNames, test.certificate.IPAddresses, test.host, got, test.want)
		}
	}
}

func TestClientTLS(t *testing.T) {
	ca := devpgtest.NewAuthority(t, t.TempDir(), "ca")
	certificate, key := ca.Issue(t, "server", &x509.Certificate{})
	files := []string{"BILLPROXY_CLIENT_TLS_CERT_FILE=" + certificate, "BILLPROXY_CLIENT_TLS_KEY_FILE=" + key}
	for _, test := range []struct {
		environ string
		want    pool.SSLMode
		verify  tls.ClientAuthType
		problem string
	}{
		{"LOG_LEVEL=info", pool.SSLDisable, 0, ""},
		{"CLIENT_TLS_SSLMODE=prefer", pool.SSLPrefer, tls.NoClientCert, ""},
		{"CLIENT_TLS_SSLMODE=require", pool.SSLRequire, tls.NoClientCert, ""},
		{"CLIENT_TLS_SSLMODE=verify-ca CLIENT_TLS_CA_FILE=" + ca.File, pool.SSLVerifyCA, tls.VerifyClientCertIfGiven, ""},
		{"CLIENT_TLS_SSLMODE=verify-full CLIENT_TLS_CA_FILE=" + ca.File, pool.SSLVerifyFull, tls.VerifyClientCertIfGiven, ""},
		{"CLIENT_TLS_SSLMODE=verify-full", 0, 0, "CLIENT_TLS_CA_FILE is not set"},
		{"CLIENT_TLS_SSLMODE=require AUTH_TYPE=cert", 0, 0, "expected verify-ca or verify-full"},
		{"CLIENT_TLS_SSLMODE=allow CLIENT_TLS_KEY_FILE=" + certificate, 0, 0, "has mode 0644"},
		{"CLIENT_TLS_SSLMODE=allow CLIENT_TLS_CERT_FILE=", 0, 0, "CLIENT_TLS_CERT_FILE is not set"},
	} {
		environ := files
		for _, variable := range strings.Fields(test.environ) {
			environ = append(environ[:len(environ):len(environ)], "BILLPROXY_"+variable)
		}
		c, err := loadConfig(environ)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readClientTLS(c)
		if test.problem != "" {
			if _, ok := errors.AsType[*configError](err); !ok || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%s: %v, want %q", test.environ, err, test.problem)
			}
			continue
		}
		if err != nil || got.Mode != test.want || (got.Config == nil) != (test.want == pool.SSLDisable) {
			t.Errorf("%s: %+v, %v", test.environ, got, err)
			continue
		}
		if got.Config != nil && (got.Config.ClientAuth != test.verify || len(got.EndPoint) != 32 || got.Config.MinVersion != tls.VersionTLS12) {
			t.Errorf("%s: client certificates %v, end point %x, TLS from %x", test.environ, got.Config.ClientAuth, got.EndPoint, got.Config.MinVersion)
		}
	}
}
