package reactor_test

import (
	"os"
	"testing"
)

// openFiles counts the descriptors of the process.
func openFiles(tb testing.TB) int {
	tb.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(files)
}
