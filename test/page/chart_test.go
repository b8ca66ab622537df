package page

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/rig"
)

var nan = math.NaN()

// checkXML reads a picture to its end and returns how often each element begins.
func checkXML(t *testing.T, svg string) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return counts
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, svg)
		}
		if element, ok := token.(xml.StartElement); ok {
			counts[element.Name.Local]++
		}
	}
}

func TestDraw(t *testing.T) {
	t.Parallel()
	c := Chart{
		Title: "a < b & c", Unit: "ms", Axis: "clients", Ticks: []string{"1", "4", "16"},
		Series: []Series{
			{rig.Direct, []float64{100, 200, 300}},
			{rig.Billproxy, []float64{nan, 250, 301}},
			{"gone", []float64{nan, nan, nan}},
		},
	}
	for _, logarithmic := range []bool{false, true} {
		c.Logarithmic = logarithmic
		svg := c.Draw()
		elements := checkXML(t, svg)
		// Two lines and five points.
		if elements["path"] != 7 {
			t.Errorf("%d paths, want 7", elements["path"])
		}
		for _, bad := range []string{"NaN", "Inf", "%!", ">gone<"} {
			if strings.Contains(svg, bad) {
				t.Errorf("%q in:\n%s", bad, svg)
			}
		}
		if !strings.Contains(svg, "prefers-color-scheme:dark") {
			t.Error("no colours for dark ground")
		}
	}
}

var nameAt = regexp.MustCompile(`class="name s\d" x="[0-9.]+" y="([0-9.]+)"`)

func TestNamesDoNotOverlap(t *testing.T) {
	t.Parallel()
	c := Chart{Ticks: []string{"1", "2"}}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		c.Series = append(c.Series, Series{name, []float64{900, 1}})
	}
	c.Series = append(c.Series, Series{"top", []float64{1, 1000}})
	var heights []float64
	for _, match := range nameAt.FindAllStringSubmatch(c.Draw(), -1) {
		y, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		heights = append(heights, y)
	}
	if len(heights) != len(c.Series) {
		t.Fatalf("%d names, want %d", len(heights), len(c.Series))
	}
	slices.Sort(heights)
	for i, y := range heights {
		if y < chartTop || y > chartHeight-chartBottom+5 || i > 0 && y-heights[i-1] < labelHeight-0.2 {
			t.Errorf("names at %v", heights)
		}
	}
}

func TestGrid(t *testing.T) {
	t.Parallel()
	for _, logarithmic := range []bool{false, true} {
		for _, values := range [][]float64{{1}, {0.031, 14.2}, {999, 1000, 1001}, {52_000, 81_000}, {nan, 7}, {0.5, 0.5}} {
			c := Chart{Logarithmic: logarithmic, Series: []Series{{"s", values}}}
			grid := c.grid()
			if len(grid) < 2 || len(grid) > 14 || !slices.IsSorted(grid) {
				t.Errorf("grid of %v is %v", values, grid)
			}
			for _, value := range values {
				if value < grid[0] || value > grid[len(grid)-1] {
					t.Errorf("grid of %v is %v", values, grid)
				}
			}
		}
	}
	if grid := (&Chart{Series: []Series{{"s", []float64{nan}}}}).grid(); len(grid) != 2 {
		t.Errorf("grid of nothing is %v", grid)
	}
	for value, want := range map[float64]string{0: "0", 0.05: "0.05", 2.5: "2.5", 80_000: "80k", 12_345: "12.3k"} {
		if got := gridLabel(value); got != want {
			t.Errorf("label of %v is %q, want %q", value, got, want)
		}
	}
}
