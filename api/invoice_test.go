package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const invalidRequest = "invalid_request_error"

func TestInvoiceLifecycle(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.post("/v1/customers", params{
		"name": "Ada", "email": "ada@example.com", "invoice_prefix": "ADA",
	}).id(t)
	item := c.post("/v1/invoiceitems", params{
		"customer": customer, "amount": "1500", "currency": "USD", "description": "seats", "metadata[plan]": "pro",
	}).id(t)
	c.post("/v1/invoiceitems", params{"customer": customer, "amount": "700", "currency": "eur"}).ok(t)

	draft := c.post("/v1/invoices", params{
		"customer": customer, "pending_invoice_items_behavior": "include", "currency": "usd",
	}).ok(t)
	id := draft["id"].(string)
	has(t, draft, map[string]any{
		"status": "draft", "currency": "usd", "total": 1500, "amount_due": 1500, "number": nil, "customer": customer,
		"lines.has_more": false, "lines.data.0.amount": 1500, "lines.data.0.description": "seats",
		"lines.data.0.metadata.plan": "pro", "lines.data.0.parent.invoice_item_details.invoice_item": item,
		"status_transitions.finalized_at": nil, "customer_email": "ada@example.com",
	})
	if lines := at(t, draft, "lines.data").([]any); len(lines) != 1 {
		t.Errorf("%d lines: the pending item in another currency must stay behind", len(lines))
	}

	c.post("/v1/invoiceitems", params{"customer": customer, "amount": "-500", "invoice": id}).ok(t)
	open := c.post("/v1/invoices/"+id+"/finalize", nil).ok(t)
	has(t, open, map[string]any{
		"status": "open", "number": "ADA-0001", "subtotal": 1000, "total": 1000, "amount_due": 1000,
		"amount_paid": 0, "amount_remaining": 1000, "attempted": false, "lines.data.1.amount": -500,
	})
	if at(t, open, "status_transitions.finalized_at") == nil || open["effective_at"] == nil {
		t.Error("finalized without a time")
	}

	paid := c.post("/v1/invoices/"+id+"/pay", params{"payment_method": "pm_card_visa"}).ok(t)
	has(t, paid, map[string]any{
		"status": "paid", "amount_paid": 1000, "amount_remaining": 0, "amount_paid_off_stripe": 0,
		"attempt_count": 1, "attempted": true,
	})
	if at(t, paid, "status_transitions.paid_at") == nil {
		t.Error("paid without a time")
	}
	if got := c.get("/v1/invoices/"+id, nil); string(got.body) != string(c.get("/v1/invoices/"+id, nil).body) ||
		got.ok(t)["status"] != "paid" {
		t.Errorf("get after pay: %s", got.body)
	}
	has(t, c.get("/v1/customers/"+customer, nil).ok(t), map[string]any{"next_invoice_sequence": 2})
}

func TestIllegalTransitions(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	outOfBand := params{"paid_out_of_band": "true"}

	draft := c.newDraft(customer, "100")
	c.post("/v1/invoices/"+draft+"/pay", outOfBand).fails(t, 400, invalidRequest, "")

	c.post("/v1/invoices/"+draft+"/finalize", nil).ok(t)
	again := c.post("/v1/invoices/"+draft+"/finalize", nil)
	again.fails(t, 400, invalidRequest, "")
	if !strings.Contains(string(again.body), "is open") {
		t.Errorf("the refusal does not name the status: %s", again.body)
	}
	item := params{"customer": customer, "invoice": draft, "amount": "1"}
	c.post("/v1/invoiceitems", item).fails(t, 400, invalidRequest, "invoice_not_editable")

	c.post("/v1/invoices/"+draft+"/pay", outOfBand).ok(t)
	c.post("/v1/invoices/"+draft+"/pay", outOfBand).fails(t, 400, invalidRequest, "")
	c.post("/v1/invoices/"+draft+"/finalize", nil).fails(t, 400, invalidRequest, "")

	empty := c.post("/v1/invoices", params{"customer": customer}).id(t)
	c.post("/v1/invoices/"+empty+"/finalize", nil).fails(t, 400, invalidRequest, "invoice_no_customer_line_items")

	c.post("/v1/invoices/in_none/finalize", nil).fails(t, 404, invalidRequest, "resource_missing")
	c.post("/v1/invoices/in_none/pay", outOfBand).fails(t, 404, invalidRequest, "resource_missing")
}

func TestZeroAndNegativeTotalsArePaidWhenFinalized(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	for _, amount := range []string{"0", "-300"} {
		id := c.newDraft(customer, amount)
		has(t, c.post("/v1/invoices/"+id+"/finalize", nil).ok(t), map[string]any{
			"status": "paid", "amount_due": 0, "amount_paid": 0, "amount_remaining": 0, "attempted": false,
		})
	}
}

func TestDeclinedPaymentCountsAsAttempt(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	id := c.newOpen(c.newCustomer(), "100")
	for range 2 {
		c.post("/v1/invoices/"+id+"/pay", params{"payment_method": "pm_card_chargeDeclined"}).
			fails(t, 402, "card_error", "card_declined")
	}
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"status": "open", "attempt_count": 2, "amount_paid": 0})
	has(t, c.post("/v1/invoices/"+id+"/pay", params{"paid_out_of_band": "true"}).ok(t), map[string]any{
		"status": "paid", "attempt_count": 2, "amount_paid": 100, "amount_paid_off_stripe": 100,
	})
	if n := db.count("SELECT count(*) FROM invoice_payments WHERE status = 'failed'"); n != 2 {
		t.Errorf("%d failed payments, want 2", n)
	}
}

func TestUncollectibleInvoiceCanBePaid(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	id := c.newOpen(c.newCustomer(), "100")
	db.exec("UPDATE invoices SET status = 'uncollectible', marked_uncollectible_at = now() WHERE id = $1", id)
	paid := c.post("/v1/invoices/"+id+"/pay", params{"paid_out_of_band": "true"}).ok(t)
	has(t, paid, map[string]any{"status": "paid"})
	if at(t, paid, "status_transitions.marked_uncollectible_at") == nil {
		t.Error("the day it was given up is lost")
	}
}

func TestAddresseeIsFrozenWhenFinalized(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	id := c.newDraft(customer, "100")
	c.post("/v1/customers/"+customer, params{"name": "Ada King"}).ok(t)
	has(t, c.post("/v1/invoices/"+id+"/finalize", nil).ok(t), map[string]any{"customer_name": "Ada King"})
	c.post("/v1/customers/"+customer, params{"name": "Countess of Lovelace"}).ok(t)
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"customer_name": "Ada King"})
}

func TestDueDate(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	sent := c.post("/v1/invoices", params{
		"customer": customer, "collection_method": "send_invoice", "days_until_due": "30",
	}).ok(t)
	if got := sent["due_date"].(float64) - sent["created"].(float64); got != 30*24*60*60 {
		t.Errorf("due %v seconds after creation, want 30 days", got)
	}
	has(t, c.post("/v1/invoices", params{
		"customer": customer, "collection_method": "send_invoice", "due_date": "4102444800",
	}).ok(t), map[string]any{"due_date": 4102444800})
}

func TestInvoiceParameters(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	tests := []struct {
		name   string
		params params
		code   string
		param  string
	}{
		{"no customer", params{}, "parameter_missing", "customer"},
		{"empty customer", params{"customer": ""}, "parameter_invalid_empty", "customer"},
		{"no such customer", params{"customer": "cus_none"}, "resource_missing", "customer"},
		{"misspelt name first", params{"custmer": customer}, "parameter_unknown", "custmer"},
		{"nested unknown", params{"customer": customer, "automatic_tax[enabled]": "true"}, "parameter_unknown", "automatic_tax[enabled]"},
		{"bad currency", params{"customer": customer, "currency": "xyz"}, "", "currency"},
		{"bad method", params{"customer": customer, "collection_method": "carrier_pigeon"}, "", "collection_method"},
		{"send without due", params{"customer": customer, "collection_method": "send_invoice"}, "parameter_missing", "days_until_due"},
		{"charge with due", params{"customer": customer, "days_until_due": "1"}, "", "days_until_due"},
		{
			"two due",
			params{"customer": customer, "collection_method": "send_invoice", "days_until_due": "1", "due_date": "4102444800"},
			"parameters_exclusive", "due_date",
		},
		{"due in the past", params{"customer": customer, "collection_method": "send_invoice", "due_date": "1000000000"}, "", "due_date"},
		{"auto advance", params{"customer": customer, "auto_advance": "true"}, "", "auto_advance"},
		{"not a boolean", params{"customer": customer, "auto_advance": "yes"}, "", "auto_advance"},
		{"not expandable", params{"customer": customer, "expand[]": "subscription"}, "", "expand"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := c.post("/v1/invoices", test.params)
			r.fails(t, 400, invalidRequest, test.code)
			if r.param() != test.param {
				t.Errorf("blames %q, want %q: %s", r.param(), test.param, r.body)
			}
		})
	}
	if list := at(t, c.get("/v1/invoices", nil).ok(t), "data").([]any); len(list) != 0 {
		t.Errorf("%d invoices exist after refusals only", len(list))
	}
}

func TestTotalIsBounded(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	id := c.newDraft(customer, "99999999")
	c.post("/v1/invoiceitems", params{"customer": customer, "invoice": id, "amount": "1"}).
		fails(t, 400, invalidRequest, "amount_too_large")
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"total": 99999999})

	for range 2 {
		c.post("/v1/invoiceitems", params{"customer": customer, "currency": "usd", "amount": "-99999999"}).ok(t)
	}
	c.post("/v1/invoices", params{"customer": customer, "pending_invoice_items_behavior": "include"}).
		fails(t, 400, invalidRequest, "amount_too_large")
}

func TestLinesBeyondTheEmbedded(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	customer := c.newCustomer()
	// 251 pending items, made in SQL to be quick.
	db.exec(`INSERT INTO invoice_items (id, created_at, customer_id, currency, amount, period_start, period_end)
		SELECT 'ii_' || lpad(n::text, 3, '0'), now(), $1, 'usd', n, now(), now() FROM generate_series(1, 251) AS n`, customer)
	include := params{"customer": customer, "pending_invoice_items_behavior": "include"}
	inv := c.post("/v1/invoices", include).ok(t)
	id := inv["id"].(string)
	has(t, inv, map[string]any{"total": 250 * 251 / 2, "lines.has_more": true, "lines.data.9.amount": 10})

	var amounts []int
	cursor := params{"limit": "100"}
	for pages := 1; ; pages++ {
		list := c.get("/v1/invoices/"+id+"/lines", cursor).ok(t)
		for _, line := range list["data"].([]any) {
			amounts = append(amounts, int(line.(map[string]any)["amount"].(float64)))
			cursor["starting_after"] = line.(map[string]any)["id"].(string)
		}
		if list["has_more"] == false || pages > 3 {
			break
		}
	}
	for i, amount := range amounts {
		if amount != i+1 {
			t.Fatalf("line %d has amount %d: lines must come in the order of their items", i, amount)
		}
	}
	if len(amounts) != 250 {
		t.Errorf("%d lines, want 250", len(amounts))
	}

	full := c.post("/v1/invoiceitems", params{"customer": customer, "invoice": id, "amount": "1"})
	full.fails(t, 400, invalidRequest, "")
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"total": 250 * 251 / 2})
	has(t, c.post("/v1/invoices", include).ok(t), map[string]any{"total": 251})
	c.get("/v1/invoices/in_none/lines", nil).fails(t, 404, invalidRequest, "resource_missing")
}

func TestConcurrentFinalizesLeaveNoGap(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	customer := c.newCustomer()
	const count = 12
	ids := make([]string, count)
	for i := range ids {
		ids[i] = c.newDraft(customer, "100")
	}
	var group sync.WaitGroup
	for _, id := range ids {
		for range 2 { // each twice: the second must not cost a number
			group.Go(func() {
				r, err := c.trySend(t.Context(), http.MethodPost, "/v1/invoices/"+id+"/finalize", "", nil)
				if err != nil {
					t.Error(err)
				} else if r.status != 200 && r.status != 400 {
					t.Errorf("status %d: %s", r.status, r.body)
				}
			})
		}
	}
	group.Wait()
	if n := db.count("SELECT count(*) FROM invoices WHERE status = 'open'"); n != count {
		t.Errorf("%d open invoices, want %d", n, count)
	}
	if n := db.count("SELECT max(number_sequence) FROM invoices"); n != count {
		t.Errorf("the last number is %d, want %d", n, count)
	}
}

func TestConcurrentChangesOfOneInvoice(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	customer := c.newCustomer()
	for range 4 {
		id := c.newDraft(customer, "100")
		requests := map[string]params{
			"/v1/invoices/" + id + "/finalize":                    nil,
			"/v1/invoices/" + id + "/pay":                         {"paid_out_of_band": "true"},
			"/v1/invoices/" + id + "/pay?expand[]=customer":       {"paid_out_of_band": "true"},
			"/v1/invoiceitems?description=one":                    {"customer": customer, "invoice": id, "amount": "1"},
			"/v1/invoiceitems?description=two":                    {"customer": customer, "invoice": id, "amount": "2"},
			"/v1/invoices?pending_invoice_items_behavior=include": {"customer": customer},
		}
		var group sync.WaitGroup
		for path, p := range requests {
			group.Go(func() {
				r, err := c.trySend(t.Context(), http.MethodPost, path, p.encode(), nil)
				if err != nil {
					t.Error(err)
				} else if r.status != 200 && r.status != 400 {
					t.Errorf("%s: status %d: %s", path, r.status, r.body)
				}
			})
		}
		group.Wait()
	} // the invariants are checked when the test ends
	if n := db.count("SELECT count(*) FROM invoices WHERE status <> 'draft'"); n != 4 {
		t.Errorf("%d finalized invoices, want 4", n)
	}
}

func TestPendingItemsJoinOneInvoiceOnly(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	customer := c.newCustomer()
	for i := range 10 {
		c.post("/v1/invoiceitems", params{"customer": customer, "currency": "usd", "amount": fmt.Sprint(i + 1)}).ok(t)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			form := params{"customer": customer, "pending_invoice_items_behavior": "include"}.encode()
			r, err := c.trySend(t.Context(), http.MethodPost, "/v1/invoices", form, nil)
			if err != nil || r.status != 200 {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
	group.Wait()
	if n := db.count("SELECT sum(total) FROM invoices"); n != 55 {
		t.Errorf("the invoices total %d, want 55", n)
	}
}

func TestConcurrentPaymentsPayOnce(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	id := c.newOpen(c.newCustomer(), "100")
	var paid atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			form := params{"paid_out_of_band": "true"}.encode()
			r, err := c.trySend(t.Context(), http.MethodPost, "/v1/invoices/"+id+"/pay", form, nil)
			switch {
			case err != nil:
				t.Error(err)
			case r.status == 200:
				paid.Add(1)
			case r.status != 400:
				t.Errorf("status %d: %s", r.status, r.body)
			}
		})
	}
	group.Wait()
	if paid.Load() != 1 {
		t.Errorf("%d payments succeeded, want 1", paid.Load())
	}
}

func TestPaymentParameters(t *testing.T) {
	c := newClient(t, newTestDB(t))
	id := c.newOpen(c.newCustomer(), "100")
	tests := []struct {
		name   string
		params params
		code   string
		param  string
	}{
		{"nothing", params{}, "parameter_missing", "paid_out_of_band"},
		{"not out of band", params{"paid_out_of_band": "false"}, "parameter_missing", "paid_out_of_band"},
		{"two ways", params{"paid_out_of_band": "true", "payment_method": "pm_card_visa"}, "parameters_exclusive", "payment_method"},
		{"unknown method", params{"payment_method": "pm_card_amex"}, "resource_missing", "payment_method"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := c.post("/v1/invoices/"+id+"/pay", test.params)
			r.fails(t, 400, invalidRequest, test.code)
			if r.param() != test.param {
				t.Errorf("blames %q, want %q: %s", r.param(), test.param, r.body)
			}
		})
	}
	has(t, c.get("/v1/invoices/"+id, nil).ok(t), map[string]any{"status": "open", "attempt_count": 0})
}

// TestObjectsHaveWhatStripeRequires checks the fields that Stripe's schema requires, and the SDKs of typed languages
// with it.
func TestObjectsHaveWhatStripeRequires(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	id := c.newOpen(customer, "100")
	required := map[string]string{
		"/v1/customers": "id object created livemode address balance currency default_source delinquent description email " +
			"invoice_prefix invoice_settings metadata name next_invoice_sequence phone shipping tax_exempt",
		"/v1/invoiceitems": "id object amount currency customer date discountable livemode period proration quantity " +
			"quantity_decimal description invoice metadata pricing parent",
		"/v1/invoices": "id object amount_due amount_overpaid amount_paid amount_paid_off_stripe amount_remaining " +
			"amount_shipping attempt_count attempted auto_advance automatic_tax collection_method created currency customer " +
			"default_tax_rates discounts issuer lines livemode payment_settings period_end period_start " +
			"post_payment_credit_notes_amount pre_payment_credit_notes_amount starting_balance status_transitions subtotal " +
			"total status number due_date metadata billing_reason",
		"/v1/invoices/" + id + "/lines": "id object amount currency discountable discounts livemode metadata period subtotal " +
			"pricing parent quantity",
	}
	for path, fields := range required {
		object := at(t, c.get(path, params{"limit": "1"}).ok(t), "data.0").(map[string]any)
		for field := range strings.FieldsSeq(fields) {
			if _, ok := object[field]; !ok {
				t.Errorf("%s: no %s in %v", path, field, object)
			}
		}
	}
}
