package page

import "math"

// Mark says whether a goal is met.
type Mark string

// The marks.
const (
	Pass    Mark = "✅ met"
	Miss    Mark = "❌ missed"
	Unknown Mark = "not measured"
)

// Goal is a promise about billproxy that results of type R can check.
type Goal[R any] struct {
	Work   string
	Target string
	Judge  func(R) (measured string, m Mark)
}

// GoalTable judges the results.
func GoalTable[R any](goals []Goal[R], results R) string {
	t := Table{Columns: []string{"work", "target", "measured", ""}, Left: 2}
	for _, g := range goals {
		measured, m := g.Judge(results)
		t.Add(g.Work, g.Target, measured, string(m))
	}
	return "### Targets\n\n" + t.String()
}

// AtLeast is met by a ratio from the bound.
func AtLeast(f Figure, bound float64, format func(float64) string) (string, Mark) {
	return judge(f, format, func(v float64) bool { return v >= bound })
}

// AtMost is met by a value up to the bound.
func AtMost(f Figure, bound float64, format func(float64) string) (string, Mark) {
	return judge(f, format, func(v float64) bool { return v <= bound })
}

func judge(f Figure, format func(float64) string, met func(float64) bool) (string, Mark) {
	switch {
	case f.Outcome != Succeeded:
		return string(f.Outcome), Miss
	case !f.Measured() || math.IsInf(f.Value, 0):
		return "–", Unknown
	case met(f.Value):
		return format(f.Value), Pass
	}
	return format(f.Value), Miss
}
