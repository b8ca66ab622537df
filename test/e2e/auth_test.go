package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
)

// authRules is pg_hba.conf of a server that asks for passwords, of role plain for the
// password itself.
const authRules = `
local all postgres trust
host all postgres 127.0.0.1/32 trust
host all md5 127.0.0.1/32 md5
host all plain 127.0.0.1/32 password
host all all 127.0.0.1/32 scram-sha-256
`

// authRoles are the roles and their passwords, which may be nowhere in a log.
var authRoles = map[string]string{
	"scram":        secretMarker,
	"scram_other":  secretMarker + " other",
	"scram_umlaut": "pässwörd " + secretMarker,
	// What SASLprep changes: a Roman numeral, a decomposed accent, two spaces that are
	// none of ASCII's. And what it must leave alone: a character that Unicode 3.2 did
	// not have.
	"scram_prepared": "\u2168 cafe\u0301\u00a0\u200b" + secretMarker,
	"scram_raw":      "\u2168\U0001f600" + secretMarker,
	"md5":            secretMarker + "'\"",
	"plain":          secretMarker + `\ %20`,
}

// newAuthCluster runs a server with authRules and authRoles.
func newAuthCluster(t *testing.T) *devpg.Cluster {
	t.Helper()
	rules := filepath.Join(devpgtest.ReachableDir(t), "pg_hba.conf")
	if err := os.WriteFile(rules, []byte(authRules), 0o644); err != nil {
		t.Fatal(err)
	}
	cluster := devpgtest.Start(t, map[string]string{"hba_file": rules})
	conn := connect(t, cluster.URL(devpg.Superuser, "postgres"))
	for role, password := range authRoles {
		encryption := "scram-sha-256"
		if role == "md5" {
			encryption = "md5"
		}
		if _, err := conn.Exec(patient(t), fmt.Sprintf("set password_encryption = '%s'; create role %s login password '%s'",
			encryption, role, strings.ReplaceAll(password, "'", "''")), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	return cluster
}

// authURL leads to the database postgres as a role with a password.
func authURL(address, role, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, password), Host: address, Path: "/postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

// expectLogin logs in with pgx and psql and checks who PostgreSQL takes the client
// for.
func expectLogin(t *testing.T, p *proxyProcess, role, password string) {
	t.Helper()
	// pgx prepares passwords by a newer standard than PostgreSQL does.
	if role != "scram_prepared" && role != "scram_raw" {
		var user string
		if err := connect(t, authURL(p.address, role, password)).QueryRow(patient(t), "select current_user").Scan(&user); err != nil || user != role {
			t.Errorf("pgx: logged in as %q, %v, want %q", user, err, role)
		}
	}
	if printed, code := psqlAs(t, p, role, password); printed != role+"\n" || code != 0 {
		t.Errorf("psql: exit code %d, printed %q", code, printed)
	}
}

// writeUserlist writes an AUTH_FILE with secrets of roles.
func writeUserlist(t *testing.T, secrets map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "userlist.txt")
	rewriteUserlist(t, path, secrets)
	return path
}

func rewriteUserlist(t *testing.T, path string, secrets map[string]string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("; users\n")
	for role, secret := range secrets {
		fmt.Fprintf(&text, "\"%s\" \"%s\"\n", role, strings.ReplaceAll(secret, `"`, `""`))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func psqlAs(t *testing.T, p *proxyProcess, role, password string) (printed string, code int) {
	t.Helper()
	cmd := program(t, "psql", "-XAtwc", "select current_user", "-d", databaseURL(p.address, role, "postgres"))
	cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
	output, _ := cmd.CombinedOutput() // the exit code tells
	return string(output), cmd.ProcessState.ExitCode()
}

// expectRefusal fails to log in, and is told no more than PostgreSQL tells.
func expectRefusal(t *testing.T, p *proxyProcess, role, password string) {
	t.Helper()
	conn, err := pgx.Connect(patient(t), authURL(p.address, role, password))
	if err == nil {
		_ = conn.Close(patient(t))
		t.Fatalf("%s was let in", role)
	}
	want := `password authentication failed for user "` + role + `"`
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "28P01" || e.Severity != "FATAL" || e.Message != want || e.Detail+e.Hint != "" {
		t.Errorf("%s: %v, want %s", role, err, want)
	}
}

// expectNoSecrets looks for passwords in what a running proxy shows.
func expectNoSecrets(t *testing.T, p *proxyProcess) {
	t.Helper()
	for _, page := range []string{"/", "/stats", "/metrics", "/debug/pprof/cmdline", "/readyz"} {
		if _, text := p.adminGet(t, page); strings.Contains(text, secretMarker) {
			t.Errorf("%s shows a password", page)
		}
	}
}

// expectReady looks at a proxy that nobody has connected to yet.
func expectReady(t *testing.T, p *proxyProcess) {
	t.Helper()
	if status, text := p.adminGet(t, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: status %d, %s", status, text)
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	upstream := func(role string) string { return authURL(cluster.TCPAddress(), role, authRoles[role]) }
	address := cluster.TCPAddress()

	// Without anything but a URL, whoever knows its password gets in.
	for role, password := range authRoles {
		t.Run("the password of the URL, "+role, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, cluster, settings{"UPSTREAM_URL": upstream(role)})
			expectLogin(t, p, role, password)
			expectRefusal(t, p, role, password+"x")
			expectRefusal(t, p, role, "")
			expectRefusal(t, p, "nobody", password)
			expectRefusal(t, p, devpg.Superuser, password)
			if printed, code := psqlAs(t, p, role, "wrong"); code != 2 || !strings.Contains(printed, "password authentication failed") {
				t.Errorf("psql: exit code %d, printed %q", code, printed)
			}
			expectNoSecrets(t, p)
			if ends := p.log.ends("authentication failed"); ends != 5 {
				t.Errorf("%d failures in the log, want 5", ends)
			}
		})
	}

	t.Run("methods of clients", func(t *testing.T) {
		t.Parallel()
		for _, method := range []string{"scram-sha-256", "md5", "password", "plain"} {
			p := startProxy(t, cluster, settings{"UPSTREAM_URL": upstream("scram"), "AUTH_TYPE": method})
			expectLogin(t, p, "scram", authRoles["scram"])
			expectRefusal(t, p, "scram", "wrong")
			expectRefusal(t, p, "nobody", "wrong")
			expectRefusal(t, p, "scram", "")
		}
	})

	// What PostgreSQL stores is what the file may hold.
	stored := map[string]string{}
	rows, err := connect(t, cluster.URL(devpg.Superuser, "postgres")).Query(patient(t), "select rolname, rolpassword from pg_authid where rolpassword is not null")
	if err != nil {
		t.Fatal(err)
	}
	var role, secret string
	if _, err := pgx.ForEachRow(rows, []any{&role, &secret}, func() error { stored[role] = secret; return nil }); err != nil {
		t.Fatal(err)
	}
	t.Run("a file of passwords", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": databaseURL(address, "scram", "postgres"), "AUTH_FILE": writeUserlist(t, authRoles)})
		expectReady(t, p)
		for role, password := range authRoles {
			expectLogin(t, p, role, password)
			expectRefusal(t, p, role, password+"x")
		}
		expectNoSecrets(t, p)
	})

	t.Run("a file of verifiers", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": databaseURL(address, "scram", "postgres"), "AUTH_FILE": writeUserlist(t, stored)})
		expectReady(t, p)
		for role, password := range authRoles {
			switch role {
			case "md5": // a hash does not do for scram-sha-256
				expectRefusal(t, p, role, password)
			case "plain": // the proxy never learns the password
				_, err := pgx.Connect(patient(t), authURL(p.address, role, password))
				if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "28000" || !strings.Contains(e.Message, "method password") {
					t.Errorf("plain: %v", err)
				}
			default:
				expectLogin(t, p, role, password)
				expectRefusal(t, p, role, password+"x")
			}
		}
		expectNoSecrets(t, p)
	})

	t.Run("a file with a hash", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": databaseURL(address, "md5", "postgres"), "AUTH_FILE": writeUserlist(t, stored), "AUTH_TYPE": "md5"})
		expectLogin(t, p, "md5", authRoles["md5"])
		expectLogin(t, p, "scram", authRoles["scram"]) // by scram-sha-256
		expectRefusal(t, p, "md5", "wrong")
		expectNoSecrets(t, p)
	})

	t.Run("the password of the URL is another than the clients'", func(t *testing.T) {
		t.Parallel()
		file := writeUserlist(t, map[string]string{"scram": secretMarker + " of clients"})
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": upstream("scram"), "AUTH_FILE": file})
		expectLogin(t, p, "scram", secretMarker+" of clients")
		expectRefusal(t, p, "scram", authRoles["scram"])
	})

	t.Run("trust", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": upstream("scram"), "AUTH_TYPE": "trust"})
		expectLogin(t, p, "scram", "anything")
		_, err := pgx.Connect(patient(t), databaseURL(p.address, "scram_other", "postgres"))
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "28000" || !strings.Contains(e.Message, "no password is known for that user") {
			t.Errorf("a user without a password: %v", err)
		}
	})

	t.Run("a wrong password in the URL", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": authURL(address, "scram", secretMarker+"x")})
		expectRefusal(t, p, "scram", secretMarker+"x") // by PostgreSQL
		expectRefusal(t, p, "scram", secretMarker)
		expectNoSecrets(t, p)
		if status, _ := p.adminGet(t, "/readyz"); status != http.StatusServiceUnavailable {
			t.Errorf("/readyz: status %d", status)
		}
	})

	t.Run("any address", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": upstream("scram"), "LISTEN": "0.0.0.0:0"})
		expectRefusal(t, p, "scram", "wrong")
	})

	t.Run("the API logs in, too", func(t *testing.T) {
		t.Parallel()
		if _, err := connect(t, cluster.URL(devpg.Superuser, "postgres")).Exec(patient(t), "create database billing owner scram_umlaut"); err != nil {
			t.Fatal(err)
		}
		billing := strings.Replace(upstream("scram_umlaut"), "/postgres", "/billing", 1)
		startProcess(t, shared.raceBinary, "migrate", settings{"UPSTREAM_URL": billing}).expectExit(t, 0)
		p := startProxyBinary(t, shared.raceBinary, "serve", cluster, settings{
			"UPSTREAM_URL": billing, "HTTP_LISTEN": "127.0.0.1:0", "API_KEYS": apiKey,
		})
		api := apiClient{"http://" + p.waitListening(t, "http listening", "api")}
		api.must(t, http.MethodGet, "/readyz", nil)
		if ends := p.log.ends("authentication failed"); ends != 0 {
			t.Errorf("the API failed to log in %d times", ends)
		}
		expectNoSecrets(t, p)
	})
}

// TestRefusedAuthFile starts proxies with files that everybody may read.
func TestRefusedAuthFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "userlist.txt")
	if err := os.WriteFile(path, []byte(`"app" "`+secretMarker+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, shared.raceBinary, "proxy", settings{
		"UPSTREAM_URL": shared.cluster.URL(devpg.Superuser, "postgres"), "LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0", "AUTH_FILE": path,
	})
	p.expectExit(t, 2)
	if said := p.log.String(); !strings.Contains(said, "BILLPROXY_AUTH_FILE") || !strings.Contains(said, path) || !strings.Contains(said, "0644") {
		t.Errorf("billproxy said:\n%s", said)
	}
}
