package devpg_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
)

// childVariable makes the test binary start a cluster on the folder it names
// and wait to be killed, see TestServerEndsWithItsStarter.
const childVariable = "DEVPG_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		cluster, err := devpg.Start(context.Background(), config(dir))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(cluster.PID())
		<-cluster.Done()
		return
	}
	os.Exit(m.Run())
}

func config(dir string) devpg.Config {
	return devpg.Config{
		DataDir:  dir,
		BinDir:   os.Getenv("BILLPROXY_PG_BIN"),
		Settings: map[string]string{"fsync": "off", "shared_buffers": "1MB", "max_connections": "10"},
	}
}

func start(t *testing.T, config devpg.Config) *devpg.Cluster {
	t.Helper()
	cluster, err := devpg.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Stop(context.WithoutCancel(t.Context())) })
	return cluster
}

// query runs SQL with psql and returns what it prints.
func query(t *testing.T, cluster *devpg.Cluster, url, sql string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(cluster.BinDir(), "psql"), "-XAtq", "-c", sql, url)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, output)
	}
	return strings.TrimSpace(string(output))
}

func superuserURL(cluster *devpg.Cluster) string {
	return cluster.URL(devpg.Superuser, "postgres")
}

// wantError checks that err is one sentence that contains every part.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("several lines: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestClusterListensOnBothAddresses(t *testing.T) {
	cluster := devpgtest.Start(t, map[string]string{"max_connections": "17"})
	for _, url := range []string{superuserURL(cluster), cluster.SocketURL(devpg.Superuser, "postgres")} {
		if got := query(t, cluster, url, "SHOW max_connections"); got != "17" {
			t.Errorf("max_connections over %s is %s", url, got)
		}
	}
	info, err := os.Stat(cluster.SocketPath())
	if err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("%s: %v, %v", cluster.SocketPath(), info, err)
	}
	folder, err := os.Stat(cluster.SocketDir())
	if err != nil || folder.Mode().Perm()&0o007 != 0 {
		t.Errorf("the folder of the socket is not private: %v, %v", folder.Mode(), err)
	}
	if got := query(t, cluster, superuserURL(cluster), "SHOW server_version"); !strings.HasPrefix(got, cluster.MajorVersion()+".") {
		t.Errorf("server version %s, MajorVersion %s", got, cluster.MajorVersion())
	}
}

func TestSecondStartKeepsTheData(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), "new", "data")
	cluster := start(t, config(dir))
	query(t, cluster, superuserURL(cluster), "CREATE TABLE t AS SELECT 42 AS answer")
	cluster.Stop(t.Context())
	cluster = start(t, config(dir))
	if got := query(t, cluster, superuserURL(cluster), "SELECT answer FROM t"); got != "42" {
		t.Errorf("got %q", got)
	}
}

func TestRestartAndKillKeepTheAddress(t *testing.T) {
	cluster := devpgtest.Start(t, nil)
	url, pid := superuserURL(cluster), cluster.PID()
	query(t, cluster, url, "CREATE TABLE t AS SELECT 42 AS answer")
	if err := cluster.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cluster.PID() == pid {
		t.Error("the same server still runs")
	}
	cluster.Kill()
	<-cluster.Done()
	wantError(t, cluster.Err(), "PostgreSQL stopped", "shut down", "server.log")
	if err := cluster.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, cluster, url, "SELECT answer FROM t"); got != "42" {
		t.Errorf("got %q", got)
	}
}

func TestDoneReportsAServerKilledByOthers(t *testing.T) {
	cluster := devpgtest.Start(t, nil)
	query(t, cluster, superuserURL(cluster),
		"DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE LOG 'FATAL: secret of a session %', repeat('x', 100); END LOOP; END $$")
	if err := syscall.Kill(cluster.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-cluster.Done()
	wantError(t, cluster.Err(), "killed")
	if strings.Contains(cluster.Err().Error(), "secret") {
		t.Errorf("the error shows a session's data: %v", cluster.Err())
	}
}

func TestLiveServerIsLeftAlone(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), "data")
	cluster := start(t, config(dir))
	_, err := devpg.Start(t.Context(), config(dir))
	wantError(t, err, "already runs on "+dir, strconv.Itoa(cluster.PID()))
	if got := query(t, cluster, superuserURL(cluster), "SELECT 1"); got != "1" {
		t.Errorf("the first server answers %q", got)
	}
}

func TestStaleLockFileIsRemoved(t *testing.T) {
	dead := exec.CommandContext(t.Context(), "/bin/sh", "-c", ":")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), "sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	pids := map[string]int{"dead process": dead.Process.Pid, "another program": other.Process.Pid, "ourselves": os.Getpid()}

	dir := filepath.Join(devpgtest.ReachableDir(t), "data")
	start(t, config(dir)).Stop(t.Context())
	for name, pid := range pids {
		t.Run(name, func(t *testing.T) {
			lock := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\nlocalhost\n  1 1\nready\n", pid, dir, dir)
			if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(lock), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, config(dir))
		})
	}
}

func TestServerEndsWithItsStarter(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), "data")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), childVariable+"="+dir)
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := output.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line[:n])))
	if err != nil {
		t.Fatalf("the child printed %q", line[:n])
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	// A start waits for the old server to end; it would report one that stays.
	cluster := start(t, config(dir))
	if cluster.PID() == pid {
		t.Error("the old server still runs")
	}
	old, err := os.ReadFile(filepath.Join(cluster.DataDir(), "server.log.old"))
	if err != nil || !strings.Contains(string(old), "received fast shutdown request") {
		t.Errorf("the old server did not shut down cleanly: %v\n%s", err, old)
	}
}

func TestDataOfAnotherVersion(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), "data")
	start(t, config(dir)).Stop(t.Context())
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := devpg.Start(t.Context(), config(dir))
	wantError(t, err, dir, "belongs to PostgreSQL 9", "install version 9")
}

func TestForeignFolderIsLeftAlone(t *testing.T) {
	dir := devpgtest.ReachableDir(t)
	if err := os.WriteFile(filepath.Join(dir, "notes"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := devpg.Start(t.Context(), config(dir))
	wantError(t, err, dir+" is not empty")
}

func TestDanglingLink(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), "data")
	if err := os.Symlink("/nonexistent/data", dir); err != nil {
		t.Fatal(err)
	}
	_, err := devpg.Start(t.Context(), config(dir))
	wantError(t, err, dir, "/nonexistent/data")
}

func TestMissingPrograms(t *testing.T) {
	c := config(filepath.Join(devpgtest.ReachableDir(t), "data"))
	c.BinDir = t.TempDir()
	_, err := devpg.Start(t.Context(), c)
	wantError(t, err, "no PostgreSQL server programs in "+c.BinDir)
}

func TestBrokenDataNamesTheCause(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), "data")
	start(t, config(dir)).Stop(t.Context())
	if err := os.Remove(filepath.Join(dir, "global", "pg_control")); err != nil {
		t.Fatal(err)
	}
	_, err := devpg.Start(t.Context(), config(dir))
	wantError(t, err, "pg_control", dir)
}

func TestBadSettingNamesTheCause(t *testing.T) {
	c := config(filepath.Join(devpgtest.ReachableDir(t), "data"))
	c.Settings = map[string]string{"max_connections": "many"}
	_, err := devpg.Start(t.Context(), c)
	wantError(t, err, "max_connections", "many")
}

func TestInitdbFailureLeavesNothing(t *testing.T) {
	parent := devpgtest.ReachableDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := config(filepath.Join(parent, "data"))
	c.Progress = func(message string) {
		if strings.HasPrefix(message, "creating") {
			cancel()
		}
	}
	if _, err := devpg.Start(ctx, c); err == nil {
		t.Fatal("no error")
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLongPathGetsAShortSocket(t *testing.T) {
	dir := filepath.Join(devpgtest.ReachableDir(t), strings.Repeat("long", 30), "data")
	cluster := start(t, config(dir))
	socketDir := cluster.SocketDir()
	if strings.HasPrefix(socketDir, dir) {
		t.Errorf("socket in %s", socketDir)
	}
	if err := cluster.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, cluster, cluster.SocketURL(devpg.Superuser, "postgres"), "SELECT 1"); got != "1" {
		t.Errorf("got %q", got)
	}
	cluster.Stop(t.Context())
	if _, err := os.Stat(socketDir); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", socketDir, err)
	}
}

// Under a folder that only root may enter, the data goes elsewhere; to another
// user every folder of their own is reachable.
func TestPrivateParent(t *testing.T) {
	parent, fallback := t.TempDir(), filepath.Join(devpgtest.ReachableDir(t), "fallback")
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	c := config(filepath.Join(parent, "data"))
	c.FallbackDir = fallback
	cluster := start(t, c)
	query(t, cluster, superuserURL(cluster), "CREATE TABLE t AS SELECT 42 AS answer")
	want := c.DataDir
	if os.Geteuid() == 0 {
		want = fallback + "/"
	}
	if !strings.HasPrefix(cluster.DataDir(), want) {
		t.Errorf("data in %s, want it under %s", cluster.DataDir(), want)
	}
	cluster.Stop(t.Context())
	cluster = start(t, c)
	if got := query(t, cluster, superuserURL(cluster), "SELECT answer FROM t"); got != "42" {
		t.Errorf("got %q", got)
	}
}

func TestStopWithoutTimeIsImmediate(t *testing.T) {
	cluster := devpgtest.Start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	cluster.Stop(ctx)
	if state, err := os.ReadFile(filepath.Join(cluster.DataDir(), "server.log")); err != nil ||
		!strings.Contains(string(state), "immediate shutdown") {
		t.Errorf("%v\n%s", err, state)
	}
}
