package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	direct := outcomes{{"a", "T1"}: passed, {"a", "T2"}: failed, {"a", "T3"}: skipped, {"b", "T4"}: passed, {"b", "T4/part"}: passed, {"b", "T5"}: passed}
	through := outcomes{{"a", "T1"}: passed, {"a", "T2"}: failed, {"a", "T3"}: skipped, {"b", "T4"}: failed, {"b", "T4/part"}: failed}
	rows, differing := compare(direct, through)
	if want := []test{{"b", "T4"}, {"b", "T5"}}; !slices.Equal(differing, want) {
		t.Errorf("differing %v, want %v", differing, want)
	}
	if len(rows) != 2 || *rows[0].Direct != (counts{1, 1, 1}) || rows[0].Through != (counts{1, 1, 1}) ||
		*rows[1].Direct != (counts{3, 0, 0}) || rows[1].Through != (counts{0, 3, 0}) {
		t.Errorf("rows %+v", rows)
	}
}

func TestKnown(t *testing.T) {
	k, err := readKnown("# comment\n\nx a  first reason\nx b second\nx c " + sometimes + "third\n")
	if err != nil {
		t.Fatal(err)
	}
	r := &result{Suite: "x", Differences: []difference{{Test: "a"}, {Test: "d", Note: "odd"}}}
	want := []string{"x d differs: odd", "x b no longer differs: expected no entry in known.txt"}
	if problems := k.explain([]*result{r}); !slices.Equal(problems, want) {
		t.Errorf("problems %q, want %q", problems, want)
	}
	for _, text := range []string{"x", "x a", "x a first\nx a again"} {
		if _, err := readKnown(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if _, err := readKnown(knownText); err != nil {
		t.Error(err)
	}
}

func TestKnownOfVersions(t *testing.T) {
	k, err := readKnown("x a both\nx b PostgreSQL 17: the newer\nx g/c of a group\nx c " + sometimes + "third\n")
	if err != nil {
		t.Fatal(err)
	}
	older := &result{Suite: "x", Server: "15.18", Differences: []difference{{Test: "a"}}}
	newer := &result{Suite: "x", Server: "17.12", Differences: []difference{{Test: "b"}}}
	if problems := k.explain([]*result{older, newer}); len(problems) > 0 {
		t.Errorf("both versions: %q", problems)
	}
	if problems := k.explain([]*result{older}); len(problems) > 0 {
		t.Errorf("the older version alone: %q", problems)
	}
	older.Differences = append(older.Differences, difference{Test: "b", Note: "odd"})
	older.Rows = []row{{Group: "g"}}
	want := []string{"x b differs: odd with PostgreSQL 15.18", "x g/c no longer differs: expected no entry in known.txt"}
	if problems := k.explain([]*result{older}); !slices.Equal(problems, want) {
		t.Errorf("problems %q, want %q", problems, want)
	}
}

func TestParts(t *testing.T) {
	run := outcomes{
		{"p", "T"}: failed, {"p", "T/a"}: failed, {"p", "T/a/1"}: failed, {"p", "T/a/2"}: passed,
		{"p", "U"}: failed, {"p", "U/a"}: passed, {"p", "V"}: passed,
	}
	want := outcomes{{"p", "T/a/1"}: failed, {"p", "T/a/2"}: passed, {"p", "U"}: failed, {"p", "U/a"}: passed, {"p", "V"}: passed}
	if parts := run.parts(); !maps.Equal(parts, want) {
		t.Errorf("parts %v, want %v", parts, want)
	}
}

func TestReadFuzz(t *testing.T) {
	rows := readFuzz(`go test -run '^$' -fuzz '^FuzzA$' -fuzztime 60s ./pool/pgwire
fuzz: elapsed: 3s, execs: 7 (2/sec), new interesting: 0 (total: 3)
fuzz: elapsed: 6s, execs: 1234 (2/sec), new interesting: 0 (total: 3)
PASS
go test -run '^$' -fuzz '^FuzzB$' -fuzztime 60s ./api
`)
	want := []row{{Group: "FuzzA of pool/pgwire, 1234 inputs", Through: counts{Passed: 1}}, {Group: "FuzzB of api", Through: counts{Passed: 1}}}
	if !slices.Equal(rows, want) {
		t.Errorf("rows %v, want %v", rows, want)
	}
}

func TestReadGoTest(t *testing.T) {
	run, err := readGoTest(strings.NewReader(`{"Action":"pass","Package":"m/v5","Test":"TestA"}
{"Action":"output","Package":"m/v5","Test":"TestA","Output":"x"}
# build output
{"Action":"fail","Package":"m/p","Test":"TestB/f='/tmp/TestB12345678/001/x' y"}
{"Action":"fail","Package":"m/p"}
{"Action":"fail","Package":"m/q"}
`))
	want := outcomes{{"m", "TestA"}: passed, {"p", "TestB/f='/tmp/…/001/x'_y"}: failed, {"q", "package"}: failed}
	if err != nil || len(run) != len(want) {
		t.Fatalf("run %v, %v", run, err)
	}
	for name, o := range want {
		if run[name] != o {
			t.Errorf("%v: %q, want %q in %v", name, run[name], o, run)
		}
	}
}

func TestReadRegress(t *testing.T) {
	want := outcomes{{"g", "test_setup"}: passed, {"g", "a"}: failed, {"g", "random"}: failed, {"g", "b"}: passed}
	for _, output := range []string{`test test_setup                   ... ok          509 ms
parallel group (2 tests):  b a
     a                            ... FAILED       10 ms
     random                       ... failed (ignored) 3 ms
     b                            ... ok            9 ms
parallel group (1 tests):  hung
`, `# using postmaster on 127.0.0.1, port 17432
ok 1         - test_setup                                353 ms
# parallel group (3 tests):  b a random
not ok 2     + a                                          10 ms
not ok 3     + random                                      3 ms
ok 4         + b                                           9 ms
# parallel group (1 tests):  hung
`} {
		if run := readRegress("g", output); !maps.Equal(run, want) {
			t.Errorf("run %v of\n%s", run, output)
		}
	}
}

func TestSameSights(t *testing.T) {
	direct := [2]sights{{"a": "1", "b": "1"}, {"a": "1", "b": "2"}}
	expected, got, notes := sameSights("g", direct, [2]sights{{"a": "1", "b": "1"}, {"a": "9", "b": "2"}})
	a, b := test{"g", "a"}, test{"g", "b"}
	if expected[a] != passed || got[a] != failed || notes[a] == "" || got[b] != passed {
		t.Errorf("expected %v, got %v, notes %v", expected, got, notes)
	}
	if _, got, _ := sameSights("g", direct, [2]sights{direct[0], {}}); got[a] != failed || got[b] != failed {
		t.Errorf("a program that saw nothing: %v", got)
	}
}

func TestReportTellsAll(t *testing.T) {
	var results []*result
	for _, s := range suites {
		if titles[s.name] == "" {
			t.Errorf("suite %s has no title", s.name)
		}
		for _, version := range []string{"15.18", "17.12"} {
			results = append(results, &result{
				Suite: s.name, Server: version, Rows: []row{{Group: "g", Direct: &counts{3, 1, 0}, Through: counts{2, 2, 5}}},
				Differences: []difference{{Test: "x", Note: "odd"}},
			})
		}
	}
	results = append(results, &result{Suite: "fuzz", Rows: []row{{Group: "FuzzA", Through: counts{1, 0, 0}}}})
	text := report(results, known{"pgx": {"x": "reason"}, "drivers": {"x": "PostgreSQL 17: newer"}})
	for _, want := range []string{
		"| [pgx](#pgx) |  | 17.12 |  | 3 of 4 | 2 of 4, 5 skipped | 1 |", "| x | 15, 17 | reason |", "| x | 15, 17 | **not explained yet**: odd |",
		"(#postgresqls-regression-suite)", "| | 15.18 directly | 15.18 through | 17.12 directly | 17.12 through |",
		"| g | 3 of 4 | 2 of 4, 5 skipped | 3 of 4 | 2 of 4, 5 skipped |", "| FuzzA | – | – | – | – | 1 of 1 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// A result takes the place of the one before of its suite and version.
func TestReplaces(t *testing.T) {
	older := &result{Suite: "pgx", Server: "15.17"}
	for _, test := range []struct {
		newer *result
		want  bool
	}{
		{&result{Suite: "pgx", Server: "15.18"}, true},
		{&result{Suite: "pgx", Server: "17.12"}, false},
		{&result{Suite: "twin", Server: "15.18"}, false},
	} {
		if got := test.newer.replaces(older); got != test.want {
			t.Errorf("%v replaces %v: %v", test.newer, older, got)
		}
	}
}
