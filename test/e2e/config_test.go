package e2e

import (
	"net"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// TestRefusedConfig starts proxies that must not start.
func TestRefusedConfig(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name    string
		changes settings
		code    int
		mention []string
	}{
		{"no upstream", settings{"UPSTREAM_URL": ""}, 2, []string{"BILLPROXY_UPSTREAM_URL", "expected"}},
		{"bad upstream", settings{"UPSTREAM_URL": "postgres://u:hunter2@host:port:5/x"}, 2, []string{"BILLPROXY_UPSTREAM_URL", "expected"}},
		{"no roots", settings{"UPSTREAM_URL": "postgres://u:hunter2@host/x?sslmode=verify-full"}, 2, []string{"verify-full", "sslrootcert", "BILLPROXY_SERVER_TLS_CA_FILE"}},
		{"missing roots", settings{"UPSTREAM_URL": "postgres://u:hunter2@host/x?sslmode=verify-ca&sslrootcert=/no/such/file"}, 2, []string{"BILLPROXY_UPSTREAM_URL", "/no/such/file"}},
		{"client certificates", settings{"AUTH_TYPE": "cert"}, 2, []string{"BILLPROXY_CLIENT_TLS_SSLMODE", "verify-full"}},
		{"no certificate", settings{"CLIENT_TLS_SSLMODE": "require"}, 2, []string{"BILLPROXY_CLIENT_TLS_CERT_FILE", "not set"}},
		{"listen everywhere", settings{"LISTEN": "0.0.0.0:0"}, 2, []string{"BILLPROXY_LISTEN", "0.0.0.0:0", "loopback", "trust"}},
		{"listen everywhere, six", settings{"LISTEN": "[::]:0"}, 2, []string{"BILLPROXY_LISTEN", "loopback"}},
		{"listen without host", settings{"LISTEN": ":0"}, 2, []string{"BILLPROXY_LISTEN", "loopback"}},
		{"listen elsewhere", settings{"LISTEN": "192.0.2.1:6432"}, 2, []string{"BILLPROXY_LISTEN", "loopback"}},
		{"no port", settings{"LISTEN": "127.0.0.1"}, 2, []string{"BILLPROXY_LISTEN", "127.0.0.1:6432"}},
		{"port taken", settings{"LISTEN": taken.Addr().String()}, 1, []string{"BILLPROXY_LISTEN", taken.Addr().String(), "taken"}},
		{"admin port taken", settings{"ADMIN_LISTEN": taken.Addr().String()}, 1, []string{"BILLPROXY_ADMIN_LISTEN", "taken"}},
		{"auth type", settings{"AUTH_TYPE": "md5000"}, 2, []string{"BILLPROXY_AUTH_TYPE", "md5000", "expected trust"}},
		{"pool mode", settings{"POOL_MODE": "sometimes"}, 2, []string{"BILLPROXY_POOL_MODE", "sometimes", "transaction"}},
		{"pool size", settings{"DEFAULT_POOL_SIZE": "0"}, 2, []string{"BILLPROXY_DEFAULT_POOL_SIZE", "expected"}},
		{"timeout", settings{"QUERY_WAIT_TIMEOUT": "soon"}, 2, []string{"BILLPROXY_QUERY_WAIT_TIMEOUT", "soon", "seconds"}},
		{"unknown variable", settings{"QUERY_WAIT_TIME_OUT": "1s"}, 2, []string{"BILLPROXY_QUERY_WAIT_TIME_OUT", "BILLPROXY_QUERY_WAIT_TIMEOUT"}},
		{"socket folder", settings{"UNIX_SOCKET_DIR": "/no/such/folder"}, 1, []string{"BILLPROXY_UNIX_SOCKET_DIR"}},
		{"two mistakes", settings{"POOL_MODE": "x", "LOG_LEVEL": "y"}, 2, []string{"BILLPROXY_POOL_MODE", "BILLPROXY_LOG_LEVEL"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := settings{
				"UPSTREAM_URL": shared.cluster.URL(devpg.Superuser, "postgres"),
				"LISTEN":       "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0",
			}
			for name, value := range test.changes {
				env[name] = value
			}
			p := startProcess(t, shared.raceBinary, "proxy", env)
			p.expectExit(t, test.code)
			said := p.log.String()
			for _, mention := range test.mention {
				if !strings.Contains(said, mention) {
					t.Errorf("billproxy did not mention %q:\n%s", mention, said)
				}
			}
			if strings.Contains(said, "hunter2") || strings.Contains(said, "goroutine") {
				t.Errorf("billproxy said too much:\n%s", said)
			}
		})
	}
}
