package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/api"
)

const testKey = "bp_test_key"

// A client speaks to an API server over a real connection.
type client struct {
	t    *testing.T
	base string
}

// newClient returns a client of an API on db.
func newClient(t *testing.T, db *testDB) *client {
	t.Helper()
	return newConfiguredClient(t, api.Config{DatabaseURL: db.url})
}

func newConfiguredClient(t *testing.T, config api.Config) *client {
	t.Helper()
	return &client{t, serve(t, newServer(t, config))}
}

// newServer returns an API that accepts testKey.
func newServer(t *testing.T, config api.Config) *api.Server {
	t.Helper()
	config.APIKeys = append(config.APIKeys, testKey)
	server, err := api.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func serve(t *testing.T, server *api.Server) (baseURL string) {
	t.Helper()
	listening := httptest.NewServer(server.Handler())
	t.Cleanup(listening.Close)
	return listening.URL
}

// A reply is an answer of the API.
type reply struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

// params are the parameters of a request, in Stripe's notation.
type params map[string]string

func (p params) encode() string {
	values := url.Values{}
	for name, value := range p {
		values.Set(name, value)
	}
	return values.Encode()
}

// get sends a GET.
func (c *client) get(path string, p params) *reply {
	c.t.Helper()
	return c.send(c.t.Context(), http.MethodGet, path+"?"+p.encode(), "", nil)
}

// post sends a POST without an idempotency key.
func (c *client) post(path string, p params) *reply {
	c.t.Helper()
	return c.send(c.t.Context(), http.MethodPost, path, p.encode(), nil)
}

// postWithKey sends a POST with an idempotency key.
func (c *client) postWithKey(key, path string, p params) *reply {
	c.t.Helper()
	return c.send(c.t.Context(), http.MethodPost, path, p.encode(), http.Header{"Idempotency-Key": {key}})
}

// postWhenFree is postWithKey, sent again while an earlier request with the key is still ending.
func (c *client) postWhenFree(key, path string, p params) *reply {
	c.t.Helper()
	for {
		if r := c.postWithKey(key, path, p); r.status != http.StatusConflict {
			return r
		}
	}
}

func (c *client) send(ctx context.Context, method, path, body string, header http.Header) *reply {
	c.t.Helper()
	r, err := c.trySend(ctx, method, path, body, header)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// trySend sends any request and checks what holds for every answer. Header wins over the usual headers. It may be
// called by any goroutine.
func (c *client) trySend(ctx context.Context, method, path, body string, header http.Header) (*reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+testKey)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range header {
		request.Header[name] = values
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	r := &reply{status: answer.StatusCode, header: answer.Header}
	if r.body, err = io.ReadAll(answer.Body); err != nil {
		return nil, err
	}
	c.check(method, path, r)
	return r, nil
}

// check holds every answer to what the SDKs rely on.
func (c *client) check(method, path string, r *reply) {
	if err := json.Unmarshal(r.body, &r.json); err != nil {
		c.t.Errorf("%s %s: status %d with a body that is not a JSON object: %q", method, path, r.status, r.body)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		c.t.Errorf("%s %s: content type %q", method, path, got)
	}
	for _, name := range []string{"Request-Id", "Stripe-Version"} {
		if r.header.Get(name) == "" {
			c.t.Errorf("%s %s: no %s", method, path, name)
		}
	}
	_, isError := r.json["error"].(map[string]any)
	if isError != (r.status >= 400) {
		c.t.Errorf("%s %s: status %d with body %s", method, path, r.status, r.body)
	}
	if r.status < 400 && r.header.Get("Stripe-Should-Retry") != "" {
		c.t.Errorf("%s %s: a success says Stripe-Should-Retry, which SDKs obey", method, path)
	}
}

// ok fails the test unless the request succeeded, and returns its object.
func (r *reply) ok(t *testing.T) map[string]any {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	return r.json
}

// id fails the test unless the request succeeded, and returns the id of its object.
func (r *reply) id(t *testing.T) string {
	t.Helper()
	return r.ok(t)["id"].(string)
}

// fails checks that the request was refused with a status, an error type and a code, "" for none.
func (r *reply) fails(t *testing.T, status int, kind, code string) {
	t.Helper()
	failure, _ := r.json["error"].(map[string]any)
	gotCode, _ := failure["code"].(string)
	if r.status != status || failure["type"] != kind || gotCode != code {
		t.Errorf("got status %d, want %d with type %s and code %q: %s", r.status, status, kind, code, r.body)
	}
	if message, _ := failure["message"].(string); message == "" {
		t.Errorf("an error without a message: %s", r.body)
	}
}

// param returns the parameter an error blames.
func (r *reply) param() string {
	failure, _ := r.json["error"].(map[string]any)
	param, _ := failure["param"].(string)
	return param
}

// at returns the value at a path such as "lines.data.0.amount".
func at(t *testing.T, object map[string]any, path string) any {
	t.Helper()
	var value any = object
	for key := range strings.SplitSeq(path, ".") {
		switch container := value.(type) {
		case map[string]any:
			var ok bool
			if value, ok = container[key]; !ok {
				t.Fatalf("no %s in %v", path, object)
			}
		case []any:
			value = container[int(key[0]-'0')]
		default:
			t.Fatalf("no %s in %v", path, object)
		}
	}
	return value
}

// has checks values of an object, by path; numbers are compared as such.
func has(t *testing.T, object, want map[string]any) {
	t.Helper()
	for path, wanted := range want {
		if number, ok := wanted.(int); ok {
			wanted = float64(number)
		}
		if got := at(t, object, path); got != wanted {
			t.Errorf("%s is %v, want %v", path, got, wanted)
		}
	}
}

// newCustomer creates a customer.
func (c *client) newCustomer() string {
	c.t.Helper()
	return c.post("/v1/customers", params{"name": "Ada"}).id(c.t)
}

// newDraft creates a draft invoice with one line of amount cents.
func (c *client) newDraft(customer, amount string) string {
	c.t.Helper()
	id := c.post("/v1/invoices", params{"customer": customer}).id(c.t)
	c.post("/v1/invoiceitems", params{"customer": customer, "invoice": id, "amount": amount}).ok(c.t)
	return id
}

// newOpen creates an open invoice of amount cents.
func (c *client) newOpen(customer, amount string) string {
	c.t.Helper()
	id := c.newDraft(customer, amount)
	c.post("/v1/invoices/"+id+"/finalize", nil).ok(c.t)
	return id
}
