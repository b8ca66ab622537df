package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// driverPatience bounds one run of a driver's program, which takes seconds.
const driverPatience = 3 * time.Minute

// driver is a program of the folder drivers. It is given the URL of a database and a
// number that tells it from others that run at the same time, and prints a line of JSON
// for each check: {"check": name, "saw": anything}. The check "driver" tells its version.
type driver struct {
	name   string
	folder string
	quick  bool // its installation takes seconds

	// install makes the program in a copy of its folder; program runs it.
	install [][]string
	program []string
}

// Ways to install.
var (
	withPip = [][]string{{"python3", "-m", "venv", "venv"}, {"venv/bin/pip", "install", "-q", "-r", "requirements.txt"}}
	withNpm = [][]string{{"npm", "ci", "--silent", "--no-audit", "--no-fund"}}
)

var drivers = []driver{
	{"pgx", "database-sql", true, [][]string{{"go", "build", "-o", "program", "-tags", "pgx", "."}}, []string{"./program"}},
	{"lib-pq", "database-sql", true, [][]string{{"go", "build", "-o", "program", "."}}, []string{"./program"}},
	{"psycopg", "psycopg", true, withPip, []string{"./venv/bin/python", "main.py"}},
	{"asyncpg", "asyncpg", true, withPip, []string{"./venv/bin/python", "main.py"}},
	{"node-postgres", "node-postgres", true, withNpm, []string{"node", "main.mjs"}},
	{"postgres-js", "postgres-js", true, withNpm, []string{"node", "main.mjs"}},
	{"pgjdbc", "pgjdbc", false, [][]string{{"mvn", "-q", "-B", "package"}}, []string{"java", "-jar", "target/program.jar"}},
	{"tokio-postgres", "tokio-postgres", false, [][]string{{"cargo", "build", "-q", "--locked"}}, []string{"./target/debug/program"}},
}

// driverServers is the most servers of the proxy: two programs at a time, each of which
// may pin one, and one more for all else.
const driverServers = "3"

// runDrivers runs the program of every driver twice at once, directly and through.
func (r *runner) runDrivers(ctx context.Context) (_ *result, err error) {
	result := &result{Suite: "drivers"}
	var subjects []string
	for _, d := range drivers {
		if r.options.quick && !d.quick || !slices.Contains(r.options.drivers, d.name) {
			continue
		}
		dir, err := r.installDriver(ctx, d)
		if err != nil {
			return nil, err
		}
		direct, err := r.runDriver(ctx, d, dir, false)
		if err != nil {
			return nil, err
		}
		through, err := r.runDriver(ctx, d, dir, true)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, strings.Trim(direct[0]["driver"], `"`))
		expected, got, notes := sameSights(d.name, direct, through)
		rows, differing := compare(expected, got)
		result.Rows = append(result.Rows, rows...)
		for _, t := range differing {
			result.Differences = append(result.Differences, difference{Test: t.group + "/" + t.name, Note: notes[t]})
		}
	}
	result.Subject = strings.Join(subjects, ", ")
	return result, nil
}

// installDriver makes the driver's program in the cache.
func (r *runner) installDriver(ctx context.Context, d driver) (dir string, err error) {
	dir = filepath.Join(r.options.cache, "drivers", d.name)
	if err := overwrite(dir, filepath.Join("test", "conformance", "drivers", d.folder)); err != nil {
		return "", err
	}
	r.say("installing " + d.name)
	for _, step := range d.install {
		if err := run(command(ctx, dir, nil, step[0], step[1:]...)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// overwrite copies a folder over one that may be there, and leaves what else is in it.
func overwrite(to, from string) error {
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		source, target := filepath.Join(from, file.Name()), filepath.Join(to, file.Name())
		if file.IsDir() {
			err = overwrite(target, source)
		} else if content, readErr := os.ReadFile(source); readErr != nil {
			err = readErr
		} else {
			err = os.WriteFile(target, content, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sights are what a program has seen, by check.
type sights map[string]string

// runDriver runs the program twice at once.
func (r *runner) runDriver(ctx context.Context, d driver, dir string, through bool) (_ [2]sights, err error) {
	var seen [2]sights
	p, err := r.newPlace(ctx, nil)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, p.end(ctx)) }()
	if err := p.sql(ctx, "postgres", "CREATE ROLE app LOGIN PASSWORD 'secret'", "CREATE ROLE other", "GRANT other TO app",
		"CREATE DATABASE app OWNER app"); err != nil {
		return seen, err
	}
	url := strings.Replace(p.cluster.URL("app", "app"), "app@", "app:secret@", 1)
	way := "directly"
	if through {
		way = "through"
		if err := p.addProxy(ctx, r, map[string]string{"UPSTREAM_URL": url, "DEFAULT_POOL_SIZE": driverServers}); err != nil {
			return seen, err
		}
		url = strings.Replace(url, p.cluster.TCPAddress(), p.proxy.Address, 1)
	}
	r.say(d.name + " " + way)
	ctx, cancel := context.WithTimeout(ctx, driverPatience)
	defer cancel()
	var programs sync.WaitGroup
	var errs [2]error
	for i := range seen {
		programs.Go(func() { seen[i], errs[i] = r.runProgram(ctx, d, dir, url, way, i+1) })
	}
	programs.Wait()
	return seen, errors.Join(errs[:]...)
}

// runProgram runs the program once. Through the proxy it may end early: what it has not
// seen then differs.
func (r *runner) runProgram(ctx context.Context, d driver, dir, url, way string, number int) (sights, error) {
	program := d.program[0]
	if strings.Contains(program, "/") {
		program = filepath.Join(dir, program)
	}
	cmd := command(ctx, dir, []string{"DATABASE_URL=" + url, fmt.Sprintf("NUMBER=%d", number), "TZ=UTC"}, program, d.program[1:]...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	output, runErr := cmd.Output()
	file, err := r.create(fmt.Sprintf("%s %s %d.txt", d.name, way, number))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fmt.Fprintf(file, "%s\n%s\n%v\n", output, complaints.Bytes(), runErr)
	seen := sights{}
	lines := bufio.NewScanner(bytes.NewReader(output))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Check string          `json:"check"`
			Saw   json.RawMessage `json:"saw"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Check == "" {
			return nil, fmt.Errorf("%s printed %q: expected a check in JSON", d.name, lines.Bytes())
		}
		seen[line.Check] = string(line.Saw)
	}
	if way == "directly" && (runErr != nil || len(seen) == 0) {
		return nil, fmt.Errorf("%s, whose output is in %s: %w", d.name, file.Name(), runErr)
	}
	return seen, lines.Err()
}

// sameSights makes tests of checks: one passes through if each of the two programs has
// seen what it has seen directly.
func sameSights(group string, direct, through [2]sights) (expected, got outcomes, notes map[test]string) {
	expected, got, notes = outcomes{}, outcomes{}, map[test]string{}
	for i := range direct {
		for check, saw := range direct[i] {
			t := test{group, check}
			expected[t] = passed
			if through[i][check] != saw {
				got[t], notes[t] = failed, fmt.Sprintf("saw %.300s, directly %.300s", through[i][check], saw)
			} else if got[t] == missing {
				got[t] = passed
			}
		}
	}
	return expected, got, notes
}
