package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/shed"
	"github.com/billproxy/billproxy/proxy"
)

// fixedStats is a statsSource.
type fixedStats struct {
	proxy.Stats
	statsErr, readyErr error
}

func (s fixedStats) stats(context.Context) (proxy.Stats, error) { return s.Stats, s.statsErr }
func (s fixedStats) ready(context.Context) error                { return s.readyErr }

// someStats has every field set.
func someStats() proxy.Stats {
	return proxy.Stats{
		Uptime: 90 * time.Second, ClientCount: 12, ClientLoginCount: 2, MaxClientConn: 1000,
		ClientsAccepted: 40, ClientsRefused: 3, CancelRequests: 4, LoginsDelayed: 14,
		ClientsClosed: map[string]uint64{"terminate": 20, "client lost": 5},
		Pools: []pool.Stats{
			{
				Database: "billing", User: "app", ClientsActive: 7, ClientsWaiting: 3,
				ServersOpening: 1, ServersIdle: 2, ServersLeased: 4, ServersResetting: 1, ServersCanceling: 1, MaxServers: 20,
				OldestWait: 1500 * time.Millisecond, TransactionCount: 100, QueryCount: 300, ReceivedBytes: 1000, SentBytes: 2000,
				TransactionTime: 3 * time.Second, WaitTime: 2 * time.Second, LeaseCount: 110, WaitTimeouts: 6,
				ServerConnects: 9, ServerFailures: 8, ParseCount: 50, ServerParseCount: 5, BindCount: 60,
				ServersClosed: map[string]uint64{"idle": 2}, ClientsPinned: map[string]int{"LISTEN": 2}, Inspections: 13,
				Gate: shed.Stats{
					Retries: 21, Abandoned: 22, Storms: 23, Servers: 17, Shed: shed.Counts{shed.Overload: 24}, Storm: shed.Storm{On: true},
					Tenants: []shed.TenantStats{{Name: "web\xff", Shed: shed.Counts{shed.Overload: 20, shed.Deadline: 4}}},
				},
			},
			{Database: "billing", User: `<script>alert("x")</script>`, ServersIdle: 3, MaxServers: 20, QueryCount: 11},
			{Database: "other", User: "app", QueryCount: 1},
		},
	}
}

func get(t *testing.T, source statsSource, path string) *http.Response {
	t.Helper()
	_, logs := newLogger(t.Context(), t.Output(), logText, logLevel(slog.LevelInfo))
	t.Cleanup(func() { logs.close(context.WithoutCancel(t.Context())) })
	to, err := parseUpstream("postgres://billing:secret@db.example:5433/billing?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	handler := newAdminHandler(source, proxyDescription{"127.0.0.1:6432", to, 64}, logs)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return recorder.Result()
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMetrics(t *testing.T) {
	response := get(t, fixedStats{Stats: someStats()}, "/metrics")
	text := body(t, response)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %s: %s", response.Status, text)
	}
	endpoint := `{database="billing",force_user="",host="db.example",name="billing",pool_mode="transaction",port="5433"}`
	app := `{database="billing",user="app"}`
	for _, want := range []string{
		"pgbouncer_up 1",
		`pgbouncer_version_info{version="PgBouncer 1.25.0-compatible (billproxy ` + versionText() + `)"} 1`,
		"pgbouncer_databases 2", "pgbouncer_users 2", "pgbouncer_pools 3",
		"pgbouncer_used_clients 12", "pgbouncer_login_clients 2", "pgbouncer_free_servers 5", "pgbouncer_used_servers 7",
		"pgbouncer_config_max_client_connections 1000", "billproxy_logins_delayed_total 14",
		`billproxy_shed_total{database="billing",reason="overload",user="app"} 24`,
		`billproxy_tenant_shed_total{database="billing",tenant="web?",user="app"} 24`,
		"billproxy_storm" + app + " 1", "billproxy_storms_total" + app + " 23", "billproxy_retries_total" + app + " 21",
		"billproxy_abandoned_total" + app + " 22", "billproxy_pool_usable_servers" + app + " 17",
		"billproxy_queue_oldest_seconds" + app + " 1.5",
		"pgbouncer_databases_pool_size" + endpoint + " 20",
		"pgbouncer_databases_current_connections" + endpoint + " 12",
		"pgbouncer_databases_max_connections" + endpoint + " 64",
		`pgbouncer_stats_totals_queries_pooled_total{database="billing"} 311`,
		`pgbouncer_stats_totals_queries_pooled_total{database="other"} 1`,
		`pgbouncer_stats_totals_sql_transactions_pooled_total{database="billing"} 100`,
		`pgbouncer_stats_totals_received_bytes_total{database="billing"} 1000`,
		`pgbouncer_stats_totals_sent_bytes_total{database="billing"} 2000`,
		`pgbouncer_stats_totals_server_in_transaction_seconds_total{database="billing"} 3`,
		`pgbouncer_stats_totals_client_wait_seconds_total{database="billing"} 2`,
		`pgbouncer_stats_totals_server_assignments_total{database="billing"} 110`,
		`pgbouncer_stats_totals_client_parses_total{database="billing"} 50`,
		`pgbouncer_stats_totals_server_parses_total{database="billing"} 5`,
		`pgbouncer_stats_totals_binds_total{database="billing"} 60`,
		"pgbouncer_pools_client_active_connections" + app + " 7",
		"pgbouncer_pools_client_waiting_connections" + app + " 3",
		"pgbouncer_pools_client_maxwait_seconds" + app + " 1.5",
		"pgbouncer_pools_server_active_connections" + app + " 4",
		"pgbouncer_pools_server_idle_connections" + app + " 2",
		"pgbouncer_pools_server_testing_connections" + app + " 1",
		"pgbouncer_pools_server_login_connections" + app + " 1",
		"pgbouncer_pools_server_being_canceled_connections" + app + " 1",
		"billproxy_pool_max_servers" + app + " 20",
		"billproxy_wait_timeouts_total" + app + " 6",
		"billproxy_inspections_total" + app + " 13",
		`billproxy_clients_pinned{database="billing",reason="LISTEN",user="app"} 2`,
		"billproxy_server_connects_total" + app + " 9",
		"billproxy_server_failures_total" + app + " 8",
		"billproxy_clients_accepted_total 40", "billproxy_clients_refused_total 3", "billproxy_cancel_requests_total 4",
		`billproxy_clients_closed_total{reason="client lost"} 5`,
		`billproxy_servers_closed_total{database="billing",reason="idle",user="app"} 2`,
		"billproxy_draining 0", "billproxy_uptime_seconds 90", "billproxy_log_records_dropped_total 0",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("lacks %s", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		// The names of pgbouncer_exporter are what they are.
		if strings.HasPrefix(problem.Metric, ownPrefix) {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}

func TestMetricsWhenTheLoopDoesNotAnswer(t *testing.T) {
	response := get(t, fixedStats{statsErr: errors.New("no answer")}, "/metrics")
	if text := body(t, response); response.StatusCode != http.StatusOK || !strings.Contains(text, "\npgbouncer_up 0\n") {
		t.Errorf("status %s:\n%s", response.Status, text)
	}
}

func TestStatsPage(t *testing.T) {
	response := get(t, fixedStats{Stats: someStats()}, "/stats")
	text := body(t, response)
	var got status
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Upstream != "db.example:5433" || got.Listen != "127.0.0.1:6432" || got.MaxDBConnections != 64 ||
		got.Stats.ClientCount != 12 || got.Stats.Pools[0].OldestWait != 1500*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "<script>") {
		t.Errorf("shows a secret or markup:\n%s", text)
	}
}

// Names come from clients; markup in them must stay text.
func TestDashboardNeverMakesMarkupOfData(t *testing.T) {
	response := get(t, fixedStats{}, "/")
	page := body(t, response)
	if response.Header.Get("Content-Type") != "text/html; charset=utf-8" || response.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("headers %v", response.Header)
	}
	for _, sink := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"} {
		if strings.Contains(page, sink) {
			t.Errorf("the page uses %s", sink)
		}
	}
	for _, outside := range []string{"src=", "https://", "@import", "url("} {
		if strings.Contains(page, outside) {
			t.Errorf("the page refers to something outside: %s", outside)
		}
	}
}

// The page reads fields of Stats by name.
func TestDashboardNamesExistingFields(t *testing.T) {
	encoded := body(t, get(t, fixedStats{Stats: someStats()}, "/stats"))
	used := regexp.MustCompile(`\b(?:stats|status|pool)\.([A-Z]\w+)|"([A-Z][a-z]+[A-Z]\w+)"`).FindAllStringSubmatch(dashboard, -1)
	if len(used) < 20 {
		t.Fatalf("found only %d uses", len(used))
	}
	for _, match := range used {
		if name := match[1] + match[2]; !strings.Contains(encoded, `"`+name+`":`) {
			t.Errorf("%s is not among the fields", name)
		}
	}
}

func TestProbes(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		source fixedStats
		path   string
		code   int
		want   string
	}{
		{fixedStats{}, "/healthz", http.StatusOK, "ok\n"},
		{fixedStats{}, "/readyz", http.StatusOK, "ok\n"},
		{fixedStats{readyErr: broken}, "/healthz", http.StatusOK, "ok\n"},
		{fixedStats{readyErr: broken}, "/readyz", http.StatusServiceUnavailable, "broken\n"},
		{fixedStats{statsErr: broken}, "/healthz", http.StatusServiceUnavailable, "broken\n"},
		{fixedStats{statsErr: broken}, "/stats", http.StatusServiceUnavailable, "broken\n"},
		{fixedStats{}, "/nothing", http.StatusNotFound, "404 page not found\n"},
	} {
		response := get(t, test.source, test.path)
		if text := body(t, response); response.StatusCode != test.code || text != test.want {
			t.Errorf("%s of %+v: %s %q", test.path, test.source, response.Status, text)
		}
	}
	if text := body(t, get(t, fixedStats{}, "/debug/pprof/")); !strings.Contains(text, "goroutine") {
		t.Errorf("pprof: %s", text)
	}
}
