package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// peakMemoryBytes is the most memory that the process has ever used.
func (p *process) peakMemoryBytes(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
