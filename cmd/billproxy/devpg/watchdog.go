package devpg

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// watchdog is a shell that outlives us just long enough to end the server: it
// reads a pipe whose other end only we hold, so the end of our process, however
// it comes, wakes it. It works on every Unix; Linux's parent death signal would
// depend on one thread of ours staying alive.
type watchdog struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// watchdogScript asks for a fast shutdown unless it was dismissed with a line.
const watchdogScript = `read -r dismissed || kill -INT "$0"`

func startWatchdog(ctx context.Context, pid int) (*watchdog, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", watchdogScript, strconv.Itoa(pid))
	// A session of its own, out of reach of the terminal's Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog of PostgreSQL: %w", err)
	}
	return &watchdog{cmd, pipe}, nil
}

// dismiss ends the watchdog; the server it guarded has ended.
func (w *watchdog) dismiss() {
	// It can fail only if somebody killed the watchdog.
	_, _ = io.WriteString(w.pipe, "\n")
	_ = w.pipe.Close()
	_ = w.cmd.Wait()
}
