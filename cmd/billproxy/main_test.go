package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
)

// asProgram makes the test binary behave as billproxy itself.
const asProgram = "RUN_AS_BILLPROXY"

// postgres is shared by the tests of this package.
var postgres *devpg.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(devpgtest.Run(m, nil, &postgres))
}

// program is a running billproxy.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *lineReader
	stderr *lineReader
}

// start runs billproxy in dir with an environment of our own.
func start(t *testing.T, dir string, environ []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, environ...)
	if bin := os.Getenv("BILLPROXY_PG_BIN"); bin != "" {
		cmd.Env = append(cmd.Env, "BILLPROXY_PG_BIN="+bin)
	}
	p := &program{t: t, cmd: cmd}
	for _, output := range []struct {
		reader **lineReader
		pipe   func() (io.ReadCloser, error)
	}{{&p.stdout, cmd.StdoutPipe}, {&p.stderr, cmd.StderrPipe}} {
		pipe, err := output.pipe()
		if err != nil {
			t.Fatal(err)
		}
		*output.reader = newLineReader(pipe)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

func (p *program) signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the exit code and everything written.
func (p *program) wait() (code int, stdout, stderr string) {
	p.t.Helper()
	stdout, stderr = p.stdout.all(), p.stderr.all()
	err := p.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), stdout, stderr
}

// lineReader reads output while it is written, so that the program never blocks.
type lineReader struct {
	lines chan string
	seen  bytes.Buffer // owned by the test
}

func newLineReader(r io.Reader) *lineReader {
	reader := &lineReader{lines: make(chan string, 1<<16)}
	go func() {
		defer close(reader.lines)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			reader.lines <- scanner.Text()
		}
	}()
	return reader
}

// until waits for a line that contains part.
func (r *lineReader) until(t *testing.T, part string) string {
	t.Helper()
	for line := range r.lines {
		r.seen.WriteString(line + "\n")
		if strings.Contains(line, part) {
			return line
		}
	}
	t.Fatalf("no line with %q in:\n%s", part, r.seen.String())
	return ""
}

func (r *lineReader) all() string {
	for line := range r.lines {
		r.seen.WriteString(line + "\n")
	}
	return r.seen.String()
}

func TestExitCodes(t *testing.T) {
	taken := listenSomewhere(t)
	base := []string{
		"BILLPROXY_LISTEN=127.0.0.1:0", "BILLPROXY_HTTP_LISTEN=127.0.0.1:0", "BILLPROXY_ADMIN_LISTEN=127.0.0.1:0",
		"BILLPROXY_UPSTREAM_URL=postgres://billing@127.0.0.1:1/billing", "BILLPROXY_API_KEYS=bp_test_key",
	}
	for _, test := range []struct {
		name    string
		args    string
		environ []string
		code    int
		want    string // in the output
	}{
		{"no command", "", nil, 2, "usage: billproxy <command>"},
		{"unknown command", "server", nil, 2, `unknown command "server": did you mean serve?`},
		{"unknown command, nothing near", "frobnicate", nil, 2, "expected dev, serve, proxy"},
		{"unexpected argument", "serve --port=1", nil, 2, `unexpected argument "--port=1"`},
		{"help", "help", nil, 0, "commands:"},
		{"help of a command", "help serve", nil, 0, "usage: billproxy serve"},
		{"help flag of a command", "migrate --help", nil, 0, "BILLPROXY_DIRECT_DATABASE_URL"},
		{"version", "version", nil, 0, "billproxy " + productVersion},
		{"unknown variable", "serve", []string{"BILLPROXY_LISTN=x"}, 2, "BILLPROXY_LISTN is not a variable of billproxy: did you mean BILLPROXY_LISTEN?"},
		{"bad value", "proxy", []string{"BILLPROXY_POOL_MODE=magic"}, 2, `BILLPROXY_POOL_MODE is "magic": expected transaction, session or statement`},
		{"no upstream", "proxy", []string{"BILLPROXY_UPSTREAM_URL="}, 2, "BILLPROXY_UPSTREAM_URL is not set"},
		{"no keys", "serve", []string{"BILLPROXY_API_KEYS="}, 2, "BILLPROXY_API_KEYS is not set"},
		{"trust on all addresses", "proxy", []string{"BILLPROXY_LISTEN=:6432"}, 2, "expected a loopback address"},
		{"taken port", "proxy", []string{"BILLPROXY_LISTEN=" + taken}, 1, "BILLPROXY_LISTEN " + taken + " is taken by another program"},
		{"taken admin port", "proxy", []string{"BILLPROXY_ADMIN_LISTEN=" + taken}, 1, "BILLPROXY_ADMIN_LISTEN " + taken},
		{"no folder for the socket", "proxy", []string{"BILLPROXY_UNIX_SOCKET_DIR=/nonexistent"}, 1, "BILLPROXY_UNIX_SOCKET_DIR"},
		{"database down", "migrate", nil, 1, "billproxy:"},
		{"nobody to check", "healthcheck http://127.0.0.1:1/", nil, 1, "connection refused"},
		{"dev with a database", "dev", nil, 2, "dev runs a PostgreSQL of its own"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, t.TempDir(), append(append([]string{}, base...), test.environ...), strings.Fields(test.args)...)
			code, stdout, stderr := p.wait()
			if output := stdout + stderr; code != test.code || !strings.Contains(output, test.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, test.code, test.want, output)
			}
			if test.code == exitFailure && strings.Count(stderr, "billproxy:") != 1 {
				t.Errorf("not one sentence:\n%s", stderr)
			}
		})
	}
}

func TestRunReportsEveryMistakeAtOnce(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"config"},
		[]string{"BILLPROXY_POOL_MODE=x", "BILLPROXY_LOG_LEVEL=loud", "BILLPROXY_NONSENSE=1"}, &stdout, &stderr)
	if lines := strings.Count(stderr.String(), "\n"); code != exitUsage || lines != 3 {
		t.Errorf("exit code %d, %d lines:\n%s", code, lines, stderr.String())
	}
}
