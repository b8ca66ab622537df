package pool

import (
	"strings"
	"testing"
)

func TestModeText(t *testing.T) {
	for mode, word := range map[Mode]string{ModeTransaction: "transaction", ModeSession: "session", ModeStatement: "statement"} {
		text, err := mode.MarshalText()
		if err != nil || string(text) != word || mode.String() != word {
			t.Errorf("mode %d is %q, %v, want %q", mode, text, err, word)
		}
		for _, spelling := range []string{word, strings.ToUpper(word)} {
			var got Mode
			if err := got.UnmarshalText([]byte(spelling)); err != nil || got != mode {
				t.Errorf("%q is mode %v, %v, want %v", spelling, got, err, mode)
			}
		}
	}
	for _, word := range []string{"", "transactions", "pool", "session "} {
		got := ModeStatement
		err := got.UnmarshalText([]byte(word))
		if err == nil || !strings.Contains(err.Error(), "expected transaction, session or statement") {
			t.Errorf("%q: error %v", word, err)
		}
		if got != ModeStatement {
			t.Errorf("%q changed the mode to %v", word, got)
		}
	}
}

func TestCloseReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for reason := range reasonCount {
		name := reason.String()
		if name == "" || seen[name] {
			t.Errorf("reason %d is called %q", reason, name)
		}
		seen[name] = true
	}
}
