package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// The error types of Stripe's API.
const (
	typeAPI            = "api_error"
	typeCard           = "card_error"
	typeIdempotency    = "idempotency_error"
	typeInvalidRequest = "invalid_request_error"
)

// The error codes in use, a subset of Stripe's.
const (
	codeAmountTooLarge      = "amount_too_large"
	codeCardDeclined        = "card_declined"
	codeEmailInvalid        = "email_invalid"
	codeExists              = "resource_already_exists"
	codeIdempotencyKeyInUse = "idempotency_key_in_use"
	codeInvalidEmpty        = "parameter_invalid_empty"
	codeInvalidInteger      = "parameter_invalid_integer"
	codeInvoiceNotEditable  = "invoice_not_editable"
	codeLockTimeout         = "lock_timeout"
	codeMissing             = "parameter_missing"
	codeMutuallyExclusive   = "parameters_exclusive"
	codeNoLineItems         = "invoice_no_customer_line_items"
	codeRateLimit           = "rate_limit"
	codeResourceMissing     = "resource_missing"
	codeUnknown             = "parameter_unknown"
)

// retryAdvice is what the Stripe-Should-Retry header tells an SDK.
type retryAdvice string

const (
	retryUnsaid retryAdvice = ""
	retryYes    retryAdvice = "true"
	retryNo     retryAdvice = "false"
)

// An apiError is an error the client is told about, in Stripe's shape.
type apiError struct {
	// For the client.
	status     int
	kind       string // one of the type… constants
	code       string // may be empty
	message    string
	param      string // the parameter to blame, may be empty
	retry      retryAdvice
	retryAfter time.Duration
	allow      string // methods, for the Allow header of a 405

	// For this server.
	commit bool  // keep what the operation wrote: a declined payment is an answer, and the attempt counts
	cause  error // logged, never shown
}

// Error returns the message and its cause: for the log, by way of describe.
func (e *apiError) Error() string {
	if e.cause != nil {
		return e.message + ": " + e.cause.Error()
	}
	return e.message
}

// Unwrap returns the cause, which is nil when the client is to blame.
func (e *apiError) Unwrap() error { return e.cause }

// response renders e. Every error answer is JSON with an "error" object: the SDKs retry, or take for success, an error
// they cannot parse.
func (e *apiError) response() response {
	type errorObject struct {
		Type    string `json:"type"`
		Code    string `json:"code,omitempty"`
		Message string `json:"message"`
		Param   string `json:"param,omitempty"`
	}
	resp := jsonResponse(e.status, struct {
		Error errorObject `json:"error"`
	}{errorObject{e.kind, e.code, e.message, e.param}})

	resp.header = http.Header{}
	if e.retry != retryUnsaid {
		resp.header.Set("Stripe-Should-Retry", string(e.retry))
	}
	if e.retryAfter > 0 {
		resp.header.Set("Retry-After", strconv.FormatFloat(math.Ceil(e.retryAfter.Seconds()), 'f', 0, 64))
	}
	if e.allow != "" {
		resp.header.Set("Allow", e.allow)
	}
	return resp
}

// invalidRequest is a 400 that blames param, which may be empty, with one of the code… constants, which may be empty.
func invalidRequest(code, param, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: typeInvalidRequest, code: code, param: param,
		message: fmt.Sprintf(format, args...),
	}
}

// notFound is the 404 for an object named by the request's path.
func notFound(object, id string) *apiError {
	err := noSuch(object, id, "id")
	err.status = http.StatusNotFound
	return err
}

// noSuch is the 400 for an object named by a parameter.
func noSuch(object, id, param string) *apiError {
	return invalidRequest(codeResourceMissing, param, "No such %s: '%s'", object, id)
}
