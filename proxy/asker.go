package proxy

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// asker runs the auth query: it is a client of a pool like any session, holds a server
// while there is something to ask, and has several users asked for at a time, each in a
// sync group of its own, so that no name spoils the answer about another.
type asker struct {
	// Static after init.
	lookup *lookup
	query  AuthQuery
	body   []byte // of the Parse message, without the name

	queue []*answer // to be asked for
	asked []*answer // under way, in the order in which the server answers

	pool   *pool.Pool // while a server is held or waited for
	waiter pool.Waiter
	server *pool.Server
	reply  secretReply // to the first of asked
	timer  reactor.Timer
	logAt  time.Duration // not before, the next failure is logged
}

const (
	// askedAtOnce is how many users one server is asked for at a time.
	askedAtOnce = 32
	// askTimeout is how long the answer about one user may take.
	askTimeout = 5 * time.Second
	// askAttempts is how often a user is asked for if the server is lost, or what it
	// has prepared: it only reads.
	askAttempts = 2
	// askLogPeriod is how often failures are logged: clients could cause many.
	askLogPeriod = time.Second
)

func (k *asker) init(l *lookup, query AuthQuery) {
	k.lookup, k.query = l, query
	k.body = append([]byte(query.Text), 0, 0, 0) // no parameter types
	k.waiter.Client = k
	k.timer.Fire = k.timedOut
}

func (k *asker) loop() reactor.Loop { return k.lookup.proxy.loop }

// ask asks for a user, later in the batch.
func (k *asker) ask(a *answer) {
	k.queue = append(k.queue, a)
	if len(k.queue) == 1 {
		k.loop().Post(k.work)
	}
}

// work sends what there is to ask, as far as it can.
func (k *asker) work() {
	if len(k.queue) == 0 || k.waiter.Waiting() {
		return
	}
	if k.pool == nil && k.paused() {
		k.refuse(errPaused)
		return
	}
	if k.pool == nil {
		k.pool = k.lookup.proxy.pools.Get(k.query.Database, k.query.User)
		k.pool.ClientCount++
		if k.server = k.pool.Acquire(&k.waiter, nil, shed.Work{Login: true}); k.server == nil {
			return
		}
	}
	if len(k.asked) == 0 {
		k.server.Adopt(nil) // never the settings of a client: its search_path is not to be trusted
	}
	for len(k.queue) > 0 && len(k.asked) < askedAtOnce && !k.server.Congested() && !k.server.Unconfirmed() &&
		(len(k.asked) == 0 || !k.server.Contended()) {
		a := k.queue[0]
		k.queue[0] = nil
		k.queue = k.queue[1:]
		k.send(a)
	}
}

// leave notes that no server is held or waited for any more.
func (k *asker) leave() {
	k.pool.ClientCount--
	k.pool, k.server = nil, nil
}

// send asks for one user.
func (k *asker) send(a *answer) {
	a.attempts++
	k.asked = append(k.asked, a)
	if len(k.asked) == 1 {
		k.loop().SetTimer(&k.timer, k.loop().Now()+askTimeout)
	}
	// No formats: parameters and results are text. One parameter, and its length.
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(a.user)))
	b = append(append(b, a.user...), 0, 0)
	unnamed := []byte{0}
	statement := k.pool.Registry().Intern(nil, k.body)
	k.server.Prepare(statement)
	k.server.Bind(unnamed, statement, b, len(b))
	k.server.Forward(pgwire.AppendMessage(nil, pgwire.Describe, []byte{pgwire.KindPortal, 0}))
	k.server.Expect(pool.ReplyDescribe)
	k.server.Forward(pgwire.AppendMessage(nil, pgwire.Execute, make([]byte, 5)))
	k.server.Expect(pool.ReplyExecute)
	k.server.Forward(pgwire.AppendEmpty(nil, pgwire.Sync))
	k.server.Expect(pool.ReplySync)
}

// fail gives up those that are under way. They are asked for again if that may help.
func (k *asker) fail(e *pgwire.Error, again bool) {
	k.reply = secretReply{}
	k.loop().StopTimer(&k.timer)
	asked := k.asked
	k.asked = nil
	var retried []*answer
	for _, a := range asked {
		if again && a.attempts < askAttempts {
			retried = append(retried, a)
			continue
		}
		k.failed(a, e)
	}
	k.queue = append(retried, k.queue...)
	k.loop().Post(k.work)
}

// failed gives up one user.
func (k *asker) failed(a *answer, e *pgwire.Error) {
	if now := k.loop().Now(); now >= k.logAt {
		k.logAt = now + askLogPeriod
		k.lookup.proxy.logger.Warn("auth query failed", "database", k.query.Database, "auth_user", k.query.User, "user", a.user,
			"sqlstate", string(e.SQLState), "error", e.Message)
	}
	k.lookup.answered(a, foundSecret{failed: true})
}

// timedOut gives up a server that does not answer.
func (k *asker) timedOut() {
	server := k.server
	k.leave()
	server.Orphan(true)
	k.fail(fatalf(pgwire.QueryCanceled, "no answer within %s", askTimeout), false)
}

// OnLease implements pool.Client.
func (k *asker) OnLease(server *pool.Server) {
	k.server = server
	k.loop().Post(k.work)
}

// OnRefused implements pool.Client.
func (k *asker) OnRefused(refusal *pgwire.Error) {
	k.leave()
	k.refuse(refusal)
}

// refuse gives up those who are to be asked for.
func (k *asker) refuse(refusal *pgwire.Error) {
	queue := k.queue
	k.queue = nil
	for _, a := range queue {
		k.failed(a, refusal)
	}
}

// pause gives up waiting for a server that does not come: an operator has to get in who
// is to end the pause, and whose secret the configuration has.
func (k *asker) pause() {
	if k.waiter.Waiting() && k.paused() {
		k.pool.Abandon(&k.waiter)
		k.OnRefused(errPaused)
	}
}

func (k *asker) paused() bool { return k.lookup.proxy.pools.Paused(k.query.Database) }

// errPaused is why nobody can be asked for.
var errPaused = errorf(pgwire.CannotConnectNow, "the database of the auth query is paused")

// OnReply implements pool.Client.
func (k *asker) OnReply(b []byte) { k.reply.read(b) }

// OnFailed implements pool.Client.
func (k *asker) OnFailed() {}

// OnGroupEnd implements pool.Client: the answer about a user is complete.
func (k *asker) OnGroupEnd(pgwire.TxStatus) {
	a, reply := k.asked[0], k.reply
	k.asked[0] = nil
	k.asked = k.asked[1:]
	k.reply = secretReply{}
	k.loop().StopTimer(&k.timer)
	found, e := reply.result(a.user)
	switch {
	case e == nil:
		k.lookup.answered(a, found)
	case e.SQLState.Class() == "22": // no user can have such a name
		k.lookup.answered(a, foundSecret{})
	case staleStatement(e) && a.attempts < askAttempts:
		k.queue = append(k.queue, a)
	default:
		k.failed(a, e)
	}
	if len(k.asked) > 0 {
		k.loop().SetTimer(&k.timer, k.loop().Now()+askTimeout)
	} else if k.server.Quiet() {
		k.server.Release()
	}
	k.loop().Post(k.work)
}

// staleStatement reports whether the server has lost what it had prepared, or what that
// returned has changed: it is prepared anew with the next question.
func staleStatement(e *pgwire.Error) bool {
	return e.SQLState == pgwire.UndefinedStatement || e.SQLState == pgwire.FeatureNotSupported
}

// OnSettings implements pool.Client.
func (k *asker) OnSettings(refusal *pgwire.Error) {
	if refusal != nil {
		server := k.server
		k.leave()
		server.Orphan(true)
		k.fail(refusal, false)
	}
}

// OnReleased implements pool.Client.
func (k *asker) OnReleased() { k.leave() }

// OnServerLost implements pool.Client.
func (k *asker) OnServerLost(loss pool.Loss) {
	k.leave()
	k.fail(loss.Cause, true)
}

// OnServerDrain implements pool.Client.
func (k *asker) OnServerDrain() { k.loop().Post(k.work) }

// What follows does not concern an asker: it has no settings, no statements that change,
// and nothing on shared servers.

// OnParameterStatus implements pool.Client.
func (k *asker) OnParameterStatus([]byte, []byte) (pass bool) { return false }

// OnReset implements pool.Client.
func (k *asker) OnReset(pgwire.TxStatus) {}

// OnInspected implements pool.Client.
func (k *asker) OnInspected(*pool.Settings, bool) {}

// OnDeallocateAll implements pool.Client.
func (k *asker) OnDeallocateAll() {}

// OnDiscard implements pool.Client.
func (k *asker) OnDiscard([]pool.Setting) {}

// OnGroupError implements pool.Client.
func (k *asker) OnGroupError(uint32, bool) {}

// OnRunAgain implements pool.Client.
func (k *asker) OnRunAgain([]byte, pool.AgainReason) {}

// OnSharedEnd implements pool.Client.
func (k *asker) OnSharedEnd() {}

// OnSharedLost implements pool.Client.
func (k *asker) OnSharedLost(pool.Loss) {}

// OnAnswer implements pool.Client.
func (k *asker) OnAnswer([]byte) (taken bool) { return false }

// OnAlone implements pool.Client.
func (k *asker) OnAlone(bool) {}

// StatementName implements pool.Client.
func (k *asker) StatementName(*pool.Statement) string { return "auth_query" }

// OnDescribed implements pool.Client.
func (k *asker) OnDescribed(*pool.Statement, uint32, uint32, string) {}

// Described implements pool.Client.
func (k *asker) Described(*pool.Statement, uint32) bool { return false }

// secretReply is the reply to an auth query about one user, as far as it has come.
type secretReply struct {
	buffer []byte // the beginning of a message

	columns  int
	rowCount int
	user     []byte // of the row; nil is null
	secret   []byte
	failure  *pgwire.Error
}

// maxSecretReplyBytes bounds the messages in a reply: those with a name and a secret,
// and PostgreSQL's errors, are much shorter.
const maxSecretReplyBytes = 64 << 10

// read takes more of the reply.
func (r *secretReply) read(b []byte) {
	r.buffer = append(r.buffer, b...)
	for {
		messageType, size, err := pgwire.PeekBackend(r.buffer)
		switch {
		case err != nil:
			r.fail("%v", err)
		case size > maxSecretReplyBytes:
			r.fail("a message of %d bytes: expected at most %d", size, maxSecretReplyBytes)
		}
		if r.failure != nil {
			r.buffer = nil // whatever else comes
			return
		}
		if size == 0 || len(r.buffer) < size {
			return
		}
		r.message(messageType, r.buffer[pgwire.HeaderBytes:size])
		r.buffer = r.buffer[size:]
	}
}

func (r *secretReply) message(messageType byte, body []byte) {
	switch messageType {
	case pgwire.ErrorResponse:
		r.failure = pgwire.ParseError(body)
	case pgwire.NoData:
		r.fail("the query returns no rows: expected a name and a secret")
	case pgwire.RowDescription:
		if len(body) < 2 || binary.BigEndian.Uint16(body) != 2 {
			r.fail("the query does not return two columns: expected a name and a secret")
		}
		r.columns = 2
	case pgwire.DataRow:
		r.row(body)
	}
}

// row reads a row of two columns.
func (r *secretReply) row(body []byte) {
	r.rowCount++
	user, rest, ok := column(body[min(2, len(body)):])
	secret, rest, ok2 := column(rest)
	if !ok || !ok2 || len(rest) > 0 || r.columns != 2 {
		r.fail("malformed row from server")
		return
	}
	r.user, r.secret = user, secret
}

// column reads a value of a row; nil is null. It is a copy.
func column(b []byte) (value, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	length, b := int32(binary.BigEndian.Uint32(b)), b[4:]
	switch {
	case length == -1:
		return nil, b, true
	case length < 0 || int(length) > len(b):
		return nil, nil, false
	}
	return append([]byte{}, b[:length]...), b[length:], true
}

// result is what the reply, which is complete, says about a user. Errors show nothing
// of a secret.
func (r *secretReply) result(user string) (foundSecret, *pgwire.Error) {
	switch {
	case r.failure != nil:
		return foundSecret{}, r.failure
	case r.rowCount == 0:
		return foundSecret{}, nil
	case r.rowCount > 1:
		return foundSecret{}, replyError("the query returns %d rows for one user: expected one at most", r.rowCount)
	case r.user == nil:
		return foundSecret{}, replyError("the query returns a null user name")
	case string(r.user) != user:
		return foundSecret{}, replyError("the query returns another user than it was asked for")
	}
	secret, err := auth.ParseSecret(user, string(r.secret))
	switch {
	case err != nil:
		return foundSecret{}, replyError("%v", err)
	case secret.Password() != "":
		return foundSecret{}, replyError("the query returns neither a SCRAM verifier nor an md5 hash: expected what pg_authid has")
	}
	return foundSecret{secret: secret, exists: true}, nil
}

func (r *secretReply) fail(format string, args ...any) {
	if r.failure == nil {
		r.failure = replyError(format, args...)
	}
}

// replyError is a mistake of the query, not of PostgreSQL.
func replyError(format string, args ...any) *pgwire.Error {
	return errorf(pgwire.ConfigFileError, "%s", fmt.Sprintf(format, args...))
}
