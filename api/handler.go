package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBodyBytes bounds a request's body.
	maxBodyBytes = 1 << 20

	// writeTimeout is how long a client may take to read its answer.
	writeTimeout = 10 * time.Second

	// apiVersion is what is answered to a client that names no Stripe-Version: the version of Stripe's schema the
	// objects were checked against.
	apiVersion = "2026-08-26.dahlia"
)

// A response is a complete answer: nothing is written before all of it is known, so a panic or a failure half-way
// never leaves half an object behind.
type response struct {
	status int
	header http.Header // beyond the headers every response has; may be nil
	body   []byte
}

// jsonResponse renders value.
func jsonResponse(status int, value any) response {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Sprintf("BUG: encode %T: %v", value, err))
	}
	return response{status: status, body: body.Bytes()}
}

// An endpoint answers a request. An error that is not an [apiError] is a failure of the database or of this server.
type endpoint func(r *http.Request) (response, error)

// ServeHTTP hands the answer to serve, which is the only caller.
func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := w.(*answer)
	a.response, a.err = e(r)
	a.given = true
}

// An answer collects what the mux and the endpoint have to say. As a ResponseWriter it hears only the mux's own
// answers: not found, method not allowed, redirect.
type answer struct {
	header   http.Header
	status   int
	given    bool
	response response
	err      error
}

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements [http.ResponseWriter]; the mux's text is replaced by JSON.
func (a *answer) Write(text []byte) (int, error) { return len(text), nil }

// serve answers every request: the outermost layer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	requestID, _ := s.ids.next(requestPrefix)
	deadline := start.Add(s.requestTimeout)
	ctx, cancel := context.WithDeadline(r.Context(), deadline)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	// A client that sends or reads slowly must not hold on to the request. Not every ResponseWriter has deadlines.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(deadline)
	_ = control.SetWriteDeadline(deadline.Add(writeTimeout))

	resp, err := s.route(r)
	if err != nil {
		resp = toAPIError(err).response()
	}

	header := w.Header()
	for name, values := range resp.header {
		header[name] = values
	}
	header.Set("Request-Id", requestID)
	header.Set("Stripe-Version", stripeVersion(r))
	if key := r.Header.Get(idempotencyKeyHeader); key != "" {
		header.Set(idempotencyKeyHeader, key)
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(resp.body)))
	w.WriteHeader(resp.status)
	_, _ = w.Write(resp.body) // a client that left is no failure of ours

	s.log(r, requestID, resp.status, time.Since(start), err)
}

func (s *Server) log(r *http.Request, requestID string, status int, took time.Duration, err error) {
	level := slog.LevelDebug
	attrs := []slog.Attr{
		slog.String("request_id", requestID),
		slog.String("method", r.Method),
		slog.String("route", r.Pattern),
		slog.Int("status", status),
		slog.Duration("duration", took),
	}
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", describe(err)))
	}
	s.logger.LogAttrs(r.Context(), level, "request", attrs...)
}

func stripeVersion(r *http.Request) string {
	if version := r.Header.Get("Stripe-Version"); version != "" {
		return version
	}
	return apiVersion
}

// route authenticates and routes r, and turns a panic into an error.
func (s *Server) route(r *http.Request) (resp response, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
		}
	}()
	if r.URL.Path == "/v1" || strings.HasPrefix(r.URL.Path, "/v1/") {
		if refusal := s.authenticate(r); refusal != nil {
			return response{}, refusal
		}
	}
	a := &answer{header: http.Header{}}
	s.mux.ServeHTTP(a, r)
	switch {
	case a.given:
		return a.response, a.err
	case a.status == http.StatusMethodNotAllowed:
		return response{}, &apiError{
			status: http.StatusMethodNotAllowed, kind: typeInvalidRequest, allow: a.header.Get("Allow"),
			message: fmt.Sprintf("Method not allowed (%s: %s)", r.Method, shorten(r.URL.Path)),
		}
	case a.status < http.StatusBadRequest: // a redirect to the clean form of the path
		return response{status: a.status, header: http.Header{"Location": a.header["Location"]}}, nil
	default:
		return response{}, &apiError{
			status: http.StatusNotFound, kind: typeInvalidRequest,
			message: fmt.Sprintf("Unrecognized request URL (%s: %s)", r.Method, shorten(r.URL.Path)),
		}
	}
}

// An operation works on the database once the request has been found valid. What it returns is rendered as the answer.
type operation func(ctx context.Context, db querier) (any, error)

// A handler checks the parameters of a request and returns what to do. It must not touch the database: complaints of p
// are answered, and not recorded under an idempotency key, before the operation runs.
type handler func(p *params) operation

// read makes an endpoint of a handler whose operation only reads.
func (s *Server) read(h handler) endpoint {
	return func(r *http.Request) (response, error) {
		parsed, err := parseForm(r.URL.RawQuery)
		if err != nil {
			return response{}, err
		}
		op, err := prepare(h, r, parsed)
		if err != nil {
			return response{}, err
		}
		return s.db.read(r.Context(), op)
	}
}

// write makes an endpoint of a handler whose operation changes something; it runs in a transaction of its own, once per
// idempotency key.
func (s *Server) write(h handler) endpoint {
	return func(r *http.Request) (response, error) {
		encoded, err := encodedForm(r)
		if err != nil {
			return response{}, err
		}
		parsed, err := parseForm(encoded)
		if err != nil {
			return response{}, err
		}
		op, err := prepare(h, r, parsed)
		if err != nil {
			return response{}, err
		}
		key, err := idempotencyKeyOf(r, parsed)
		if err != nil {
			return response{}, err
		}
		return s.execute(r.Context(), key, op)
	}
}

func prepare(h handler, r *http.Request, parsed form) (operation, *apiError) {
	p := newParams(r, parsed)
	op := h(p)
	return op, p.finish()
}

// encodedForm returns the parameters of a POST, from its query and its body.
func encodedForm(r *http.Request) (string, *apiError) {
	body, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		refusal := invalidRequest("", "", "The request body is larger than %d bytes.", tooLarge.Limit)
		refusal.status = http.StatusRequestEntityTooLarge
		return "", refusal
	}
	if err != nil {
		return "", invalidRequest("", "", "The request body could not be read to its end.")
	}
	if len(body) == 0 {
		return r.URL.RawQuery, nil
	}
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || contentType != "application/x-www-form-urlencoded" {
		return "", invalidRequest("", "", "The request body must be application/x-www-form-urlencoded, not %q.",
			shorten(r.Header.Get("Content-Type")))
	}
	return r.URL.RawQuery + "&" + string(body), nil
}
