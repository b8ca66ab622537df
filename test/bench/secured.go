package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// Names of the work that is done by billproxy alone, with and without encryption and
// passwords.
const (
	workSecured        = "secured"
	workSecuredReads   = "secured/prepared/64"
	workSecuredConnect = "secured/connect/16"
)

// security is how one billproxy is configured.
type security struct {
	name     string
	clients  bool // are encrypted
	servers  bool // are encrypted
	password bool // is asked for, by scram-sha-256
}

// securities begin with the one that the others are compared with.
var securities = []security{
	{name: "neither TLS nor passwords"},
	{name: "SCRAM of clients", password: true},
	{name: "TLS of clients", clients: true},
	{name: "TLS of both sides", clients: true, servers: true},
	{name: "TLS of both sides, SCRAM of clients", clients: true, servers: true, password: true},
}

// runSecured measures what encryption and passwords cost billproxy.
func (b *bench) runSecured(ctx context.Context) error {
	certificate, key, err := writeCertificate(b.rig.Dir)
	if err != nil {
		return err
	}
	if err := b.encryptServer(ctx, certificate, key); err != nil {
		return err
	}
	connects := load{protocol: "simple", clients: 16, sampling: 1, script: selectOnly, connect: true}
	var all [2]contest
	defer func() {
		for _, e := range all[0].entrants {
			e.target.Stop()
		}
	}()
	for _, s := range securities {
		t, err := b.newSecured(ctx, b.billproxy(), s, certificate, key)
		if err != nil {
			return err
		}
		if err := t.Start(ctx, b.rig.Dir); err != nil {
			return err
		}
		all[0].entrants = append(all[0].entrants, entrant{workSecuredReads, t, variantReads})
		all[1].entrants = append(all[1].entrants, entrant{workSecuredConnect, t, connects})
	}
	for i, c := range all {
		if err := b.runContest(ctx, c, i); err != nil {
			return err
		}
	}
	return nil
}

// newSecured is the same program on a port of its own.
func (b *bench) newSecured(ctx context.Context, billproxy *rig.Target, s security, certificate, key string) (*rig.Target, error) {
	var env []string
	if s.clients {
		env = append(env, "BILLPROXY_CLIENT_TLS_SSLMODE=require", "BILLPROXY_CLIENT_TLS_CERT_FILE="+certificate, "BILLPROXY_CLIENT_TLS_KEY_FILE="+key)
	}
	if s.servers {
		env = append(env, "BILLPROXY_SERVER_TLS_SSLMODE=require")
	}
	password := ""
	if s.password {
		password = guardPassword
	}
	t, err := b.newGuarded(ctx, billproxy, password, env...)
	if err != nil {
		return nil, err
	}
	t.Name, t.Encrypted = s.name, s.clients
	return t, nil
}

// encryptServer has PostgreSQL speak TLS with those that ask for it.
func (b *bench) encryptServer(ctx context.Context, certificate, key string) error {
	owner, err := b.rig.ServerCredential()
	if err != nil {
		return err
	}
	for from, to := range map[string]string{certificate: "server.crt", key: "server.key"} {
		content, err := os.ReadFile(from)
		to = filepath.Join(b.rig.Cluster.DataDir(), to)
		if err = errors.Join(err, os.WriteFile(to, content, 0o600)); err != nil {
			return err
		}
		if owner != nil {
			if err := os.Chown(to, int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
	}
	for _, statement := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
		if _, err := b.rig.Admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// writeCertificate makes one of the kind that costs least, for this machine, and its
// key.
func writeCertificate(dir string) (certificateFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().AddDate(0, 0, 1),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certificateFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	return certificateFile, keyFile, errors.Join(
		os.WriteFile(certificateFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

// securedTable compares the ways to run billproxy.
func securedTable(r *results) string {
	t := page.Table{Columns: []string{"billproxy with", "tps", "÷ without", "p99, ms", "CPU, µs", "connections/s", "÷ without", "CPU, µs"}, Left: 1}
	for _, s := range securities {
		of := func(work string, q quantity) page.Figure { return r.of(work, s.name, q) }
		without := func(work string) page.Figure { return page.Ratio(of(work, tps), r.of(work, securities[0].name, tps)) }
		cells := []string{
			of(workSecuredReads, tps).Text(page.Count), without(workSecuredReads).Text(page.Times),
			of(workSecuredReads, p99).Text(page.Milliseconds), of(workSecuredReads, cpu).Text(page.Decimal),
			of(workSecuredConnect, tps).Text(page.Count), without(workSecuredConnect).Text(page.Times), of(workSecuredConnect, cpu).Text(page.Decimal),
		}
		if strings.Trim(strings.Join(cells, ""), "–") != "" {
			t.Add(append([]string{s.name}, cells...)...)
		}
	}
	return page.Section("Encryption and passwords", "64 clients of `pgbench -S -M prepared`, and 16 that connect for each transaction. "+
		"CPU is that of the proxy per transaction; clients and PostgreSQL, who encrypt as well, share the machine.", &t)
}
