package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/proxy"
)

func TestDefaults(t *testing.T) {
	c, err := loadConfig([]string{"PATH=/bin", "OTHER_POOL_MODE=session"})
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{
		"Listen":                {c.Listen, listenAddress("127.0.0.1:6432")},
		"HTTPListen":            {c.HTTPListen, listenAddress("127.0.0.1:8080")},
		"AdminListen":           {c.AdminListen, listenAddress("127.0.0.1:9432")},
		"PoolMode":              {pool.Mode(c.PoolMode), pool.ModeTransaction},
		"DefaultPoolSize":       {c.DefaultPoolSize, positive(20)},
		"MaxDBConnections":      {c.MaxDBConnections, count(0)},
		"MaxClientConn":         {c.MaxClientConn, positive(10000)},
		"MaxPreparedStatements": {c.MaxPreparedStatements, positive(200)},
		"SharedReads":           {c.SharedReads, onOff(true)},
		"SharedDepth":           {c.SharedDepth, positive(32)},
		"QueueTarget":           {time.Duration(c.QueueTarget), 5 * time.Millisecond},
		"QueueInterval":         {time.Duration(c.QueueInterval), 100 * time.Millisecond},
		"RetryBudget":           {c.RetryBudget, percent(10)},
		"ShedSQLState":          {c.ShedSQLState.code(), pgwire.ConfigurationLimitExceeded},
		"AdaptiveLimit":         {c.AdaptiveLimit, onOff(true)},
		"QueryWaitTimeout":      {time.Duration(c.QueryWaitTimeout), time.Second},
		"ServerIdleTimeout":     {time.Duration(c.ServerIdleTimeout), 10 * time.Minute},
		"ServerLifetime":        {time.Duration(c.ServerLifetime), time.Hour},
		"ShutdownTimeout":       {time.Duration(c.ShutdownTimeout), 30 * time.Second},
		"AuthType":              {c.AuthType, authType{}},
		"LogLevel":              {slog.Level(c.LogLevel), slog.LevelInfo},
		"UpstreamURL":           {c.UpstreamURL, databaseURL("")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestValues(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        string // as `billproxy config` shows it, "" if refused
	}{
		{"QUERY_WAIT_TIMEOUT", "120", "2m"},
		{"QUERY_WAIT_TIMEOUT", "0.5", "500ms"},
		{"QUERY_WAIT_TIMEOUT", "90s", "1m30s"},
		{"QUERY_WAIT_TIMEOUT", "24h", "24h"},
		{"QUERY_WAIT_TIMEOUT", "0", "0s"},
		{"QUERY_WAIT_TIMEOUT", "-1", ""},
		{"QUERY_WAIT_TIMEOUT", "1e300", ""},
		{"QUERY_WAIT_TIMEOUT", "NaN", ""},
		{"QUERY_WAIT_TIMEOUT", "soon", ""},
		{"DEFAULT_POOL_SIZE", "7", "7"},
		{"DEFAULT_POOL_SIZE", "0", ""},
		{"DEFAULT_POOL_SIZE", "-3", ""},
		{"DEFAULT_POOL_SIZE", "99999999999", ""},
		{"MAX_DB_CONNECTIONS", "0", "0"},
		{"MAX_DB_CONNECTIONS", "many", ""},
		{"POOL_MODE", "Session", "session"},
		{"LISTEN", "[::1]:6432", "[::1]:6432"},
		{"LISTEN", "6432", ""},
		{"LISTEN", "localhost:postgres", ""},
		{"LISTEN", "localhost:70000", ""},
		{"AUTH_TYPE", "md5", "md5"},
		{"AUTH_TYPE", "SCRAM-SHA-256", "scram-sha-256"},
		{"AUTH_TYPE", "plain", "password"}, // PgBouncer's word and PostgreSQL's
		{"AUTH_TYPE", "password", "password"},
		{"AUTH_TYPE", "trust", "trust"},
		{"AUTH_TYPE", "cert", "cert"},
		{"AUTH_TYPE", "any", ""},
		{"CLIENT_TLS_SSLMODE", "Require", "require"},
		{"SERVER_TLS_SSLMODE", "verify-full", "verify-full"},
		{"SERVER_TLS_SSLMODE", "verify", ""},
		{"CLIENT_TLS_PROTOCOLS", "secure", "secure"},
		{"CLIENT_TLS_PROTOCOLS", "tlsv1.3, tlsv1.2", "secure"},
		{"CLIENT_TLS_PROTOCOLS", "TLSv1.2", "tlsv1.2"},
		{"CLIENT_TLS_PROTOCOLS", "tlsv1.3", "tlsv1.3"},
		{"CLIENT_TLS_PROTOCOLS", "tlsv1.1,tlsv1.2", ""},
		{"CLIENT_TLS_PROTOCOLS", "", "secure"},
		{"AUTH_FILE", "/etc/userlist.txt", "/etc/userlist.txt"},
		{"AUTH_USER", "keeper", "keeper"},
		{"AUTH_QUERY", "SELECT * FROM secrets.of($1)", "SELECT * FROM secrets.of($1)"},
		{"AUTH_DBNAME", "vault", "vault"},
		{"MAX_LOGIN_CONN", "50", "50"},
		{"MAX_LOGIN_CONN", "0", ""},
		{"QUEUE_TARGET", "10ms", "10ms"},
		{"QUEUE_TARGET", "0", "0s"},
		{"QUEUE_TARGET", "short", ""},
		{"QUEUE_INTERVAL", "1", "1s"},
		{"QUEUE_INTERVAL", "0", ""},
		{"MAX_WAITERS", "500", "500"},
		{"MAX_WAITERS", "0", "0"},
		{"MAX_WAITERS", "-1", ""},
		{"RETRY_BUDGET", "10%", "10%"},
		{"RETRY_BUDGET", "2.5", "2.5%"},
		{"RETRY_BUDGET", "0", "0%"},
		{"RETRY_BUDGET", "101", ""},
		{"RETRY_BUDGET", "NaN", ""},
		{"SHED_SQLSTATE", "53400", "53400"},
		{"SHED_SQLSTATE", "57014", "57014"},
		{"SHED_SQLSTATE", "40001", ""},
		{"TENANT_FAIRNESS", "off", "off"},
		{"CRITICAL", "payments, cron", "payments,cron"},
		{"ADAPTIVE_LIMIT", "maybe", ""},
		{"LOGIN_DELAY", "off", "off"},
		{"LOG_FORMAT", "JSON", "json"},
		{"LOG_FORMAT", "xml", ""},
		{"LOG_LEVEL", "WARN", "warn"},
		{"LOG_LEVEL", "info+2", ""},
		{"UPSTREAM_URL", "postgres://u:secret@db/b", "postgres://u:xxxxx@db/b"},
		{"UPSTREAM_URL", "postgres://u@db/b?password=secret&sslmode=disable", "postgres://u@db/b?password=xxxxx&sslmode=disable"},
		{"UPSTREAM_URL", "host=db user=u password='a secret' dbname=b", "host=db user=u password=xxxxx dbname=b"},
		{"UPSTREAM_URL", "postgres://u:secret@db:port/b", ""},
		{"UPSTREAM_URL", "postgres://db/b?sslmode=verify-ca&sslrootcert=/missing", "postgres://db/b?sslmode=verify-ca&sslrootcert=/missing"},
		{"UPSTREAM_URL", "postgres://db/b?sslmode=some", ""},
		{"API_KEYS", "bp_secret_1, bp_secret_2", "xxxxx,xxxxx"},
		{"API_KEYS", "bp_secret_1,,", ""},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			c, err := loadConfig([]string{"BILLPROXY_" + test.name + "=" + test.value})
			if test.want == "" {
				mistake, ok := errors.AsType[*configError](err)
				if !ok || len(mistake.problems) != 1 || !strings.Contains(err.Error(), "BILLPROXY_"+test.name) ||
					!strings.Contains(err.Error(), "expected ") {
					t.Fatalf("error %v", err)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows a secret: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range c.fields() {
				if field.name == "BILLPROXY_"+test.name && field.value.String() != test.want {
					t.Errorf("got %s, want %s", field.value, test.want)
				}
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	for name, want := range map[string]string{
		"BILLPROXY_POOLMODE":          "BILLPROXY_POOL_MODE",
		"BILLPROXY_DEFAULT_POOLSIZE":  "BILLPROXY_DEFAULT_POOL_SIZE",
		"BILLPROXY_MAX_CLIENTS_CONN":  "BILLPROXY_MAX_CLIENT_CONN",
		"BILLPROXY_UPSTREAM":          "BILLPROXY_UPSTREAM_URL",
		"BILLPROXY_COMPLETE_NONSENSE": "`billproxy config` lists them",
		"BILLPROXY_":                  "`billproxy config` lists them",
	} {
		_, err := loadConfig([]string{name + "=1"})
		if err == nil || !strings.Contains(err.Error(), name+" is not") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestDatabaseURLIsTheFallback(t *testing.T) {
	c, err := loadConfig([]string{"DATABASE_URL=postgres://a@db/a"})
	if err != nil || c.UpstreamURL != "postgres://a@db/a" || !c.upstreamBorrowed {
		t.Errorf("%v, %v", c, err)
	}
	c, err = loadConfig([]string{"DATABASE_URL=postgres://a@db/a", "BILLPROXY_UPSTREAM_URL=postgres://b@db/b"})
	if err != nil || c.UpstreamURL != "postgres://b@db/b" || c.upstreamBorrowed {
		t.Errorf("%v, %v", c, err)
	}
	_, err = loadConfig([]string{"DATABASE_URL=postgres://a:secret@db:port/a"})
	if err == nil || !strings.HasPrefix(err.Error(), "DATABASE_URL is") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func TestConfigTableListsEverythingAndMasksSecrets(t *testing.T) {
	c, err := loadConfig([]string{
		"BILLPROXY_UPSTREAM_URL=postgres://u:secret@db/b", "BILLPROXY_API_KEYS=secret", "BILLPROXY_DEFAULT_POOL_SIZE=33",
	})
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	if err := runConfig(context.Background(), &environment{stdout: &output, config: c}); err != nil {
		t.Fatal(err)
	}
	text := output.String()
	if strings.Contains(text, "secret") {
		t.Errorf("shows a secret:\n%s", text)
	}
	column := strings.Index(text, "MEANING")
	for _, field := range c.fields() {
		start := strings.Index(text, field.name+" ")
		if start < 0 {
			t.Errorf("%s is missing", field.name)
			continue
		}
		line, _, _ := strings.Cut(text[start:], "\n")
		if field.meaning == "" || !strings.HasSuffix(line, field.meaning) || strings.Index(line, field.meaning) != column {
			t.Errorf("not aligned or without meaning: %s", line)
		}
	}
	if !strings.Contains(text, " 33 ") {
		t.Errorf("lacks the value given:\n%s", text)
	}
}

func TestTrustIsForLoopbackOnly(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:6432": true, "127.9.9.9:0": true, "[::1]:6432": true, "localhost:6432": true,
		":6432": false, "0.0.0.0:6432": false, "[::]:6432": false, "192.0.2.1:6432": false,
		"[::ffff:192.0.2.1]:6432": false,
	} {
		c, err := loadConfig([]string{"BILLPROXY_LISTEN=" + address})
		if err != nil {
			t.Fatal(err)
		}
		err = checkTrust(t.Context(), c, proxy.AuthTrust)
		if _, ok := errors.AsType[*configError](err); err == nil != allowed || err != nil && !ok {
			t.Errorf("%s: %v", address, err)
		}
		if err := checkTrust(t.Context(), c, proxy.AuthSCRAM); err != nil {
			t.Errorf("%s with passwords: %v", address, err)
		}
	}
}

func TestUpstream(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	t.Setenv("PGPASSWORD", "")
	for _, test := range []struct{ url, address, proxyURL, problem string }{
		{
			url: "postgres://billing:pw@db.example:5433/money?sslmode=disable", address: "tcp db.example:5433",
			proxyURL: "postgres://billing:pw@127.0.0.1:1/money?sslmode=disable",
		},
		{url: "postgres://billing@localhost/", address: "tcp localhost:5432", proxyURL: "postgres://billing@127.0.0.1:1/billing?sslmode=disable"},
		{url: "postgres:///a?host=/run/pg&port=7&user=b", address: "unix /run/pg/.s.PGSQL.7", proxyURL: "postgres://b@127.0.0.1:1/a?sslmode=disable"},
		{url: "postgres://b@db/a?sslmode=require&sslrootcert=/missing", problem: "open /missing: no such file"},
		{url: "postgres://b@db1,db2/a?sslmode=disable", problem: "a single host"},
		{url: "", problem: "is not set"},
	} {
		to, err := parseUpstream(databaseURL(test.url))
		if test.problem != "" {
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%s: error %v, want %q", test.url, err, test.problem)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := to.address.Network + " " + to.address.Address; got != test.address {
			t.Errorf("%s: address %s, want %s", test.url, got, test.address)
		}
		if got := to.proxyURL("127.0.0.1:1", to.login.Password, false); got != test.proxyURL {
			t.Errorf("%s: proxy URL %s, want %s", test.url, got, test.proxyURL)
		}
		encrypted := strings.Replace(test.proxyURL, "disable", "require", 1)
		if got := to.proxyURL("127.0.0.1:1", to.login.Password, true); got != encrypted {
			t.Errorf("%s: proxy URL %s, want %s", test.url, got, encrypted)
		}
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		":9432": "127.0.0.1:9432", "0.0.0.0:9432": "127.0.0.1:9432", "[::]:9432": "[::1]:9432", "10.0.0.1:9": "10.0.0.1:9",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("reachable(%q) = %q, want %q", listen, got, want)
		}
	}
}
