package main

import (
	"errors"
	"flag"
	"io"
	"slices"
	"testing"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"-quick", "-only", "^stall/", "-targets", "billproxy", "-seed", "9", "-set", "SHED_SQLSTATE=57014", "-set", "MAX_WAITERS=5"}, io.Discard)
	if err != nil || !o.Quick || o.seed != 9 || !o.Only.MatchString(scenarioLock) || o.Only.MatchString(scenarioBurst) || o.targets.MatchString("Odyssey") {
		t.Fatalf("got %+v, %v", o, err)
	}
	if want := []string{"BILLPROXY_SHED_SQLSTATE=57014", "BILLPROXY_MAX_WAITERS=5"}; !slices.Equal(o.set, want) {
		t.Errorf("set %q, want %q", o.set, want)
	}
	for _, args := range [][]string{{"-render"}, {"word"}} {
		if _, err := parseOptions(args, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, args := range [][]string{{"-unknown"}, {"-set", "MAX_WAITERS"}, {"-only", "("}, {"-targets", "("}} {
		if _, err := parseOptions(args, io.Discard); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
