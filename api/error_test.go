package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestErrorResponse(t *testing.T) {
	refusal := &apiError{
		status: 429, kind: typeInvalidRequest, code: codeRateLimit, message: `say "<no>"`, param: "p",
		retry: retryNo, retryAfter: 1200 * time.Millisecond, allow: "GET", cause: errors.New("inside"),
	}
	resp := refusal.response()
	var got map[string]map[string]string
	if err := json.Unmarshal(resp.body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"type": "invalid_request_error", "code": "rate_limit", "message": `say "<no>"`, "param": "p",
	}
	if fmt.Sprint(got["error"]) != fmt.Sprint(want) || resp.status != 429 {
		t.Errorf("status %d: %s", resp.status, resp.body)
	}
	wantHeader := http.Header{"Stripe-Should-Retry": {"false"}, "Retry-After": {"2"}, "Allow": {"GET"}}
	if fmt.Sprint(resp.header) != fmt.Sprint(wantHeader) {
		t.Errorf("headers %v, want %v", resp.header, wantHeader)
	}

	plain := invalidRequest("", "", "m").response()
	if len(plain.header) != 0 || strings.Contains(string(plain.body), "code") || strings.Contains(string(plain.body), "param") {
		t.Errorf("headers %v: %s", plain.header, plain.body)
	}
}

func TestToAPIError(t *testing.T) {
	server := func(severity, code, detail string) error {
		return fmt.Errorf("insert: %w", &pgconn.PgError{Severity: severity, Code: code, Detail: detail, Message: "m"})
	}
	tests := []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"itself", notFound("customer", "x"), 404, codeResourceMissing},
		{"wrapped", fmt.Errorf("pay: %w", notFound("customer", "x")), 404, codeResourceMissing},
		{"pool wait", errPoolWait, 429, codeRateLimit},
		{"shed", server("ERROR", "53400", "retry_after_ms=5"), 429, codeRateLimit},
		{"shed at login", server("FATAL", "53300", ""), 429, codeRateLimit},
		{"lock timeout", server("ERROR", "55P03", ""), 429, codeLockTimeout},
		{"deadline", fmt.Errorf("commit: %w", context.DeadlineExceeded), 503, ""},
		{"starting up", server("FATAL", "57P03", ""), 503, ""},
		{"terminated", server("FATAL", "57P01", ""), 503, ""},
		{"server lost behind the proxy", server("ERROR", "08006", ""), 503, ""},
		{"reset", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, 503, ""},
		{"closed", fmt.Errorf("commit: %w", io.ErrUnexpectedEOF), 503, ""},
		{"closed before use", pgconn.ErrConnClosed, 503, ""},
		{"unique violation", server("ERROR", "23505", ""), 500, ""},
		{"no table", server("ERROR", "42P01", ""), 500, ""},
		{"anything else", errors.New("broken"), 500, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := toAPIError(test.err)
			if got.status != test.status || got.code != test.code || got.message == "" || got.kind == "" {
				t.Errorf("got %+v", got)
			}
			for _, cause := range []string{"broken", "reset", "SQLSTATE"} {
				if body := string(got.response().body); strings.Contains(body, cause) {
					t.Errorf("tells the client the cause: %s", body)
				}
			}
		})
	}
}

func TestRetryAfterOf(t *testing.T) {
	for detail, want := range map[string]time.Duration{
		"billproxy shed reason=queue retry_after_ms=250": 250 * time.Millisecond,
		"retry_after_ms=1500, reason=x":                  1500 * time.Millisecond,
		"":                                               defaultRetryAfter,
		"retry_after_ms=":                                defaultRetryAfter,
		"retry_after_ms=0":                               defaultRetryAfter,
		"retry_after_ms=-5":                              defaultRetryAfter,
		"retry_after_ms=99999999999999999999":            defaultRetryAfter,
		"not_retry_after_ms=5":                           defaultRetryAfter,
	} {
		if got := retryAfterOf(detail); got != want {
			t.Errorf("%q: %v, want %v", detail, got, want)
		}
	}
}

func TestDescribeLeavesOutData(t *testing.T) {
	data := fmt.Errorf("insert: %w", &pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: `invalid input: "secret"`})
	if got := describe(data); got != "insert: ERROR 22P02" {
		t.Errorf("got %q", got)
	}
	constraint := &pgconn.PgError{Severity: "ERROR", Code: "23514", Message: "no", ConstraintName: "c"}
	told := toAPIError(fmt.Errorf("commit: %w", constraint))
	if got := describe(told); !strings.HasSuffix(got, "commit: ERROR 23514: no (constraint c)") {
		t.Errorf("got %q", got)
	}
	if got := describe(errors.New("plain")); got != "plain" {
		t.Errorf("got %q", got)
	}
}

func TestPanicIsAnError(t *testing.T) {
	server, err := New(t.Context(), Config{DatabaseURL: "postgres://127.0.0.1:1/x", APIKeys: []string{"k"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.mux.Handle("GET /v1/broken", endpoint(func(*http.Request) (response, error) { panic("secret") }))
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/broken", nil)
	request.SetBasicAuth("k", "")
	server.Handler().ServeHTTP(recorder, request)
	if recorder.Code != 500 || strings.Contains(recorder.Body.String(), "secret") ||
		!strings.Contains(recorder.Body.String(), `"type": "api_error"`) {
		t.Errorf("status %d: %s", recorder.Code, recorder.Body)
	}
}
