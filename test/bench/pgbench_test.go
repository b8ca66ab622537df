package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/page"
)

const pgbenchOutput = `pgbench (17.11 (Debian 17.11-0+deb13u1))
transaction type: <builtin: select only>
scaling factor: 64
query mode: prepared
number of clients: 64
number of threads: 2
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 28317
number of failed transactions: 0 (0.000%)
latency average = 2.222 ms
initial connection time = 21.338 ms
tps = 28808.105436 (without initial connection time)
`

func TestParsePgbench(t *testing.T) {
	t.Parallel()
	result, err := parsePgbench(pgbenchOutput)
	if err != nil {
		t.Fatal(err)
	}
	if result.transactions != 28317 || result.tps != 28808.105436 {
		t.Errorf("got %d transactions, %v tps", result.transactions, result.tps)
	}
	connect := `number of transactions actually processed: 2301
average connection time = 1.694 ms
tps = 2299.513 (including reconnection times)
`
	if result, err = parsePgbench(connect); err != nil || result.tps != 2299.513 {
		t.Errorf("with -C: %v, %v", result, err)
	}
	for _, output := range []string{"", "tps = 1.0 (without initial connection time)\n", "number of transactions actually processed: 5\n"} {
		if _, err := parsePgbench(output); err == nil {
			t.Errorf("%q: no error", output)
		}
	}
}

func TestAppendLatencies(t *testing.T) {
	t.Parallel()
	log := "0 199 2241 0 1175850568 995598\n1 7 1500 0 1175850568 998079\n2 8 failed 0 1175850568 998079\n"
	got, err := appendLatencies([]float64{1}, log)
	if want := []float64{1, 2.241, 1.5}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, line := range []string{"0 199 2241 0 117\n", "0 199 fast 0 1175850568 995598\n"} {
		if _, err := appendLatencies(nil, line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

const abortedOutput = `pgbench: error: client 3 script 0 aborted in command 1 query 0: ERROR:  cached plan must not change result type
pgbench: error: client 1 script 0 aborted in command 1 query 0: ERROR:  cached plan must not change result type
pgbench: error: client 2 script 0 aborted in command 2 query 0: FATAL:  server conn crashed?
pgbench: error: client 4 aborted in command 1 (SQL) of script 0; perhaps the backend died while processing
pgbench: error: Run was aborted; the above results are incomplete.
`

func TestPgbenchErrors(t *testing.T) {
	t.Parallel()
	got := pgbenchErrors(&pgbenchResult{outcome: page.Fails, complaints: abortedOutput})
	want := map[string]int{"0A000": 2, "server conn crashed?": 1, "no answer": 1}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := pgbenchErrors(&pgbenchResult{outcome: page.Hangs}); got["hangs"] != schemaPgbenchClients {
		t.Errorf("of a run that hangs: %v", got)
	}
	if got := pgbenchErrors(&pgbenchResult{outcome: page.Fails, note: "no connection"}); got["no connection"] != 1 {
		t.Errorf("of a run that never began: %v", got)
	}
	if got := pgbenchErrors(&pgbenchResult{}); len(got) != 0 {
		t.Errorf("of a good run: %v", got)
	}
}

func TestFirstComplaint(t *testing.T) {
	t.Parallel()
	for complaints, want := range map[string]string{
		abortedOutput: "cached plan must not change result type",
		`pgbench: error: connection to server at "127.0.0.1", port 5 failed: FATAL:  no more connections allowed`: "no more connections allowed",
		"pgbench: error: could not create connection for client 0\n":                                              "could not create connection for client 0",
		"": "pgbench ended with an error",
	} {
		if got := firstComplaint(complaints); got != want {
			t.Errorf("%q: got %q, want %q", complaints, got, want)
		}
	}
}

func TestPgbenchArguments(t *testing.T) {
	t.Parallel()
	got := pgbenchArguments(6432, load{protocol: "simple", clients: 1, script: []string{"-b", "select-only"}, connect: true, sampling: 0.1}, 5)
	want := []string{
		"-n", "-M", "simple", "-c", "1", "-j", "1", "-T", "5", "-h", "127.0.0.1", "-p", "6432", "-U", "postgres",
		"--log", "--sampling-rate", "0.1", "-C", "-b", "select-only", "bench",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestParsePgbenchWithoutTransactions has a run that was over before all had logged in,
// of which pgbench prints no throughput.
func TestParsePgbenchWithoutTransactions(t *testing.T) {
	t.Parallel()
	const none = "number of transactions actually processed: 0\n"
	if result, err := parsePgbench(none); err != nil || result.transactions != 0 || result.tps != 0 {
		t.Errorf("got %+v, %v", result, err)
	}
	if result, err := parsePgbench(strings.Replace(none, "0", "7", 1)); err == nil {
		t.Errorf("transactions without throughput: %+v", result)
	}
}
