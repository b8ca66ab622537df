package page

import "math"

// Outcome says on a page what came of a run that has no figure; empty is success.
type Outcome string

// The outcomes that benchmarks share.
const (
	Succeeded Outcome = ""
	Hangs     Outcome = "hangs"
	Fails     Outcome = "fails"
)

// Figure is a cell of a table: a value, or why there is none.
type Figure struct {
	Value   float64 // NaN: not measured, or Outcome says more
	Outcome Outcome
}

// Absent is what was not measured.
var Absent = Figure{Value: math.NaN()}

// Measured reports whether there is a value.
func (f Figure) Measured() bool { return !math.IsNaN(f.Value) }

// IsAbsent reports whether there is nothing to say.
func (f Figure) IsAbsent() bool { return !f.Measured() && f.Outcome == Succeeded }

// Text is the cell.
func (f Figure) Text(format func(float64) string) string {
	switch {
	case f.Outcome != Succeeded:
		return string(f.Outcome)
	case !f.Measured():
		return "–"
	}
	return format(f.Value)
}

// Ratio divides two figures; what failed fails the ratio.
func Ratio(over, under Figure) Figure {
	switch {
	case over.Outcome != Succeeded:
		return Figure{math.NaN(), over.Outcome}
	case !over.Measured() || !under.Measured() || under.Value == 0:
		return Absent
	}
	return Figure{Value: over.Value / under.Value}
}

// Worst is the largest of the figures. A failure is worse than any value, and what was
// not measured leaves the answer open.
func Worst(figures ...Figure) Figure {
	worst := Absent
	for i, f := range figures {
		switch {
		case f.Outcome != Succeeded || f.IsAbsent():
			return f
		case i == 0 || f.Value > worst.Value:
			worst = f
		}
	}
	return worst
}
