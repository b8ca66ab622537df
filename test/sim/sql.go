package sim

import (
	"strconv"
	"strings"
)

// Tag names one execution of one statement of one client. Every statement that a
// client sends carries one, and so does every row that answers it, so that each
// byte can be traced to who asked for it.
type Tag struct {
	Client, Sequence int
}

// String is the form in which a tag appears in statements and rows.
func (t Tag) String() string {
	return "c" + strconv.Itoa(t.Client) + "-" + strconv.Itoa(t.Sequence)
}

// parseTag reads the form "c3-17"; ok is false for anything else.
func parseTag(s string) (t Tag, ok bool) {
	client, sequence, found := strings.Cut(s, "-")
	if !found || len(client) < 2 || client[0] != 'c' {
		return Tag{}, false
	}
	var err, err2 error
	t.Client, err = strconv.Atoi(client[1:])
	t.Sequence, err2 = strconv.Atoi(sequence)
	return t, err == nil && err2 == nil
}

// statementKind is what a statement does.
type statementKind uint8

const (
	kindEmpty statementKind = iota
	kindSelect
	kindUpdate
	kindBegin
	kindCommit
	kindRollback
	kindCopyIn
	kindCopyOut
	kindSet
	kindSetConfig
	kindReset
	kindResetAll
	kindShow
	kindDiscardAll
	kindDeallocateAll
	kindHold
	kindRelease
	kindClean
	kindInspect
	kindReading
	kindSyntaxError
)

// statement is a statement that was understood. Its fields come from conditions
// of the form "name = value" in the text, for instance
//
//	select * from sim where tag = 'c3-17' and variant = 4 and rows = $2
type statement struct {
	kind statementKind

	tag     value
	variant value // any number, echoed in rows: tells statements of equal shape apart
	rows    value // how many rows come
	width   value // bytes of padding in each
	delay   value // milliseconds before the first
	notices value // how many notices come before the first
	fail    value // the row, or CopyData, at which an error comes; 0 is none
	writes  value // 1: a select that calls a function which writes

	parameterCount int
	settings       []setting // of SET and set_config
	name           string    // of SHOW and RESET; the command tag of BEGIN
	readOnly       bool      // of BEGIN
	held           heldKind  // of what is held, released or cleaned
	inspection     *inspection
}

// value is a constant, or the parameter that gives it.
type value struct {
	text      string
	number    int
	parameter int // from 1; 0 is a constant
}

// setting is a run-time parameter and its value.
type setting struct{ name, value string }

// returnsRows reports whether a Describe finds columns.
func (s *statement) returnsRows() bool {
	return s.kind == kindSelect || s.kind == kindShow || s.kind == kindSetConfig || s.kind == kindInspect || s.kind == kindReading
}

// endsTransaction reports whether it is accepted in a failed transaction.
func (s *statement) endsTransaction() bool { return s.kind == kindCommit || s.kind == kindRollback }

// parseSQL splits a query string into statements. ok is false if one of them is
// not understood; then none is run.
func parseSQL(text string) (statements []*statement, ok bool) {
	text, _, scans := strings.Cut(text, scanSettings)
	if scans {
		defer func() {
			statements = append(statements, &statement{kind: kindInspect, inspection: &inspection{functions: true}})
		}()
	}
	for text != "" {
		end := endOfStatement(text)
		s := parseStatement(strings.TrimSpace(text[:end]))
		if s.kind == kindSyntaxError {
			return nil, false
		}
		if s.kind != kindEmpty {
			statements = append(statements, s)
		}
		text = strings.TrimPrefix(text[end:], ";")
	}
	return statements, true
}

// endOfStatement finds the semicolon outside quotes, or the end.
func endOfStatement(text string) int {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\'':
			quoted = !quoted
		case text[i] == ';' && !quoted:
			return i
		}
	}
	return len(text)
}

func parseStatement(text string) *statement {
	s := &statement{}
	if q := parseInspection(text); q != nil {
		s.kind, s.inspection = kindInspect, q
		return s
	}
	if s := parseHeld(text); s != nil {
		return s
	}
	if s := parseReading(text); s != nil {
		return s
	}
	word, rest, _ := strings.Cut(text, " ")
	switch strings.ToLower(word) {
	case "":
		return s
	case "select":
		s.kind = kindSelect
		if strings.HasPrefix(rest, "pg_catalog.set_config(") {
			return parseSetConfig(rest)
		}
	case "update":
		s.kind = kindUpdate
	case "begin", "start":
		s.kind, s.name = kindBegin, "BEGIN"
		if strings.EqualFold(word, "start") {
			s.name = "START TRANSACTION"
		}
		s.readOnly = strings.Contains(rest, "read only")
	case "commit":
		s.kind = kindCommit
	case "rollback":
		s.kind = kindRollback
	case "copy":
		s.kind = kindCopyIn
		if strings.HasSuffix(rest, " to stdout") {
			s.kind = kindCopyOut
		}
	case "set":
		if rest == "TRANSACTION ISOLATION LEVEL READ COMMITTED" {
			s.kind = kindClean
			s.held = heldNothing
			return s
		}
		name, value, ok := strings.Cut(rest, " = ")
		if !ok {
			return &statement{kind: kindSyntaxError}
		}
		value, comment, _ := strings.Cut(value, " /*")
		s.kind, s.settings = kindSet, []setting{{name, strings.Trim(value, "'")}}
		rest = comment
	case "reset":
		s.kind, s.name = kindReset, rest
		if strings.EqualFold(rest, "all") {
			s.kind = kindResetAll
		}
		return s
	case "show":
		s.kind = kindShow
		s.name, rest, _ = strings.Cut(rest, " ")
	case "discard":
		s.kind = kindDiscardAll
	case "deallocate":
		s.kind = kindDeallocateAll
	default:
		s.kind = kindSyntaxError
		return s
	}
	s.parseConditions(rest)
	return s
}

// parseConditions reads every "name = value" in the text.
func (s *statement) parseConditions(text string) {
	for {
		i := strings.Index(text, " = ")
		if i < 0 {
			return
		}
		name := text[strings.LastIndexByte(text[:i], ' ')+1 : i]
		text = text[i+3:]
		end := strings.IndexAny(text, " )")
		if end < 0 {
			end = len(text)
		}
		v := parseValue(text[:end])
		s.parameterCount = max(s.parameterCount, v.parameter)
		switch name {
		case "tag":
			s.tag = v
		case "variant":
			s.variant = v
		case "rows":
			s.rows = v
		case "width":
			s.width = v
		case "delay":
			s.delay = v
		case "notices":
			s.notices = v
		case "fail":
			s.fail = v
		case "writes":
			s.writes = v
		}
	}
}

func parseValue(text string) value {
	if strings.HasPrefix(text, "$") {
		n, _ := strconv.Atoi(text[1:])
		return value{parameter: n}
	}
	v := value{text: strings.Trim(text, "'")}
	v.number, _ = strconv.Atoi(v.text)
	return v
}

// parseSetConfig reads the calls of set_config that a pooler injects: their
// arguments are escape strings.
func parseSetConfig(text string) *statement {
	s := &statement{kind: kindSetConfig}
	for text != "" {
		var name, value string
		var ok, ok2 bool
		rest, found := strings.CutPrefix(text, "pg_catalog.set_config(")
		name, rest, ok = escapeString(rest)
		rest, comma := strings.CutPrefix(rest, ",")
		value, rest, ok2 = escapeString(rest)
		rest, closed := strings.CutPrefix(rest, ",false)")
		if !found || !ok || !comma || !ok2 || !closed {
			return &statement{kind: kindSyntaxError}
		}
		s.settings = append(s.settings, setting{name, value})
		text = strings.TrimPrefix(rest, ",")
	}
	return s
}

// escapeString reads E'...' with \xNN escapes.
func escapeString(text string) (s, rest string, ok bool) {
	rest, ok = strings.CutPrefix(text, "E'")
	if !ok {
		return "", "", false
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == '\'':
			return b.String(), rest[i+1:], true
		case rest[i] == '\\' && i+3 < len(rest) && rest[i+1] == 'x':
			n, err := strconv.ParseUint(rest[i+2:i+4], 16, 8)
			if err != nil {
				return "", "", false
			}
			b.WriteByte(byte(n))
			i += 3
		default:
			b.WriteByte(rest[i])
		}
	}
	return "", "", false
}
