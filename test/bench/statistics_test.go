package main

import (
	"math"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		sorted      []float64
		share, want float64
	}{
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{[]float64{3}, 0.99, 3},
		{[]float64{1, 2}, 0.5, 1},
		{[]float64{1, 2}, 0.51, 2},
	} {
		if got := percentile(c.sorted, c.share); got != c.want {
			t.Errorf("percentile %v of %d values is %v, want %v", c.share, len(c.sorted), got, c.want)
		}
	}
	if got := percentile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("percentile of nothing is %v", got)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	if got := spread([]float64{90, 100, 115}); got != 0.25 {
		t.Errorf("got %v, want 0.25", got)
	}
	if got := spread([]float64{100}); got != 0 {
		t.Errorf("of one value: %v", got)
	}
}

func TestRotated(t *testing.T) {
	t.Parallel()
	order := []int{0, 1, 2}
	for by, want := range map[int]int{0: 0, 1: 1, 3: 0, 5: 2} {
		got := rotated(order, by)
		if len(got) != 3 || got[0] != want || got[1] != (want+1)%3 {
			t.Errorf("by %d: %v", by, got)
		}
	}
}

func TestParseCPUTime(t *testing.T) {
	t.Parallel()
	// The name of a program may hold spaces and parentheses.
	stat := "4711 (bill) proxy 9) S 1 4711 4711 0 -1 4194560 1234 0 0 0 250 31 0 0 20 0 7 0 5555 0 0"
	got, err := parseCPUTime(stat)
	if want := 2810 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, stat := range []string{"", "1 (a) S 1 2 3", "1 (a) S 1 1 1 0 -1 0 0 0 0 0 x 31 0 0"} {
		if _, err := parseCPUTime(stat); err == nil {
			t.Errorf("%q: no error", stat)
		}
	}
}

func TestKilobytesOf(t *testing.T) {
	t.Parallel()
	status := "Name:\tbillproxy\nVmHWM:\t   20000 kB\nVmRSS:\t   17616 kB\n"
	if got, err := kilobytesOf(status, "VmRSS"); err != nil || got != 17616<<10 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, name := range []string{"Name", "VmSwap"} {
		if _, err := kilobytesOf(status, name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
