package differential

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	players  int
}

func init() {
	flag.Uint64Var(&flags.seed, "differential.seed", 0, "play this seed only")
	flag.Uint64Var(&flags.from, "differential.from", 1, "begin with this seed")
	flag.DurationVar(&flags.duration, "differential.for", time.Minute, "go on for so long")
	flag.IntVar(&flags.players, "differential.players", 4, "play so many cases side by side, each in databases of its own")
	flag.StringVar(&flags.mode, "differential.mode", "transaction", "POOL_MODE of the proxy")
	flag.StringVar(&flags.binary, "differential.binary", "", "use this billproxy instead of building one")
	flag.StringVar(&flags.features, "differential.features", "", "of the optional features only those named in this list")
	flag.StringVar(&flags.script, "differential.script", "", "play the script in this file instead, with the schema of all cases")
	flag.StringVar(&flags.out, "differential.out", "", "go on after a mismatch, and write each to a file in this folder")
}

const (
	// patience bounds every wait. Nothing takes long here but a lost reply.
	patience = 20 * time.Second

	// waitTimeout is how long a client may wait for a server, which is cleaned or asked
	// something meanwhile: never so long, on a machine that others keep busy too.
	waitTimeout = "10s"

	// shrinkTime bounds the search for a small case, in which patience is shorter, but not
	// so short that a client which waits for a server looks like one that got no reply.
	shrinkTime     = 2 * time.Minute
	shrinkPatience = 12 * time.Second
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

// TestSeeds plays cases for as long as it is told to, some side by side.
func TestSeeds(t *testing.T) {
	if err := launch.OpenSources(); err != nil {
		t.Fatal(err)
	}
	if flags.script != "" {
		newPlayer(t, "twin", shared.binary).replay(t, flags.script)
		return
	}
	r := runner{features: optional, deadline: time.Now().Add(flags.duration)}
	if flags.features != "" {
		r.features = featuresNamed(flags.features)
	}
	players, from := flags.players, flags.from
	if flags.seed > 0 {
		players, from, r.deadline = 1, flags.seed, time.Now()
	}
	r.next.Store(from)
	var all counts
	var running sync.WaitGroup
	var list []*player
	for i := range players {
		p := newPlayer(t, fmt.Sprintf("twin%d", i), shared.binary)
		list = append(list, p)
		running.Go(func() { r.run(t, p) })
	}
	running.Wait()
	for _, p := range list {
		all.add(p.played)
	}
	t.Logf("seeds %d to %d: %s", from, r.next.Load()-1, &all)
	if all.waits > 1+all.cases/100 {
		t.Errorf("clients waited for each other in %d of %d cases: expected one in a hundred at most", all.waits, all.cases)
	}
}

// runner gives players what to play.
type runner struct {
	features []feature
	deadline time.Time
	next     atomic.Uint64 // seed
	stopped  atomic.Bool   // by a mismatch
}

// run has a player play seeds until there is no time left, or, unless mismatches are to
// be written to files, one has been found.
func (r *runner) run(t *testing.T, p *player) {
	for first := true; !r.stopped.Load() && (first || time.Now().Before(r.deadline)); first = false {
		seed := r.next.Add(1) - 1
		s := newCase(seed, r.features)
		mismatch, err := p.play(t.Context(), s)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
			r.stopped.Store(flags.out == "")
			continue
		}
		if mismatch == nil {
			continue
		}
		r.stopped.Store(flags.out == "")
		report := p.report(t.Context(), fmt.Sprint("seed ", seed), s, mismatch)
		t.Errorf("seed %d fails, shrunk to:\n%s\nreplay: go test ./test/differential -run TestSeeds -differential.seed=%d", seed, report, seed)
		if flags.out == "" {
			return
		}
		if err := os.WriteFile(filepath.Join(flags.out, fmt.Sprintf("seed-%d.txt", seed)), []byte(report), 0o644); err != nil {
			t.Error(err)
		}
	}
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
