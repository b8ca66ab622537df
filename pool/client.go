package pool

import (
	"github.com/billproxy/billproxy/pool/pgwire"
)

// Client is what a pool knows of a client's session. Its methods run on the loop
// and must not call back into the pool, except where they say so.
type Client interface {
	// OnLease hands over the server that the client waited for. From here on the
	// client owns it until OnReleased or OnServerLost. The client starts to use it
	// later, not from within OnLease.
	OnLease(server *Server)

	// OnRefused ends a wait without a server. The client may acquire again.
	OnRefused(refusal *pgwire.Error)

	// OnReply passes bytes of backend messages on. They are valid during the call
	// and may be part of a message.
	OnReply(b []byte)

	// OnParameterStatus reports that a setting of the server changed while the
	// client held it, and is asked whether to pass the message on. The slices are valid
	// during the call.
	OnParameterStatus(name, value []byte) (pass bool)

	// OnReset reports that the group at hand, which may have reset settings, is about
	// to end well.
	OnReset(status pgwire.TxStatus)

	// OnDeallocateAll reports that the client's statement deallocated every prepared
	// statement of its session.
	OnDeallocateAll()

	// OnDiscard reports at the end of a group that all that the session had changed was
	// undone in it. since is what has been set since then, of what PostgreSQL reports.
	OnDiscard(since []Setting)

	// OnGroupError reports that an error ended a sync group early: of the
	// messages in it, those with a tag of at least lowestTag had no effect, none
	// if it is 0.
	OnGroupError(lowestTag uint32, parseFailed bool)

	// OnFailed reports that the group at hand has failed in a way that makes clients try
	// again: PostgreSQL had too few resources, ran out of time, or found a conflict.
	OnFailed()

	// OnGroupEnd reports that the ReadyForQuery of a group has been passed on.
	// The client may release the server in the call.
	OnGroupEnd(status pgwire.TxStatus)

	// OnRunAgain asks the client to send a group, whose messages are in request,
	// once more: it came to nothing for a reason that is not the client's. The
	// client has been passed nothing of it. request is valid during the call. The
	// server, if the client holds one, is ready for it.
	OnRunAgain(request []byte, reason AgainReason)

	// OnSharedEnd reports that the ReadyForQuery of a group on a shared server has
	// been passed on.
	OnSharedEnd()

	// OnAnswer gives a client that follows another the answer to what both ask, valid
	// during the call. A client that cannot take it reports false.
	OnAnswer(reply []byte) (taken bool)

	// OnAlone reports to a client that follows another that there is no answer for it: it
	// has to ask again. failed: the query has failed, or has a long reply, and would if it
	// were asked for both again.
	OnAlone(failed bool)

	// OnSharedLost reports that a shared server's connection ended in the middle of
	// the client's replies.
	OnSharedLost(loss Loss)

	// StatementName is the client's name for the statement.
	StatementName(statement *Statement) string

	// OnDescribed reports that the Describe with that number has been answered: the
	// client knows what the statement returned in that epoch, under settings with that
	// meaning.
	OnDescribed(statement *Statement, told, epoch uint32, meaning string)

	// Described reports whether the client has been told the columns of what the
	// statement returns, as they were before the given epoch.
	Described(statement *Statement, epoch uint32) bool

	// OnSettings reports the outcome of Server.Adopt: nil, or why the server would
	// not have the client's settings.
	OnSettings(refusal *pgwire.Error)

	// OnInspected reports the settings that the server has between two transactions,
	// the first of which may have changed them. current is false if what the client has
	// sent since may have changed them again.
	OnInspected(settings *Settings, current bool)

	// OnReleased reports that the server is no longer the client's.
	OnReleased()

	// OnServerLost reports that the server's connection ended. The client owes its
	// own client an answer for each group that the loss names.
	OnServerLost(loss Loss)

	// OnServerDrain reports that the server takes bytes again after Congested was
	// true, or that Ready may be asked again.
	OnServerDrain()
}

// Loss tells what a client had under way on a server whose connection ended.
type Loss struct {
	// Cause is the server's last words, if it said any, else our own. Its severity
	// is FATAL.
	Cause *pgwire.Error

	// InTransaction: the client had seen a ReadyForQuery inside a transaction.
	InTransaction bool

	// State: the server had, or may have had, state of the client's session that
	// cannot be moved.
	State bool

	// GroupCount is how many complete groups have no ReadyForQuery yet. Partial:
	// the messages of one more were sent without their Sync.
	GroupCount int
	Partial    bool

	// FirstHasError: the first of them has had its ErrorResponse.
	FirstHasError bool

	// LowestTag is the lowest tag of the messages that the client has had no reply
	// to, 0 if there is none: what they would have changed is not so.
	LowestTag uint32

	// MidMessage: part of a message was passed on, so nothing can follow it.
	MidMessage bool
}
