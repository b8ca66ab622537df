package page

import "strings"

// Section is a heading, a sentence and a table, or nothing if the table is empty.
func Section(title, text string, t *Table) string {
	if len(t.rows) == 0 {
		return ""
	}
	if text != "" {
		text += "\n\n"
	}
	return "### " + title + "\n\n" + text + t.String()
}

// Table is a Markdown table; the first columns, as many as Left, are text.
type Table struct {
	Columns []string
	Left    int
	rows    [][]string
}

// Add makes a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *Table) String() string {
	var w strings.Builder
	line := func(cells []string) { w.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.Columns)
	rules := make([]string, len(t.Columns))
	for i := range rules {
		rules[i] = "---:"
		if i < t.Left {
			rules[i] = "---"
		}
	}
	line(rules)
	for _, row := range t.rows {
		line(row)
	}
	w.WriteString("\n")
	return w.String()
}
