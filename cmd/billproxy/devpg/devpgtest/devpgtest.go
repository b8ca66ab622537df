// Package devpgtest gives tests a PostgreSQL cluster of their own.
//
// A cluster takes about a second to start: share one per package with Run.
package devpgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// Start runs a cluster until the test ends. The settings win over those that
// make a throw-away cluster fast; nil is none.
func Start(tb testing.TB, settings map[string]string) *devpg.Cluster {
	tb.Helper()
	cluster, stop, err := start(tb.Context(), settings)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := stop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	return cluster
}

// ReachableDir is a temporary folder that any user may enter, unlike that of testing.TB:
// root's PostgreSQL runs as another user.
func ReachableDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "billproxy-test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Run is the body of a TestMain, whose result goes to os.Exit: it runs the tests
// of m with a cluster, which it stores in *shared.
func Run(m *testing.M, settings map[string]string, shared **devpg.Cluster) int {
	ctx := context.Background()
	cluster, stop, err := start(ctx, settings)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*shared = cluster
	code := m.Run()
	if err := stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func start(ctx context.Context, settings map[string]string) (*devpg.Cluster, func(context.Context) error, error) {
	dir, err := os.MkdirTemp("", "billproxy-test-")
	if err != nil {
		return nil, nil, err
	}
	// The server may be another user than we are.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	fast := map[string]string{
		"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
		"shared_buffers": "32MB", "max_connections": "100",
	}
	maps.Copy(fast, settings)
	cluster, err := devpg.Start(ctx, devpg.Config{
		DataDir:  filepath.Join(dir, "data"),
		BinDir:   os.Getenv("BILLPROXY_PG_BIN"),
		Settings: fast,
		Progress: func(message string) { fmt.Fprintln(os.Stderr, message) },
	})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop := func(ctx context.Context) error {
		cluster.Stop(ctx)
		return errors.Join(os.RemoveAll(cluster.DataDir()), os.RemoveAll(dir))
	}
	return cluster, stop, nil
}
