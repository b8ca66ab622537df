package pooltest

import (
	"encoding/binary"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// unblock is what a pool may put in front of its question: there is nothing here to wait
// for.
const unblock = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"

// scanSettings stands in front of the part of it that is about what functions can do.
const scanSettings = "SET LOCAL statement_timeout TO 0;SET LOCAL jit TO off;SET LOCAL search_path TO pg_catalog,pg_temp;"

// isInspection reports whether a message, as a word, is the question of a pool about
// the state of a session.
func isInspection(word string) bool {
	word = strings.Replace(word, unblock, "", 1)
	return strings.HasPrefix(word, "Q|"+scanSettings) || strings.HasPrefix(word, "Q|SELECT pg_catalog.current_setting(") || strings.HasPrefix(word, "Q|SELECT EXISTS(")
}

var (
	askedPattern = regexp.MustCompile(`current_setting\(E'([^']*)',true\)|EXISTS\(SELECT FROM pg_catalog\.(pg_\w+)`)

	// factViews are where a question looks for a kind of state.
	factViews = map[string]string{
		"pg_depend": "temporary", "pg_listening_channels": "listen", "pg_locks": "lock", "pg_cursors": "cursor",
		"pg_prepared_statements": "prepared",
	}
)

// inspect answers the question of a pool about the state of the session.
func (s *Session) inspect(text string) {
	if s.tx == 'E' {
		s.fail("25P02", "current transaction is aborted, commands ignored until end of transaction block")
		s.ready()
		return
	}
	text, _, scanned := strings.Cut(text, scanSettings)
	if scanned && s.postgres.NoHazards {
		s.fail("42501", "permission denied for table pg_proc")
		s.ready()
		return
	}
	rest, unblocked := strings.CutPrefix(text, unblock)
	first, rest, _ := strings.Cut(rest, ";")
	var row []any
	for _, m := range askedPattern.FindAllStringSubmatch(first, -1) {
		name := unescape(m[1])
		value, defined := s.settings[name]
		switch {
		case m[2] != "":
			row = append(row, map[bool]string{false: "f", true: "t"}[s.State[factViews[m[2]]] > 0])
		case defined:
			row = append(row, value)
		case name == "role":
			row = append(row, "none")
		case name == "session_authorization":
			row = append(row, s.User)
		default:
			row = append(row, nil)
		}
	}
	if unblocked {
		s.Reply("C|SET")
	}
	if first != "" {
		s.Reply("T|current_setting")
		s.Conn.Feed(dataRow(row...))
		s.Reply("C|SELECT 1")
	}
	for query := range strings.SplitSeq(rest, ";") {
		switch {
		case strings.Contains(query, "source"):
			s.Reply("T|name")
			for _, name := range slices.Sorted(maps.Keys(s.settings)) {
				if s.settings[name] != defaultSettings[name] && !strings.Contains(name, ".") {
					s.Conn.Feed(dataRow(name, s.settings[name]))
				}
			}
			s.Reply("C|SELECT 1")
		case strings.Contains(query, "context"):
			s.Reply("T|name", "C|SELECT 0")
		}
	}
	if scanned {
		s.Reply("C|SET", "C|SET", "C|SET", "T|hazard")
		for _, hazard := range s.postgres.Hazards {
			s.Conn.Feed(dataRow(hazard))
		}
		s.Reply("C|SELECT 1")
	}
	s.ready()
}

// dataRow returns a DataRow of strings and nil.
func dataRow(columns ...any) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(columns)))
	for _, column := range columns {
		value, ok := column.(string)
		if !ok {
			body = binary.BigEndian.AppendUint32(body, 0xffffffff)
			continue
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(value))), value...)
	}
	return pgwire.AppendMessage(nil, pgwire.DataRow, body)
}

// clean runs a statement with which the pool takes state away.
func (s *Session) clean(text string) {
	switch text {
	case "CLOSE ALL":
		delete(s.State, "cursor")
	case "UNLISTEN *":
		delete(s.State, "listen")
	case "DISCARD TEMP":
		delete(s.State, "temporary")
	case "DEALLOCATE ALL":
		delete(s.State, "prepared")
		clear(s.statements)
	default:
		delete(s.State, "lock")
	}
	tag, _, _ := strings.Cut(text, " *")
	s.Reply("C|" + tag)
}
