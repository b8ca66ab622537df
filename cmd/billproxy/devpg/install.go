package devpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// packageStateDir exists wherever apt does. It is locked while we install, so
// that of several test binaries that start at once one installs and the others
// wait.
const packageStateDir = "/var/lib/dpkg"

// createClusterDir holds snippets that postgresql-common reads before it sets up
// the distribution's own cluster.
const createClusterDir = "/etc/postgresql-common/createcluster.d"

// interruptGrace is how long a package manager gets to stop when interrupted.
const interruptGrace = 30 * time.Second

// install gets the server programs with the system's package manager.
func install(ctx context.Context, progress func(string)) error {
	if _, err := exec.LookPath("apt-get"); err == nil {
		return installWithApt(ctx, progress)
	}
	if brew, err := exec.LookPath("brew"); err == nil {
		progress("installing PostgreSQL with brew; this takes a minute or two")
		if err := run(ctx, progress, brew, "install", "postgresql@17"); err != nil {
			return fmt.Errorf("install PostgreSQL: %w", err)
		}
		return nil
	}
	return fmt.Errorf("%w: install the PostgreSQL server package of this system (for instance "+
		"postgresql-server on Fedora, postgresql on Arch and Alpine)", errNoPrograms)
}

func installWithApt(ctx context.Context, progress func(string)) error {
	sudo := []string{}
	if os.Geteuid() != 0 {
		sudo = []string{"sudo", "-n"}
		if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
			return fmt.Errorf("%w: install them with: sudo apt-get install postgresql", errNoPrograms)
		}
	}
	unlock, err := lockDir(packageStateDir)
	if err != nil {
		return err
	}
	defer unlock()
	// Whoever held the lock before may have installed them.
	if _, err := findPrograms(ctx, ""); !errors.Is(err, errNoPrograms) {
		return err
	}
	progress("installing PostgreSQL with apt-get; this takes a minute or two")
	withSudo := func(ctx context.Context, name string, args ...string) error {
		command := append(append(sudo, name), args...)
		return run(ctx, progress, command[0], command[1:]...)
	}
	// A server of the distribution's own would take port 5432 and memory.
	snippet := filepath.Join(createClusterDir, "billproxy.conf")
	err = withSudo(ctx, "sh", "-c", `mkdir -p "$1" && echo "create_main_cluster = false" > "$2"`,
		"sh", createClusterDir, snippet)
	if err != nil {
		return fmt.Errorf("keep apt-get from starting a server of its own: %w", err)
	}
	apt := func(args ...string) error {
		return withSudo(ctx, "env", append([]string{
			"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C",
			"apt-get", "-y", "-o", "DPkg::Lock::Timeout=300",
		}, args...)...)
	}
	// The lists of a fresh machine are empty, those of an old one name packages
	// that are gone. Lists that cannot be updated may still do.
	updateErr := apt("update")
	err = apt("install", "--no-install-recommends", "postgresql")
	if err != nil && updateErr != nil {
		err = fmt.Errorf("%w; before that, %w", err, updateErr)
	}
	if removeErr := withSudo(context.WithoutCancel(ctx), "rm", "-f", snippet); err == nil {
		err = removeErr
	}
	if err != nil {
		return fmt.Errorf("install PostgreSQL: %w", err)
	}
	return nil
}

// lockDir waits for the lock of an existing folder.
func lockDir(path string) (unlock func(), err error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = dir.Close() }, nil
}

// run runs a package manager, passes its milestones on and, if it fails, returns
// the line that says why.
func run(ctx context.Context, progress func(string), name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	// A package manager that is killed leaves its database in need of repair.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptGrace
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	said := make(chan string, 1)
	go func() {
		complaint, last := "", ""
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			switch first, _, _ := strings.Cut(line, " "); first {
			case "":
				continue
			case "E:", "Error:":
				complaint = line
			case "Unpacking", "==>":
				progress(line)
			}
			last = line
		}
		// A line too long for the scanner must not stop the program's output.
		_, _ = io.Copy(io.Discard, reader)
		if complaint == "" {
			complaint = last
		}
		said <- complaint
	}()
	err := cmd.Run()
	_ = writer.Close()
	complaint := <-said
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{filepath.Base(name)}, args...), " "), err, complaint)
	}
}
