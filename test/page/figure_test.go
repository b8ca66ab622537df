package page

import (
	"math"
	"testing"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	failure := Figure{math.NaN(), Hangs}
	for _, c := range []struct {
		title string
		got   Figure
		want  string
	}{
		{"a value", Figure{Value: 2}, "2.0"},
		{"nothing", Absent, "–"},
		{"a failure", failure, "hangs"},
		{"a ratio", Ratio(Figure{Value: 6}, Figure{Value: 2}), "3.0"},
		{"a ratio of a failure", Ratio(failure, Figure{Value: 2}), "hangs"},
		{"a ratio to a failure", Ratio(Figure{Value: 2}, failure), "–"},
		{"a ratio to 0", Ratio(Figure{Value: 2}, Figure{}), "–"},
		{"the worst of values", Worst(Figure{Value: -2}, Figure{Value: -1}, Figure{Value: -3}), "-1.0"},
		{"the worst with a failure", Worst(Figure{Value: 2}, failure), "hangs"},
		{"the worst with a gap", Worst(Figure{Value: 2}, Absent), "–"},
		{"the worst of nothing", Worst(), "–"},
	} {
		if got := c.got.Text(Decimal); got != c.want {
			t.Errorf("%s: %q, want %q", c.title, got, c.want)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f             Figure
		least, atMost Mark
		text          string
	}{
		{Figure{Value: 1}, Miss, Pass, "1.00×"},
		{Figure{Value: 2}, Pass, Pass, "2.00×"},
		{Figure{Value: 3}, Pass, Miss, "3.00×"},
		{Absent, Unknown, Unknown, "–"},
		{Figure{Value: math.Inf(1)}, Unknown, Unknown, "–"},
		{Figure{math.NaN(), Fails}, Miss, Miss, "fails"},
	} {
		if text, m := AtLeast(c.f, 2, Times); m != c.least || text != c.text {
			t.Errorf("%+v at least 2: %s, %s", c.f, text, m)
		}
		if text, m := AtMost(c.f, 2, Times); m != c.atMost || text != c.text {
			t.Errorf("%+v at most 2: %s, %s", c.f, text, m)
		}
	}
}
