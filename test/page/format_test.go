package page

import "testing"

func TestCount(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -45678: "-45,678"} {
		if got := Count(value); got != want {
			t.Errorf("%v: got %q, want %q", value, got, want)
		}
	}
}
