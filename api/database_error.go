package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs with an answer of their own. See https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	stateSerializationFailure       = "40001"
	stateDeadlockDetected           = "40P01"
	stateInsufficientPrivilege      = "42501"
	stateUndefinedTable             = "42P01"
	stateTooManyConnections         = "53300"
	stateConfigurationLimitExceeded = "53400" // how the proxy sheds
	stateLockNotAvailable           = "55P03"
	stateQueryCanceled              = "57014"
)

// defaultRetryAfter is advised when whoever refused did not say.
const defaultRetryAfter = time.Second

// toAPIError returns what the client is told about err.
func toAPIError(err error) *apiError {
	if known, ok := errors.AsType[*apiError](err); ok {
		return known
	}
	told := &apiError{status: http.StatusInternalServerError, kind: typeAPI, cause: err}
	pgErr, fromServer := errors.AsType[*pgconn.PgError](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, errPoolWait):
		told.shed(defaultRetryAfter)
	case fromServer:
		told.classify(pgErr)
	case connecting:
		told.unavailable("The database cannot be reached.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		told.unavailable("The request did not finish in time. Whether it took effect is not known; " +
			"retry it with the same idempotency key.")
	case isConnectionLoss(err):
		told.unavailable("The connection to the database was lost. Whether the request took effect is not known; " +
			"retry it with the same idempotency key.")
	default:
		told.message = "An unexpected error occurred."
	}
	return told
}

// classify decides by the SQLSTATE the server, or the proxy in front of it, answered with.
func (e *apiError) classify(pgErr *pgconn.PgError) {
	if strings.HasPrefix(pgErr.Detail, shedDetail) { // by whatever SQLSTATE
		e.shed(retryAfterOf(pgErr.Detail))
		return
	}
	switch pgErr.Code {
	case stateConfigurationLimitExceeded, stateTooManyConnections:
		e.shed(retryAfterOf(pgErr.Detail))
	case stateLockNotAvailable, stateSerializationFailure, stateDeadlockDetected:
		e.status, e.kind, e.code, e.retry = http.StatusTooManyRequests, typeInvalidRequest, codeLockTimeout, retryYes
		e.message = "This object cannot be accessed right now because another request is currently accessing it. " +
			"Retry the request with the same idempotency key."
	case stateQueryCanceled:
		e.unavailable("The database cancelled the request because it took too long.")
	case stateUndefinedTable, stateInsufficientPrivilege:
		e.message = "The database is not ready for this server; /readyz says why."
	default:
		switch {
		case pgErr.Severity == "FATAL" || pgErr.Severity == "PANIC", strings.HasPrefix(pgErr.Code, "08"),
			strings.HasPrefix(pgErr.Code, "57P"):
			e.unavailable("The database is not available right now.")
		default:
			e.message = "An unexpected error occurred."
		}
	}
}

// shed makes e a refusal that both SDKs take as final: a retry would only add to the load that caused it.
func (e *apiError) shed(retryAfter time.Duration) {
	e.status, e.kind, e.code, e.retry = http.StatusTooManyRequests, typeInvalidRequest, codeRateLimit, retryNo
	e.retryAfter = retryAfter
	e.message = "The database is overloaded and this request was refused before it took effect. Retry it later."
}

func (e *apiError) unavailable(message string) {
	e.status, e.kind, e.message = http.StatusServiceUnavailable, typeAPI, message
}

// shedDetail begins the DETAIL of the proxy's answer to what it sheds.
const shedDetail = "billproxy shed "

var retryAfterPattern = regexp.MustCompile(`\bretry_after_ms=(\d{1,9})\b`)

// retryAfterOf reads the advice in the DETAIL of a shed: "billproxy shed reason=… retry_after_ms=…".
func retryAfterOf(detail string) time.Duration {
	match := retryAfterPattern.FindStringSubmatch(detail)
	if match == nil {
		return defaultRetryAfter
	}
	milliseconds, err := strconv.Atoi(match[1])
	if err != nil || milliseconds == 0 {
		return defaultRetryAfter
	}
	return time.Duration(milliseconds) * time.Millisecond
}

// isConnectionLoss reports whether err says that a connection ended while it was in use.
func isConnectionLoss(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed)
}

// isConflict reports whether the transaction lost against another and may simply be run again.
func isConflict(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == stateSerializationFailure || pgErr.Code == stateDeadlockDetected)
}

// describe returns err for the log. The text of a data error (class 22) is left out because it quotes what the client
// sent.
func describe(err error) string {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err.Error()
	}
	description := pgErr.Severity + " " + pgErr.Code
	if !strings.HasPrefix(pgErr.Code, "22") {
		description += ": " + pgErr.Message
	}
	if pgErr.ConstraintName != "" {
		description += " (constraint " + pgErr.ConstraintName + ")"
	}
	return strings.ReplaceAll(err.Error(), pgErr.Error(), description)
}
