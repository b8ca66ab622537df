package page

import (
	"math"
	"testing"
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
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
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
		if got := Percentile(c.sorted, c.share); got != c.want {
			t.Errorf("percentile %v of %d values is %v, want %v", c.share, len(c.sorted), got, c.want)
		}
	}
	if got := Percentile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("percentile of nothing is %v", got)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	if got := Spread([]float64{90, 100, 115}); got != 0.25 {
		t.Errorf("got %v, want 0.25", got)
	}
	if got := Spread([]float64{100}); got != 0 {
		t.Errorf("of one value: %v", got)
	}
}
