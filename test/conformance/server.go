package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// server is a version of PostgreSQL that suites are run against.
type server struct {
	binDir  string
	source  string // of that version, or empty
	version string // such as 15.18
}

// findServers returns the servers of the command line. If it names none, it is the one
// that a place starts, which may have to be installed.
func (r *runner) findServers(ctx context.Context) ([]*server, error) {
	var servers []*server
	for i, binDir := range r.options.pgBin {
		s := &server{binDir: binDir}
		if i < len(r.options.postgresqlSource) {
			s.source = r.options.postgresqlSource[i]
		}
		r.server = s
		if binDir == "" {
			p, err := r.newPlace(ctx, nil)
			if err != nil {
				return nil, err
			}
			s.binDir = p.cluster.BinDir()
			if err := p.end(ctx); err != nil {
				return nil, err
			}
		}
		output, err := command(ctx, "", nil, filepath.Join(s.binDir, "postgres"), "--version").Output()
		match := serverVersion.FindSubmatch(output)
		if err != nil {
			return nil, fmt.Errorf("postgres --version in %s: %w", s.binDir, err)
		}
		if match == nil {
			return nil, fmt.Errorf("postgres --version in %s printed %q: expected a version", s.binDir, output)
		}
		s.version = string(match[1])
		servers = append(servers, s)
	}
	return servers, nil
}

// serverVersion is in "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
var serverVersion = regexp.MustCompile(`\(PostgreSQL\) (\S+)`)

// major is a version's number without that of its release.
func major(version string) string {
	number, _, _ := strings.Cut(version, ".")
	return number
}
