package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// ReplyKind is what a server was asked, hence which messages answer it.
type ReplyKind uint8

// ReplySync, ReplyQuery and ReplyFunctionCall are answered by ReadyForQuery, after
// anything that belongs to the query or call: they end a sync group. The others are
// answered by the messages that the manual names for them.
const (
	ReplySync ReplyKind = iota
	ReplyQuery
	ReplyFunctionCall

	ReplyParse
	ReplyBind
	ReplyDescribe
	ReplyExecute
	ReplyClose

	// replyJoined stands where the Sync of a group would be that shares that of a
	// group behind it: nothing answers it.
	replyJoined
)

func (k ReplyKind) endsGroup() bool { return k <= ReplyFunctionCall }

// replyMode is what becomes of the reply.
type replyMode uint8

const (
	// forward passes the reply to the client.
	forward replyMode = iota
	// swallow drops the reply: the pool asked, not the client. An error of a
	// swallowed Parse is forwarded all the same, in place of the error of the
	// client's own message behind it, which the server skips.
	swallow
	// synthesize stands for a message that was not sent to the server: when it
	// comes to the head, the client gets the reply from us.
	synthesize
)

// purpose tells the queries of the pool's own apart.
type purpose uint8

const (
	purposeClient   purpose = iota // not the pool's
	purposeSettings                // to give the server the client's settings
	purposeBegin                   // to begin the transaction that the client has begun
	purposeProbe                   // to tell which ReadyForQuery is whose
	purposeRollback                // to end the transaction of a client that is gone
	purposeDiscard                 // to undo all that a session may have left
	purposeClean                   // to undo what a session may have left of some kinds
	purposeInspect                 // to tell what a session has changed
	purposeNumbers                 // to forget sequence numbers, in the middle of a group
	purposeRestore                 // to give back settings of the client that it has reset
	purposeAlias                   // to have the server know a statement by its client's name
	purposeReading                 // to have a statement read by the settings that it belongs to, or to learn which
)

// reply is one entry of a server's expected-reply queue.
type reply struct {
	kind ReplyKind
	mode replyMode

	// purpose is what a query of the pool's own is for.
	purpose purpose

	// tag is the number that the client gave to a message that changes its
	// prepared statements, or 0. The lowest tag that an error made void is
	// reported to the client, which undoes the change.
	tag uint32

	// told is the client's number for its Describe of a statement, or 0; epoch is
	// that in which the server prepared the statement.
	told, epoch uint32

	// statement is what a Parse, Describe or Close to the server is about, or a question
	// of the pool's own; meaning is that under which it is, or was, prepared.
	statement *Statement
	meaning   string

	// compared: a Describe is for a comparison with what a client was told of the
	// statement under that meaning.
	compared bool

	// description is the reply to a Describe in mode synthesize.
	description string

	// copyEnded: the CopyDone or CopyFail of a COPY was sent behind this message,
	// and before the server said that it awaits data.
	copyEnded bool

	// substitute replaces the error with which the server answers a message that
	// was sent to provoke it.
	substitute *pgwire.Error
}

// synthesizedReply is the message for a reply in mode synthesize.
func (r *reply) synthesizedReply() []byte {
	switch r.kind {
	case ReplyClose:
		return closeComplete
	case ReplyExecute:
		return deallocateComplete
	case ReplyDescribe:
		return []byte(r.description)
	default:
		return parseComplete
	}
}

var (
	parseComplete = pgwire.AppendEmpty(nil, pgwire.ParseComplete)
	closeComplete = pgwire.AppendEmpty(nil, pgwire.CloseComplete)

	deallocateComplete = pgwire.AppendMessage(nil, pgwire.CommandComplete, []byte("DEALLOCATE\x00"))
)

// replyQueue is what a server still owes, oldest first. It is a ring that grows
// to the next power of two and keeps its storage.
type replyQueue struct {
	ring  []reply
	first int
	count int
}

func (q *replyQueue) push(r reply) {
	if q.count == len(q.ring) {
		grown := make([]reply, max(8, 2*len(q.ring)))
		for i := range q.count {
			grown[i] = *q.at(i)
		}
		q.ring, q.first = grown, 0
	}
	q.count++
	*q.at(q.count - 1) = r
}

// at returns the i-th entry; it stays in place until the queue is pushed to.
func (q *replyQueue) at(i int) *reply {
	return &q.ring[(q.first+i)&(len(q.ring)-1)]
}

// head returns the entry that the next message answers, or nil.
func (q *replyQueue) head() *reply {
	if q.count == 0 {
		return nil
	}
	return q.at(0)
}

// last returns the entry pushed last, or nil.
func (q *replyQueue) last() *reply {
	if q.count == 0 {
		return nil
	}
	return q.at(q.count - 1)
}

// lowestTag returns the first tag among the first count entries, 0 if there is none.
func (q *replyQueue) lowestTag(count int) uint32 {
	for i := range count {
		if tag := q.at(i).tag; tag != 0 {
			return tag
		}
	}
	return 0
}

// firstAsked returns the first entry that the server was asked for, or nil.
func (q *replyQueue) firstAsked() *reply {
	for i := range q.count {
		if r := q.at(i); r.mode != synthesize && r.kind != replyJoined {
			return r
		}
	}
	return nil
}

// firstForwarded returns the first entry whose reply the client gets, or nil.
func (q *replyQueue) firstForwarded() *reply {
	for i := range q.count {
		if r := q.at(i); r.mode != swallow {
			return r
		}
	}
	return nil
}

func (q *replyQueue) pop() {
	*q.at(0) = reply{}
	q.first = (q.first + 1) & (len(q.ring) - 1)
	q.count--
}

// removeLast takes out the entry pushed last.
func (q *replyQueue) removeLast() {
	*q.last() = reply{}
	q.count--
}

// removeSecond takes out the entry behind the head.
func (q *replyQueue) removeSecond() {
	head := *q.at(0)
	q.pop()
	*q.at(0) = head
}
