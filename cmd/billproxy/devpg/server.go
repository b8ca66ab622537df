package devpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds a start, recovery after a crash included.
const startTimeout = 2 * time.Minute

// errPortTaken reports that another program took the port we found free.
var errPortTaken = errors.New("the port was taken")

// server is one run of the postmaster.
type server struct {
	process *os.Process
	logPath string

	// done is closed when the postmaster has exited; err is set before.
	done chan struct{}
	err  error
}

// startServer runs cmd, a postmaster for dataDir, and returns when it accepts
// connections.
func startServer(ctx context.Context, cmd *exec.Cmd, dataDir string) (*server, error) {
	logPath := filepath.Join(dataDir, "server.log")
	// The log of the last run tells why it ended.
	if err := os.Rename(logPath, logPath+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own, out of reach of the terminal's Ctrl-C: the server
	// ends after its clients.
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s := &server{process: cmd.Process, logPath: logPath, done: make(chan struct{})}
	watchdog, err := startWatchdog(ctx, s.process.Pid)
	go func() {
		s.err = cmd.Wait()
		if watchdog != nil {
			watchdog.dismiss()
		}
		close(s.done)
	}()
	if err == nil {
		err = s.waitReady(ctx, dataDir)
	}
	if err != nil {
		s.stop(syscall.SIGQUIT)
		return nil, err
	}
	return s, nil
}

func (s *server) waitReady(ctx context.Context, dataDir string) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return s.failure()
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("PostgreSQL did not accept connections within %v: %s (log: %s)",
				startTimeout, s.lastWords(), s.logPath)
		case <-tick.C:
			if lock, err := readLockFile(dataDir); err == nil && lock.state == "ready" && lock.pid == s.process.Pid {
				return nil
			}
		}
	}
}

// signal does nothing if the postmaster has exited, which is the only way to
// fail.
func (s *server) signal(signal syscall.Signal) { _ = s.process.Signal(signal) }

// stop signals the postmaster and waits for its exit.
func (s *server) stop(signal syscall.Signal) {
	s.signal(signal)
	<-s.done
}

// failure says why the postmaster exited. It may be called once done is closed.
func (s *server) failure() error {
	words := s.lastWords()
	if strings.Contains(words, "could not create any TCP/IP sockets") {
		return errPortTaken
	}
	state := "exit status 0"
	if s.err != nil {
		state = s.err.Error()
	}
	return fmt.Errorf("PostgreSQL stopped (%s): %s (log: %s)", state, words, s.logPath)
}

// logTailBytes is how much of the log is searched for the cause of an end.
const logTailBytes = 64 << 10

// lastWords is the line of the log that best says why the postmaster ended: the
// last PANIC of any process, else its own last FATAL, else its own last line.
// Other lines of sessions are about clients, and might show their data.
func (s *server) lastWords() string {
	tail, err := readTail(s.logPath, logTailBytes)
	if err != nil {
		return err.Error()
	}
	own := "[" + strconv.Itoa(s.process.Pid) + "] "
	panicked, fatal, last := "", "", ""
	for line := range strings.Lines(tail) {
		_, text, isOwn := strings.Cut(line, own)
		_, words, isPanic := strings.Cut(line, "] PANIC: ")
		switch {
		case isPanic:
			panicked = "PANIC: " + words
		case isOwn && strings.HasPrefix(text, "FATAL:"):
			fatal = text
		case isOwn && !strings.HasPrefix(text, "HINT:"):
			last = text
		}
	}
	words := cmp.Or(panicked, fatal, last)
	switch {
	case words != "":
	case tail == "":
		words = "it left no log, as on a full disk"
	case len(tail) < logTailBytes:
		// The postmaster never began to log: these lines have no prefix.
		words = tail
	default:
		words = "its log does not say why"
	}
	return strings.Join(strings.Fields(words), " ")
}

// readTail returns the last bytes of a file.
func readTail(path string, bytes int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	tail := make([]byte, min(bytes, info.Size()))
	n, err := file.ReadAt(tail, info.Size()-int64(len(tail)))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return string(tail[:n]), err
}
