package api_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestCustomer(t *testing.T) {
	c := newClient(t, newTestDB(t))
	created := c.post("/v1/customers", params{
		"name": "Söhne & Co + 1", "email": "a@example.com", "phone": "123", "description": "d",
		"address[line1]": "l+1", "address[city]": "B", "metadata[plan]": "pro", "metadata[0]": "zero",
	}).ok(t)
	id := created["id"].(string)
	has(t, created, map[string]any{
		"object": "customer", "name": "Söhne & Co + 1", "email": "a@example.com", "address.line1": "l+1",
		"address.city": "B", "address.state": nil, "metadata.plan": "pro", "metadata.0": "zero", "livemode": false,
		"balance": 0, "next_invoice_sequence": 1, "tax_exempt": "none",
	})

	updated := c.post("/v1/customers/"+id, params{
		"email": "", "address[city]": "C", "metadata[plan]": "", "metadata[new]": "yes",
	}).ok(t)
	has(t, updated, map[string]any{
		"email": nil, "name": "Söhne & Co + 1", "address.line1": "l+1", "address.city": "C", "metadata.new": "yes",
		"metadata.0": "zero",
	})
	if _, kept := updated["metadata"].(map[string]any)["plan"]; kept {
		t.Error("metadata[plan]= did not remove the key")
	}
	if got := c.get("/v1/customers/"+id, nil); string(got.body) != string(c.post("/v1/customers/"+id, nil).body) {
		t.Errorf("an update without parameters changed something: %s", got.body)
	}
	has(t, c.post("/v1/customers/"+id, params{"metadata": "", "address": ""}).ok(t), map[string]any{"address": nil})
	if metadata := at(t, c.get("/v1/customers/"+id, nil).ok(t), "metadata").(map[string]any); len(metadata) != 0 {
		t.Errorf("metadata= left %v", metadata)
	}
	c.get("/v1/customers/cus_none", nil).fails(t, 404, invalidRequest, "resource_missing")
	c.post("/v1/customers/cus_none", nil).fails(t, 404, invalidRequest, "resource_missing")
}

func TestCustomerParameters(t *testing.T) {
	c := newClient(t, newTestDB(t))
	c.post("/v1/customers", params{"invoice_prefix": "TAKEN"}).ok(t)
	manyKeys := params{}
	for i := range 51 {
		manyKeys[fmt.Sprintf("metadata[k%d]", i)] = "v"
	}
	tests := []struct {
		name   string
		params params
		code   string
		param  string
	}{
		{"email", params{"email": "nobody"}, "email_invalid", "email"},
		{"email with name", params{"email": "A <a@example.com>"}, "email_invalid", "email"},
		{"prefix", params{"invoice_prefix": "ab"}, "", "invoice_prefix"},
		{"prefix taken", params{"invoice_prefix": "TAKEN"}, "resource_already_exists", "invoice_prefix"},
		{"long name", params{"name": strings.Repeat("ä", 257)}, "", "name"},
		{"many keys", manyKeys, "", "metadata"},
		{"long key", params{"metadata[" + strings.Repeat("k", 41) + "]": "v"}, "", "metadata[" + strings.Repeat("k", 41) + "]"},
		{"long value", params{"metadata[k]": strings.Repeat("v", 501)}, "", "metadata[k]"},
		{"nested metadata", params{"metadata[a][b]": "v"}, "parameter_unknown", "metadata[a][b]"},
		{"metadata as text", params{"metadata": "v"}, "", "metadata"},
		{"address as text", params{"address": "v"}, "", "address"},
		{"unknown part", params{"address[planet]": "v"}, "parameter_unknown", "address[planet]"},
		{"unsupported", params{"tax_exempt": "none"}, "parameter_unknown", "tax_exempt"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := c.post("/v1/customers", test.params)
			r.fails(t, 400, invalidRequest, test.code)
			if r.param() != test.param {
				t.Errorf("blames %q, want %q: %s", r.param(), test.param, r.body)
			}
		})
	}
	c.post("/v1/customers", params{"name": strings.Repeat("ä", 256)}).ok(t)
}
