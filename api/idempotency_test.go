package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/billproxy/billproxy/api"
)

func replayed(r *reply) bool { return r.header.Get("Idempotent-Replayed") == "true" }

func TestReplayRepeatsTheAnswer(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	first := c.postWithKey("k1", "/v1/customers", params{"name": "Ada", "metadata[z]": "1", "metadata[a]": "2"})
	first.ok(t)
	if replayed(first) || first.header.Get("Idempotency-Key") != "k1" {
		t.Errorf("first answer has headers %v", first.header)
	}
	second := c.postWithKey("k1", "/v1/customers", params{"metadata[a]": "2", "name": "Ada", "metadata[z]": "1"})
	if string(second.body) != string(first.body) || second.status != 200 || !replayed(second) {
		t.Errorf("replay: status %d, headers %v, body %s", second.status, second.header, second.body)
	}
	if first.header.Get("Request-Id") == second.header.Get("Request-Id") {
		t.Error("the replay has the first request's id")
	}
	if n := db.count("SELECT count(*) FROM customers"); n != 1 {
		t.Errorf("%d customers, want 1", n)
	}
	if third := c.postWithKey("k2", "/v1/customers", params{"name": "Ada"}); third.id(t) == first.id(t) {
		t.Error("another key got the same customer")
	}
}

func TestKeyOfAnotherRequestIsRefused(t *testing.T) {
	c := newClient(t, newTestDB(t))
	c.postWithKey("k", "/v1/customers", params{"name": "Ada"}).ok(t)

	other := c.postWithKey("k", "/v1/customers", params{"name": "Bob"})
	other.fails(t, 400, "idempotency_error", "")
	if !strings.Contains(string(other.body), "can only be used with the same parameters") {
		t.Errorf("mismatch of parameters: %s", other.body)
	}
	elsewhere := c.postWithKey("k", "/v1/invoices", params{"customer": "cus_1"})
	elsewhere.fails(t, 400, "idempotency_error", "")
	if !strings.Contains(string(elsewhere.body), "'/v1/invoices' vs '/v1/customers'") {
		t.Errorf("mismatch of endpoints: %s", elsewhere.body)
	}
	version := c.send(t.Context(), http.MethodPost, "/v1/customers", "name=Ada", http.Header{
		"Idempotency-Key": {"k"}, "Stripe-Version": {"2020-08-27"},
	})
	version.fails(t, 400, "idempotency_error", "")
}

func TestBadKeys(t *testing.T) {
	c := newClient(t, newTestDB(t))
	c.postWithKey(strings.Repeat("k", 256), "/v1/customers", nil).fails(t, 400, invalidRequest, "")
	c.postWithKey("k\xff", "/v1/customers", nil).fails(t, 400, invalidRequest, "")
	c.postWithKey(strings.Repeat("k", 255), "/v1/customers", nil).ok(t)
	// On a GET a key has no effect.
	c.send(t.Context(), http.MethodGet, "/v1/customers", "", http.Header{"Idempotency-Key": {strings.Repeat("k", 300)}}).ok(t)
}

func TestRefusalsAreReplayedOnceExecuted(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)

	// A complaint about the parameters leaves the key free.
	c.postWithKey("k1", "/v1/customers", params{"email": "nobody"}).fails(t, 400, invalidRequest, "email_invalid")
	c.postWithKey("k1", "/v1/customers", params{"email": "ada@example.com"}).ok(t)

	// A refusal by the state of things is the answer of the key, even when that state has changed.
	id := c.newDraft(c.newCustomer(), "100")
	pay := func() *reply {
		return c.postWithKey("k2", "/v1/invoices/"+id+"/pay", params{"paid_out_of_band": "true"})
	}
	pay().fails(t, 400, invalidRequest, "")
	c.post("/v1/invoices/"+id+"/finalize", nil).ok(t)
	again := pay()
	again.fails(t, 400, invalidRequest, "")
	if !replayed(again) || again.header.Get("Stripe-Should-Retry") != "" {
		t.Errorf("replayed refusal has headers %v", again.header)
	}

	// A refusal inside the transaction leaves nothing behind but itself.
	full := c.newDraft(c.newCustomer(), "99999999")
	customer := c.get("/v1/invoices/"+full, nil).ok(t)["customer"].(string)
	item := params{"customer": customer, "invoice": full, "amount": "1"}
	c.postWithKey("k3", "/v1/invoiceitems", item).fails(t, 400, invalidRequest, "amount_too_large")
	if r := c.postWithKey("k3", "/v1/invoiceitems", item); !replayed(r) {
		t.Errorf("not replayed: %s", r.body)
	}

	// A declined payment counts once, however often it is sent.
	for range 3 {
		c.postWithKey("k4", "/v1/invoices/"+id+"/pay", params{"payment_method": "pm_card_chargeDeclined"}).
			fails(t, 402, "card_error", "card_declined")
	}
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"attempt_count": 1, "status": "open"})
}

func TestWorkOfARefusalUnderAKeyIsRolledBack(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	id := c.newDraft(c.newCustomer(), "1")
	customer := c.get("/v1/invoices/"+id, nil).ok(t)["customer"].(string)
	db.exec(`UPDATE invoices SET total = 250 WHERE id = '` + id + `'; INSERT INTO invoice_items
		(id, created_at, customer_id, currency, amount, period_start, period_end, invoice_id, line_id)
		SELECT 'ii_' || n, now(), '` + customer + `', 'usd', 1, now(), now(), '` + id + `', 'il_' || n
		FROM generate_series(1, 249) AS n`)
	// The total is written before the lines are found too many.
	full := params{"customer": customer, "invoice": id, "amount": "1"}
	c.postWithKey("k", "/v1/invoiceitems", full).fails(t, 400, invalidRequest, "")
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"total": 250})
}

// TestOneKeyIsOneEffect sends many duplicates at once, to two servers on one database as two pods would.
func TestOneKeyIsOneEffect(t *testing.T) {
	db := newTestDB(t)
	pods := []*client{newClient(t, db), newClient(t, db)}
	const keys, duplicates = 10, 8
	var mu sync.Mutex
	bodies := map[string]map[string]bool{} // key → distinct answers
	var group sync.WaitGroup
	for k := range keys {
		for d := range duplicates {
			group.Go(func() {
				key := fmt.Sprint("key-", k)
				r, err := pods[d%2].trySend(t.Context(), http.MethodPost, "/v1/customers", params{"name": key}.encode(),
					http.Header{"Idempotency-Key": {key}})
				if err != nil {
					t.Error(err)
					return
				}
				if r.status == http.StatusConflict {
					r.fails(t, 409, invalidRequest, "idempotency_key_in_use")
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if bodies[key] == nil {
					bodies[key] = map[string]bool{}
				}
				bodies[key][string(r.body)] = true
			})
		}
	}
	group.Wait()
	for key, distinct := range bodies {
		if len(distinct) != 1 {
			t.Errorf("key %s got %d different answers", key, len(distinct))
		}
	}
	if n := db.count("SELECT count(*) FROM customers"); n != keys || len(bodies) != keys {
		t.Errorf("%d customers and %d answered keys, want %d", n, len(bodies), keys)
	}
}

func TestKeyInUse(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended('k', 0))"); err != nil {
		t.Fatal(err)
	}
	busy := c.postWithKey("k", "/v1/customers", nil)
	busy.fails(t, 409, invalidRequest, "idempotency_key_in_use")
	if busy.header.Get("Stripe-Should-Retry") != "true" {
		t.Error("a key in use must invite a retry")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := c.postWithKey("k", "/v1/customers", nil); r.status != 200 || replayed(r) {
		t.Errorf("the 409 was recorded: %s", r.body)
	}
}

func TestClientThatLeavesFindsItsAnswer(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	id := c.newOpen(c.newCustomer(), "100")
	pay := params{"paid_out_of_band": "true"}
	awaitFirst, open := db.gate("invoice_payments")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		if r, err := c.trySend(ctx, http.MethodPost, "/v1/invoices/"+id+"/pay", pay.encode(),
			http.Header{"Idempotency-Key": {"k"}}); err == nil {
			t.Errorf("answered while held up: %s", r.body)
		}
	}()
	awaitFirst()
	leave()
	<-left
	open()
	// The first request goes on without its client; until it is done the key is in use.
	r := c.postWhenFree("k", "/v1/invoices/"+id+"/pay", pay)
	r.ok(t)
	if !replayed(r) {
		t.Error("the payment was made by the retry, not by the first request")
	}
}

func TestExpiredKeysAreDeleted(t *testing.T) {
	db := newTestDB(t)
	server := newServer(t, api.Config{DatabaseURL: db.url})
	db.exec(`INSERT INTO idempotency_keys (key, created_at, path, fingerprint, status, body)
		SELECT 'old-' || n, now() - interval '25 hours', '/', sha256('x'), 200, '' FROM generate_series(1, 1200) AS n`)
	c := &client{t, serve(t, server)}
	c.postWithKey("young", "/v1/customers", nil).ok(t)
	deleted, err := server.DeleteExpiredKeys(t.Context(), time.Now().Add(-24*time.Hour))
	if err != nil || deleted != 1200 {
		t.Errorf("deleted %d (%v), want 1200", deleted, err)
	}
	if r := c.postWithKey("young", "/v1/customers", nil); !replayed(r) {
		t.Error("a young key was deleted")
	}
}
