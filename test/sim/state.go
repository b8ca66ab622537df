package sim

import (
	"bytes"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file is the state of a session besides its settings: what a client leaves on
// its server until it takes it away, or goes.

// heldKind is a kind of such state.
type heldKind uint8

const (
	heldTemporary heldKind = iota
	heldChannel
	heldLock
	heldCursor
	heldPrepared
	heldCount
)

// heldTexts are how a client makes and takes away each kind, and the table, view or
// function in which a pooler looks for it.
var heldTexts = [heldCount]struct{ hold, release, view string }{
	heldTemporary: {"create temporary table held", "drop table held", "pg_depend"},
	heldChannel:   {"listen held", "unlisten held", "pg_listening_channels"},
	heldLock:      {"select pg_advisory_lock(1)", "select pg_advisory_unlock_all()", "pg_locks"},
	heldCursor:    {"declare held cursor with hold for select 1", "close held", "pg_cursors"},
	heldPrepared:  {"prepare held as select 1", "deallocate held", "pg_prepared_statements"},
}

// cleaning is how a pooler takes everything of a kind away.
var cleaning = map[string]heldKind{
	"discard temp": heldTemporary, "unlisten *": heldChannel, "close all": heldCursor,
	"select pg_catalog.pg_advisory_unlock_all()": heldLock,
	"discard sequences":                          heldNothing,
}

// heldNothing stands for what is not simulated.
const heldNothing = heldCount

// held is, by kind, the client whose the state is that a session has; 0 is nobody.
type held [heldCount]int

// parseHeld reads a statement about such state, nil if the text is none.
func parseHeld(text string) *statement {
	bare, comment, _ := strings.Cut(text, " /*")
	if kind, ok := cleaning[strings.ToLower(bare)]; ok {
		return &statement{kind: kindClean, held: kind}
	}
	for kind, texts := range heldTexts {
		s := &statement{held: heldKind(kind)}
		switch bare {
		case texts.hold:
			s.kind = kindHold
		case texts.release:
			s.kind = kindRelease
		default:
			continue
		}
		s.parseConditions(comment)
		return s
	}
	return nil
}

// hold runs a statement about such state.
func (b *Backend) hold(s *statement, client int) (tag string, ok bool) {
	if s.held == heldNothing {
		return "DISCARD SEQUENCES", true
	}
	exists := b.held[s.held] != 0
	switch kind := s.held; {
	case s.kind == kindClean:
		b.held[kind] = 0
	case s.kind == kindRelease && !exists && (kind == heldTemporary || kind == heldCursor || kind == heldPrepared):
		b.raise([heldCount]string{heldTemporary: "42P01", heldCursor: "34000", heldPrepared: "26000"}[kind], "\"held\" does not exist")
		return "", false
	case s.kind == kindRelease:
		b.held[kind] = 0
	case exists && (kind == heldTemporary || kind == heldCursor || kind == heldPrepared):
		b.raise([heldCount]string{heldTemporary: "42P07", heldCursor: "42P03", heldPrepared: "42P05"}[kind], "\"held\" already exists")
		return "", false
	default:
		b.held[kind] = max(client, 1)
	}
	words := strings.Fields(strings.ToUpper(heldTexts[s.held].hold))
	return words[0], true
}

// restoreHeld takes back what the transaction at hand has done; locks and prepared
// statements know no transactions.
func (b *Backend) restoreHeld() {
	for _, kind := range []heldKind{heldTemporary, heldChannel, heldCursor} {
		b.held[kind] = b.savedHeld[kind]
	}
}

// unhold takes back what the query fed last has done: it came to nothing. Of the
// settings, those that are reported are not its concern.
func (t *twin) unhold() {
	if t.fed.group == nil || t.fed.bytes[0] != pgwire.Query {
		return
	}
	b := t.backend
	b.held = b.heldBefore
	for i := range b.settingsBefore {
		if !b.settings[i].reported {
			b.settings[i].value = b.settingsBefore[i].value
		}
	}
}

// checkHeld checks that a session has nothing of another client than the one that it
// works for.
func (w *World) checkHeld(b *Backend, client int) {
	for kind, owner := range b.held {
		if owner != 0 && owner != client {
			w.fail("%s works for client %d and has %q of client %d", b.name, client, heldTexts[kind].hold, owner)
		}
	}
}

// notSimulated are settings by which PostgreSQL reads texts, and this one does not.
const notSimulated = "array_nulls backslash_quote bytea_output intervalstyle lc_monetary standard_conforming_strings " +
	"timezone_abbreviations transform_null_equals xmloption"

// inspection is a statement with which a pooler asks about the session.
type inspection struct {
	names     []string // settings
	kinds     []heldKind
	listing   bool // of all settings that are not as at the beginning
	functions bool // what they can do
}

// scanSettings stands in front of the question what functions can do: here there are
// none, so that a row is not to come.
const scanSettings = "SET LOCAL statement_timeout TO 0;"

// parseInspection reads such a question, nil if the text is none.
func parseInspection(text string) *inspection {
	switch {
	case strings.HasPrefix(text, "SELECT name,pg_catalog"):
		return &inspection{listing: true}
	case strings.HasPrefix(text, "SELECT name,context "):
		return &inspection{}
	case !strings.HasPrefix(text, "SELECT EXISTS(") && !strings.HasPrefix(text, "SELECT pg_catalog.current_setting("):
		return nil
	}
	q := &inspection{}
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "current_setting(")
		if !ok {
			break
		}
		name, left, ok := escapeString(after)
		if !ok {
			return nil
		}
		q.names, rest = append(q.names, name), left
	}
	for kind, texts := range heldTexts {
		if strings.Contains(text, texts.view) {
			q.kinds = append(q.kinds, heldKind(kind))
		}
	}
	return q
}

// answer answers such a question.
func (b *Backend) answer(q *inspection) (tag string) {
	b.toldFunctions = b.toldFunctions || q.functions
	var row []string
	for _, name := range q.names {
		value, ok := b.setting(name)
		switch {
		case name == "role":
			value = "none"
		case name == "session_authorization":
			value = b.user
		case !ok && !strings.Contains(notSimulated, name):
			panic("BUG: a pooler asks for setting " + name)
		}
		row = append(row, value)
	}
	for _, kind := range q.kinds {
		row = append(row, map[bool]string{false: "f", true: "t"}[b.held[kind] != 0])
	}
	if len(row) > 0 {
		b.emit(appendRow(b.buffer(), row...))
	}
	for i := range b.settings {
		if s := &b.settings[i]; q.listing && s.value != s.initial {
			b.emit(appendRow(b.buffer(), s.name, s.value))
		}
	}
	return "SELECT 1"
}

// parseReading reads a query with which a pooler has other settings for a while: its
// first row sets them, its second takes that back. nil if the text is none.
func parseReading(text string) *statement {
	if !strings.HasPrefix(text, "WITH had AS MATERIALIZED (SELECT ") {
		return nil
	}
	s := &statement{kind: kindReading}
	for {
		_, rest, ok := strings.Cut(text, "set_config(")
		if !ok {
			return s
		}
		name, rest, ok := escapeString(rest)
		rest, found := strings.CutPrefix(rest, ",CASE WHEN reads THEN ")
		if !ok || !found {
			return nil
		}
		value, ok := nullValue, strings.HasPrefix(rest, "NULL ")
		if !ok {
			value, rest, ok = escapeString(rest)
		}
		if !ok {
			return nil
		}
		s.settings, text = append(s.settings, setting{name, value}), rest
	}
}

// nullValue stands for the value of a setting that a session has from the beginning.
const nullValue = "\x00"

// read runs one of the two steps of such a query.
func (b *Backend) read(p *portal) {
	changes := p.had
	if p.row == 0 {
		changes = p.statement.settings
		for _, change := range changes {
			value, _ := b.setting(change.name)
			p.had = append(p.had, setting{change.name, value})
		}
	}
	p.row++
	var shown []string
	for _, change := range changes {
		if strings.Contains(notSimulated, change.name) {
			shown = append(shown, "")
			continue
		}
		if change.value == nullValue {
			b.resetSetting(change.name)
		} else if code := b.set(change.name, change.value); code != "" {
			b.raise(code, "invalid value for parameter \""+change.name+"\"")
			return
		}
		value, _ := b.setting(change.name)
		shown = append(shown, value)
	}
	b.emit(appendRow(b.buffer(), shown...))
	if p.row == 1 {
		b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.PortalSuspended))
		b.current = nil
		return
	}
	p.done = true
	b.complete("SELECT 1")
}

// changesSession reports whether a pooler may take the message of a client for one
// that changes the session. Those of the rest leave it alone for certain.
func changesSession(message []byte) bool {
	body := message[pgwire.HeaderBytes:]
	switch message[0] {
	case pgwire.Parse:
		_, body, _ = pgwire.CString(body)
	case pgwire.Bind:
		_, body, _ = pgwire.CString(body)
		name, _, _ := pgwire.CString(body)
		return len(name) > 0 // perhaps only the server knows it
	case pgwire.Query:
	default:
		return false
	}
	text, _, _ := pgwire.CString(body)
	if len(text) > maxTextBytes || strings.Contains(string(text), "pg_advisory") || strings.HasPrefix(string(text), "copy sim") {
		return true
	}
	for _, word := range []string{"select ", "update ", "begin", "BEGIN", "start transaction", "commit", "rollback", "show ", "copy (", " ", ";"} {
		if strings.HasPrefix(string(text), word) {
			return false
		}
	}
	return len(text) > 0
}

// mayCall reports whether a message may run functions that it does not show: it calls one by
// number, or writes.
func mayCall(message []byte) bool {
	return message[0] == pgwire.FunctionCall || bytes.Contains(message, []byte("update sim")) || bytes.Contains(message, []byte("copy sim"))
}

// maxTextBytes is how long a text may be that a pooler reads as a whole.
const maxTextBytes = 60_000
