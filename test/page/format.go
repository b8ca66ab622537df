package page

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Count writes a whole number with commas.
func Count(value float64) string {
	digits := strconv.FormatFloat(value, 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// Times writes a ratio.
func Times(value float64) string { return fmt.Sprintf("%.2f×", value) }

// Percent writes a share.
func Percent(value float64) string { return fmt.Sprintf("%.1f%%", value*100) }

// Milliseconds writes a time in ms, without the unit.
func Milliseconds(value float64) string { return fmt.Sprintf("%.2f", value) }

// Decimal writes a number with one place.
func Decimal(value float64) string { return fmt.Sprintf("%.1f", value) }

// Megabytes writes bytes in MB, without the unit.
func Megabytes(value float64) string { return fmt.Sprintf("%.1f", value/1e6) }

// Tally lists what was counted and how often it came, "none" if nothing did.
func Tally(counts map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s × %s", Count(float64(counts[what])), what))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
