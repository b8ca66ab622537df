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
