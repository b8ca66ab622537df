package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// This file accounts for COPY FROM STDIN, during which PostgreSQL ignores Sync.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY

// copyInBegins accounts for the Syncs that were sent behind the Execute of a COPY:
// PostgreSQL ignores them while it reads COPY data.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func (s *Server) copyInBegins(head *reply) {
	ended := head.copyEnded // the client has sent its data without waiting
	s.copyIn = !ended
	if s.recipient() == nil && !ended {
		defer s.failCopy() // the client went before the COPY began
	}
	if head.kind != ReplyExecute {
		return
	}
	for !ended && s.replies.count > 1 && s.replies.at(1).kind == ReplySync {
		ended = s.replies.at(1).copyEnded
		s.replies.removeSecond()
		s.endIgnored()
		s.syncsIgnored = !ended
	}
	s.copyIn = !ended
}

// endIgnored accounts for the end of a group that PostgreSQL ignores: the next
// group is part of it.
func (s *Server) endIgnored() {
	if s.groups.mergeSecond() {
		return
	}
	s.partial = true
	if s.client != nil { // it may be waiting for the end of the group
		s.client.OnServerDrain()
	}
}

// failCopy ends a COPY FROM STDIN whose client is gone.
func (s *Server) failCopy() {
	s.write(pgwire.AppendCopyFail(s.scratch(), "client gone"))
	s.copyIn = false
	if s.partial {
		s.write(pgwire.AppendEmpty(s.scratch(), pgwire.Sync))
		s.Expect(ReplySync)
	}
}

// copyFailed notes that a COPY ended with an error. If Syncs were sent ahead of
// it, and PostgreSQL failed before it read them, they count after all; we cannot
// know, so the server is not used again.
func (s *Server) copyFailed() {
	if s.syncsIgnored {
		s.uncertain = true
	}
	s.copyIn = false
	s.syncsIgnored = false
}

// probe finds out, behind a failed COPY, whether PostgreSQL has ignored the Syncs
// that were sent ahead of it: an empty query, which is answered like nothing else,
// shows how many ReadyForQuery came before.
func (s *Server) probe() {
	if s.uncertain && !s.partial && !s.probing {
		s.probing = true
		s.inject("", purposeProbe)
	}
}
