package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"syscall"
)

// applicationProtocol is what TLS carries.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
const applicationProtocol = "postgresql"

// newTLSConfig is what both sides have in common. As in PostgreSQL no session is
// resumed and no handshake done again; records are as long as they can be.
func newTLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  []string{applicationProtocol},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		Renegotiation:               tls.RenegotiateNever,
	}
}

// readKeyPair reads a certificate, with those of its issuers behind it, and its key.
// The result has the parsed certificate.
func readKeyPair(certificate, key variableFile) (tls.Certificate, error) {
	certificateText, err := certificate.read()
	if err != nil {
		return tls.Certificate{}, err
	}
	keyText, err := key.readPrivate()
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificateText, keyText)
	if err == nil && pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		return tls.Certificate{}, newConfigError("%s and %s are %s and %s: %v: expected a certificate and its key, unencrypted, in PEM",
			certificate.variable, key.variable, certificate.path, key.path, err)
	}
	return pair, nil
}

// readAuthorities reads certificates that are trusted.
func readAuthorities(authorities variableFile) (*x509.CertPool, error) {
	text, err := authorities.read()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, newConfigError("%s is %s: expected certificates in PEM", authorities.variable, authorities.path)
	}
	return pool, nil
}

// variableFile is a file that a variable names.
type variableFile struct {
	variable string // with prefix
	path     string
}

func (f variableFile) read() ([]byte, error) {
	if f.path == "" {
		return nil, newConfigError("%s is not set: expected the path of a file in PEM", f.variable)
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, newConfigError("%s: %v", f.variable, err)
	}
	return text, nil
}

// readPrivate is read for a private key, which nobody else may have read before.
func (f variableFile) readPrivate() ([]byte, error) {
	if f.path == "" {
		return f.read()
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, newConfigError("%s: %v", f.variable, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, newConfigError("%s: %v", f.variable, err)
	}
	if err := checkKeyMode(info); err != nil {
		return nil, newConfigError("%s is %s: %v", f.variable, f.path, err)
	}
	var text bytes.Buffer
	if _, err := io.Copy(&text, file); err != nil {
		return nil, newConfigError("%s: %v", f.variable, err)
	}
	return text.Bytes(), nil
}

// checkKeyMode is PostgreSQL's rule for private keys.
// See https://www.postgresql.org/docs/current/ssl-tcp.html#SSL-SETUP
func checkKeyMode(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("expected a regular file")
	}
	forbidden, expected := os.FileMode(0o077), "0600 or less"
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 {
		forbidden, expected = 0o037, "0640 or less, since root owns it"
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return fmt.Errorf("the private key has mode %04o: expected %s", mode, expected)
	}
	return nil
}
