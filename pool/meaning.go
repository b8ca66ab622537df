package pool

import "strconv"

// unknownMeaning is of settings that nobody has.
const unknownMeaning = "\x00"

// maxMeaningBytes bounds the description of a private meaning.
const maxMeaningBytes = 1 << 10

// meaning is what prepared statements depend on, of the settings that the server has.
func (s *Server) meaning() string {
	if s.privateMeaning != "" {
		return s.privateMeaning
	}
	return s.clientSettings().meaning()
}

// changeMeaning notes that the client's statement may have changed what texts mean:
// until it is known how, the server's prepared statements are those of nobody else.
// key, if it is not empty, tells of the change, so that the next transaction that
// makes it finds the statements of this one.
func (s *Server) changeMeaning(key string) {
	meaning := s.meaning()
	if key == "" || len(meaning)+len(key) > maxMeaningBytes {
		s.pool.pools.lastMeaning++
		s.privateMeaning = unknownMeaning + strconv.FormatUint(s.pool.pools.lastMeaning, 10)
		return
	}
	s.privateMeaning = meaning + unknownMeaning + key
}

// A client that has temporary objects stays on its server, which does with its statements
// what it would do without a proxy: those that were prepared before another object was made
// are about what they were about.

// noteStay notes in whose stay the statement has been prepared.
func (s *Server) noteStay(statement *Statement) {
	known, _ := s.prepared.lru.Peek(statement.ID)
	known.stay, known.inspections = s.stay, s.inspections
	s.prepared.lru.Add(statement.ID, known)
}

// keeps reports whether the server has the statement as it was prepared for its client, who
// has had temporary objects since then: when the first is made, PostgreSQL looks anew what a
// text is about.
func (s *Server) keeps(statement *Statement) bool {
	if s.pins&StateTemporary == 0 {
		return false
	}
	known, ok := s.prepared.lru.Peek(statement.ID)
	return ok && known.stay == s.stay && known.inspections >= s.temporarySince &&
		s.prepared.use(statement, s.lease, known.meaning)
}
