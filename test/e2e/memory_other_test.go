//go:build !linux

package e2e

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// peakMemoryBytes is the memory that the process uses now: where there is no /proc
// nobody tells about the past of a process that runs.
func (p *process) peakMemoryBytes(t testing.TB) int {
	t.Helper()
	output, err := exec.CommandContext(patient(t), "ps", "-o", "rss=", "-p", strconv.Itoa(p.PID())).Output()
	if err != nil {
		t.Fatal(err)
	}
	kilobytes, err := strconv.Atoi(strings.TrimSpace(string(output)))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
