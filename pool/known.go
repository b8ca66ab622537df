package pool

import (
	"bytes"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// knownStatement is that a server of the pool has accepted a statement under some
// settings: another Parse of it needs no server.
type knownStatement struct {
	pool    *Pool
	meaning string // of the settings

	// description is what a server answered to a Describe, nil if none was asked.
	description []byte
}

// Bounds of what is remembered per statement. A statement that is used with more
// combinations of pool and settings is asked for again.
const (
	maxKnown            = 16
	maxDescriptionBytes = 16 << 10
)

// knownTo returns what is known of s in the pool under settings with that meaning, or
// nil.
func (s *Statement) knownTo(p *Pool, meaning string) *knownStatement {
	for i := range s.known {
		if k := &s.known[i]; k.pool == p && k.meaning == meaning {
			return k
		}
	}
	return nil
}

// learn remembers that a server has accepted s, and how it describes it unless
// that is nil.
func (s *Statement) learn(p *Pool, meaning string, description []byte) {
	k := s.knownTo(p, meaning)
	if k == nil {
		if len(s.known) == maxKnown {
			s.forgetOne()
		}
		s.known = append(s.known, knownStatement{pool: p, meaning: meaning})
		k = &s.known[len(s.known)-1]
	}
	if description != nil && len(description) <= maxDescriptionBytes {
		k.description = append([]byte(nil), description...)
	}
}

// forgetOne makes room for another combination: best of one that nobody comes back to.
func (s *Statement) forgetOne() {
	private := slices.IndexFunc(s.known, func(k knownStatement) bool { return strings.HasPrefix(k.meaning, unknownMeaning) })
	if private < 0 {
		s.known = s.known[:0]
		return
	}
	s.known = slices.Delete(s.known, private, private+1)
}

// changed forgets what is known of s: its result type is another now.
func (s *Statement) changed() {
	s.Epoch++
	s.known = nil
}

// sameResult reports whether two answers to a Describe tell of the same types and
// names. Where a column comes from may change without anybody's noticing.
func sameResult(a, b []byte) bool {
	for len(a) > 0 && len(b) > 0 {
		typeA, sizeA, errA := pgwire.PeekBackend(a)
		typeB, sizeB, errB := pgwire.PeekBackend(b)
		if errA != nil || errB != nil || typeA != typeB || sizeA > len(a) || sizeB > len(b) || sizeA == 0 || sizeB == 0 {
			return false
		}
		bodyA, bodyB := a[pgwire.HeaderBytes:sizeA], b[pgwire.HeaderBytes:sizeB]
		if typeA == pgwire.RowDescription && !sameColumns(bodyA, bodyB) || typeA != pgwire.RowDescription && !bytes.Equal(bodyA, bodyB) {
			return false
		}
		a, b = a[sizeA:], b[sizeB:]
	}
	return len(a) == len(b)
}

// sameColumns compares RowDescriptions but for the table and the column number of
// each column.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-ROWDESCRIPTION
func sameColumns(a, b []byte) bool {
	const countBytes, sourceBytes, columnBytes = 2, 6, 18
	if len(a) < countBytes || len(b) < countBytes || !bytes.Equal(a[:countBytes], b[:countBytes]) {
		return false
	}
	a, b = a[countBytes:], b[countBytes:]
	for len(a) > 0 && len(b) > 0 {
		nameA, restA, okA := pgwire.CString(a)
		nameB, restB, okB := pgwire.CString(b)
		if !okA || !okB || !bytes.Equal(nameA, nameB) || len(restA) < columnBytes || len(restB) < columnBytes ||
			!bytes.Equal(restA[sourceBytes:columnBytes], restB[sourceBytes:columnBytes]) {
			return false
		}
		a, b = restA[columnBytes:], restB[columnBytes:]
	}
	return len(a) == len(b)
}

// Parsed reports whether a server of the pool has accepted the statement under the
// settings, so that a Parse of it can be answered without one. A change of the
// schema since then shows when the statement is used, as if it had come just after
// the Parse.
func (p *Pool) Parsed(statement *Statement, settings *Settings) bool {
	return statement.knownTo(p, settings.meaning()) != nil
}

// Description returns the ParameterDescription and RowDescription or NoData with
// which a server of the pool has answered a Describe of the statement under the
// settings, nil if none has been asked.
func (p *Pool) Description(statement *Statement, settings *Settings) []byte {
	return statement.described(p, settings.meaning())
}

// parameterDescription returns what PostgreSQL tells first of the answer to a Describe of
// the statement, nil if that is not known.
func (s *Statement) parameterDescription(p *Pool) []byte {
	if s.Parameterless {
		return noParameters
	}
	for i := range s.known {
		k := &s.known[i]
		if _, size, err := pgwire.PeekBackend(k.description); k.pool == p && err == nil && size > 0 && size <= len(k.description) {
			return k.description[:size]
		}
	}
	return nil
}

var noParameters = pgwire.AppendMessage(nil, pgwire.ParameterDescription, []byte{0, 0})

// ReturnsNothing reports whether that is the answer about a statement that returns no
// rows.
func ReturnsNothing(description []byte) bool { return bytes.HasSuffix(description, noData) }

var noData = pgwire.AppendEmpty(nil, pgwire.NoData)

// described returns the same under settings with that meaning.
func (s *Statement) described(p *Pool, meaning string) []byte {
	if k := s.knownTo(p, meaning); k != nil {
		return k.description
	}
	return nil
}

// describedOnce returns the same, or what a server of the pool has answered under other
// settings: PostgreSQL does not look anew what the text means in a failed transaction.
func (s *Statement) describedOnce(p *Pool, meaning string) []byte {
	description := s.described(p, meaning)
	for i := 0; description == nil && i < len(s.known); i++ {
		if s.known[i].pool == p {
			description = s.known[i].description
		}
	}
	return description
}
