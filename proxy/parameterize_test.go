package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// parameterize is what Bind says of the parameters of a text, and the definition that
// Parse has, in words.
func parameterize(text string) (definition string, types []uint32, values []string) {
	var q query
	q.read([]byte(text), encodingSafe)
	if !q.isParameterizable() {
		return "", nil, nil
	}
	b := q.appendDefinition(nil)
	end := bytes.IndexByte(b, 0)
	definition = string(b[:end])
	for rest := b[end+3:]; len(rest) > 0; rest = rest[4:] {
		types = append(types, binary.BigEndian.Uint32(rest))
	}
	b = q.appendParameters(nil)
	for rest := b[4 : len(b)-2]; len(rest) > 0; {
		size := 4 + binary.BigEndian.Uint32(rest)
		values = append(values, string(rest[4:size]))
		rest = rest[size:]
	}
	return definition, types, values
}

func TestParameterize(t *testing.T) {
	tests := []struct {
		text, definition string
		types            []uint32
		values           []string
	}{
		{"select a from t where id = 7;", "select a from t where id = $1;", []uint32{oidInt4}, []string{"7"}},
		{"select a from t where id=7", "select a from t where id=$1", []uint32{oidInt4}, []string{"7"}},
		{"select a from t where id = 007", "select a from t where id = $1", []uint32{oidInt4}, []string{"007"}},
		{"select a from t where id = 2147483647", "select a from t where id = $1", []uint32{oidInt4}, []string{"2147483647"}},
		{"select a from t where id = 2147483648", "select a from t where id = $1", []uint32{oidInt8}, []string{"2147483648"}},
		{
			"select a from t where id >= 1 and b <> 'it''s' or c = ''", "select a from t where id >= $1 and b <> $2 or c = $3",
			[]uint32{oidInt4, 0, 0},
			[]string{"1", "it's", ""},
		},
		{"select a from t where b = 'x'and c = 2", "select a from t where b = $1 and c = $2", []uint32{0, oidInt4}, []string{"x", "2"}},
		{"select a from t where (b = 'x') group by a", "select a from t where (b = $1) group by a", []uint32{0}, []string{"x"}},
		{"select a from t where 1 = 1 limit 5", "select a from t where 1 = $1 limit 5", []uint32{oidInt4}, []string{"1"}},
		{"select count(*) from t", "select count(*) from t", nil, nil},

		// What is only a part of an operand, or something else, stays.
		{"select a from t where b = 1 + 2", "select a from t where b = 1 + 2", nil, nil},
		{"select a from t where b = -1", "select a from t where b = -1", nil, nil},
		{"select a from t where b =-1", "select a from t where b =-1", nil, nil},
		{"select a from t where b = '1'::int", "select a from t where b = '1'::int", nil, nil},
		{"select a from t where b = '1' collate \"C\"", "select a from t where b = '1' collate \"C\"", nil, nil},
		{"select a from t where b = 'x'\n'y'", "select a from t where b = 'x'\n'y'", nil, nil},
		{"select a from t where b = e'x'", "select a from t where b = e'x'", nil, nil},
		{"select a from t where b = date '2020-01-01'", "select a from t where b = date '2020-01-01'", nil, nil},
		{"select a from t where b @= 1", "select a from t where b @= 1", nil, nil},
		{"select a from t where b = 1.5", "select a from t where b = 1.5", nil, nil},
		{"select a from t where b = 0x1f", "select a from t where b = 0x1f", nil, nil},
		{"select a from t where b = 1_000", "select a from t where b = 1_000", nil, nil},
		{"select a from t where b = 9999999999999999999", "select a from t where b = 9999999999999999999", nil, nil},
		{"select a from t where b between 1 and 2 and c in (1, 2)", "select a from t where b between 1 and 2 and c in (1, 2)", nil, nil},
		{"select lower(x => 'A')", "select lower(x => 'A')", nil, nil},
		{"select case when b = 1 then 2 end", "select case when b = 1 then 2 end", nil, nil},
		{"select a from t order by 1 offset 3", "select a from t order by 1 offset 3", nil, nil},
		{"select a from t where b = 1 /* c = 2 */", "select a from t where b = $1 /* c = 2 */", []uint32{oidInt4}, []string{"1"}},

		// What may write, has parameters or too many constants is left alone.
		{"update t set a = 1", "", nil, nil},
		{"select a from t where b = $1", "", nil, nil},
		{"select a from t where b = '$1'", "", nil, nil},
		{
			"select a = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1 and 1 = 1",
			"", nil, nil,
		},
	}
	for _, test := range tests {
		definition, types, values := parameterize(test.text)
		if definition != test.definition || !slices.Equal(types, test.types) || !slices.Equal(values, test.values) {
			t.Errorf("%q\nis  %q, %v, %q\nwant %q, %v, %q", test.text, definition, types, values, test.definition, test.types, test.values)
		}
	}
}

func parameterizedReads(c *Config) { c.ParameterizedReads = true }

// recurring sends a query, with another constant each time, until it is sent with
// parameters if it ever will be, and returns what the server has run last.
func recurring(f *fixture, c *client, query string) (executed string) {
	for i := range repeatsToPrepare + 2 {
		c.send(fmt.Sprintf("Q|"+query, i))
		c.conn.Sent()
	}
	all := f.server().Executed
	return all[len(all)-1]
}

func TestParameterizedReads(t *testing.T) {
	tests := []struct{ query, executed string }{
		{"select a where b = %d", "select a where b = $1"},
		{"select a where b = '%d'", "select a where b = $1"},
		{"select a limit %d", "select a limit 4"},     // no two are the same statement
		{"insert where b = %d", "insert where b = 4"}, // writes
	}
	for _, test := range tests {
		f := newFixture(t, oneServer, sharedReads, parameterizedReads)
		if got := recurring(f, f.login(), test.query); got != test.executed {
			t.Errorf("%s: the server has run %q, want %q", test.query, got, test.executed)
		}
	}
}

func TestParameterizedReadsOff(t *testing.T) {
	f := newFixture(t, oneServer, sharedReads)
	if got := recurring(f, f.login(), "select a where b = %d"); got != "select a where b = 4" {
		t.Errorf("the server has run %q", got)
	}
}

// What fails with parameters is run as it is written, for some time at once.
func TestParameterizedReadFails(t *testing.T) {
	f := newFixture(t, oneServer, sharedReads, parameterizedReads)
	c := f.login()
	f.pg.BadText = "select a where b = $1"
	for i := range 40 {
		c.send(fmt.Sprintf("Q|select a where b = %d", i))
		c.want("T|c", fmt.Sprintf("D|a where b = %d", i), "C|SELECT 1", "Z|I")
	}
	if got := f.stats(); got.ParameterizedReads != 1 || got.GroupsRunAgain != 1 {
		t.Errorf("%d were sent with parameters and %d run again, want 1 and 1", got.ParameterizedReads, got.GroupsRunAgain)
	}
}

// The prepared statement of a client that has the same text is no query's to drop.
func TestParameterizedReadDropsUnnamed(t *testing.T) {
	f := newFixture(t, oneServer, sharedReads, parameterizedReads)
	c := f.login()
	recurring(f, c, "select a where b = %d")
	c.send("P||select 1", "S")
	c.conn.Sent()
	c.send("Q|select a where b = 1", "B||", "E|", "S")
	c.want("T|c", "D|a where b = $1", "C|SELECT 1", "Z|I",
		"E|ERROR|26000|unnamed prepared statement does not exist", "Z|I")
}
