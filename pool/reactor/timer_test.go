package reactor_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

func TestTimersFireInOrder(t *testing.T) {
	var timers reactor.Timers
	var fired []string
	arm := func(name string, at time.Duration) *reactor.Timer {
		timer := &reactor.Timer{Fire: func() { fired = append(fired, name) }}
		timers.Set(timer, at)
		return timer
	}
	arm("c", 30)
	a := arm("a", 10)
	arm("b1", 20)
	arm("b2", 20)
	arm("b3", 20)
	gone := arm("gone", 15)
	arm("late", 31)
	timers.Stop(gone)
	timers.Stop(gone)
	timers.Set(a, 20) // now the last of those
	if at, ok := timers.Next(); !ok || at != 20 {
		t.Errorf("Next is %v, %v; want 20", at, ok)
	}
	timers.Advance(19)
	if len(fired) != 0 {
		t.Errorf("fired %v too early", fired)
	}
	timers.Advance(30)
	if want := []string{"b1", "b2", "b3", "a", "c"}; !slices.Equal(fired, want) {
		t.Errorf("fired %v, want %v", fired, want)
	}
	if a.Armed() || gone.Armed() {
		t.Error("armed after it fired or was stopped")
	}
	if at, ok := timers.Next(); !ok || at != 31 {
		t.Errorf("Next is %v, %v; want 31", at, ok)
	}
}

// TestTimersFireSetsAndStops has timers act on others that are due at the same
// time.
func TestTimersFireSetsAndStops(t *testing.T) {
	var timers reactor.Timers
	var fired []string
	var again, stopped, moved, last reactor.Timer
	again.Fire = func() {
		fired = append(fired, "again")
		timers.Set(&again, 0)
		timers.Stop(&stopped)
		timers.Set(&moved, 5)
		if !again.Armed() || stopped.Armed() || !moved.Armed() || !last.Armed() {
			t.Error("Armed is wrong within Fire")
		}
	}
	stopped.Fire = func() { fired = append(fired, "stopped") }
	moved.Fire = func() { fired = append(fired, "moved") }
	last.Fire = func() { fired = append(fired, "last") }
	for _, timer := range []*reactor.Timer{&again, &stopped, &moved, &last} {
		timers.Set(timer, 10)
	}
	timers.Advance(10)
	if want := []string{"again", "last"}; !slices.Equal(fired, want) {
		t.Errorf("fired %v, want %v", fired, want)
	}
	fired = nil
	timers.Stop(&again)
	timers.Advance(10)
	if want := []string{"moved"}; !slices.Equal(fired, want) {
		t.Errorf("then fired %v, want %v", fired, want)
	}
}

// model is a set of timers that cannot be wrong: it sorts whenever it is asked.
type model struct {
	sets  int
	armed map[int]modelTimer // by number
}

type modelTimer struct {
	at    time.Duration
	order int
}

func (m *model) set(number int, at time.Duration) {
	m.sets++
	m.armed[number] = modelTimer{at, m.sets}
}

func (m *model) advance(now time.Duration, fire func(number int)) {
	type dueTimer struct {
		number int
		modelTimer
	}
	var due []dueTimer
	for number, timer := range m.armed {
		if timer.at <= now {
			due = append(due, dueTimer{number, timer})
		}
	}
	slices.SortFunc(due, func(a, b dueTimer) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
	})
	for _, d := range due {
		// Not if one that fired before stopped it or set it anew.
		if timer, armed := m.armed[d.number]; armed && timer == d.modelTimer {
			delete(m.armed, d.number)
			fire(d.number)
		}
	}
}

// TestTimersAgainstModel does the same random things, also from within Fire, to
// Timers and to the model.
func TestTimersAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		checkTimers(t, rand.New(rand.NewPCG(seed, 0)))
	}
}

func FuzzTimers(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { checkTimers(t, rand.New(rand.NewPCG(a, b))) })
}

func checkTimers(t *testing.T, random *rand.Rand) {
	t.Helper()
	const count = 20
	type action struct {
		number int
		at     time.Duration // negative: stop
	}
	randomAction := func() action {
		return action{random.IntN(count), time.Duration(random.IntN(15) - 4)}
	}
	// What a timer does when it fires is decided before, as both must do it.
	var actions [count][]action
	var timers reactor.Timers
	var got, want []int
	all := make([]reactor.Timer, count)
	naive := model{armed: make(map[int]modelTimer)}
	act := func(a action) {
		if a.at < 0 {
			timers.Stop(&all[a.number])
			return
		}
		timers.Set(&all[a.number], a.at)
	}
	actNaive := func(a action) {
		if a.at < 0 {
			delete(naive.armed, a.number)
			return
		}
		naive.set(a.number, a.at)
	}
	for i := range all {
		all[i].Fire = func() {
			got = append(got, i)
			for _, a := range actions[i] {
				act(a)
			}
		}
	}
	for range 100 {
		for i := range actions {
			actions[i] = actions[i][:0]
			for range random.IntN(3) {
				actions[i] = append(actions[i], randomAction())
			}
		}
		for range random.IntN(8) {
			a := randomAction()
			act(a)
			actNaive(a)
		}
		now := time.Duration(random.IntN(12))
		timers.Advance(now)
		naive.advance(now, func(number int) {
			want = append(want, number)
			for _, a := range actions[number] {
				actNaive(a)
			}
		})
		if !slices.Equal(got, want) {
			t.Fatalf("fired %v, want %v", got, want)
		}
		next, any := timers.Next()
		for i := range all {
			if timer, armed := naive.armed[i]; armed != all[i].Armed() {
				t.Fatalf("timer %d: armed is %v, want %v", i, all[i].Armed(), armed)
			} else if armed && (!any || timer.at < next) {
				t.Fatalf("Next is %v, %v, but a timer is due at %v", next, any, timer.at)
			}
		}
	}
}

func BenchmarkTimersSet(b *testing.B) {
	// A timeout per client, moved at every message.
	var timers reactor.Timers
	all := make([]reactor.Timer, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		timers.Set(&all[i%len(all)], time.Duration(i))
	}
}
