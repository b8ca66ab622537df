package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/pool"
)

// systemAuthorities in place of a file are those that the system trusts, as libpq's
// sslrootcert=system.
const systemAuthorities = "system"

// readServerTLS decides how the server is spoken to: as UPSTREAM_URL says with libpq's
// meanings, but for what SERVER_TLS_* say.
func readServerTLS(c *config, to upstream) (pool.ServerTLS, error) {
	t := pool.ServerTLS{
		Mode:           to.sslMode(),
		Direct:         to.login.SSLNegotiation == "direct",
		ChannelBinding: channelBindings[to.login.ChannelBinding],
	}
	if c.ServerTLSSSLMode.set {
		t.Mode = c.ServerTLSSSLMode.value
	}
	if t.Mode == pool.SSLDisable || to.address.Network == "unix" {
		return pool.ServerTLS{ChannelBinding: t.ChannelBinding}, nil
	}
	if t.Direct && t.Mode < pool.SSLRequire {
		return pool.ServerTLS{}, newConfigError("sslmode of the server is %q: expected require, verify-ca or verify-full, "+
			"because sslnegotiation is direct", t.Mode)
	}
	config, err := to.tlsConfig(c)
	if err != nil {
		return pool.ServerTLS{}, err
	}
	if t.Mode == pool.SSLRequire && config.RootCAs != nil {
		t.Mode = pool.SSLVerifyCA // as libpq does
	}
	if t.Mode >= pool.SSLVerifyCA {
		if config.RootCAs == nil {
			return pool.ServerTLS{}, newConfigError("sslmode of the server is %q: expected sslrootcert in %sUPSTREAM_URL, or %sSERVER_TLS_CA_FILE, "+
				"with certificates to trust, or the word system", t.Mode, variablePrefix, variablePrefix)
		}
		host := ""
		if t.Mode == pool.SSLVerifyFull {
			host = to.login.Host
		}
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyServer(state.PeerCertificates, config.RootCAs, host)
		}
	}
	t.Config = config
	return t, nil
}

var channelBindings = map[string]pool.ChannelBinding{
	"disable": pool.BindingDisable, "prefer": pool.BindingPrefer, "require": pool.BindingRequire,
}

// sslMode is that of the URL, as far as it tells: require with certificates to trust
// has become verify-ca.
func (u upstream) sslMode() pool.SSLMode {
	first := u.login.TLSConfig
	switch {
	case first == nil && len(u.login.Fallbacks) == 0:
		return pool.SSLDisable
	case first == nil:
		return pool.SSLAllow
	case len(u.login.Fallbacks) > 0:
		return pool.SSLPrefer
	case !first.InsecureSkipVerify:
		return pool.SSLVerifyFull
	case first.VerifyPeerCertificate != nil:
		return pool.SSLVerifyCA
	}
	return pool.SSLRequire
}

// tlsConfig has the files of the URL and of SERVER_TLS_*. It verifies nothing yet.
func (u upstream) tlsConfig(c *config) (*tls.Config, error) {
	t := newTLSConfig()
	t.InsecureSkipVerify = true
	t.ServerName = u.login.Host // crypto/tls does not send what is an address
	from := u.login.TLSConfig
	for _, fallback := range u.login.Fallbacks {
		if from == nil {
			from = fallback.TLSConfig
		}
	}
	if from != nil {
		t.RootCAs, t.Certificates, t.ServerName = from.RootCAs, from.Certificates, from.ServerName
	}
	if len(t.Certificates) > 0 {
		key := variableFile{variablePrefix + "UPSTREAM_URL has sslkey, which", u.url.parameter("sslkey", "PGSSLKEY", "postgresql.key")}
		if _, err := key.readPrivate(); err != nil {
			return nil, err
		}
	}
	var err error
	switch path := string(c.ServerTLSCAFile); {
	case path == systemAuthorities && c.ServerTLSSSLMode.set && c.ServerTLSSSLMode.value < pool.SSLVerifyFull:
		// Anybody can have a certificate of some name.
		return nil, newConfigError("%sSERVER_TLS_SSLMODE is %q: expected verify-full, because %sSERVER_TLS_CA_FILE is %s",
			variablePrefix, c.ServerTLSSSLMode.value, variablePrefix, systemAuthorities)
	case path == systemAuthorities:
		t.RootCAs, err = x509.SystemCertPool()
	case path != "":
		t.RootCAs, err = readAuthorities(variableFile{variablePrefix + "SERVER_TLS_CA_FILE", path})
	}
	if err == nil && (c.ServerTLSCertFile != "" || c.ServerTLSKeyFile != "") {
		var pair tls.Certificate
		pair, err = readKeyPair(
			variableFile{variablePrefix + "SERVER_TLS_CERT_FILE", string(c.ServerTLSCertFile)},
			variableFile{variablePrefix + "SERVER_TLS_KEY_FILE", string(c.ServerTLSKeyFile)})
		t.Certificates = []tls.Certificate{pair}
	}
	return t, err
}

// withTLS is the upstream whose own logins are encrypted like those of the proxy.
func (u upstream) withTLS(t pool.ServerTLS) upstream {
	u.login = u.login.Copy()
	plain := &pgconn.FallbackConfig{Host: u.login.Host, Port: u.login.Port}
	encrypted := &pgconn.FallbackConfig{Host: u.login.Host, Port: u.login.Port, TLSConfig: t.Config}
	u.login.TLSConfig, u.login.Fallbacks = t.Config, nil
	switch t.Mode {
	case pool.SSLAllow:
		u.login.TLSConfig, u.login.Fallbacks = nil, []*pgconn.FallbackConfig{encrypted}
	case pool.SSLPrefer:
		u.login.Fallbacks = []*pgconn.FallbackConfig{plain}
	default:
	}
	return u
}

// verifyServer verifies that certificates lead to one that is trusted and, if it is
// not empty, that the first is that of the host.
func verifyServer(chain []*x509.Certificate, trusted *x509.CertPool, host string) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: trusted, Intermediates: intermediates}); err != nil {
		return err
	}
	if host != "" && !isCertificateOf(chain[0], host) {
		return fmt.Errorf(`server certificate for "%s" does not match host name "%s"`, certificateName(chain[0]), host)
	}
	return nil
}

// isCertificateOf reports whether a certificate is that of a host, as libpq decides it:
// without an alternative name of the host's kind the common name counts.
// See https://www.postgresql.org/docs/current/libpq-ssl.html#LIBQ-SSL-CERTIFICATES
func isCertificateOf(certificate *x509.Certificate, host string) bool {
	isAddress := net.ParseIP(host) != nil
	if isAddress && len(certificate.IPAddresses) > 0 || !isAddress && len(certificate.DNSNames) > 0 {
		return certificate.VerifyHostname(host) == nil
	}
	name := certificate.Subject.CommonName
	if suffix, wildcard := strings.CutPrefix(name, "*."); wildcard && !isAddress {
		label, rest, ok := strings.Cut(host, ".")
		return ok && label != "" && strings.Contains(suffix, ".") && strings.EqualFold(rest, suffix)
	}
	return name != "" && strings.EqualFold(name, host)
}

func certificateName(certificate *x509.Certificate) string {
	if len(certificate.DNSNames) > 0 {
		return strings.Join(certificate.DNSNames, `", "`)
	}
	return certificate.Subject.CommonName
}

// parameter is one of a connection URL that pgconn does not tell: from the URL, from
// the environment or by default a file in libpq's folder.
func (u databaseURL) parameter(name, environment, file string) string {
	text := string(u)
	if parsed, err := url.Parse(text); err == nil && strings.Contains(text, "://") {
		if value := parsed.Query().Get(name); value != "" {
			return value
		}
	} else if match := regexp.MustCompile(name + `\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))`).FindStringSubmatch(text); match != nil {
		return match[1] + match[2]
	}
	if value := os.Getenv(environment); value != "" {
		return value
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return home + "/.postgresql/" + file
}

// fileProblem is what is wrong with the files that a connection URL names, nil if it
// is the URL itself.
func fileProblem(err error) error {
	problem, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok || !strings.Contains(problem.Error(), "failed to configure TLS") || strings.Contains(problem.Error(), "sslmode is invalid") {
		return nil
	}
	return problem.Unwrap()
}
