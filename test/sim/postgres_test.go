package sim

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// script turns words into messages: "Q text" is a query, "P name text", "B portal
// name value...", "D S name", "E portal limit", "C P name", and "S", "H", "d", "c",
// "f" and "F" stand for themselves.
func script(lines ...string) [][]byte {
	var messages [][]byte
	for _, line := range lines {
		words := strings.Split(line, " ")
		argument := func(i int) string {
			if i < len(words) && words[i] != "-" {
				return words[i]
			}
			return ""
		}
		var body []byte
		switch line[0] {
		case pgwire.Query:
			body = append([]byte(line[2:]), 0)
		case pgwire.Parse:
			body = append(append([]byte(argument(1)), 0), strings.Join(words[2:], " ")...)
			body = append(body, 0, 0, 0)
		case pgwire.Bind:
			body = append(append([]byte(argument(1)), 0), argument(2)...)
			body = binary.BigEndian.AppendUint16(append(body, 0, 0, 0), uint16(max(0, len(words)-3)))
			for _, value := range words[min(3, len(words)):] {
				body = append(binary.BigEndian.AppendUint32(body, uint32(len(value))), value...)
			}
			body = append(body, 0, 0)
		case pgwire.Describe, pgwire.Close:
			body = append(append([]byte(words[1]), argument(2)...), 0)
		case pgwire.Execute:
			limit, _ := strconv.Atoi(argument(2))
			body = binary.BigEndian.AppendUint32(append([]byte(argument(1)), 0), uint32(limit))
		case pgwire.CopyFail:
			body = []byte("no\x00")
		}
		messages = append(messages, pgwire.AppendMessage(nil, line[0], body))
	}
	return messages
}

// summary is a message in short: its type, and what counts of its content.
func summary(m []byte) string {
	body := m[pgwire.HeaderBytes:]
	switch m[0] {
	case pgwire.ErrorResponse, pgwire.NoticeResponse:
		return string(m[:1]) + string(pgwire.ParseError(body).SQLState)
	case pgwire.ReadyForQuery:
		return "Z" + string(body)
	case pgwire.CommandComplete:
		return "C:" + strings.ReplaceAll(string(body[:len(body)-1]), " ", "_")
	}
	return string(m[:1])
}

// TestScriptedPostgreSQL pins what the scripted PostgreSQL says. Every expectation
// is what PostgreSQL 15 says to the same messages.
func TestScriptedPostgreSQL(t *testing.T) {
	const read = "select * from sim where tag = $1 and rows = $2"
	tests := []struct {
		name string
		send []string
		want string
	}{
		{"simple query", []string{"Q select * from sim where rows = 2"}, "T D D C:SELECT_2 ZI"},
		{"empty query", []string{"Q ", "Q  ; "}, "I ZI I ZI"},
		{"several statements", []string{"Q update sim; select * from sim; update sim"}, "C:UPDATE_1 T C:SELECT_0 C:UPDATE_1 ZI"},
		{"syntax error runs nothing", []string{"Q update sim; selec"}, "E42601 ZI"},
		{"error ends the query", []string{"Q update sim; update sim where fail = 1; update sim"}, "C:UPDATE_1 E23505 ZI"},
		{"error after rows", []string{"Q select * from sim where rows = 5 and fail = 3"}, "T D D E22012 ZI"},
		{"transaction", []string{"Q begin", "Q update sim", "Q commit"}, "C:BEGIN ZT C:UPDATE_1 ZT C:COMMIT ZI"},
		{"failed transaction", []string{"Q begin", "Q selec", "Q update sim", "Q ", "Q commit"}, "C:BEGIN ZT E42601 ZE E25P02 ZE I ZE C:ROLLBACK ZI"},
		{"begin twice, commit twice", []string{"Q begin", "Q begin", "Q commit", "Q commit"}, "C:BEGIN ZT N25001 C:BEGIN ZT C:COMMIT ZI N25P01 C:COMMIT ZI"},
		{"read only", []string{"Q begin read only", "Q update sim", "Q rollback"}, "C:BEGIN ZT E25006 ZE C:ROLLBACK ZI"},
		{
			"extended",
			[]string{"P - " + read, "D S -", "B - - t 3", "D P -", "E - 0", "S"},
			"1 t T 2 T D D D C:SELECT_3 ZI",
		},
		{
			"limits",
			[]string{"P - " + read, "B - - t 3", "E - 2", "E - 1", "E - 0", "S"},
			"1 2 D D s D s C:SELECT_0 ZI",
		},
		{"no rows", []string{"P - update sim", "B - -", "D P -", "E - 0", "S"}, "1 2 n C:UPDATE_1 ZI"},
		{"an update runs once", []string{"P - update sim", "B - -", "E - 0", "E - 0", "S"}, "1 2 C:UPDATE_1 E55000 ZI"},
		{"empty statement", []string{"P - ", "D S -", "B - -", "E - 0", "S"}, "1 t n 2 I ZI"},
		{"skip to Sync", []string{"P - selec", "B - -", "Q update sim", "C S -", "S", "Q update sim"}, "E42601 ZI C:UPDATE_1 ZI"},
		{"unknown names", []string{"B - x", "S", "E x 0", "S", "D S x", "S", "D P x", "S", "C S x", "C P x", "S"}, "E26000 ZI E34000 ZI E26000 ZI E34000 ZI 3 3 ZI"},
		{"names once", []string{"P s update sim", "P s update sim", "S", "C S s", "P s update sim", "S"}, "1 E42P05 ZI 3 1 ZI"},
		{"several statements in one Parse", []string{"P - update sim; update sim", "S"}, "E42601 ZI"},
		{"wrong number of parameters", []string{"P - " + read, "B - - t", "S"}, "1 E08P01 ZI"},
		{"a query drops the unnamed statement", []string{"P - update sim", "S", "B - -", "S", "Q ", "B - -", "S"}, "1 ZI 2 ZI I ZI E26000 ZI"},
		{"so does a Parse that fails", []string{"P - update sim", "P - selec", "S", "B - -", "S"}, "1 E42601 ZI E26000 ZI"},
		{"portals end with the transaction", []string{"P - update sim", "B p -", "S", "E p 0", "S"}, "1 2 ZI E34000 ZI"},
		{
			"portals last in a transaction",
			[]string{"Q begin", "P - " + read, "B p - t 2", "E p 1", "S", "E p 1", "S", "B p - t 2", "S", "Q rollback"},
			"C:BEGIN ZT 1 2 D s ZT D s ZT E42P03 ZE C:ROLLBACK ZI",
		},
		{"a portal outlives its statement", []string{"P s update sim", "B - s", "C S s", "E - 0", "S"}, "1 2 3 C:UPDATE_1 ZI"},
		{
			"a failed transaction in the extended protocol",
			[]string{"Q begin", "P c commit", "P u update sim", "B - x", "S", "P - update sim", "S", "B - u", "S", "P - ", "B - -", "S", "B - c", "E - 0", "S"},
			"C:BEGIN ZT 1 1 E26000 ZE E25P02 ZE E25P02 ZE 1 E25P02 ZE 2 C:ROLLBACK ZI",
		},
		{"COPY in", []string{"Q copy sim from stdin", "d", "d", "c"}, "G C:COPY_2 ZI"},
		{"COPY in fails", []string{"Q copy sim from stdin", "d", "f", "Q copy sim from stdin", "Q update sim"}, "G E57014 ZI G E08P01 E08P01"},
		{"what is left of a COPY is ignored", []string{"Q copi", "d", "c", "Q update sim"}, "E42601 ZI C:UPDATE_1 ZI"},
		{"COPY in ignores Sync and Flush", []string{"P - copy sim from stdin", "B - -", "E - 0", "S", "H", "S", "d", "c", "S"}, "1 2 G C:COPY_1 ZI"},
		{"COPY in skips to Sync", []string{"P - copy sim from stdin", "B - -", "E - 0", "S", "d", "f", "c", "S"}, "1 2 G E57014 ZI"},
		{"COPY out", []string{"Q copy (select * from sim where rows = 2) to stdout"}, "H d d c C:COPY_2 ZI"},
		{"a setting is rolled back", []string{"Q begin", "Q set DateStyle = 'SQL'", "Q rollback", "Q show DateStyle"}, "C:BEGIN ZT C:SET ZT C:ROLLBACK ZI T D C:SHOW ZI"},
		{"a wrong setting", []string{"Q set DateStyle = 'wrong'", "Q set nonsense = '1'"}, "E22023 ZI E42704 ZI"},
		{"DISCARD ALL", []string{"P s update sim", "S", "Q discard all", "B - s", "S", "Q begin", "Q discard all"}, "1 ZI C:DISCARD_ALL ZI E26000 ZI C:BEGIN ZT E25001 ZE"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			twin := newTwin("app")
			for _, m := range script(test.send...) {
				twin.feed(sentMessage{&group{}, m})
			}
			var got []string
			for ; twin.head() != nil; twin.pop() {
				got = append(got, summary(twin.head().bytes))
			}
			if got := strings.Join(got, " "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
