package api_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/api"
)

// TestDatabaseErrors lets the database, or as far as the API can tell the proxy before it, fail in many ways.
func TestDatabaseErrors(t *testing.T) {
	raise := func(state, detail string) string {
		return "RAISE EXCEPTION 'meddled' USING ERRCODE = '" + state + "', DETAIL = '" + detail + "';"
	}
	tests := []struct {
		name       string
		body       string // of a trigger
		status     int
		kind, code string
		retry      string
		retryAfter string
	}{
		{"shed", raise("53400", "billproxy shed reason=queue retry_after_ms=1500"), 429, invalidRequest, "rate_limit", "false", "2"},
		{"shed as a cancel", raise("57014", "billproxy shed reason=overload waited_ms=0 retry_after_ms=1500"), 429, invalidRequest, "rate_limit", "false", "2"},
		{"shed without advice", raise("53400", "reason=queue"), 429, invalidRequest, "rate_limit", "false", "1"},
		{"too many connections", raise("53300", ""), 429, invalidRequest, "rate_limit", "false", "1"},
		{"lock timeout", raise("55P03", ""), 429, invalidRequest, "lock_timeout", "true", ""},
		{"serialization, for good", raise("40001", ""), 429, invalidRequest, "lock_timeout", "true", ""},
		{"deadlock, for good", raise("40P01", ""), 429, invalidRequest, "lock_timeout", "true", ""},
		{"statement timeout", raise("57014", ""), 503, "api_error", "", "", ""},
		{"connection killed", "PERFORM pg_terminate_backend(pg_backend_pid());", 503, "api_error", "", "", ""},
		{"constraint of the schema", raise("23514", ""), 500, "api_error", "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := newTestDB(t)
			c := newClient(t, db)
			db.trigger("customers", test.body)
			for _, key := range []string{"", "k"} {
				r := c.send(t.Context(), http.MethodPost, "/v1/customers", "", http.Header{"Idempotency-Key": {key}})
				r.fails(t, test.status, test.kind, test.code)
				if got := r.header.Get("Stripe-Should-Retry"); got != test.retry {
					t.Errorf("Stripe-Should-Retry: %q, want %q", got, test.retry)
				}
				if got := r.header.Get("Retry-After"); got != test.retryAfter {
					t.Errorf("Retry-After: %q, want %q", got, test.retryAfter)
				}
				if strings.Contains(string(r.body), "meddled") {
					t.Errorf("the database's words reach the client: %s", r.body)
				}
			}
			// Nothing of it was recorded, and the connections work again. A backend that was killed may be a moment about
			// giving up its locks.
			db.exec("DROP TRIGGER meddle ON customers")
			if r := c.postWhenFree("k", "/v1/customers", nil); r.status != 200 || replayed(r) {
				t.Errorf("afterwards: status %d: %s", r.status, r.body)
			}
		})
	}
}

func TestLostConflictIsRunAgain(t *testing.T) {
	for _, state := range []string{"40001", "40P01"} {
		db := newTestDB(t)
		c := newClient(t, db)
		db.exec("CREATE SEQUENCE attempts")
		db.trigger("customers", `IF nextval('attempts') < 3 THEN RAISE EXCEPTION 'meddled' USING ERRCODE = '`+state+`'; END IF;`)
		c.post("/v1/customers", nil).ok(t)
		if n := db.count("SELECT last_value FROM attempts"); n != 3 {
			t.Errorf("%s: %d attempts, want 3", state, n)
		}
	}
}

func TestRowHeldByAnother(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	id := c.newOpen(c.newCustomer(), "100")
	release := db.lockRow("invoices", id)
	r := c.post("/v1/invoices/"+id+"/pay", params{"paid_out_of_band": "true"})
	release()
	r.fails(t, 429, invalidRequest, "lock_timeout")
}

func TestAllConnectionsBusy(t *testing.T) {
	db := newTestDB(t)
	c := newConfiguredClient(t, api.Config{DatabaseURL: db.url, MaxConns: 1, PoolWait: 500 * time.Millisecond})
	awaitFirst, open := db.gate("customers")
	first := make(chan *reply)
	go func() {
		r, err := c.trySend(t.Context(), http.MethodPost, "/v1/customers", "", nil)
		if err != nil {
			t.Error(err)
		}
		first <- r
	}()
	awaitFirst()
	r := c.get("/v1/customers", nil)
	r.fails(t, 429, invalidRequest, "rate_limit")
	if r.header.Get("Retry-After") == "" || r.header.Get("Stripe-Should-Retry") != "false" {
		t.Errorf("a shed request has headers %v", r.header)
	}
	open()
	(<-first).ok(t)
	c.get("/v1/customers", nil).ok(t)
}

func TestRequestTimeout(t *testing.T) {
	db := newTestDB(t)
	id := newClient(t, db).newOpen(newClient(t, db).newCustomer(), "100")
	hasty := newConfiguredClient(t, api.Config{DatabaseURL: db.url, RequestTimeout: 100 * time.Millisecond})
	release := db.lockRow("invoices", id)
	r := hasty.post("/v1/invoices/"+id+"/pay", params{"paid_out_of_band": "true"})
	release()
	r.fails(t, 503, "api_error", "")
}

// closedPort returns an address nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestUnreachableDatabase(t *testing.T) {
	address := closedPort(t)
	c := newConfiguredClient(t, api.Config{DatabaseURL: "postgres://billing@" + address + "/billing"})
	c.get("/healthz", nil).ok(t)
	ready := c.get("/readyz", nil)
	ready.fails(t, 503, "api_error", "")
	if !strings.Contains(string(ready.body), "connection refused") || strings.Contains(string(ready.body), address) {
		t.Errorf("readyz must say what is wrong, but not where: %s", ready.body)
	}
	for _, r := range []*reply{
		c.get("/v1/customers", nil), c.post("/v1/customers", nil), c.postWithKey("k", "/v1/customers", nil),
	} {
		r.fails(t, 503, "api_error", "")
		if strings.Contains(string(r.body), address) {
			t.Errorf("the address reaches the client: %s", r.body)
		}
	}
}

func TestReadiness(t *testing.T) {
	migrated := newTestDB(t)
	has(t, newClient(t, migrated).get("/readyz", nil).ok(t), map[string]any{"status": "ready"})

	empty := newClient(t, newDatabase(t, "template1"))
	r := empty.get("/readyz", nil)
	r.fails(t, 503, "api_error", "")
	if !strings.Contains(string(r.body), "at version 0") || !strings.Contains(string(r.body), "billproxy migrate") {
		t.Errorf("readyz does not say what to do: %s", r.body)
	}
	empty.post("/v1/customers", nil).fails(t, 500, "api_error", "")

	migrated.exec("DELETE FROM goose_db_version WHERE version_id > 1")
	newClient(t, migrated).get("/readyz", nil).fails(t, 503, "api_error", "")
	migrated.exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000000, true)")
	newClient(t, migrated).get("/readyz", nil).ok(t)

	missing := strings.Replace(migrated.url, "/test_", "/no_test_", 1)
	r = newConfiguredClient(t, api.Config{DatabaseURL: missing}).get("/readyz", nil)
	r.fails(t, 503, "api_error", "")
	if !strings.Contains(string(r.body), "does not exist") {
		t.Errorf("readyz does not say what is wrong: %s", r.body)
	}
}
