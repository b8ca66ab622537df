package main

import (
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
	if problems := k.explain(r); !slices.Equal(problems, want) {
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
	run := readRegress("g", `test test_setup                   ... ok          509 ms
parallel group (2 tests):  b a
     a                            ... FAILED       10 ms
     random                       ... failed (ignored) 3 ms
     b                            ... ok            9 ms
parallel group (1 tests):  hung
`)
	want := outcomes{{"g", "test_setup"}: passed, {"g", "a"}: failed, {"g", "random"}: failed, {"g", "b"}: passed}
	if len(run) != len(want) {
		t.Fatalf("run %v", run)
	}
	for name, o := range want {
		if run[name] != o {
			t.Errorf("%v: %q, want %q", name, run[name], o)
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
		results = append(results, &result{Suite: s.name, Rows: []row{{Group: "g", Direct: &counts{3, 1, 0}, Through: counts{2, 2, 0}}}, Differences: []difference{{Test: "x", Note: "odd"}}})
	}
	text := report(results, known{"pgx": {"x": "reason"}})
	for _, want := range []string{"| [pgx](#pgx) |  |  | 3 of 4 | 2 of 4 | 1 |", "| x | reason |", "| x | **not explained yet**: odd |", "(#postgresqls-regression-suite)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}
