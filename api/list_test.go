package api_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
)

func ids(t *testing.T, list map[string]any) []string {
	t.Helper()
	var ids []string
	for _, object := range at(t, list, "data").([]any) {
		ids = append(ids, object.(map[string]any)["id"].(string))
	}
	return ids
}

func TestPagingYieldsEachObjectOnceUnderInserts(t *testing.T) {
	c := newClient(t, newTestDB(t))
	var want []string // newest first
	for range 25 {
		want = slices.Insert(want, 0, c.newCustomer())
	}
	var inserts sync.WaitGroup
	inserts.Go(func() {
		for range 25 {
			if _, err := c.trySend(t.Context(), "POST", "/v1/customers", "", nil); err != nil {
				t.Error(err)
			}
		}
	})
	defer inserts.Wait()

	var got []string
	list := c.get("/v1/customers", params{"limit": "4", "starting_after": want[0]}).ok(t)
	for {
		got = append(got, ids(t, list)...)
		if list["has_more"] == false {
			break
		}
		list = c.get("/v1/customers", params{"limit": "4", "starting_after": got[len(got)-1]}).ok(t)
	}
	if !slices.Equal(got, want[1:]) {
		t.Errorf("forwards: got %v, want %v", got, want[1:])
	}

	got = nil
	for cursor := want[24]; len(got) < 24; cursor = got[0] {
		page := ids(t, c.get("/v1/customers", params{"limit": "5", "ending_before": cursor}).ok(t))
		got = append(page, got...)
	}
	if got = got[len(got)-24:]; !slices.Equal(got, want[:24]) {
		t.Errorf("backwards: got %v, want %v", got, want[:24])
	}
}

func TestPageParameters(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer := c.newCustomer()
	tests := []struct {
		name   string
		params params
		code   string
	}{
		{"no limit", params{"limit": "0"}, "parameter_invalid_integer"},
		{"large limit", params{"limit": "101"}, "parameter_invalid_integer"},
		{"two cursors", params{"starting_after": customer, "ending_before": customer}, "parameters_exclusive"},
		{"foreign cursor", params{"starting_after": "in_1"}, "resource_missing"},
		{"unknown", params{"page": "2"}, "parameter_unknown"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c.get("/v1/customers", test.params).fails(t, 400, invalidRequest, test.code)
		})
	}
	for range 11 {
		c.newCustomer()
	}
	list := c.get("/v1/customers", params{}).ok(t)
	has(t, list, map[string]any{"object": "list", "url": "/v1/customers", "has_more": true})
	if n := len(ids(t, list)); n != 10 {
		t.Errorf("%d customers by default, want 10", n)
	}
}

func TestCreatedFilter(t *testing.T) {
	db := newTestDB(t)
	c := newClient(t, db)
	first := c.post("/v1/customers", nil).ok(t)
	created := int(first["created"].(float64))
	seconds := func(delta int) string { return strconv.Itoa(created + delta) }
	tests := []struct {
		filter string
		value  string
		want   bool // the customer is listed
	}{
		{"created", seconds(0), true},
		{"created", seconds(1), false},
		{"created", seconds(-1), false},
		{"created[gt]", seconds(0), false},
		{"created[gt]", seconds(-1), true},
		{"created[gte]", seconds(0), true},
		{"created[gte]", seconds(1), false},
		{"created[lt]", seconds(0), false},
		{"created[lt]", seconds(1), true},
		{"created[lte]", seconds(0), true},
		{"created[lte]", seconds(-1), false},
		{"created[gte]", "253402300799", false},
		{"created[lte]", "253402300799", true},
		{"created[gte]", "0", true},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.filter, test.value), func(t *testing.T) {
			list := c.get("/v1/customers", params{test.filter: test.value}).ok(t)
			if got := len(ids(t, list)) == 1; got != test.want {
				t.Errorf("listed: %v, want %v", got, test.want)
			}
		})
	}
}

func TestListFilters(t *testing.T) {
	c := newClient(t, newTestDB(t))
	customer, other := c.newCustomer(), c.newCustomer()
	draft, open := c.newDraft(customer, "1"), c.newOpen(other, "1")
	sent := c.post("/v1/invoices", params{"customer": other, "collection_method": "send_invoice", "days_until_due": "1"}).id(t)
	tests := []struct {
		name   string
		filter params
		want   []string
	}{
		{"all", params{}, []string{sent, open, draft}},
		{"status", params{"status": "open"}, []string{open}},
		{"status without any", params{"status": "void"}, nil},
		{"customer", params{"customer": other}, []string{sent, open}},
		{"both", params{"customer": other, "status": "draft"}, []string{sent}},
		{"method", params{"collection_method": "send_invoice"}, []string{sent}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := ids(t, c.get("/v1/invoices", test.filter).ok(t)); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	c.get("/v1/invoices", params{"status": "late"}).fails(t, 400, invalidRequest, "")

	found := c.post("/v1/customers", params{"email": "x@example.com"}).id(t)
	if got := ids(t, c.get("/v1/customers", params{"email": "x@example.com"}).ok(t)); !slices.Equal(got, []string{found}) {
		t.Errorf("by email: %v, want %v", got, found)
	}
	expanded := c.get("/v1/invoices", params{"expand[0]": "data.customer"}).ok(t)
	has(t, expanded, map[string]any{"data.0.customer.id": other, "data.2.customer.id": customer})
}
