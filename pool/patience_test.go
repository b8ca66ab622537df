package pool

import (
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		statementTimeout, deadline string
		want                       time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"250", "", 250 * time.Millisecond},
		{"", "700", 700 * time.Millisecond},
		{"2s", "700ms", 700 * time.Millisecond},
		{"2s", "3s", 2 * time.Second},
		{"0", "3s", 3 * time.Second},
		{"nonsense", "", 0},
	} {
		var pairs []string
		if c.statementTimeout != "" {
			pairs = append(pairs, "statement_timeout", c.statementTimeout)
		}
		if c.deadline != "" {
			pairs = append(pairs, "billproxy.deadline", c.deadline)
		}
		for range 2 {
			if got := f.settings(pairs...).Patience(); got != c.want {
				t.Errorf("statement_timeout %q, billproxy.deadline %q: %v, want %v", c.statementTimeout, c.deadline, got, c.want)
			}
		}
	}
	if got := (*Settings)(nil).Patience(); got != 0 {
		t.Errorf("no settings: %v", got)
	}
}
