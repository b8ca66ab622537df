package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const apiKey = "bp_test_e2e_" + secretMarker

// apiClient speaks to the billing API.
type apiClient struct{ base string }

// apiReply is an answer of the billing API, which is JSON whatever happens.
type apiReply struct {
	status int
	header http.Header
	body   map[string]any
}

func (r apiReply) text(key string) string {
	text, _ := r.body[key].(string)
	return text
}

func (c apiClient) call(t testing.TB, method, path string, form url.Values) apiReply {
	t.Helper()
	request, err := http.NewRequestWithContext(patient(t), method, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(apiKey, "")
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
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
	reply := apiReply{status: response.StatusCode, header: response.Header}
	if err := json.Unmarshal(body, &reply.body); err != nil {
		t.Fatalf("%s %s: %s: no JSON: %v: %s", method, path, response.Status, err, body)
	}
	return reply
}

// must calls and expects success.
func (c apiClient) must(t testing.TB, method, path string, form url.Values) apiReply {
	t.Helper()
	reply := c.call(t, method, path, form)
	if reply.status != http.StatusOK {
		t.Fatalf("%s %s: status %d: %v", method, path, reply.status, reply.body)
	}
	return reply
}

// bill creates, finalizes and pays an invoice, and returns its id.
func (c apiClient) bill(t testing.TB) string {
	t.Helper()
	customer := c.must(t, "POST", "/v1/customers", url.Values{"name": {"Ada Lovelace"}, "email": {"ada@example.com"}}).text("id")
	invoice := c.must(t, "POST", "/v1/invoices", url.Values{"customer": {customer}, "currency": {"eur"}}).text("id")
	c.must(t, "POST", "/v1/invoiceitems", url.Values{
		"customer": {customer}, "invoice": {invoice}, "amount": {"4200"}, "currency": {"eur"}, "description": {secretMarker},
	})
	if status := c.must(t, "POST", "/v1/invoices/"+invoice+"/finalize", nil).text("status"); status != "open" {
		t.Errorf("a finalized invoice is %q, want open", status)
	}
	c.must(t, "POST", "/v1/invoices/"+invoice+"/pay", url.Values{"paid_out_of_band": {"true"}})
	c.checkPaid(t, invoice)
	return invoice
}

func (c apiClient) checkPaid(t testing.TB, invoice string) {
	t.Helper()
	paid := c.must(t, "GET", "/v1/invoices/"+invoice, nil)
	if paid.text("status") != "paid" || paid.body["total"] != 4200.0 {
		t.Errorf("got %v, want a paid invoice over 4200", paid.body)
	}
}

// migrate prepares a database for the API.
func migrate(t testing.TB, d *database) {
	t.Helper()
	p := startProcess(t, shared.raceBinary, "migrate", settings{"DIRECT_DATABASE_URL": d.directURL(), "LOG_FORMAT": "json"})
	p.expectExit(t, 0)
}

// expectOwnBackends checks that nobody has gone past the proxy.
func (p *proxyProcess) expectOwnBackends(t testing.TB, d *database) {
	t.Helper()
	eventually(t, "all backends are the proxy's", func() bool {
		count := p.poolStats(t, d).serverCount()
		return count > 0 && len(d.pidsNow(t)) <= count
	})
}

// TestAPIThroughProxy bills somebody, and shows that the API reaches no data unless
// the proxy runs.
func TestAPIThroughProxy(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	migrate(t, d)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	api := startProcess(t, shared.raceBinary, "api", settings{
		"API_DATABASE_URL": p.url(d), "API_KEYS": apiKey, "HTTP_LISTEN": "127.0.0.1:0", "LOG_FORMAT": "json", "LOG_LEVEL": "debug",
	})
	client := apiClient{"http://" + api.waitListening(t, "http listening", "api")}
	eventually(t, "the API is ready", func() bool { return client.call(t, "GET", "/readyz", nil).status == http.StatusOK })
	invoice := client.bill(t)
	p.expectOwnBackends(t, d)

	p.stop(t)
	for _, path := range []string{"/v1/invoices/" + invoice, "/v1/customers"} {
		reply := client.call(t, "GET", path, nil)
		failure, _ := reply.body["error"].(map[string]any)
		if reply.status != http.StatusServiceUnavailable || failure["type"] != "api_error" || failure["message"] == "" {
			t.Errorf("without the proxy %s returned status %d: %v", path, reply.status, reply.body)
		}
	}
	if reply := client.call(t, "GET", "/readyz", nil); reply.status != http.StatusServiceUnavailable {
		t.Errorf("without the proxy /readyz returned status %d: %v", reply.status, reply.body)
	}
	if reply := client.call(t, "GET", "/healthz", nil); reply.status != http.StatusOK {
		t.Errorf("without the proxy /healthz returned status %d: %v", reply.status, reply.body)
	}

	startProxy(t, shared.cluster, settings{"LISTEN": p.address})
	eventually(t, "the API is ready again", func() bool { return client.call(t, "GET", "/readyz", nil).status == http.StatusOK })
	client.checkPaid(t, invoice)
	client.bill(t)
	api.stop(t)
	api.log.check(t)
}

// TestAPIIsShed has the proxy refuse what the API asks: its caller is told so, and when to
// come back, and that its library is not to try again at once.
func TestAPIIsShed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	migrate(t, d)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "MAX_WAITERS": "1", "QUERY_WAIT_TIMEOUT": "1m"})
	api := startProcess(t, shared.raceBinary, "api", settings{
		"API_DATABASE_URL": p.url(d), "API_KEYS": apiKey, "HTTP_LISTEN": "127.0.0.1:0", "LOG_FORMAT": "json",
	})
	client := apiClient{"http://" + api.waitListening(t, "http listening", "api")}
	eventually(t, "the API is ready", func() bool { return client.call(t, "GET", "/readyz", nil).status == http.StatusOK })
	customer := client.must(t, "POST", "/v1/customers", url.Values{"name": {"Ada Lovelace"}}).text("id")

	holder, waiter := loginWire(t, p.address, d), loginWire(t, p.address, d)
	holder.hold(t)
	waiter.query(t, "select 1")
	p.waitPool(t, d, "the queue is full", func(s poolStats) bool { return s.ClientsWaiting == 1 })
	for _, test := range []struct {
		method, path string
		form         url.Values
	}{
		{"GET", "/v1/customers/" + customer, nil},
		{"POST", "/v1/customers", url.Values{"name": {"Grace Hopper"}}},
	} {
		reply := client.call(t, test.method, test.path, test.form)
		failure, _ := reply.body["error"].(map[string]any)
		if reply.status != http.StatusTooManyRequests || failure["code"] != "rate_limit" || reply.header.Get("Stripe-Should-Retry") != "false" || reply.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: status %d, header %v: %v; want 429, not to be tried again at once", test.method, test.path, reply.status, reply.header, reply.body)
		}
	}
	holder.ask(t, "commit")
	waiter.until(t, "ReadyForQuery")
	client.must(t, "GET", "/v1/customers/"+customer, nil)
	if count := value[int](t, d, "select count(*) from customers"); count != 1 {
		t.Errorf("%d customers, want that of before alone", count)
	}
	api.stop(t)
	api.log.check(t)
}

// TestServe runs proxy and API in one process.
func TestServe(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	migrate(t, d)
	p := startProxyBinary(t, shared.raceBinary, "serve", shared.cluster, settings{
		"UPSTREAM_URL": d.directURL(), "API_KEYS": apiKey, "HTTP_LISTEN": "127.0.0.1:0", "DEFAULT_POOL_SIZE": "2",
	})
	client := apiClient{"http://" + p.waitListening(t, "http listening", "api")}
	client.bill(t)
	p.expectOwnBackends(t, d)
	conn := p.connect(t, d)
	var paid int
	if err := conn.QueryRow(patient(t), "select count(*) from invoices where status = 'paid'").Scan(&paid); err != nil || paid != 1 {
		t.Errorf("%d paid invoices, %v; want 1", paid, err)
	}
	refused := apiClient{client.base}.call(t, "GET", "/v1/invoices/in_none", nil)
	if failure, _ := refused.body["error"].(map[string]any); refused.status != http.StatusNotFound || failure["type"] != "invalid_request_error" {
		t.Errorf("an unknown invoice returned status %d: %v", refused.status, refused.body)
	}
}
