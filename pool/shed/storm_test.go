package shed

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

var (
	oneSeed   = flag.Uint64("shed.seed", 0, "run this seed alone")
	seedCount = flag.Uint64("shed.seeds", 200, "how many seeds TestSeeds runs")
)

// TestSeeds runs storms from many seeds.
func TestSeeds(t *testing.T) {
	first, last := uint64(1), *seedCount
	if *oneSeed != 0 {
		first, last = *oneSeed, *oneSeed
	}
	var total simStats
	for seed := first; seed <= last && !t.Failed(); seed++ {
		w := newWorld(newScenario(seed))
		if err := w.run(); err != nil {
			t.Errorf("seed %d: %v\nscenario: %+v\nreplay: go test ./pool/shed -run TestSeeds -shed.seed=%d", seed, err, w.scenario, seed)
		}
		total.add(&w.stats)
	}
	t.Logf("%+v", total)
	if t.Failed() || last-first < coverageSeeds-1 {
		return
	}
	for reason := NotShed + 1; reason < ReasonCount; reason++ {
		if total.refused[reason] == 0 {
			t.Errorf("no seed has seen %v", reason)
		}
	}
}

func (s *simStats) add(other *simStats) {
	s.operations += other.operations
	s.answered += other.answered
	s.retries += other.retries
	s.abandoned += other.abandoned
	s.storms += other.storms
	for reason, count := range other.refused {
		s.refused[reason] += count
	}
}

// coverageSeeds is how many seeds are certain to show every reason.
const coverageSeeds = 100

// usualScenario is sixteen servers that do 2000 pieces of work per second, whose
// clients wait for a second and try three times more at once.
func usualScenario(load ...float64) scenario {
	return scenario{
		seed: 1, servers: 16, took: 8 * time.Millisecond, load: load, retries: 3,
		patience: time.Second, tenants: 1, config: usualConfig(),
	}
}

func runScenario(t *testing.T, s scenario) *world {
	t.Helper()
	w := newWorld(s)
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	return w
}

// goodput is what was answered per second, the first two left out.
func (w *world) goodput() float64 {
	sum := 0.0
	for _, second := range w.seconds[2:len(w.load)] {
		sum += second
	}
	return sum / float64(len(w.load)-2)
}

func constant(load float64, seconds int) []float64 { return slices.Repeat([]float64{load}, seconds) }

func quantile(waits []time.Duration, q float64) time.Duration {
	slices.Sort(waits)
	return waits[int(q*float64(len(waits)-1))]
}

// However much more arrives than can be done, as much is done as at best, and nearly
// all who are told no are told at once.
func TestGoodput(t *testing.T) {
	peak := 0.0
	usual := time.Duration(0)
	for _, load := range []float64{0.5, 0.8, 1, 1.2, 1.5, 2, 3, 5} {
		w := runScenario(t, usualScenario(constant(load, 6)...))
		got := w.goodput()
		peak = max(peak, got)
		p99 := quantile(w.stats.waits, 0.99)
		t.Logf("%.1f: %.0f/s, p99 %v, refused %v, %d executed for %d operations", load, got, p99, w.stats.refused, w.stats.executions, w.stats.operations)
		switch {
		case load <= 0.8:
			usual = p99
			if w.stats.operations != w.stats.answered {
				t.Errorf("load %v: %d of %d answered", load, w.stats.answered, w.stats.operations)
			}
		case load >= 2 && got < 0.95*peak:
			t.Errorf("load %v: %.0f/s of %.0f/s", load, got, peak)
		case load >= 2 && float64(w.stats.refused[QueueDelay]) > 0.05*float64(w.stats.refused[Overload]):
			t.Errorf("load %v: refused late %d, at once %d", load, w.stats.refused[QueueDelay], w.stats.refused[Overload])
		}
		if load >= 2 && p99 > 3*usual {
			t.Errorf("load %v: p99 of what is answered is %v, and %v without overload", load, p99, usual)
		}
		if wasted := w.stats.wasted; wasted > w.stats.executions/100 {
			t.Errorf("load %v: %d of %d executed for nobody", load, wasted, w.stats.executions)
		}
	}
}

// A loop that is short of processor time notices only now and then what has happened,
// and then servers and work come in bursts.
func TestGoodputInBursts(t *testing.T) {
	for _, batch := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
		peak := 0.0
		for _, load := range []float64{0.2, 0.4, 0.6, 0.8, 1, 2, 5} {
			s := usualScenario(constant(load, 6)...)
			s.batch = batch
			got := runScenario(t, s).goodput()
			peak = max(peak, got)
			t.Logf("%v: load %.1f: %.0f/s", batch, load, got)
			if load >= 2 && got < 0.9*peak {
				t.Errorf("%v: load %v: %.0f/s of %.0f/s", batch, load, got, peak)
			}
		}
	}
}

// checkSeconds checks the goodput of seconds, none of which is just like the others.
func checkSeconds(t *testing.T, seconds []float64, before float64) {
	t.Helper()
	sum := 0.0
	for i, second := range seconds {
		sum += second
		if second < 0.9*before {
			t.Errorf("second %d after it: %.0f, before %.0f", i+1, second, before)
		}
	}
	if mean := sum / float64(len(seconds)); mean < 0.95*before {
		t.Errorf("%.0f/s after it, before %.0f/s", mean, before)
	}
}

// A second after a stall all is as before.
func TestGoodputAfterStall(t *testing.T) {
	s := usualScenario(constant(0.8, 20)...)
	s.stallAt, s.stall = 3*time.Second, 10*time.Second
	w := runScenario(t, s)
	before := (w.seconds[1] + w.seconds[2]) / 2
	checkSeconds(t, w.seconds[14:20], before)
	if w.stats.executions > w.stats.answered+w.stats.answered/10 {
		t.Errorf("%d executed, %d answered", w.stats.executions, w.stats.answered)
	}
	t.Logf("%.0f %+v", w.seconds, w.stats.refused)
}

// Threefold work for a while leaves nothing behind.
func TestGoodputAfterPeak(t *testing.T) {
	load := slices.Concat(constant(0.8, 3), constant(3, 5), constant(0.8, 6))
	w := runScenario(t, usualScenario(load...))
	before := (w.seconds[1] + w.seconds[2]) / 2
	checkSeconds(t, w.seconds[9:14], before)
	t.Logf("%.0f %+v", w.seconds, w.stats.refused)
}

// Beside a tenant that wants more than there is, others have what they want.
func TestGoodputBesideAFlood(t *testing.T) {
	s := usualScenario(constant(1.5, 8)...)
	s.tenants, s.flood = 10, true
	w := runScenario(t, s)
	for i, tenant := range w.shares {
		if least := tenant.operations * 95 / 100; i > 0 && tenant.answered < least {
			t.Errorf("tenant %d: %d of %d answered", i, tenant.answered, tenant.operations)
		}
	}
	flood := w.shares[0]
	if flood.answered == flood.operations || w.stats.refused[Overload] == 0 {
		t.Errorf("the flood: %+v, refused %v", flood, w.stats.refused)
	}
	t.Logf("%+v, refused %v", w.shares, w.stats.refused)
}

// TestPlantedBugs builds this package with the planted bugs and checks that the
// simulation finds each of them, and nothing without one.
func TestPlantedBugs(t *testing.T) {
	source, err := os.ReadFile("mutant_on.go")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "shed.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "mutant", "-o", binary, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	run := func(name string) (output string, failed bool) {
		command := exec.CommandContext(t.Context(), binary, "-test.run=^TestSeeds$", "-shed.seeds=99")
		command.Env = append(os.Environ(), "BILLPROXY_MUTANT="+name)
		b, err := command.CombinedOutput()
		return string(b), err != nil
	}
	if output, failed := run(""); failed {
		t.Fatalf("without a planted bug:\n%s", output)
	}
	matches := regexp.MustCompile(`mutant\("(\w+)"\)`).FindAllSubmatch(source, -1)
	if len(matches) == 0 {
		t.Fatal("no bugs are planted")
	}
	for _, match := range matches {
		if output, failed := run(string(match[1])); !failed {
			t.Errorf("%s is not found:\n%s", match[1], output)
		}
	}
}
