package script

import (
	"strings"
	"testing"
)

// everything has every kind of line that there is.
const everything = `proxy DEFAULT_POOL_SIZE=1 SHARED_READS=off
servers 2
ignore NegotiateProtocolVersion PostgreSQL 15 speaks 3.0 only
setup
  create table item (id int);
  # not a comment, but SQL
a Query select 'x' as "x"
a Query "select 1 \n"
a Parse s types=23,25 select $1::int, $2
  Parse "" ""
  Bind s 1 "two words" null "null" "" "portal=x" portal=p formats=1,0 results=1
  Bind ""
  Describe statement s
  Describe portal ""
  Execute
  Execute p
  Execute "" 2
  Close statement s
  Close portal p
  Flush
  Sync
  until ReadyForQuery
a FunctionCall 1397 "\xff\xff\xff\xf0"
b CopyData "1\n"
  CopyDone
  CopyFail no more
  Raw P "\x00"
  Terminate
  until DataRow 2
b Sync
  until close
b Sync
  until nothing
c login version=3.2 application_name="a b" options=""
c cancel
c disconnect
b vanish
await select true
`

func TestFormat(t *testing.T) {
	t.Parallel()
	s, err := Parse(everything)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != everything {
		t.Errorf("got:\n%s\nwant:\n%s", got, everything)
	}
	if _, err := Parse(s.String()); err != nil {
		t.Error(err)
	}
}

func TestRepetition(t *testing.T) {
	t.Parallel()
	s, err := Parse("a Query select '{{ab*3}}'")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "a Query select 'ababab'\n" {
		t.Errorf("got %q", got)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"a", `line 1: client "a" does nothing`},
		{"a Quarry select 1", `line 1: "Quarry" is no message`},
		{"\n  Sync", `line 2: "Sync" is indented`},
		{"a Sync\n  until close\n  Sync", `line 3: "Sync" comes behind until`},
		{"a Describe table t", `"table": expected statement or portal`},
		{"a Sync now", `"now": expected the end of the line`},
		{"a Execute p many", `"many" is no number`},
		{`a Query "open`, `is no string in double quotes`},
		{`a Bind "open`, `is no string in double quotes`},
		{"a Raw text x", `"text" is no type of a message`},
		{"a login nothing", `"nothing": expected name=value`},
		{"a disconnect\n  Sync", `line 2: "Sync" is indented`},
		{"proxy POOL", `"POOL": expected name=value`},
		{"ignore DataRow", `expected a reason`},
	} {
		if _, err := Parse(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got error %v, want %q in it", test.text, err, test.want)
		}
	}
}
