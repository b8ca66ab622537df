package pool

import (
	"testing"
	"time"
)

func TestStatementTimeout(t *testing.T) {
	f := newFixture(t)
	for text, want := range map[string]time.Duration{
		"0":            0,
		"250":          250 * time.Millisecond,
		"250ms":        250 * time.Millisecond,
		"1.5s":         1500 * time.Millisecond,
		" 2 min ":      2 * time.Minute,
		"1h":           time.Hour,
		"nonsense":     0,
		"":             0,
		"-1":           0,
		"1e300":        0,
		"NaN":          0,
		"3 fortnights": 0,
	} {
		if got := f.settings("statement_timeout", text).StatementTimeout(); got != want {
			t.Errorf("statement_timeout %q: %v, want %v", text, got, want)
		}
	}
	if got := (*Settings)(nil).StatementTimeout(); got != 0 {
		t.Errorf("no settings: %v", got)
	}
}
