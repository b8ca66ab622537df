package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// regressSource is what the regression suite is made of.
type regressSource struct {
	folder  string // src/test/regress of PostgreSQL's source
	library string // regress.so, which its functions in C are in
}

// sourceHint says what to do where the source cannot be had.
const sourceHint = "unpack the source of exactly this version of PostgreSQL and name the folder with -postgresql-source"

// getRegressSource returns the suite of the installed version of PostgreSQL. On Debian
// and its like it comes from the package's source, elsewhere from -postgresql-source.
func (r *runner) getRegressSource(ctx context.Context, binDir string) (*regressSource, error) {
	version, err := pgConfig(ctx, binDir, "--version") // PostgreSQL 15.18 (Debian 15.18-0+deb12u1)
	if err != nil {
		return nil, err
	}
	tree, dir := r.server.source, ""
	if tree == "" {
		if tree, dir, err = r.downloadSource(ctx, version); err != nil {
			return nil, err
		}
	}
	source := &regressSource{folder: filepath.Join(tree, "src", "test", "regress")}
	if _, err := os.Stat(filepath.Join(source.folder, "parallel_schedule")); err != nil {
		return nil, fmt.Errorf("no regression suite in %s: %s", tree, sourceHint)
	}
	headers, err := r.serverHeaders(ctx, binDir, version, dir)
	if err != nil {
		return nil, err
	}
	source.library = filepath.Join(r.options.cache, "regress", filepath.Base(tree), "regress.so")
	if err := os.MkdirAll(filepath.Dir(source.library), 0o755); err != nil {
		return nil, err
	}
	return source, run(command(ctx, source.folder, nil, "cc", "-O2", "-fPIC", "-shared", "-I.", "-I"+headers,
		"-o", source.library, "regress.c"))
}

// downloadSource gets the source of the package that is installed, with lists of
// packages of its own: those of the machine need not name sources. It returns the
// unpacked tree and the folder that it is in.
func (r *runner) downloadSource(ctx context.Context, version string) (tree, dir string, err error) {
	_, packaged, found := strings.Cut(strings.TrimSuffix(version, ")"), "(Debian ")
	if !found {
		return "", "", fmt.Errorf("%s is no package of Debian's: %s", version, sourceHint)
	}
	number := strings.Fields(version)[1] // 15.18
	major, _, _ := strings.Cut(number, ".")
	dir = filepath.Join(r.options.cache, "postgresql-"+packaged)
	tree = filepath.Join(dir, "postgresql-"+number)
	if _, err := os.Stat(tree); err == nil {
		return tree, dir, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", "", fmt.Errorf("apt-get: %w: %s", err, sourceHint)
	}
	r.say("getting the source of PostgreSQL " + packaged)
	sources, err := debianSources()
	if err != nil {
		return "", "", err
	}
	lists := filepath.Join(dir, "lists")
	list := filepath.Join(dir, "sources.list")
	if err := errors.Join(os.MkdirAll(filepath.Join(lists, "partial"), 0o755), os.WriteFile(list, []byte(sources), 0o644)); err != nil {
		return "", "", err
	}
	options := []string{"-q", "-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Dir::State::Lists=" + lists}
	for _, arguments := range [][]string{
		append(options, "update"),
		append(options, "source", "--download-only", "postgresql-"+major+"="+packaged),
		{"-q", "download", "postgresql-server-dev-" + major + "=" + packaged},
	} {
		if err := run(command(ctx, dir, nil, "apt-get", arguments...)); err != nil {
			return "", "", err
		}
	}
	archive := "postgresql-" + major + "_" + number + ".orig.tar.bz2"
	return tree, dir, run(command(ctx, dir, nil, "tar", "xjf", archive, "--wildcards", "*/src/test/regress"))
}

// debianSources is a sources.list with the source packages of this release.
func debianSources() (string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(release)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); found {
			return strings.ReplaceAll(`deb-src http://deb.debian.org/debian CODENAME main
deb-src http://deb.debian.org/debian CODENAME-updates main
deb-src http://deb.debian.org/debian-security CODENAME-security main
`, "CODENAME", name), nil
		}
	}
	return "", errors.New("/etc/os-release has no VERSION_CODENAME: " + sourceHint)
}

// serverHeaders returns the folder with PostgreSQL's headers for the server, installed
// or from the package in dir.
func (r *runner) serverHeaders(ctx context.Context, binDir, version, dir string) (string, error) {
	headers, err := pgConfig(ctx, binDir, "--includedir-server")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(headers, "postgres.h")); err == nil {
		return headers, nil
	}
	if dir == "" {
		return "", fmt.Errorf("no headers of %s in %s: expected its development package", version, headers)
	}
	packages, err := filepath.Glob(filepath.Join(dir, "postgresql-server-dev-*.deb"))
	if err != nil || len(packages) != 1 {
		return "", fmt.Errorf("%d packages with headers in %s: expected one", len(packages), dir)
	}
	unpacked := filepath.Join(dir, "headers")
	return filepath.Join(unpacked, headers), run(command(ctx, dir, nil, "dpkg", "-x", packages[0], unpacked))
}

func pgConfig(ctx context.Context, binDir, option string) (string, error) {
	output, err := command(ctx, "", nil, filepath.Join(binDir, "pg_config"), option).Output()
	if err != nil {
		return "", fmt.Errorf("pg_config %s: %w", option, err)
	}
	return strings.TrimSpace(string(output)), nil
}

// run runs a command whose output matters only if it fails.
func run(cmd *exec.Cmd) error {
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, output)
	}
	return nil
}
