package main

import (
	"slices"
	"testing"
	"time"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

var directTarget = &rig.Target{Name: rig.Direct}

var plainStream = &stream{group: groupAll}

// made is an operation that was to begin at a time and was answered after another.
func made(at, took time.Duration, how outcome) operation {
	return operation{stream: plainStream, intended: at, ended: at + took, outcome: how}
}

// evenly is operations of which one begins every 10 ms; between the two times none is
// answered.
func evenly(length, from, to time.Duration) []operation {
	var all []operation
	for at := time.Duration(0); at < length; at += 10 * time.Millisecond {
		how := answered
		if at >= from && at < to {
			how = failed
		}
		all = append(all, made(at, time.Millisecond, how))
	}
	return all
}

func TestIsGood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		took time.Duration
		how  outcome
		want bool
	}{
		{time.Millisecond, answered, true},
		{deadline, answered, true},
		{deadline + 1, answered, false},
		{time.Millisecond, refused, false},
		{time.Millisecond, failed, false},
		{0, pending, false},
	} {
		if o := made(time.Second, c.took, c.how); o.isGood() != c.want {
			t.Errorf("answered after %v, outcome %d: good is %v", c.took, c.how, !c.want)
		}
	}
}

func TestSummarizeWindow(t *testing.T) {
	t.Parallel()
	other := &stream{group: groupLoud}
	log := &runLog{
		operations: []operation{
			made(0, time.Millisecond, answered), // before the window
			made(2*time.Second, 10*time.Millisecond, answered),
			made(2*time.Second, 20*time.Millisecond, answered),
			made(3*time.Second, 2*time.Second, answered),
			made(3*time.Second, time.Millisecond, refused),
			{stream: other, intended: 3 * time.Second, outcome: answered},
			made(4*time.Second, time.Millisecond, answered), // behind it
		},
		refusals: []refusal{
			{plainStream, 3 * time.Second, time.Millisecond},
			{plainStream, 3 * time.Second, 3 * time.Millisecond},
			{plainStream, 4 * time.Second, 9 * time.Millisecond},
			{other, 3 * time.Second, 9 * time.Millisecond},
		},
	}
	got := summarizeWindow(log, groupAll, 2*time.Second, 4*time.Second)
	want := window{Group: groupAll, Offered: 2, Good: 1, P50: 20, P99: 2000, Refusals: 2, RefusalP99: 3}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.share() != 0.5 {
		t.Errorf("share %v, want 0.5", got.share())
	}
	if got := summarizeWindow(log, groupBurst, 0, time.Minute); got.Offered != 0 || got.P99 != 0 {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, c := range []struct {
		title      string
		operations []operation
		former     float64
		want       time.Duration
		lasting    bool
	}{
		{"nothing happened", evenly(20*second, 0, 0), 1, 0, false},
		{"over before", evenly(20*second, 2*second, 10*second), 1, 0, false},
		{"a second late", evenly(20*second, 2*second, 11*second), 1, 1000 * time.Millisecond, false},
		// A window with half a step of failures is above 95%.
		{"two and a half steps late", evenly(20*second, 2*second, 10250*time.Millisecond), 1, 200 * time.Millisecond, false},
		{"for ever", evenly(20*second, 2*second, 20*second), 1, 10 * second, true},
		{"until the last second", evenly(20*second, 2*second, 19100*time.Millisecond), 1, 10 * second, true},
		{"relapsed", append(evenly(20*second, 2*second, 10*second), evenly(20*second, 0, 20*second)[1500:1550]...), 1, 5500 * time.Millisecond, false},
		{"never better before", evenly(20*second, 0, 20*second), 0, 0, false},
	} {
		took, lasting := recovery(c.operations, 10*second, 20*second, c.former)
		if took != c.want || lasting != c.lasting {
			t.Errorf("%s: %v, lasting %v, want %v, %v", c.title, took, lasting, c.want, c.lasting)
		}
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	got := timeline(evenly(3*time.Second, time.Second, 1250*time.Millisecond), 500*time.Millisecond, 2*time.Second)
	if want := []float64{100, 50, 100}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	s := &scenario{
		phases:  []phase{{phaseWarmUp, time.Second}, {phaseBefore, 5 * time.Second}, {phaseDuring, 4 * time.Second}, {phaseAfter, 10 * time.Second}},
		streams: []stream{{group: groupAll}},
		crowd:   3,
	}
	log := &runLog{
		operations: evenly(20*time.Second, 6*time.Second, 11*time.Second), end: 20 * time.Second, cpu: 5 * time.Second,
		lags: []time.Duration{time.Millisecond, 2 * time.Millisecond}, slots: 10, logins: 5, errors: map[string]int{errorTimeout: 2},
		crowdLogins: []time.Duration{time.Millisecond, 3 * time.Millisecond}, crowdFailures: 1,
	}
	m := &measurement{Servers: poolSize, Account: account{Begun: 110, Unique: 100, ForGone: 11, Sessions: poolSize + 2}}
	m.summarize(s, log, 10500*time.Millisecond)
	if len(m.Windows) != 3 || m.window(groupAll, phaseBefore).share() != 1 || m.window(groupAll, phaseDuring).Good != 0 {
		t.Errorf("windows %+v", m.Windows)
	}
	if f := m.recovery(); f.Value != 0.5 {
		t.Errorf("back after %v s, want 0.5", f.Value)
	}
	if m.GeneratorCPU != 0.25 || m.LagP99 != 2 || len(m.Timeline) != 38 {
		t.Errorf("CPU %v, lag %v, %d points", m.GeneratorCPU, m.LagP99, len(m.Timeline))
	}
	if want := (crowd{Clients: 3, LoggedIn: 2, Refused: 1, P50: 1, P99: 3, Last: 3}); *m.Crowd != want {
		t.Errorf("crowd %+v, want %+v", *m.Crowd, want)
	}
	for title, got := range map[string][2]float64{
		"forked":     {forked(m).Value, 2},
		"reconnects": {reconnects(m).Value, 0.5},
		"executions": {executions(m).Value, 1.1},
		"for gone":   {forGone(m).Value, 0.1},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %v, want %v", title, got[0], got[1])
		}
	}
	m.Account.Sessions = 3
	if m.forked() != 0 {
		t.Errorf("%d forked of 3 sessions", m.forked())
	}
	if text := page.Tally(m.Failures); text != "2 × timeout" {
		t.Errorf("failures %q", text)
	}
	m.Lasting = true
	if f := m.recovery(); f.Outcome != "not within 0.5 s" {
		t.Errorf("lasting: %+v", f)
	}
	if f := executions(&measurement{}); !f.IsAbsent() || f.Outcome != page.Succeeded {
		t.Errorf("executions of nothing: %+v", f)
	}
}
