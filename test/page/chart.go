package page

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/test/rig"
)

// Plot is a finished picture.
type Plot struct {
	File  string
	Title string
	SVG   string
}

// Chart is lines over named places on the horizontal axis.
type Chart struct {
	Title, Unit, Axis string
	Ticks             []string // an empty one has a place and no name
	Series            []Series
	Logarithmic       bool
	Smooth            bool   // there are many places: no shape at each
	Shade             [2]int // places between which the ground is darker
}

// Series is one line; a value of NaN is a gap.
type Series struct {
	Name   string
	Values []float64
}

// The picture in pixels. The room on the right is for the names at the ends of lines.
const (
	chartWidth, chartHeight = 760, 400
	chartLeft, chartRight   = 64, 124
	chartTop, chartBottom   = 64, 52
	labelHeight             = 17
)

// style is a colour on light and on dark ground, and the shape of the points: colour
// alone must not tell lines apart.
type style struct{ light, dark, shape string }

var (
	styles = map[string]style{
		rig.Direct:           {"#57606a", "#9198a1", "circle"},
		rig.DirectMany:       {"#9a6700", "#d29922", "square"},
		rig.PgBouncer:        {"#bc4c00", "#f0883e", "square"},
		rig.PgBouncerHurried: {"#cf222e", "#ff7b72", "triangle"},
		rig.Odyssey:          {"#8250df", "#bc8cff", "triangle"},
		rig.Billproxy:        {"#0969da", "#58a6ff", "diamond"},
	}
	otherStyle = style{"#1a7f37", "#3fb950", "circle"}
)

func styleOf(name string) style {
	if s, ok := styles[name]; ok {
		return s
	}
	return otherStyle
}

// HasLine reports whether any series has two points.
func (c *Chart) HasLine() bool {
	return slices.ContainsFunc(c.Series, func(s Series) bool {
		n := 0
		for _, value := range s.Values {
			if !math.IsNaN(value) {
				n++
			}
		}
		return n > 1
	})
}

func (c *Chart) x(i int) float64 {
	const margin = 32
	width := float64(chartWidth - chartLeft - chartRight - margin)
	return chartLeft + margin + width*float64(i)/float64(max(len(c.Ticks)-1, 1))
}

func (c *Chart) y(value float64, grid []float64) float64 {
	low, high := grid[0], grid[len(grid)-1]
	if c.Logarithmic {
		value, low, high = math.Log(value), math.Log(low), math.Log(high)
	}
	height := float64(chartHeight - chartTop - chartBottom)
	return chartTop + height*(1-(value-low)/(high-low))
}

// Draw writes the picture with colours for both kinds of ground.
func (c *Chart) Draw() string {
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%[3]s">`+"\n",
		chartWidth, chartHeight, html.EscapeString(c.Title))
	w.WriteString(c.css())
	fmt.Fprintf(&w, `<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&w, `<text class="title" x="20" y="28">%s</text>`+"\n", html.EscapeString(c.Title))
	fmt.Fprintf(&w, `<text class="quiet" x="20" y="48">%s</text>`+"\n", html.EscapeString(c.Unit))
	grid := c.grid()
	right := c.x(len(c.Ticks)-1) + 6
	if from, to := c.x(c.Shade[0]), c.x(c.Shade[1]); from < to {
		fmt.Fprintf(&w, `<rect class="shade" x="%.1f" width="%.1f" y="%d" height="%d"/>`+"\n",
			from, to-from, chartTop, chartHeight-chartTop-chartBottom)
	}
	for _, value := range grid {
		y := c.y(value, grid)
		fmt.Fprintf(&w, `<line class="grid" x1="%d" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", chartLeft, right, y, y)
		fmt.Fprintf(&w, `<text class="quiet" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", chartLeft-8, y+4, gridLabel(value))
	}
	for i, tick := range c.Ticks {
		if tick == "" {
			continue
		}
		fmt.Fprintf(&w, `<text class="quiet" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			c.x(i), chartHeight-chartBottom+20, html.EscapeString(tick))
	}
	fmt.Fprintf(&w, `<text class="quiet" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
		(chartLeft+right)/2, chartHeight-12, html.EscapeString(c.Axis))
	for i, s := range c.Series {
		c.drawSeries(&w, i, s, grid)
	}
	c.drawNames(&w, grid)
	w.WriteString("</svg>\n")
	return w.String()
}

func (c *Chart) css() string {
	// After the colours, which would fill lines and draw an edge around names.
	const lines = "\n.line{fill:none}.name{stroke:none}\n"
	var light, dark strings.Builder
	for i, s := range c.Series {
		style := styleOf(s.Name)
		fmt.Fprintf(&light, ".s%d{stroke:%s;fill:%s}", i, style.light, style.light)
		fmt.Fprintf(&dark, ".s%d{stroke:%s;fill:%s}", i, style.dark, style.dark)
	}
	return `<style>
text{font:13px system-ui,sans-serif;fill:#1f2328;stroke:none}
.title{font-size:16px;font-weight:600}
.name{font-weight:600}
.quiet{fill:#59636e}
.ground{fill:#ffffff;stroke:#d1d9e0}
.grid{stroke:#d1d9e0}
.shade{fill:#eff2f5}
.line{stroke-width:2.5}
` + light.String() + lines + `@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}
.quiet{fill:#9198a1}
.ground{fill:#0d1117;stroke:#3d444d}
.grid{stroke:#3d444d}
.shade{fill:#212830}
` + dark.String() + lines + `}
</style>
`
}

// drawSeries draws the points and a line between neighbours.
func (c *Chart) drawSeries(w *strings.Builder, number int, s Series, grid []float64) {
	var path strings.Builder
	move := "M"
	for i, value := range s.Values {
		if math.IsNaN(value) {
			move = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", move, c.x(i), c.y(value, grid))
		move = "L"
	}
	if path.Len() == 0 {
		return
	}
	fmt.Fprintf(w, `<path class="line s%d" d="%s"/>`+"\n", number, path.String())
	if c.Smooth {
		return
	}
	for i, value := range s.Values {
		if !math.IsNaN(value) {
			point := pointShape(styleOf(s.Name).shape, c.x(i), c.y(value, grid))
			fmt.Fprintf(w, `<path class="s%d" d="%s"><title>%s, %s %s: %s</title></path>`+"\n", number, point,
				html.EscapeString(s.Name), html.EscapeString(c.Ticks[i]), html.EscapeString(c.Axis), gridLabel(value))
		}
	}
}

func pointShape(shape string, x, y float64) string {
	switch shape {
	case "square":
		return fmt.Sprintf("M%.1f %.1fh8v8h-8z", x-4, y-4)
	case "triangle":
		return fmt.Sprintf("M%.1f %.1fl5 9h-10z", x, y-5.5)
	case "diamond":
		return fmt.Sprintf("M%.1f %.1fl5.5 5.5l-5.5 5.5l-5.5 -5.5z", x, y-5.5)
	default:
		return fmt.Sprintf("M%.1f %.1fa4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", x-4, y)
	}
}

// drawNames writes the name of each line at its last point, names that would overlap
// moved apart.
func (c *Chart) drawNames(w *strings.Builder, grid []float64) {
	type label struct {
		name   string
		number int
		x, y   float64
	}
	var labels []label
	for number, s := range c.Series {
		for i := len(s.Values) - 1; i >= 0; i-- {
			if !math.IsNaN(s.Values[i]) {
				labels = append(labels, label{s.Name, number, c.x(i) + 12, c.y(s.Values[i], grid) + 4})
				break
			}
		}
	}
	slices.SortFunc(labels, func(a, b label) int {
		if a.y < b.y {
			return -1
		}
		return 1
	})
	bottom := float64(chartHeight - chartBottom + 4)
	for i := range labels {
		if i > 0 {
			labels[i].y = max(labels[i].y, labels[i-1].y+labelHeight)
		}
	}
	for i := len(labels) - 1; i >= 0; i-- {
		labels[i].y = min(labels[i].y, bottom)
		bottom = labels[i].y - labelHeight
	}
	for _, l := range labels {
		fmt.Fprintf(w, `<text class="name s%d" x="%.1f" y="%.1f">%s</text>`+"\n", l.number, l.x, l.y, html.EscapeString(l.name))
	}
}

// grid is round values that enclose all of the series: at least two, rising.
func (c *Chart) grid() []float64 {
	low, high := math.Inf(1), 0.0
	for _, s := range c.Series {
		for _, value := range s.Values {
			if value > 0 {
				low, high = min(low, value), max(high, value)
			}
		}
	}
	if high == 0 {
		return []float64{0, 1}
	}
	if c.Logarithmic {
		return logarithmicGrid(low, high)
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, part := range []float64{0.1, 0.2, 0.5} {
		if high/(step*part) <= 6 {
			step *= part
			break
		}
	}
	grid := []float64{0}
	for grid[len(grid)-1] < high {
		grid = append(grid, float64(len(grid))*step)
	}
	return grid
}

// logarithmicGrid has the values 1, 2, 5, 10, … from below low to above high.
func logarithmicGrid(low, high float64) []float64 {
	var grid []float64
	for power := math.Floor(math.Log10(low)); ; power++ {
		for _, digit := range []float64{1, 2, 5} {
			value := digit * math.Pow(10, power)
			if value <= low {
				grid = grid[:0]
			}
			grid = append(grid, value)
			if value > high {
				return grid
			}
		}
	}
}

// gridLabel is a number of at most three digits that matter: 80k, 2.5, 0.05.
func gridLabel(value float64) string {
	suffix := ""
	if value >= 1000 {
		value, suffix = value/1000, "k"
	}
	return strconv.FormatFloat(value, 'g', 3, 64) + suffix
}
