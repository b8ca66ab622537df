package differential

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/test/launch"
	"github.com/billproxy/billproxy/test/script"
)

var flags struct {
	seed     uint64
	from     uint64
	duration time.Duration
	mode     string
	binary   string
	features string
	script   string
	out      string
}

func init() {
	flag.Uint64Var(&flags.seed, "differential.seed", 0, "play this seed only")
	flag.Uint64Var(&flags.from, "differential.from", 1, "begin with this seed")
	flag.DurationVar(&flags.duration, "differential.for", 25*time.Second, "go on for so long")
	flag.StringVar(&flags.mode, "differential.mode", "transaction", "POOL_MODE of the proxy")
	flag.StringVar(&flags.binary, "differential.binary", "", "use this billproxy instead of building one")
	flag.StringVar(&flags.features, "differential.features", "", "of the optional features only those named in this list")
	flag.StringVar(&flags.script, "differential.script", "", "play the script in this file instead, with the schema of all cases")
	flag.StringVar(&flags.out, "differential.out", "", "go on after a mismatch, and write each to a file in this folder")
}

const (
	// patience bounds every wait. Nothing takes long here but a lost reply.
	patience = 20 * time.Second

	// waitTimeout is how long a client may wait for a server, which it never should.
	waitTimeout = "1s"

	// shrinkTime bounds the search for a small case, in which patience is short.
	shrinkTime     = 60 * time.Second
	shrinkPatience = 2 * time.Second
	maxAttempts    = 5
)

// shared is what TestMain prepares.
var shared struct {
	cluster *devpg.Cluster
	binary  string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	shared.binary = flags.binary
	if shared.binary == "" {
		dir, err := os.MkdirTemp("", "billproxy-differential-")
		if err == nil {
			defer os.RemoveAll(dir)
			shared.binary = filepath.Join(dir, "billproxy")
			err = launch.Build(context.Background(), shared.binary)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return devpgtest.Run(m, map[string]string{
		"lock_timeout": "2s", // of two clients one waits for the other only by accident
		"autovacuum":   "off",
	}, &shared.cluster)
}

// player plays cases.
type player struct {
	twins  *script.Twins
	binary string
	mode   string

	// Of all cases.
	cases, steps, messages int
}

func newPlayer(t *testing.T, binary string) *player {
	t.Helper()
	twins, err := script.NewTwins(t.Context(), shared.cluster, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := twins.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &player{twins: twins, binary: binary, mode: flags.mode}
}

// play plays a case with a proxy of its own, so that it depends on no other.
func (p *player) play(ctx context.Context, s *script.Script) (*script.Mismatch, error) {
	environment := map[string]string{"POOL_MODE": p.mode, "QUERY_WAIT_TIMEOUT": waitTimeout}
	maps.Copy(environment, s.Proxy)
	if p.mode == "session" {
		environment["DEFAULT_POOL_SIZE"] = "10"
	}
	proxy, err := launch.StartProxy(ctx, p.binary, shared.cluster, environment)
	if err != nil {
		return nil, err
	}
	defer proxy.Kill()
	result, err := p.twins.Play(ctx, proxy.Address, s)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, proxy.Log)
	}
	p.cases++
	p.steps += result.Steps
	p.messages += result.Messages
	if result.Mismatch == nil {
		return nil, proxy.Log.Problem()
	}
	return result.Mismatch, nil
}

// shrink makes a failing case small. What does not fail again is returned as it is.
func (p *player) shrink(ctx context.Context, s *script.Script, first *script.Mismatch) (*script.Script, *script.Mismatch) {
	short := *s
	short.Steps = s.Steps[:first.Index+1]
	deadline := time.Now().Add(shrinkTime)
	p.twins.SetPatience(shrinkPatience)
	defer p.twins.SetPatience(patience)
	// Which server a client gets is also a matter of time: some cases do not fail
	// every time.
	attempts := 1
	last := first
	fails := func(candidate *script.Script) bool {
		for range attempts {
			if time.Now().After(deadline) {
				return false
			}
			if mismatch, err := p.play(ctx, candidate); err == nil && mismatch != nil {
				last = mismatch
				return true
			}
		}
		return false
	}
	for !fails(&short) {
		if attempts++; attempts > maxAttempts {
			return s, first
		}
	}
	return shrink(&short, fails), last
}

// report describes a failing case by a small one, as a script.
func (p *player) report(ctx context.Context, title string, s *script.Script, first *script.Mismatch) string {
	small, mismatch := p.shrink(ctx, s, first)
	small.Setup = "" // every case has the schema
	var b strings.Builder
	for line := range strings.Lines(fmt.Sprintf("%s, %s\n", title, mismatch)) {
		b.WriteString("# " + line)
	}
	return b.String() + small.String()
}

// TestSeeds plays cases for as long as it is told to.
func TestSeeds(t *testing.T) {
	if err := launch.OpenSources(); err != nil {
		t.Fatal(err)
	}
	p := newPlayer(t, shared.binary)
	if flags.script != "" {
		p.replay(t, flags.script)
		return
	}
	features := optional
	if flags.features != "" {
		features = featuresNamed(flags.features)
	}
	from, deadline := flags.from, time.Now().Add(flags.duration)
	if flags.seed > 0 {
		from, deadline = flags.seed, time.Now()
	}
	seed := from
	for ; seed == from || time.Now().Before(deadline); seed++ {
		s := newCase(seed, features)
		mismatch, err := p.play(t.Context(), s)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if mismatch == nil {
			continue
		}
		report := p.report(t.Context(), fmt.Sprint("seed ", seed), s, mismatch)
		t.Errorf("seed %d fails, shrunk to:\n%s\nreplay: go test ./test/differential -run TestSeeds -differential.seed=%d", seed, report, seed)
		if flags.out == "" {
			break
		}
		if err := os.WriteFile(filepath.Join(flags.out, fmt.Sprintf("seed-%d.txt", seed)), []byte(report), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seeds %d to %d: %d cases, %d steps, %d messages compared", from, seed-1, p.cases, p.steps, p.messages)
}

// replay plays a case that was written to a file.
func (p *player) replay(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := script.Parse(string(text))
	if err != nil {
		t.Fatalf("%s, %v", file, err)
	}
	s.Setup, s.Excuse, s.GiveUp = schema, excuse, giveUp
	mismatch, err := p.play(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if mismatch != nil {
		t.Errorf("%s, %s", file, mismatch)
	}
}
