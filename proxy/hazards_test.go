package proxy

import (
	"testing"
	"time"
)

// TestFunctionsAreInspected calls functions of a database whose functions can do nothing,
// or something, to a session.
func TestFunctionsAreInspected(t *testing.T) {
	tests := []struct {
		name      string
		hazards   []string
		statement string
		inspected int // questions to the server behind the statement
	}{
		{"harmless", nil, "select f(1)", 0},
		{"harmless, called", nil, "call f(1)", 0},
		{"numbers", []string{"numbers"}, "select f(1)", 0},
		{"a block", nil, "do f", 1},
		{"locks", []string{"locks"}, "select f(1)", 1},
		{"anything", []string{"anything"}, "select f(1)", 1},
		{"a setting", []string{"set my.tenant"}, "select f(1)", 1},
		{"unknown to us", []string{"miracles"}, "select f(1)", 1},
		{"text besides", nil, "select f(1), pg_advisory_lock(1)", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.pg.Hazards = test.hazards
			c := f.login()
			run := func(statement string) int {
				before := f.server().Inspected
				c.send("Q|" + statement)
				f.world.Settle()
				return f.server().Inspected - before
			}
			c.send("Q|select 1")
			f.world.Settle()
			if got := run("select g(1)"); got == 0 {
				t.Error("the first call of a function is not followed by a question")
			}
			for range 3 {
				if got := run(test.statement); got != test.inspected {
					t.Errorf("%d questions behind %s, want %d", got, test.statement, test.inspected)
				}
			}
			f.world.Advance(2 * time.Minute)
			if got := run(test.statement); got == 0 {
				t.Errorf("no question behind %s, although functions may be others by now", test.statement)
			}
		})
	}
}
