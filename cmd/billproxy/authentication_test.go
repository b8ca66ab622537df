package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/proxy"
)

// userlist writes a file that nobody else may read.
func userlist(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "userlist.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAuthentication(t *testing.T) {
	t.Setenv("PGPASSWORD", "")
	t.Setenv("PGPASSFILE", "/nonexistent")
	file := "BILLPROXY_AUTH_FILE=" + userlist(t, `"app" "of the file"`+"\n"+`"reader" "md545f2603610af569b6155c45067268c6b"`)
	const (
		bare     = "BILLPROXY_UPSTREAM_URL=postgres://app@db/shop?sslmode=disable"
		password = "BILLPROXY_UPSTREAM_URL=postgres://app:of+the+url@db/shop?sslmode=disable"
	)
	for _, test := range []struct {
		name    string
		environ []string
		want    proxy.AuthType
		client  string // password of app, as far as it is known
		server  string
		api     string
	}{
		{"no password", []string{bare}, proxy.AuthTrust, "", "", ""},
		{"a password in the URL", []string{password}, proxy.AuthSCRAM, "of+the+url", "of+the+url", "of+the+url"},
		{"a file", []string{bare, file}, proxy.AuthSCRAM, "of the file", "of the file", "of the file"},
		{"both", []string{password, file}, proxy.AuthSCRAM, "of the file", "of+the+url", "of the file"},
		{"trust in spite of a password", []string{password, "BILLPROXY_AUTH_TYPE=trust"}, proxy.AuthTrust, "", "of+the+url", "of+the+url"},
		{"md5", []string{password, "BILLPROXY_AUTH_TYPE=md5"}, proxy.AuthMD5, "of+the+url", "of+the+url", "of+the+url"},
		{"a role that asks", []string{bare, "BILLPROXY_AUTH_USER=keeper"}, proxy.AuthSCRAM, "", "", ""},
		{"nothing known", []string{bare, "BILLPROXY_AUTH_TYPE=password"}, proxy.AuthPassword, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := loadConfig(test.environ)
			if err != nil {
				t.Fatal(err)
			}
			a, err := readAuthentication(c)
			if err != nil || a.authType != test.want {
				t.Fatalf("auth type %v, %v, want %v", a.authType, err, test.want)
			}
			to, err := parseUpstream(c.UpstreamURL)
			if err != nil {
				t.Fatal(err)
			}
			clients, err := a.clients(t.Context(), to, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := clients["app"].Password(); got != test.client {
				t.Errorf("clients: password %q, want %q", got, test.client)
			}
			if hasVerifier := clients["app"].Verifier() != nil; hasVerifier != (test.client != "" && test.want != proxy.AuthMD5) {
				t.Errorf("clients: verifier %v", hasVerifier)
			}
			if got := a.servers(to)["app"].Password(); got != test.server {
				t.Errorf("servers: password %q, want %q", got, test.server)
			}
			if got := a.apiPassword(to); got != test.api {
				t.Errorf("api: password %q, want %q", got, test.api)
			}
		})
	}
}

func TestAuthQuery(t *testing.T) {
	const upstreamURL = "BILLPROXY_UPSTREAM_URL=postgres://app@db/shop?sslmode=disable"
	for _, test := range []struct {
		environ []string
		want    proxy.AuthQuery
		problem string
	}{
		{nil, proxy.AuthQuery{Text: standardAuthQuery, Database: "shop"}, ""},
		{[]string{"AUTH_USER=keeper"}, proxy.AuthQuery{Text: standardAuthQuery, User: "keeper", Database: "shop"}, ""},
		{[]string{"AUTH_USER=keeper", "AUTH_DBNAME=vault", "AUTH_QUERY=SELECT * FROM f($1)"}, proxy.AuthQuery{Text: "SELECT * FROM f($1)", User: "keeper", Database: "vault"}, ""},
		{[]string{"AUTH_QUERY=SELECT * FROM f($1)"}, proxy.AuthQuery{}, "BILLPROXY_AUTH_USER is not set"},
		{[]string{"AUTH_DBNAME=vault"}, proxy.AuthQuery{}, "BILLPROXY_AUTH_USER is not set"},
		{[]string{"AUTH_USER=keeper", "AUTH_TYPE=trust"}, proxy.AuthQuery{}, `BILLPROXY_AUTH_TYPE is "trust": expected another`},
	} {
		environ := []string{upstreamURL}
		for _, variable := range test.environ {
			environ = append(environ, "BILLPROXY_"+variable)
		}
		c, err := loadConfig(environ)
		if err != nil {
			t.Fatal(err)
		}
		a, err := readAuthentication(c)
		if _, ok := errors.AsType[*configError](err); ok != (test.problem != "") || ok && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%q: error %v, want %q", test.environ, err, test.problem)
		}
		if err != nil {
			continue
		}
		to, err := parseUpstream(c.UpstreamURL)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.authQuery(to); got != test.want {
			t.Errorf("%q: %+v, want %+v", test.environ, got, test.want)
		}
	}
}

// Verifiers are made anew for those passwords only that are new.
func TestVerifiersAreKept(t *testing.T) {
	to, err := parseUpstream("postgres://app:pencil@db/shop?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	a := authentication{authType: proxy.AuthSCRAM, users: map[string]auth.Secret{"bob": auth.PasswordSecret("crayon")}}
	before, err := a.clients(t.Context(), to, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.users = map[string]auth.Secret{"bob": auth.PasswordSecret("chalk"), "eve": auth.PasswordSecret("cheese")}
	after, err := a.clients(t.Context(), to, before)
	if err != nil || len(after) != 3 {
		t.Fatalf("%v, %v", after, err)
	}
	if after["app"].Verifier() != before["app"].Verifier() {
		t.Error("app has another verifier for the same password")
	}
	for user, password := range map[string]string{"bob": "chalk", "eve": "cheese"} {
		if _, ok := after[user].Verifier().CheckPassword(password); !ok {
			t.Errorf("%s cannot log in", user)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.users = map[string]auth.Secret{}
	for i := range 1000 {
		a.users[fmt.Sprint("user", i)] = auth.PasswordSecret("pencil")
	}
	if _, err := a.clients(ctx, to, before); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v at the end", err)
	}
}

func TestAuthFileIsRefused(t *testing.T) {
	good := `"app" "pencil"`
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"others may read", good, 0o644, "has mode 0644: expected a file that not everybody may read"},
		{"others may write", good, 0o602, "has mode 0602"},
		{"malformed", good + "\npencil", 0o600, `userlist.txt: line 2: expected "user" "secret"`},
		{"a bad verifier", `"app" "SCRAM-SHA-256$pencil"`, 0o640, "line 1: malformed SCRAM verifier"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := authFile(userlist(t, test.text))
			if err := os.Chmod(string(path), test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := path.read()
			if _, ok := errors.AsType[*configError](err); !ok || !strings.Contains(err.Error(), test.want) ||
				!strings.Contains(err.Error(), "BILLPROXY_AUTH_FILE") || !strings.Contains(err.Error(), string(path)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "pencil") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
	for _, path := range []authFile{"/nonexistent/userlist.txt", authFile(t.TempDir())} {
		_, err := path.read()
		if _, ok := errors.AsType[*configError](err); !ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	if users, err := new(authFile).read(); users != nil || err != nil {
		t.Errorf("without a file: %v, %v", users, err)
	}
}
