package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// hangGrace is how long pgbench may take beyond its time before it is said to hang: it
// ends after the transactions under way.
const hangGrace = 15 * time.Second

// threads is pgbench's -j.
const threads = 2

// pgbenchResult is what one run of pgbench reports.
type pgbenchResult struct {
	outcome      page.Outcome
	note         string // why it failed
	transactions int
	tps          float64
	cpu          time.Duration // its own
	latencies    []float64     // in milliseconds, sorted, a sample
	complaints   string        // standard error
}

// pgbench runs one load for the given seconds. A run that ends badly is a result; an
// error is a machine's.
func (b *bench) pgbench(ctx context.Context, t *rig.Target, l load, seconds int) (*pgbenchResult, error) {
	logs, err := os.MkdirTemp(b.rig.Dir, "log-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(logs)
	limit := time.Duration(seconds)*time.Second + hangGrace
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errHangs)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(b.rig.Cluster.BinDir(), "pgbench"), pgbenchArguments(t.Port, l, seconds)...)
	cmd.Dir = logs
	cmd.Env = rig.ChildEnvironment([]string{"PGSSLMODE=" + t.SSLMode(), "PGGSSENCMODE=disable", "PGPASSWORD=" + t.Password})
	var output, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	rig.EndWithParent(cmd.SysProcAttr)
	err = cmd.Run()
	switch {
	case errors.Is(context.Cause(ctx), errHangs):
		return &pgbenchResult{outcome: page.Hangs, note: fmt.Sprintf("did not end within %v", limit)}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return nil, fmt.Errorf("run pgbench: %w", err)
	}
	if err != nil {
		transactions, _ := parseTransactions(output.String())
		return &pgbenchResult{
			outcome: page.Fails, note: firstComplaint(complaints.String()),
			transactions: transactions, complaints: complaints.String(),
		}, nil
	}
	result, err := parsePgbench(output.String())
	if err != nil {
		return nil, err
	}
	result.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	result.latencies, err = readLatencies(logs)
	return result, err
}

var errHangs = errors.New("pgbench hangs")

func pgbenchArguments(port int, l load, seconds int) []string {
	args := []string{
		"-n", "-M", l.protocol, "-c", strconv.Itoa(l.clients), "-j", strconv.Itoa(min(threads, l.clients)),
		"-T", strconv.Itoa(seconds), "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", rig.User,
		"--log", "--sampling-rate", strconv.FormatFloat(l.sampling, 'g', -1, 64),
	}
	if l.connect {
		args = append(args, "-C")
	}
	return append(append(args, l.script...), rig.Database)
}

var (
	transactionsLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	tpsLine          = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \((without initial connection time|including reconnection times)\)`)
)

func parsePgbench(output string) (*pgbenchResult, error) {
	transactions, err := parseTransactions(output)
	if err != nil {
		return nil, err
	}
	match := tpsLine.FindStringSubmatch(output)
	if match == nil && transactions == 0 { // the time was over before all had logged in
		return new(pgbenchResult), nil
	}
	if match == nil {
		return nil, fmt.Errorf("pgbench printed no tps: %q", output)
	}
	tps, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		return nil, fmt.Errorf("tps of pgbench: %w", err)
	}
	return &pgbenchResult{transactions: transactions, tps: tps}, nil
}

func parseTransactions(output string) (int, error) {
	match := transactionsLine.FindStringSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("pgbench printed no number of transactions: %q", output)
	}
	return strconv.Atoi(match[1])
}

// firstComplaint is the message of the first error pgbench printed, without the address
// of the server.
func firstComplaint(complaints string) string {
	for line := range strings.Lines(complaints) {
		for _, severity := range []string{"ERROR:", "FATAL:"} {
			if _, message, ok := strings.Cut(line, severity); ok {
				return strings.TrimSpace(message)
			}
		}
	}
	for line := range strings.Lines(complaints) {
		if message, ok := strings.CutPrefix(line, "pgbench: error: "); ok {
			return strings.TrimSpace(message)
		}
	}
	return "pgbench ended with an error"
}

// readLatencies reads the logs of all threads of one run.
func readLatencies(dir string) ([]float64, error) {
	files, err := filepath.Glob(filepath.Join(dir, "pgbench_log.*"))
	if err != nil {
		return nil, err
	}
	var latencies []float64
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if latencies, err = appendLatencies(latencies, string(content)); err != nil {
			return nil, err
		}
	}
	slices.Sort(latencies)
	return latencies, nil
}

// appendLatencies reads the lines "client transaction microseconds script seconds
// microseconds". A transaction that failed has a word for a time.
// See https://www.postgresql.org/docs/current/pgbench.html
func appendLatencies(latencies []float64, log string) ([]float64, error) {
	for line := range strings.Lines(log) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			return nil, fmt.Errorf("line %q of pgbench's log: expected at least 6 fields", strings.TrimSpace(line))
		}
		if fields[2] == "failed" || fields[2] == "skipped" {
			continue
		}
		microseconds, err := strconv.ParseUint(fields[2], 10, 53)
		if err != nil {
			return nil, fmt.Errorf("latency in pgbench's log: %w", err)
		}
		latencies = append(latencies, float64(microseconds)/1000)
	}
	return latencies, nil
}
