package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/test/launch"
)

// patience bounds every wait. It only decides how soon a broken test fails.
const patience = 45 * time.Second

// shared is what TestMain prepares for all tests.
var shared struct {
	cluster     *devpg.Cluster
	raceBinary  string
	plainBinary string // without the race detector, which multiplies memory
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "billproxy-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = buildBinaries(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return devpgtest.Run(m, map[string]string{
		"max_connections": "200",
		"work_mem":        "1MB",
		"max_wal_size":    "256MB",
	}, &shared.cluster)
}

func buildBinaries(ctx context.Context, dir string) error {
	shared.raceBinary = filepath.Join(dir, "billproxy-race")
	shared.plainBinary = filepath.Join(dir, "billproxy")
	var builds sync.WaitGroup
	var raceErr, plainErr error
	builds.Go(func() { raceErr = launch.Build(ctx, shared.raceBinary, "-race") })
	builds.Go(func() { plainErr = launch.Build(ctx, shared.plainBinary) })
	builds.Wait()
	if raceErr != nil {
		return raceErr
	}
	return plainErr
}

// eventually waits for what nothing announces.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// patient is the test's context, ended when the whole test should be over.
func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	return ctx
}
