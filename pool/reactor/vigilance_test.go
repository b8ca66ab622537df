package reactor

import (
	"testing"
	"time"
)

// TestVigilance counts the waits that begin awake, of 100 whose lengths come in turn.
func TestVigilance(t *testing.T) {
	const (
		soon    = 30 * time.Microsecond  // while awake
		nearly  = 120 * time.Microsecond // just too late
		late    = time.Millisecond
		crowded = -1 // others have had the processor
	)
	tests := []struct {
		name         string
		waits        []time.Duration
		fewest, most int
	}{
		{"few clients", []time.Duration{soon}, 96, 96},
		{"now and then a pause", []time.Duration{soon, soon, soon, soon, soon, soon, soon, soon, soon, late}, 50, 60},
		{"every other wait is long", []time.Duration{soon, late}, 0, 0},
		{"just too late", []time.Duration{nearly}, 0, 25},
		{"idle", []time.Duration{late}, 0, 0},
		{"a busy machine", []time.Duration{soon, crowded}, 0, 0},
	}
	for _, test := range tests {
		var v vigilance
		awake := 0
		for i := range 100 {
			wait := test.waits[i%len(test.waits)]
			if v.awake() {
				awake++
				switch {
				case wait == crowded:
					v.contended()
					continue
				case wait > spinTime:
					v.inVain()
				}
			}
			if wait == crowded { // asleep, it is woken late
				wait = late
			}
			v.slept(wait)
		}
		if awake < test.fewest || awake > test.most {
			t.Errorf("%s: %d of 100 waits began awake, want %d to %d", test.name, awake, test.fewest, test.most)
		}
	}
}
