package rig

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseCPUTime(t *testing.T) {
	t.Parallel()
	// The name of a program may hold spaces and parentheses.
	stat := "4711 (bill) proxy 9) S 17 4711 4711 0 -1 4194560 1234 0 0 0 250 31 40 2 20 0 7 0 5555 0 0"
	for count, want := range map[int]time.Duration{2: 2810 * time.Millisecond, 4: 3230 * time.Millisecond} {
		if got, err := parseCPUTime(stat, count); err != nil || got != want {
			t.Errorf("%d fields: got %v, %v, want %v", count, got, err, want)
		}
	}
	if parent := parentOf(stat); parent != 17 {
		t.Errorf("parent %d, want 17", parent)
	}
	for _, stat := range []string{"", "1 (a) S 1 2 3", "1 (a) S 1 1 1 0 -1 0 0 0 0 0 x 31 0 0"} {
		if _, err := parseCPUTime(stat, 2); err == nil {
			t.Errorf("%q: no error", stat)
		}
	}
}

func TestFamilyCPUTime(t *testing.T) {
	t.Parallel()
	child := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	before, err := familyCPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := familyCPUTime(os.Getpid())
	if used := child.ProcessState.UserTime() - tick; err != nil || after-before < used {
		t.Errorf("got %v more, %v, want at least the %v of a child that has ended", after-before, err, used)
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
