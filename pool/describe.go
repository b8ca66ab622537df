package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// This file learns from replies what servers know of statements, and notices when
// a statement returns something else than before.

// describe collects the answer to a Describe of a statement, for the next client
// that asks. Of one that is streamed too little is at hand.
func (s *Server) describe(head *reply, messageType byte, body []byte) {
	if head.kind != ReplyDescribe || head.statement == nil {
		return
	}
	if s.streaming > 0 {
		s.description = append(s.description, make([]byte, maxDescriptionBytes+1)...) // too long to keep
		return
	}
	s.description = pgwire.AppendMessage(s.description, messageType, body)
}

// learn remembers what the reply at the head says about a statement.
func (s *Server) learn(done *reply) {
	s.confirm(done)
	switch {
	case done.statement == nil:
	case done.kind == ReplyParse:
		done.statement.learn(s.pool, done.meaning, nil)
	case done.kind == ReplyDescribe:
		s.described(done)
	}
	s.description = s.description[:0]
}

// described compares the answer to a Describe with the last one.
func (s *Server) described(done *reply) {
	statement, epoch := done.statement, done.epoch
	switch {
	case statement.Momentary:
	case !done.compared:
		epoch = s.noteDescription(done)
	default:
		if told := statement.described(s.pool, done.meaning); told != nil && !sameResult(told, s.description) && !mutantIgnoreDrift {
			s.prepared.differ(statement)
		}
	}
	g := s.answered()
	switch {
	case g == nil || g.client == nil:
	case done.mode == forward:
		g.client.OnDescribed(statement, done.told, epoch, done.meaning)
	case s.state == stateShared && !g.passed && g.client.Described(statement, statement.Epoch):
		g.again = AgainPlan // it will be told that the result type has changed
	case s.state != stateShared && s.describing == 0:
		g.client.OnServerDrain()
	}
}

// noteDescription remembers the answer to a Describe, and returns the epoch in which
// it is true.
func (s *Server) noteDescription(done *reply) (epoch uint32) {
	statement, epoch := done.statement, done.epoch
	if last := statement.described(s.pool, done.meaning); last != nil && !sameResult(last, s.description) && !mutantIgnoreDrift {
		s.drifted(statement)
		s.prepared.add(statement, s.lease, done.meaning)
		epoch = statement.Epoch
		s.repeatOutdated(statement)
	}
	if s.prepared.epoch(statement) == statement.Epoch {
		statement.learn(s.pool, done.meaning, s.description)
	}
	return epoch
}

// repeatOutdated runs the groups behind the head of a lane again whose clients were
// told that the statement returns something else: they were sent too early.
func (s *Server) repeatOutdated(statement *Statement) {
	for i := s.answering + 1; s.state == stateShared && i < s.groups.count; i++ {
		if g := s.groups.at(i); g.client != nil && g.client.Described(statement, statement.Epoch) {
			g.again = AgainPlan
		}
	}
}

// confirm counts what the server has answered of the messages that change which
// statements it has.
func (s *Server) confirm(r *reply) {
	if r.kind == ReplyDescribe && r.mode == swallow {
		s.describing--
	}
	if r.statement == nil || r.mode == synthesize || r.kind != ReplyParse && r.kind != ReplyClose {
		return
	}
	s.unconfirmed--
	if s.unconfirmed == 0 && s.client != nil {
		s.client.OnServerDrain()
	}
}
