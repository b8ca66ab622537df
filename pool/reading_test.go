package pool

import (
	"strings"
	"testing"
)

func TestTraits(t *testing.T) {
	for text, want := range map[string]textTraits{
		"select $1, a from t where b = $22": 0,
		"select 1 from nul where ca = 'x'":  traitString,
		"select $$x$$":                      traitString,
		"select $1, $a$x$a$":                traitString,
		"select 1 $":                        traitString,
		`select U&"\0041"`:                  traitBackslash,
		`select E'\x41'`:                    traitString | traitBackslash,
		"select a from größe":               traitForeign,
		"select $1::text":                   traitCast,
		"select Cast(a as text)":            traitCast,
		"select a = NULL":                   traitNull,
	} {
		if got := traitsOf(text); got != want {
			t.Errorf("%s: traits %b, want %b", text, got, want)
		}
		if got := traitsOf([]byte(text)); got != want {
			t.Errorf("%s as bytes: traits %b, want %b", text, got, want)
		}
	}
}

// A statement belongs to the settings that matter to its text, and to no others.
func TestReading(t *testing.T) {
	f := newFixture(t)
	const german = "select date '3.2.2026'"
	settings := f.settings("DateStyle", "German", "TimeZone", "Asia/Tokyo", "search_path", "a", "extra_float_digits", "3")
	for text, want := range map[string]string{
		german:                    "datestyle=German extra_float_digits=3 timezone=Asia/Tokyo",
		"select a from t":         "",
		"select a::text from t":   "extra_float_digits=3",
		"select a from t -- \xe9": "",
	} {
		var got []string
		reading := f.pool.Reading(settings, []byte(text+"\x00\x00\x00"))
		for _, e := range reading.All() {
			got = append(got, e.Name+"="+e.Value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is read by %q, want %q", text, got, want)
		}
		if again := f.pool.Reading(settings, []byte(text+"\x00\x00\x00")); again != reading {
			t.Errorf("%s is read by other settings the second time", text)
		}
	}
	if reading := f.pool.Reading(f.settings("search_path", "a"), []byte(german)); reading != nil {
		t.Errorf("search_path changes how a text is read: %v", reading.All())
	}
	registry := f.pools.registry
	body := []byte(german + "\x00\x00\x00")
	reading := f.pool.Reading(settings, body)
	first, second := registry.Reference(nil, body), registry.Reference(reading, body)
	if first == second || first.Name == second.Name || registry.Lookup(reading, body) != second || registry.Lookup(nil, body) != first {
		t.Errorf("read by other settings it is the statement %s, and %s by none", second.Name, first.Name)
	}
	own := registry.Reference(&Settings{private: true}, body)
	registry.Release(own)
	if registry.unused.Len() != 0 {
		t.Error("a statement that nobody can ask for is kept")
	}
	if n := testing.AllocsPerRun(100, func() { f.pool.Reading(settings, body) }); n != 0 {
		t.Errorf("%v allocations to find by which settings a text is read", n)
	}
}
