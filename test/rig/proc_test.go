package rig

import (
	"testing"
	"time"
)

func TestParseCPUTime(t *testing.T) {
	t.Parallel()
	// The name of a program may hold spaces and parentheses.
	stat := "4711 (bill) proxy 9) S 1 4711 4711 0 -1 4194560 1234 0 0 0 250 31 0 0 20 0 7 0 5555 0 0"
	got, err := parseCPUTime(stat)
	if want := 2810 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, stat := range []string{"", "1 (a) S 1 2 3", "1 (a) S 1 1 1 0 -1 0 0 0 0 0 x 31 0 0"} {
		if _, err := parseCPUTime(stat); err == nil {
			t.Errorf("%q: no error", stat)
		}
	}
}

func TestKilobytesOf(t *testing.T) {
	t.Parallel()
	status := "Name:\tbillproxy\nVmHWM:\t   20000 kB\nVmRSS:\t   17616 kB\n"
	if got, err := kilobytesOf(status, "VmRSS"); err != nil || got != 17616<<10 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, name := range []string{"Name", "VmSwap"} {
		if _, err := kilobytesOf(status, name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
