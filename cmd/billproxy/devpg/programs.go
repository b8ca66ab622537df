package devpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// programs is one installation of PostgreSQL's server programs.
type programs struct {
	binDir string
	major  string // "15"
}

// searchPatterns are the folders, besides PATH, where packages put the server
// programs: Debian and Ubuntu, Homebrew on ARM, on Intel and on Linux, the
// PostgreSQL project's RPMs, Alpine.
var searchPatterns = []string{
	"/usr/lib/postgresql/*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
}

// errNoPrograms reports that no server programs are installed.
var errNoPrograms = errors.New("PostgreSQL's server programs (initdb, postgres) were found neither on PATH " +
	"nor where packages put them")

// providePrograms returns the programs to run dataDir with, installing them if
// there are none at all.
func providePrograms(ctx context.Context, config Config, dataDir dataDir) (programs, error) {
	candidates, err := findPrograms(ctx, config.BinDir)
	if errors.Is(err, errNoPrograms) {
		if err = install(ctx, config.progress); err == nil {
			candidates, err = findPrograms(ctx, "")
		}
	}
	if err != nil {
		return programs{}, err
	}
	if dataDir.major == "" {
		return candidates[0], nil
	}
	for _, candidate := range candidates {
		if candidate.major == dataDir.major {
			return candidate, nil
		}
	}
	return programs{}, fmt.Errorf("the data in %s belongs to PostgreSQL %s but only PostgreSQL %s is installed: "+
		"install version %s, or move that folder away to begin anew",
		dataDir.path, dataDir.major, candidates[0].major, dataDir.major)
}

// findPrograms lists the installations in order of preference: binDir alone if
// it is given, else what PATH names, then the others, newest first. An
// installation is whole when it has initdb beside postgres.
func findPrograms(ctx context.Context, binDir string) ([]programs, error) {
	if binDir != "" {
		major, err := majorVersion(ctx, binDir)
		if err != nil {
			return nil, fmt.Errorf("no PostgreSQL server programs in %s: %w", binDir, err)
		}
		return []programs{{binDir, major}}, nil
	}
	var found []programs
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = appendPrograms(ctx, found, filepath.Dir(path))
		}
	}
	fromPath := len(found)
	for _, pattern := range searchPatterns {
		// Glob fails on a malformed pattern only.
		folders, _ := filepath.Glob(pattern)
		for _, folder := range folders {
			found = appendPrograms(ctx, found, folder)
		}
	}
	slices.SortStableFunc(found[fromPath:], func(a, b programs) int {
		newer, _ := strconv.Atoi(b.major)
		older, _ := strconv.Atoi(a.major)
		return newer - older
	})
	if len(found) == 0 {
		return nil, errNoPrograms
	}
	return found, nil
}

func appendPrograms(ctx context.Context, found []programs, binDir string) []programs {
	if major, err := majorVersion(ctx, binDir); err == nil {
		return append(found, programs{binDir, major})
	}
	return found
}

var versionOutput = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorVersion asks the postgres of binDir for its version.
func majorVersion(ctx context.Context, binDir string) (string, error) {
	if _, err := os.Stat(filepath.Join(binDir, "initdb")); err != nil {
		return "", fs.ErrNotExist
	}
	output, err := exec.CommandContext(ctx, filepath.Join(binDir, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("run postgres --version: %w", err)
	}
	match := versionOutput.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("postgres --version printed %q", output)
	}
	return string(match[1]), nil
}
