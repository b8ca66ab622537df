package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/api"
)

func TestAuthentication(t *testing.T) {
	db := newTestDB(t)
	c := newConfiguredClient(t, api.Config{DatabaseURL: db.url, APIKeys: []string{"bp_live_other"}})
	tests := []struct {
		name          string
		authorization string
		accepted      bool
	}{
		{"bearer", "Bearer " + testKey, true},
		{"lower-case scheme", "bearer " + testKey, true},
		{"second key", "Bearer bp_live_other", true},
		{"basic", "Basic YnBfdGVzdF9rZXk6", true}, // bp_test_key:
		{"none", "", false},
		{"empty bearer", "Bearer ", false},
		{"prefix of a key", "Bearer bp_test_ke", false},
		{"key and more", "Bearer " + testKey + "x", false},
		{"other scheme", "Digest " + testKey, false},
		{"basic with the key as password", "Basic OmJwX3Rlc3Rfa2V5", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := c.send(t.Context(), http.MethodGet, "/v1/customers", "", http.Header{"Authorization": {test.authorization}})
			if test.accepted {
				r.ok(t)
				return
			}
			r.fails(t, 401, invalidRequest, "")
			if strings.Contains(string(r.body), "bp_test") {
				t.Errorf("the refusal repeats the key: %s", r.body)
			}
		})
	}
	c.send(t.Context(), http.MethodGet, "/v1/nothing", "", http.Header{"Authorization": {""}}).fails(t, 401, invalidRequest, "")
	c.send(t.Context(), http.MethodGet, "/healthz", "", http.Header{"Authorization": {""}}).ok(t)
}

func TestNoKeysConfigured(t *testing.T) {
	server, err := api.New(t.Context(), api.Config{DatabaseURL: newTestDB(t).url})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := &client{t, serve(t, server)}
	r := c.get("/v1/customers", nil)
	r.fails(t, 401, invalidRequest, "")
	if !strings.Contains(string(r.body), "BILLPROXY_API_KEYS") {
		t.Errorf("the refusal does not say what to do: %s", r.body)
	}
}

func TestRequestsThatReachNoHandler(t *testing.T) {
	c := newClient(t, newTestDB(t))
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	tests := []struct {
		name, method, path, body string
		header                   http.Header
		status                   int
		code                     string
	}{
		{"unknown path", "GET", "/v1/subscriptions", "", nil, 404, ""},
		{"outside of v1", "GET", "/", "", nil, 404, ""},
		{"trailing slash", "GET", "/v1/customers/", "", nil, 404, ""},
		{"wrong method", "PUT", "/v1/customers", "", nil, 405, ""},
		{"finalize by GET", "GET", "/v1/invoices/in_1/finalize", "", nil, 405, ""},
		{"JSON", "POST", "/v1/customers", `{"name":"Ada"}`, http.Header{"Content-Type": {"application/json"}}, 400, ""},
		{"bad escape", "POST", "/v1/customers", "name=%zz", form, 400, ""},
		{"bad name", "POST", "/v1/customers", "address[line1=x", form, 400, ""},
		{"twice", "POST", "/v1/customers", "name=a&name=b", form, 400, ""},
		{"twice, once in the query", "POST", "/v1/customers?name=a", "name=b", form, 400, ""},
		{"NUL", "POST", "/v1/customers", "name=%00", form, 400, ""},
		{"not UTF-8", "POST", "/v1/customers", "name=%ff", form, 400, ""},
		{"NUL in the path", "GET", "/v1/customers/cus_%00", "", nil, 404, "resource_missing"},
		{"not UTF-8 in the path", "GET", "/v1/customers/cus_%ff", "", nil, 404, "resource_missing"},
		{"long path", "GET", "/v1/customers/" + strings.Repeat("x", 5000), "", nil, 404, "resource_missing"},
		{"too many", "POST", "/v1/customers", strings.Repeat("a=1&", 1001), form, 400, ""},
		{"too large", "POST", "/v1/customers", "name=" + strings.Repeat("x", 1<<20), form, 413, ""},
		{"unknown in a query", "GET", "/v1/customers/cus_1?foo=1", "", nil, 400, "parameter_unknown"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := c.send(t.Context(), test.method, test.path, test.body, test.header)
			r.fails(t, test.status, invalidRequest, test.code)
			if test.status == 405 && r.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if len(r.body) > 2000 {
				t.Errorf("an answer of %d bytes repeats what was sent", len(r.body))
			}
		})
	}
}

func TestHeadersAreEchoed(t *testing.T) {
	c := newClient(t, newTestDB(t))
	r := c.send(t.Context(), http.MethodPost, "/v1/nothing", "", http.Header{
		"Idempotency-Key": {"k"}, "Stripe-Version": {"2026-03-25.dahlia"},
	})
	if r.header.Get("Idempotency-Key") != "k" || r.header.Get("Stripe-Version") != "2026-03-25.dahlia" {
		t.Errorf("headers %v", r.header)
	}
	if got := c.get("/healthz", nil).header.Get("Idempotency-Key"); got != "" {
		t.Errorf("an idempotency key nobody sent: %q", got)
	}
}

// TestSlowBody checks that a client which never sends the body it announced gets an answer, and not a connection for
// good.
func TestSlowBody(t *testing.T) {
	c := newConfiguredClient(t, api.Config{DatabaseURL: newTestDB(t).url, RequestTimeout: 50 * time.Millisecond})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\nname", testKey)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 400 || answer.Header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d, headers %v", answer.StatusCode, answer.Header)
	}
}

func TestFailuresAreLoggedOnce(t *testing.T) {
	db := newTestDB(t)
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	listening := httptest.NewServer(newServer(t, api.Config{DatabaseURL: db.url, Logger: logger}).Handler())
	defer listening.Close()
	c := &client{t, listening.URL}
	c.newCustomer()
	c.post("/v1/customers", params{"email": "nobody"}).fails(t, 400, invalidRequest, "email_invalid")
	db.trigger("customers", "RAISE EXCEPTION 'meddled' USING ERRCODE = '23514', CONSTRAINT = 'some_rule';")
	requestID := c.post("/v1/customers", params{"name": "Top Secret"}).header.Get("Request-Id")
	listening.Close() // waits until the requests are logged
	var record map[string]any
	if err := json.Unmarshal(log.Bytes(), &record); err != nil {
		t.Fatalf("not exactly one record: %s", &log)
	}
	has(t, record, map[string]any{
		"level": "ERROR", "msg": "request", "request_id": requestID, "method": "POST", "route": "POST /v1/customers",
		"status": 500,
	})
	cause, _ := record["error"].(string)
	if !strings.Contains(cause, "insert customer: ERROR 23514: meddled (constraint some_rule)") {
		t.Errorf("the cause is missing: %s", cause)
	}
	if strings.Contains(log.String(), "Secret") || strings.Contains(log.String(), "INSERT INTO") {
		t.Errorf("the log tells data or SQL: %s", &log)
	}
}

func TestNewRefusesABadURL(t *testing.T) {
	for _, url := range []string{"", "postgres://user:secret@[::1", "postgres://h/db?sslmode=perhaps"} {
		server, err := api.New(t.Context(), api.Config{DatabaseURL: url})
		if err == nil {
			server.Close()
			t.Errorf("accepted %q", url)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestSampleData(t *testing.T) {
	db := newTestDB(t)
	server := newServer(t, api.Config{DatabaseURL: db.url})
	c := &client{t, serve(t, server)}
	first, err := server.LoadSampleData(t.Context())
	if err != nil || !first.Loaded || first.InvoiceID == "" {
		t.Fatalf("first run: %+v, %v", first, err)
	}
	has(t, c.get("/v1/invoices/"+first.InvoiceID, nil).ok(t), map[string]any{"status": "open", "total": 40000})
	statuses := "SELECT count(*) FROM invoices WHERE status = $1"
	for status, want := range map[string]int{"draft": 1, "open": 2, "paid": 2} {
		if n := db.count(statuses, status); n != want {
			t.Errorf("%d %s invoices, want %d", n, status, want)
		}
	}
	second, err := server.LoadSampleData(t.Context())
	if err != nil || second.Loaded || second.InvoiceID != first.InvoiceID {
		t.Errorf("second run: %+v, %v", second, err)
	}
	if n := db.count("SELECT count(*) FROM customers"); n != 3 {
		t.Errorf("%d customers, want 3", n)
	}
}

// TestColumnsAreSpelledOut guards prepared statements against new columns: through a pooler, a plan whose result type
// changes fails with "cached plan must not change result type".
func TestColumnsAreSpelledOut(t *testing.T) {
	star := regexp.MustCompile(`(?i)\b(SELECT|RETURNING)\s+(\w+\.)?\*`)
	files := 0
	for _, pattern := range []string{"*.go", "../migrations/*.go", "../migrations/*.sql"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			files++
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if found := star.Find(text); found != nil {
				t.Errorf("%s: %q", name, found)
			}
		}
	}
	if files < 10 || !star.MatchString("select *") || !star.MatchString("RETURNING i.*") {
		t.Errorf("the search is broken: it looked into %d files", files)
	}
}
