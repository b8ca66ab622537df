package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// adminGet returns status and body of a page of the admin server.
func (p *proxyProcess) adminGet(t testing.TB, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(patient(t), http.MethodGet, "http://"+p.admin+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestAdmin reads what operators and their tools read.
func TestAdmin(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, nil)
	loginWire(t, p.address, d).usable(t)
	for _, test := range []struct{ path, want string }{
		{"/healthz", "ok"},
		{"/readyz", "ok"},
		{"/", "<html"},
		{"/stats", `"Database":"` + d.name + `"`},
		{"/metrics", `pgbouncer_pools_server_idle_connections{database="` + d.name + `",user="` + d.role + `"} 1`},
		{"/metrics", "pgbouncer_up 1"},
		{"/metrics", "billproxy_clients_accepted_total"},
		{"/debug/pprof/goroutine?debug=1", "goroutine profile"},
	} {
		if status, body := p.adminGet(t, test.path); status != http.StatusOK || !strings.Contains(body, test.want) {
			t.Errorf("%s: status %d, no %q in:\n%s", test.path, status, test.want, body)
		}
	}
	if status, _ := p.adminGet(t, "/none"); status != http.StatusNotFound {
		t.Errorf("/none: status %d", status)
	}
}

// TestUpstreamAway starts a proxy whose server is not there: it lives, is not ready,
// and tells clients what is wrong.
func TestUpstreamAway(t *testing.T) {
	t.Parallel()
	nobody, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	_ = nobody.Close()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{
		"UPSTREAM_URL": databaseURL(address, d.role, d.name), "QUERY_WAIT_TIMEOUT": "500ms",
	})
	client := dialWire(t, "tcp", p.address)
	client.startup(t, 3<<16, "user", d.role, "database", d.name)
	if got := client.untilClosed(t); errorCode(got) != "FATAL 08001" || !strings.Contains(lastError(got), address) {
		t.Errorf("got %q, want FATAL 08001 that names %s", got, address)
	}
	if status, body := p.adminGet(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, address) {
		t.Errorf("/readyz: status %d: %s", status, body)
	}
	if status, body := p.adminGet(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: status %d: %s", status, body)
	}
}
