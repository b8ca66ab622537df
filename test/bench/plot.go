package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// plot is a finished picture.
type plot struct {
	file  string
	title string
	svg   string
}

// drawPlots draws the select-only work over the number of clients.
func drawPlots(r *results) []plot {
	kinds := []struct {
		file, title, unit string
		protocol          string
		q                 quantity
		logarithmic       bool
		keep              func(string) bool
	}{
		{"tps-prepared.svg", "pgbench -S, prepared: throughput", "transactions per second", "prepared", tps, false, everybody},
		{"tps-extended.svg", "pgbench -S, extended: throughput", "transactions per second", "extended", tps, false, everybody},
		{"tps-simple.svg", "pgbench -S, simple: throughput", "transactions per second", "simple", tps, false, everybody},
		{"p99-prepared.svg", "pgbench -S, prepared: p99 latency", "milliseconds, logarithmic", "prepared", p99, true, everybody},
		{"cpu-prepared.svg", "pgbench -S, prepared: CPU of the pooler", "µs per transaction", "prepared", cpu, false, isPooler},
	}
	var plots []plot
	for _, kind := range kinds {
		c := chart{title: kind.title, unit: kind.unit, axis: "clients", logarithmic: kind.logarithmic}
		for _, clients := range selectClients {
			c.ticks = append(c.ticks, strconv.Itoa(clients))
		}
		for _, name := range r.names(kind.keep) {
			s := series{name: name}
			for _, clients := range selectClients {
				s.values = append(s.values, r.of(workSelect(kind.protocol, clients), name, kind.q).value)
			}
			c.series = append(c.series, s)
		}
		if c.hasLine() {
			plots = append(plots, plot{kind.file, kind.title, c.draw()})
		}
	}
	return plots
}

func plotLinks(plots []plot) string {
	var w strings.Builder
	for _, p := range plots {
		fmt.Fprintf(&w, "![%s](%s)\n\n", p.title, p.file)
	}
	return w.String()
}

// chart is lines over named places on the horizontal axis.
type chart struct {
	title, unit, axis string
	ticks             []string
	series            []series
	logarithmic       bool
}

// series is one line; a value of NaN is a gap.
type series struct {
	name   string
	values []float64
}

// The picture in pixels. The room on the right is for the names at the ends of lines.
const (
	chartWidth, chartHeight = 760, 400
	chartLeft, chartRight   = 64, 110
	chartTop, chartBottom   = 64, 52
	labelHeight             = 17
)

// style is a colour on light and on dark ground, and the shape of the points: colour
// alone must not tell lines apart.
type style struct{ light, dark, shape string }

var (
	styles = map[string]style{
		nameDirect:    {"#57606a", "#9198a1", "circle"},
		namePgBouncer: {"#bc4c00", "#f0883e", "square"},
		nameOdyssey:   {"#8250df", "#bc8cff", "triangle"},
		nameBillproxy: {"#0969da", "#58a6ff", "diamond"},
	}
	otherStyle = style{"#1a7f37", "#3fb950", "circle"}
)

func styleOf(name string) style {
	if s, ok := styles[name]; ok {
		return s
	}
	return otherStyle
}

// hasLine reports whether any series has two points.
func (c *chart) hasLine() bool {
	return slices.ContainsFunc(c.series, func(s series) bool {
		n := 0
		for _, value := range s.values {
			if !math.IsNaN(value) {
				n++
			}
		}
		return n > 1
	})
}

func (c *chart) x(i int) float64 {
	const margin = 32
	width := float64(chartWidth - chartLeft - chartRight - margin)
	return chartLeft + margin + width*float64(i)/float64(max(len(c.ticks)-1, 1))
}

func (c *chart) y(value float64, grid []float64) float64 {
	low, high := grid[0], grid[len(grid)-1]
	if c.logarithmic {
		value, low, high = math.Log(value), math.Log(low), math.Log(high)
	}
	height := float64(chartHeight - chartTop - chartBottom)
	return chartTop + height*(1-(value-low)/(high-low))
}

// draw writes the picture with colours for both kinds of ground.
func (c *chart) draw() string {
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%[3]s">`+"\n",
		chartWidth, chartHeight, html.EscapeString(c.title))
	w.WriteString(c.css())
	fmt.Fprintf(&w, `<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&w, `<text class="title" x="20" y="28">%s</text>`+"\n", html.EscapeString(c.title))
	fmt.Fprintf(&w, `<text class="quiet" x="20" y="48">%s</text>`+"\n", html.EscapeString(c.unit))
	grid := c.grid()
	right := c.x(len(c.ticks)-1) + 6
	for _, value := range grid {
		y := c.y(value, grid)
		fmt.Fprintf(&w, `<line class="grid" x1="%d" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", chartLeft, right, y, y)
		fmt.Fprintf(&w, `<text class="quiet" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", chartLeft-8, y+4, gridLabel(value))
	}
	for i, tick := range c.ticks {
		fmt.Fprintf(&w, `<text class="quiet" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			c.x(i), chartHeight-chartBottom+20, html.EscapeString(tick))
	}
	fmt.Fprintf(&w, `<text class="quiet" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
		(chartLeft+right)/2, chartHeight-12, html.EscapeString(c.axis))
	for i, s := range c.series {
		c.drawSeries(&w, i, s, grid)
	}
	c.drawNames(&w, grid)
	w.WriteString("</svg>\n")
	return w.String()
}

func (c *chart) css() string {
	// After the colours, which would fill lines and draw an edge around names.
	const lines = "\n.line{fill:none}.name{stroke:none}\n"
	var light, dark strings.Builder
	for i, s := range c.series {
		style := styleOf(s.name)
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
.line{stroke-width:2.5}
` + light.String() + lines + `@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}
.quiet{fill:#9198a1}
.ground{fill:#0d1117;stroke:#3d444d}
.grid{stroke:#3d444d}
` + dark.String() + lines + `}
</style>
`
}

// drawSeries draws the points and a line between neighbours.
func (c *chart) drawSeries(w *strings.Builder, number int, s series, grid []float64) {
	var path strings.Builder
	move := "M"
	for i, value := range s.values {
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
	for i, value := range s.values {
		if !math.IsNaN(value) {
			point := pointShape(styleOf(s.name).shape, c.x(i), c.y(value, grid))
			fmt.Fprintf(w, `<path class="s%d" d="%s"><title>%s, %s %s: %s</title></path>`+"\n", number, point,
				html.EscapeString(s.name), html.EscapeString(c.ticks[i]), html.EscapeString(c.axis), gridLabel(value))
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
func (c *chart) drawNames(w *strings.Builder, grid []float64) {
	type label struct {
		name   string
		number int
		x, y   float64
	}
	var labels []label
	for number, s := range c.series {
		for i := len(s.values) - 1; i >= 0; i-- {
			if !math.IsNaN(s.values[i]) {
				labels = append(labels, label{s.name, number, c.x(i) + 12, c.y(s.values[i], grid) + 4})
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
func (c *chart) grid() []float64 {
	low, high := math.Inf(1), 0.0
	for _, s := range c.series {
		for _, value := range s.values {
			if value > 0 {
				low, high = min(low, value), max(high, value)
			}
		}
	}
	if high == 0 {
		return []float64{0, 1}
	}
	if c.logarithmic {
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
