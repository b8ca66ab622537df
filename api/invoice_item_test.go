package api_test

import "testing"

func TestInvoiceItem(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	item := c.post("/v1/invoiceitems", params{
		"customer": customer, "unit_amount_decimal": "12.345", "quantity": "10", "currency": "usd",
		"period[start]": "1700000000", "period[end]": "1700000060", "metadata[k]": "v",
	}).ok(t)
	has(t, item, map[string]any{
		"object": "invoiceitem", "amount": 123, "quantity": 10, "quantity_decimal": "10", "customer": customer,
		"pricing.unit_amount_decimal": "12.345", "period.start": 1700000000, "period.end": 1700000060,
		"metadata.k": "v", "invoice": nil,
	})
	same := c.get("/v1/invoiceitems/"+item["id"].(string), params{"expand[]": "customer"}).ok(t)
	has(t, same, map[string]any{"amount": 123, "customer.name": "Ada", "customer.id": customer})
	c.get("/v1/invoiceitems/ii_none", nil).fails(t, 404, invalidRequest, "resource_missing")
}

func TestInvoiceItemParameters(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	other := c.newCustomer()
	draft := c.newDraft(customer, "100")
	tests := []struct {
		name  string
		want  string // code
		param string
		give  params // beyond customer
	}{
		{"no amount", "parameter_missing", "amount", params{"currency": "usd"}},
		{"no currency", "parameter_missing", "currency", params{"amount": "1"}},
		{"fraction", "parameter_invalid_integer", "amount", params{"amount": "1.5", "currency": "usd"}},
		{"words", "parameter_invalid_integer", "amount", params{"amount": "ten", "currency": "usd"}},
		{"beyond int64", "parameter_invalid_integer", "amount", params{"amount": "9223372036854775808", "currency": "usd"}},
		{"too large", "amount_too_large", "amount", params{"amount": "100000000", "currency": "usd"}},
		{"too negative", "amount_too_large", "amount", params{"amount": "-100000000", "currency": "usd"}},
		{
			"product too large", "amount_too_large", "amount",
			params{"unit_amount_decimal": "1000", "quantity": "9223372036854775807", "currency": "usd"},
		},
		{"bad decimal", "", "unit_amount_decimal", params{"unit_amount_decimal": "1e3", "currency": "usd"}},
		{
			"two amounts", "parameters_exclusive", "unit_amount_decimal",
			params{"amount": "1", "unit_amount_decimal": "1", "currency": "usd"},
		},
		{"amount and quantity", "parameters_exclusive", "quantity", params{"amount": "1", "quantity": "2", "currency": "usd"}},
		{
			"negative quantity", "parameter_invalid_integer", "quantity",
			params{"unit_amount_decimal": "1", "quantity": "-1", "currency": "usd"},
		},
		{"half a period", "parameter_missing", "period[end]", params{"amount": "1", "currency": "usd", "period[start]": "1"}},
		{
			"backward period", "", "period[end]",
			params{"amount": "1", "currency": "usd", "period[start]": "2", "period[end]": "1"},
		},
		{"no such invoice", "resource_missing", "invoice", params{"amount": "1", "invoice": "in_none"}},
		{"another currency", "", "currency", params{"amount": "1", "invoice": draft, "currency": "eur"}},
		{"another's invoice", "", "invoice", params{"amount": "1", "invoice": draft, "customer": other}},
		{"no such customer", "resource_missing", "customer", params{"amount": "1", "currency": "usd", "customer": "cus_none"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			form := params{"customer": customer}
			for name, value := range test.give {
				form[name] = value
			}
			r := c.post("/v1/invoiceitems", form)
			r.fails(t, 400, invalidRequest, test.want)
			if r.param() != test.param {
				t.Errorf("blames %q, want %q: %s", r.param(), test.param, r.body)
			}
		})
	}
	has(t, c.get("/v1/invoices/"+draft, nil).ok(t), map[string]any{"total": 100})
}

func TestListInvoiceItems(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer, other := c.newCustomer(), c.newCustomer()
	draft := c.newDraft(customer, "1")
	c.post("/v1/invoiceitems", params{"customer": customer, "amount": "2", "currency": "usd"}).ok(t)
	c.post("/v1/invoiceitems", params{"customer": other, "amount": "3", "currency": "usd"}).ok(t)
	tests := []struct {
		name   string
		filter params
		want   []int // amounts
	}{
		{"all", params{}, []int{3, 2, 1}},
		{"customer", params{"customer": customer}, []int{2, 1}},
		{"invoice", params{"invoice": draft}, []int{1}},
		{"pending", params{"pending": "true"}, []int{3, 2}},
		{"not pending", params{"pending": "false"}, []int{1}},
		{"both", params{"pending": "true", "customer": customer}, []int{2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			items := at(t, c.get("/v1/invoiceitems", test.filter).ok(t), "data").([]any)
			if len(items) != len(test.want) {
				t.Fatalf("%d items, want %v", len(items), test.want)
			}
			for i, item := range items {
				has(t, item.(map[string]any), map[string]any{"amount": test.want[i]})
			}
		})
	}
	expanded := c.get("/v1/invoiceitems", params{"expand[]": "data.customer"}).ok(t)
	has(t, expanded, map[string]any{"data.0.customer.id": other, "data.2.customer.id": customer})
}
