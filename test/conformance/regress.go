package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// regressPatience bounds one run of pg_regress, which takes a minute: a test that waits
// for a lock that nobody gives up would wait forever.
const regressPatience = 8 * time.Minute

// regressVariant is a way to run the suite.
type regressVariant struct {
	name      string
	arguments []string          // of pg_regress
	proxy     map[string]string // environment
}

var regressVariants = []regressVariant{
	{"up to 20 tests at once", nil, nil},
	{"one test at a time, two servers", []string{"--max-connections=1"}, map[string]string{"DEFAULT_POOL_SIZE": "2"}},
}

// regressSettings are those that pg_regress gives a server of its own.
var regressSettings = map[string]string{"max_prepared_transactions": "2"}

// regressDatabase makes the database as pg_regress does.
var regressDatabase = []string{
	"CREATE DATABASE regression TEMPLATE template0",
	"ALTER DATABASE regression SET lc_messages TO 'C'",
	"ALTER DATABASE regression SET lc_monetary TO 'C'",
	"ALTER DATABASE regression SET lc_numeric TO 'C'",
	"ALTER DATABASE regression SET lc_time TO 'C'",
	"ALTER DATABASE regression SET bytea_output TO 'hex'",
	"ALTER DATABASE regression SET timezone_abbreviations TO 'Default'",
}

// runRegress runs PostgreSQL's regression suite.
// See https://www.postgresql.org/docs/current/regress-run.html
func (r *runner) runRegress(ctx context.Context) (*result, error) {
	result := &result{Suite: "regress"}
	differences := map[test]string{}
	for _, variant := range regressVariants {
		direct, err := r.regress(ctx, result, variant, false)
		if err != nil {
			return nil, err
		}
		through, err := r.regress(ctx, result, variant, true)
		if err != nil {
			return nil, err
		}
		rows, differing := compare(direct, through)
		result.Rows = append(result.Rows, rows...)
		for _, t := range differing {
			differences[test{"", t.name}] += variant.name + "; "
		}
	}
	for t, note := range differences {
		result.Differences = append(result.Differences, difference{Test: t.name, Note: strings.TrimSuffix(note, "; ")})
	}
	return result, nil
}

// regress runs the suite once. Its output and its differences from what is expected are
// kept in the folder out.
func (r *runner) regress(ctx context.Context, result *result, variant regressVariant, through bool) (_ outcomes, err error) {
	p, err := r.newPlace(ctx, regressSettings)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.end(ctx)) }()
	source, err := r.getRegressSource(ctx, p.cluster.BinDir())
	if err != nil {
		return nil, err
	}
	result.Subject = filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(source.folder))))
	if err := p.sql(ctx, "postgres", regressDatabase...); err != nil {
		return nil, err
	}
	name := "regress directly"
	if through {
		name = "regress through"
		environment := map[string]string{"UPSTREAM_URL": p.cluster.URL(devpg.Superuser, "regression")}
		for key, value := range variant.proxy {
			environment[key] = value
		}
		if err := p.addProxy(ctx, r, environment); err != nil {
			return nil, err
		}
	}
	r.say(name + ", " + variant.name)
	work, err := prepareRegress(ctx, p, source)
	if err != nil {
		return nil, err
	}
	pgxs, err := pgConfig(ctx, p.cluster.BinDir(), "--pgxs")
	if err != nil {
		return nil, err
	}
	host, port := p.address()
	arguments := append([]string{
		"--bindir=" + p.cluster.BinDir(), "--dlpath=" + work, "--inputdir=" + work, "--outputdir=" + work,
		"--host=" + host, "--port=" + port, "--user=" + devpg.Superuser, "--use-existing", "--dbname=regression",
		"--max-concurrent-tests=20", "--schedule=" + filepath.Join(work, "parallel_schedule"),
	}, variant.arguments...)
	limited, cancel := context.WithTimeout(ctx, regressPatience)
	defer cancel()
	program := filepath.Join(filepath.Dir(pgxs), "..", "test", "regress", "pg_regress")
	output, err := command(limited, work, nil, program, arguments...).CombinedOutput()
	if err := r.keepRegress(name+" "+variant.name, work, output); err != nil {
		return nil, err
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return nil, fmt.Errorf("pg_regress: %w\n%s", err, output)
	}
	outcomes := readRegress(variant.name, string(output))
	if len(outcomes) == 0 {
		return nil, fmt.Errorf("pg_regress: %w\n%s", err, output)
	}
	return outcomes, nil
}

// prepareRegress lays the suite where the server can read its data and write results.
func prepareRegress(ctx context.Context, p *place, source *regressSource) (work string, err error) {
	work = filepath.Join(p.dir, "regress")
	if err := os.CopyFS(work, os.DirFS(source.folder)); err != nil {
		return "", err
	}
	pkglib, err := pgConfig(ctx, p.cluster.BinDir(), "--pkglibdir")
	if err != nil {
		return "", err
	}
	libraries := []string{source.library, filepath.Join(pkglib, "refint.so"), filepath.Join(pkglib, "autoinc.so")}
	for _, library := range libraries {
		content, err := os.ReadFile(library)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(work, filepath.Base(library)), content, 0o755); err != nil {
			return "", err
		}
	}
	results := filepath.Join(work, "results")
	return work, errors.Join(os.Mkdir(results, 0o777), os.Chmod(results, 0o777))
}

// keepRegress keeps what pg_regress said.
func (r *runner) keepRegress(name, work string, output []byte) error {
	file, err := r.create(name + ".txt")
	if err != nil {
		return err
	}
	defer file.Close()
	diffs, _ := os.ReadFile(filepath.Join(work, "regression.diffs")) // there is none if all is well
	_, err = io.WriteString(file, string(output)+"\n"+string(diffs))
	return err
}

var (
	regressLine = regexp.MustCompile(`(?m)^(?:test|    ) (\S+) +\.\.\. (ok|FAILED|failed \(ignored\)) `)

	// regressTAPLine is what PostgreSQL 16 and later say instead.
	regressTAPLine = regexp.MustCompile(`(?m)^(ok|not ok) \d+ +[-+] (\S+) `)
)

// readRegress reads pg_regress's list of tests. Those behind one that hung are missing.
func readRegress(group, output string) outcomes {
	run := outcomes{}
	note := func(name, word string) {
		o := failed
		if word == "ok" {
			o = passed
		}
		run[test{group, name}] = o
	}
	for _, match := range regressLine.FindAllStringSubmatch(output, -1) {
		note(match[1], match[2])
	}
	for _, match := range regressTAPLine.FindAllStringSubmatch(output, -1) {
		note(match[2], match[1])
	}
	return run
}
