package devpg

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const defaultFallbackDir = "/var/lib/billproxy"

// dataDir is a data directory, which may not exist yet.
type dataDir struct {
	path  string // absolute, symbolic links resolved
	major string // of the server that made it; empty if there is no data yet
}

// openDataDir looks at what is at path.
func openDataDir(path string) (dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return dataDir{}, err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if link, linkErr := os.Readlink(path); linkErr == nil {
		return dataDir{}, fmt.Errorf("%s points to %s, which is gone: remove the link to begin anew", path, link)
	}
	version, err := os.ReadFile(filepath.Join(path, "PG_VERSION"))
	switch {
	case err == nil:
		return dataDir{path, strings.TrimSpace(string(version))}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return dataDir{}, fmt.Errorf("the data directory cannot be read: %w", err)
	}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0:
		return dataDir{path: path}, nil
	case err != nil:
		return dataDir{}, fmt.Errorf("the data directory cannot be read: %w", err)
	default:
		return dataDir{}, fmt.Errorf("%s is not empty and holds no PostgreSQL data: name another folder", path)
	}
}

// check reports whether the account can work in an existing data directory.
func (d *dataDir) check(ctx context.Context, account account) error {
	if err := account.enter(ctx, d.path); err != nil {
		return fmt.Errorf("user %s, who owns the data in %s, cannot enter that folder: %w", account.name, d.path, err)
	}
	return nil
}

// initialize makes the cluster beside its final place and renames it when it is
// whole, so an interrupted initdb leaves nothing half done behind.
func (d *dataDir) initialize(ctx context.Context, config Config, programs programs, account account) error {
	parent, name := filepath.Split(d.path)
	parent = filepath.Clean(parent)
	if err := makeFolder(parent, account); err != nil {
		return err
	}
	target := d.path
	if account.enter(ctx, parent) != nil {
		fallbackDir := cmp.Or(config.FallbackDir, defaultFallbackDir)
		if err := makeFolder(fallbackDir, account); err != nil {
			return fmt.Errorf("user %s cannot enter %s: %w", account.name, parent, err)
		}
		config.progress(fmt.Sprintf("user %s cannot enter %s: the data goes to %s", account.name, parent, fallbackDir))
		parent, target = fallbackDir, ""
	}
	config.progress("creating a PostgreSQL " + programs.major + " cluster in " + parent)
	made, err := os.MkdirTemp(parent, name+"-")
	if err != nil {
		return err
	}
	if err := account.own(made); err != nil {
		return errors.Join(err, os.Remove(made))
	}
	if err := initdb(ctx, programs, account, made); err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.RemoveAll(made))
	}
	if target == "" {
		err = os.Symlink(made, d.path)
		d.path = made
	} else {
		err = os.Rename(made, target)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	d.major = programs.major
	return nil
}

// makeFolder makes path and its parents. When the server is another user than
// we are, a umask that keeps others out of new folders must not.
func makeFolder(path string, account account) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if account.credential == nil {
		return nil
	}
	return os.Chmod(path, 0o755)
}

func initdb(ctx context.Context, programs programs, account account, path string) error {
	// The C locale exists everywhere. Not waiting for the disk halves the time;
	// the cluster is worth nothing yet.
	cmd := exec.CommandContext(ctx, filepath.Join(programs.binDir, "initdb"), "--pgdata", path,
		"--username", Superuser, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	account.apply(cmd, path)
	cmd.Env = serverEnvironment()
	output, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("create a PostgreSQL cluster in %s: %w: %s", path, err, initdbComplaint(output))
	}
}

// initdbComplaint picks the line that says what went wrong: the lines after it
// tell of the cleaning up.
func initdbComplaint(output []byte) string {
	last := ""
	for line := range bytes.Lines(output) {
		text := strings.TrimSpace(string(line))
		for _, mark := range []string{"error: ", "FATAL: ", "PANIC: "} {
			if _, complaint, found := strings.Cut(text, mark); found {
				return strings.TrimSpace(complaint)
			}
		}
		if text != "" {
			last = text
		}
	}
	return last
}

// serverEnvironment is our environment without what libpq and PostgreSQL's
// programs would read from it, and with messages in English, some of which are
// read.
func serverEnvironment() []string {
	environment := []string{"LC_ALL=C"}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "LC_") {
			environment = append(environment, entry)
		}
	}
	return environment
}
