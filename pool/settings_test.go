package pool

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestSettingsAreInterned(t *testing.T) {
	var table settingsTable
	a := table.with(nil, Setting{"TimeZone", "UTC"}, Setting{"search_path", "a"})
	b := table.with(table.with(nil, Setting{"search_path", "a"}), Setting{"timezone", "UTC"})
	if a != b {
		t.Errorf("equal settings are %v and %v", a, b)
	}
	tests := []struct {
		name    string
		changes []Setting
		same    bool
	}{
		{"no change", nil, true},
		{"the same value", []Setting{{"TIMEZONE", "UTC"}}, true},
		{"another value", []Setting{{"timezone", "utc"}}, false},
		{"one more", []Setting{{"work_mem", "1MB"}}, false},
		{"there and back", []Setting{{"timezone", "X"}, {"timezone", "UTC"}}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := table.with(a, test.changes...); (got == a) != test.same {
				t.Errorf("settings %v, want the same as %v: %v", got, a, test.same)
			}
		})
	}
	if value, ok := a.Value("TIMEZONE"); value != "UTC" || !ok {
		t.Errorf("timezone is %q, %v", value, ok)
	}
	if _, ok := a.Value("nothing"); ok {
		t.Error("settings contain what was not set")
	}
	if _, ok := (*Settings)(nil).Value("timezone"); ok {
		t.Error("the defaults contain a setting")
	}
	if table.with(nil) != nil {
		t.Error("no settings are not the defaults")
	}
}

func TestSettingsTableIsBounded(t *testing.T) {
	var table settingsTable
	for i := range maxSettings + 10 {
		table.with(nil, Setting{"application_name", fmt.Sprint(i)})
	}
	if len(table.byKey) != maxSettings {
		t.Errorf("%d entries, want %d", len(table.byKey), maxSettings)
	}
	a, b := table.with(nil, Setting{"x", "1"}), table.with(nil, Setting{"x", "1"})
	if a == b {
		t.Error("a full table still interns")
	}
	if sql, _ := appendSwitch(nil, a, b); len(sql) != 0 {
		t.Errorf("equal settings are switched by %q", sql)
	}
}

func TestSwitch(t *testing.T) {
	var table settingsTable
	of := func(pairs ...string) *Settings {
		var s *Settings
		for i := 0; i < len(pairs); i += 2 {
			s = table.with(s, Setting{pairs[i], pairs[i+1]})
		}
		return s
	}
	tests := []struct {
		name     string
		from, to *Settings
		want     string
	}{
		{"nothing", nil, nil, ""},
		{"same", of("a", "1"), of("a", "1"), ""},
		{"set one", nil, of("a", "1"), `SELECT pg_catalog.set_config(E'a',E'1',false)`},
		{"set two", nil, of("b", "2", "a", "1"), `SELECT pg_catalog.set_config(E'a',E'1',false),pg_catalog.set_config(E'b',E'2',false)`},
		{"change one of two", of("a", "1", "b", "1"), of("a", "1", "b", "2"), `SELECT pg_catalog.set_config(E'b',E'2',false)`},
		{"reset", of("a", "1"), nil, `RESET a;`},
		{"reset one, set one", of("a", "1"), of("b", "1"), `RESET a;SELECT pg_catalog.set_config(E'b',E'1',false)`},
		{"a reserved word and a dot", of("select.Foo", "1"), nil, `RESET "select"."foo";`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, _ := appendSwitch(nil, test.from, test.to); string(got) != test.want {
				t.Errorf("switch by %s, want %s", got, test.want)
			}
		})
	}
}

// literalPattern is a literal from which nothing can break out, whatever
// standard_conforming_strings and the encoding are: only plain characters and
// two-digit escapes.
var literalPattern = regexp.MustCompile(`^E'([a-zA-Z0-9 _\-+.,:;/()="$@]|\\x[0-9a-f]{2})*'$`)

func TestLiteralQuotesEveryByte(t *testing.T) {
	var all strings.Builder
	for c := 1; c < 256; c++ {
		text := string([]byte{byte(c)})
		literal := string(appendLiteral(nil, text))
		if !literalPattern.MatchString(literal) {
			t.Errorf("byte %d is quoted as %s", c, literal)
		}
		if got := unquote(t, literal); got != text {
			t.Errorf("byte %d: %s means %q", c, literal, got)
		}
		all.WriteByte(byte(c))
	}
	literal := string(appendLiteral(nil, all.String()))
	if !literalPattern.MatchString(literal) || unquote(t, literal) != all.String() {
		t.Errorf("all bytes together are quoted as %s", literal)
	}
}

// unquote reads a literal as PostgreSQL does.
func unquote(t *testing.T, literal string) string {
	t.Helper()
	inside := strings.TrimSuffix(strings.TrimPrefix(literal, "E'"), "'")
	var b strings.Builder
	for inside != "" {
		if inside[0] != '\\' {
			b.WriteByte(inside[0])
			inside = inside[1:]
			continue
		}
		var c byte
		if _, err := fmt.Sscanf(inside[:4], `\x%02x`, &c); err != nil {
			t.Fatalf("escape %s: %v", inside[:4], err)
		}
		b.WriteByte(c)
		inside = inside[4:]
	}
	return b.String()
}

func TestValidSettingName(t *testing.T) {
	for name, want := range map[string]bool{
		"work_mem": true, "TimeZone": true, "_x": true, "app.user": true, "a1": true, "a$b": true,
		"": false, "1a": false, ".a": false, "$a": false, "a b": false, "a-b": false, "a'": false, "a;": false, "ä": false, "a\x00": false, `a"`: false,
	} {
		if got := ValidSettingName(name); got != want {
			t.Errorf("%q is valid: %v, want %v", name, got, want)
		}
	}
}

func TestSettable(t *testing.T) {
	for name, want := range map[string]bool{"TimeZone": true, "application_name": true, "server_version": false, "is_superuser": false} {
		if got := Settable(name); got != want {
			t.Errorf("%q is settable: %v, want %v", name, got, want)
		}
	}
}
