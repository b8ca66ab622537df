package proxy

import (
	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// transaction is a transaction that the client has begun and no server knows of
// yet. BEGIN is answered at once and sent together with the first statement behind
// it: one round trip less, and a client that stops to think holds no server.
type transaction struct {
	// begin is the BEGIN that was answered and not sent.
	begin string

	// sent: it has been sent, and the first group behind it is under way.
	sent bool

	// failed: no server was to be had for the first statement.
	failed bool
}

// open reports whether the client is in a transaction of which the server has not
// told.
func (t *transaction) open() bool { return t.begin != "" || t.sent }

// status is the transaction status that the client knows, while it holds no server.
func (t *transaction) status() pgwire.TxStatus {
	switch {
	case t.failed:
		return pgwire.TxFailed
	case t.begin != "":
		return pgwire.TxActive
	}
	return pgwire.TxIdle
}

// start sends the BEGIN in front of the first statement.
func (t *transaction) start(server *pool.Server) {
	if t.begin != "" {
		server.BeginTransaction(t.begin)
		*t = transaction{sent: true}
	}
}

// settle notes that the server has told about the transaction.
func (t *transaction) settle() { t.sent = false }

// fail notes that a statement in the transaction was refused.
func (t *transaction) fail() { t.failed = t.begin != "" }

// aborted is what PostgreSQL says to a message in a failed transaction: it looks for
// the statement first.
func (s *session) aborted(message []byte, messageType byte) *pgwire.Error {
	body := message[min(len(message), pgwire.HeaderBytes):]
	switch messageType {
	case pgwire.Bind:
		_, body, _ = pgwire.CString(body)
	case pgwire.Describe:
		if len(body) == 0 || body[0] != pgwire.KindStatement {
			return errTransactionAborted
		}
		body = body[1:]
	default:
		return errTransactionAborted
	}
	name, _, ok := pgwire.CString(body)
	if ok && s.statements.get(name) == nil {
		return undefinedStatement(name)
	}
	return errTransactionAborted
}

// errTransactionAborted is what PostgreSQL says in a failed transaction.
var errTransactionAborted = errorf(pgwire.InFailedTransaction, "current transaction is aborted, commands ignored until end of transaction block")
