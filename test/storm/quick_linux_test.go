package main

import (
	"bytes"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/billproxy/billproxy/test/launch"
	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// TestQuick runs the command on a real PostgreSQL: it shows that everything that a run
// needs works together, and measures nothing.
func TestQuick(t *testing.T) {
	// The kernel ends the processes of the run with the thread that has started them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := launch.OpenSources(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "billproxy")
	if err := launch.Build(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	var text, complaints bytes.Buffer
	err := run(t.Context(), []string{
		"-quick", "-only", "^(stall/stop|crowd)$", "-targets", "^(direct|billproxy)$", "-billproxy", binary, "-out", dir,
	}, &text, &complaints)
	if err != nil {
		t.Fatalf("%v\n%s", err, &complaints)
	}
	r, err := readResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Capacity <= 0 || len(r.Runs) != 4 {
		t.Fatalf("capacity %v, %d runs\n%s", r.Capacity, len(r.Runs), &complaints)
	}
	for i := range r.Runs {
		checkQuick(t, &r.Runs[i])
	}
}

func checkQuick(t *testing.T, m *measurement) {
	t.Helper()
	name := m.Scenario + ", " + m.Target
	if m.Outcome != page.Succeeded {
		t.Errorf("%s: %s, %s", name, m.Outcome, m.Note)
		return
	}
	a := m.Account
	if a.Unique < 1 || a.Ended < a.Unique || a.Begun < a.Ended || a.Sessions < 1 {
		t.Errorf("%s: account %+v", name, a)
	}
	if m.Target == rig.Direct && a.Sessions < int64(m.Clients) {
		t.Errorf("%s: %d sessions of %d clients", name, a.Sessions, m.Clients)
	}
	for _, w := range m.Windows {
		if w.Offered <= 0 || w.Good > w.Offered {
			t.Errorf("%s: %+v", name, w)
		}
	}
	if c := m.Crowd; c != nil && (c.LoggedIn == 0 || c.LoggedIn+c.Refused > c.Clients) {
		t.Errorf("%s: crowd %+v", name, *c)
	}
}
