package sim

import (
	"flag"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	oneSeed   = flag.Uint64("sim.seed", 0, "replay this seed alone and print its trace")
	seedCount = flag.Uint64("sim.seeds", 10_000, "how many seeds TestSeeds runs")
	firstSeed = flag.Uint64("sim.start", 1, "the first seed")
	timeLimit = flag.Duration("sim.limit", 4*time.Minute, "after which time TestSeeds begins no more seeds; 0 is no limit")
	without   = flag.String("sim.without", "", "classes of faults to leave out, separated by commas")
)

// runSeed runs one seed.
func runSeed(seed uint64, words bool) (w *World, err error) {
	w = newWorld(newScenario(seed, *without), words)
	return w, w.run()
}

// TestSeeds runs many seeds. For each that fails it prints the end of its trace and
// how to replay it.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		replay(t, *oneSeed)
		return
	}
	r := &runner{next: *firstSeed, end: *firstSeed + *seedCount, failed: map[uint64]string{}}
	if *timeLimit > 0 {
		r.deadline = time.Now().Add(*timeLimit)
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(r.work)
	}
	workers.Wait()
	for _, seed := range slices.Sorted(maps.Keys(r.failed)) {
		report(t, seed, r.failed[seed])
	}
	t.Logf("%d seeds: %+v", r.count, r.total)
	if len(r.failed) == 0 && *without == "" && r.count >= coverageSeeds {
		checkCoverage(t, &r.total)
	}
}

// runner hands seeds to workers.
type runner struct {
	mu        sync.Mutex
	next, end uint64
	deadline  time.Time
	count     int
	total     Coverage
	failed    map[uint64]string
}

// maxFailures is after how many failing seeds TestSeeds gives up.
const maxFailures = 5

func (r *runner) take() (seed uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == r.end || len(r.failed) >= maxFailures || !r.deadline.IsZero() && time.Now().After(r.deadline) {
		return 0, false
	}
	r.next++
	return r.next - 1, true
}

func (r *runner) work() {
	for seed, ok := r.take(); ok; seed, ok = r.take() {
		w, err := runSeed(seed, false)
		r.mu.Lock()
		r.count++
		r.total.add(&w.coverage)
		if err != nil {
			r.failed[seed] = err.Error()
		}
		r.mu.Unlock()
	}
}

// add adds up coverage.
func (c *Coverage) add(other *Coverage) {
	sum, part := reflect.ValueOf(c).Elem(), reflect.ValueOf(other).Elem()
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + part.Field(i).Int())
	}
}

// coverageSeeds is how many seeds are certain to show everything there is.
const coverageSeeds = 10_000

// checkCoverage fails if something never happened: then its rules are not tested.
func checkCoverage(t *testing.T, c *Coverage) {
	t.Helper()
	v := reflect.ValueOf(*c)
	for i := range v.NumField() {
		if v.Field(i).Int() == 0 {
			t.Errorf("no seed has seen %s", v.Type().Field(i).Name)
		}
	}
}

// tailLines is how much of a failing seed's trace is printed.
const tailLines = 40

// report prints how to replay a seed and the end of its trace.
func report(t *testing.T, seed uint64, problem string) {
	t.Helper()
	w, _ := runSeed(seed, true)
	lines := w.trace.lines[max(0, len(w.trace.lines)-tailLines):]
	left := ""
	if *without != "" {
		left = " -sim.without=" + *without
	}
	t.Errorf("seed %d: %s\n%s\nreplay: go test ./test/sim -run TestSeeds -sim.seed=%d%s", seed, problem, strings.Join(lines, "\n"), seed, left)
}

// replay runs one seed and prints all of its trace.
func replay(t *testing.T, seed uint64) {
	t.Helper()
	w, err := runSeed(seed, true)
	for _, line := range w.trace.lines {
		fmt.Println(line)
	}
	if err != nil {
		t.Fatalf("seed %d: %v\nscenario: %+v", seed, err, *w.scenario)
	}
	t.Logf("seed %d: %+v", seed, w.coverage)
}

// TestDeterminism runs seeds again: a seed that could take another course would be
// of no use to find a bug again.
func TestDeterminism(t *testing.T) {
	for seed := range uint64(60) {
		silent, err := runSeed(seed+1, false)
		first, err2 := runSeed(seed+1, true)
		second, _ := runSeed(seed+1, true)
		if silent.trace.hash != first.trace.hash || silent.steps != first.steps {
			t.Errorf("seed %d: two runs differ: hash %x in %d steps (%v), %x in %d steps (%v)",
				seed+1, silent.trace.hash, silent.steps, err, first.trace.hash, first.steps, err2)
		}
		if !slices.Equal(first.trace.lines, second.trace.lines) {
			t.Errorf("seed %d: two traces differ", seed+1)
		}
	}
}
