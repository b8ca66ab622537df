package devpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockFile is what postmaster.pid in a data directory says: the server's process
// id in its first line, its state, for instance "ready", in the eighth.
type lockFile struct {
	pid   int
	state string
}

// readLockFile returns fs.ErrNotExist if no server runs or ran.
func readLockFile(dataDir string) (lockFile, error) {
	content, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return lockFile{}, err
	}
	lines := strings.Split(string(content), "\n")
	// A single-user server writes its pid negated.
	pid, _ := strconv.Atoi(strings.TrimPrefix(lines[0], "-"))
	lock := lockFile{pid: pid}
	if len(lines) > 7 {
		lock.state = strings.TrimSpace(lines[7])
	}
	return lock, nil
}

// A server whose starter has just died is told to stop, and does.
const (
	watchdogGrace = 3 * time.Second
	stoppingGrace = time.Minute
)

// clearLockFile removes the postmaster.pid of a server that is gone. PostgreSQL
// does so itself, but not when another program has got that process id since. A
// live server is never touched: its lock file is what keeps a second one from
// destroying the data.
func clearLockFile(ctx context.Context, dataDir string) error {
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		lock, err := readLockFile(dataDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !isServerOf(ctx, lock.pid, dataDir) {
			err := os.Remove(filepath.Join(dataDir, "postmaster.pid"))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		waited := time.Since(began)
		if waited > stoppingGrace || lock.state != "stopping" && waited > watchdogGrace {
			return fmt.Errorf("PostgreSQL already runs on %s as process %d: end the program that started it",
				dataDir, lock.pid)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isServerOf reports whether process pid is a PostgreSQL server working in
// dataDir. In doubt it says yes.
func isServerOf(ctx context.Context, pid int, dataDir string) bool {
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	// On Linux a server is known by its working directory, if we may see it:
	// root in a container may not.
	process := "/proc/" + strconv.Itoa(pid)
	if directory, err := os.Readlink(process + "/cwd"); err == nil {
		return directory == dataDir
	}
	command, err := os.ReadFile(process + "/cmdline")
	if err != nil {
		command, err = exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	}
	return err != nil || bytes.Contains(command, []byte("postgres"))
}
