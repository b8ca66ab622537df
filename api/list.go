package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of a page, in objects.
const (
	defaultLimit = 10
	maxLimit     = 100
)

// A listObject is Stripe's list envelope.
type listObject struct {
	Object  string `json:"object"`
	URL     string `json:"url"`
	HasMore bool   `json:"has_more"`
	Data    []any  `json:"data"`
}

// A page says which part of a list is wanted.
type page struct {
	limit         int
	startingAfter string // the id before the page, in the order of the list
	endingBefore  string // the id after the page
}

// page reads limit, starting_after and ending_before; the last two are ids that begin with prefix.
func (p *params) page(object, prefix string) page {
	wanted := page{limit: defaultLimit}
	if limit := p.integer("limit", 1, maxLimit); limit != nil {
		wanted.limit = int(*limit)
	}
	cursor := func(name string) string {
		id := p.id(name)
		if id != "" && !strings.HasPrefix(id, prefix) && p.err == nil {
			p.err = noSuch(object, shorten(id), name)
		}
		return id
	}
	wanted.startingAfter = cursor("starting_after")
	wanted.endingBefore = cursor("ending_before")
	p.exclusive("starting_after", "ending_before")
	return wanted
}

// A filter is the WHERE clause of a list.
type filter struct {
	conditions []string
	args       []any
}

// add demands condition, in which %s stands for value.
func (f *filter) add(condition string, value any) {
	f.args = append(f.args, value)
	f.conditions = append(f.conditions, fmt.Sprintf(condition, "$"+strconv.Itoa(len(f.args))))
}

// addGiven demands that column equals value, unless value is empty.
func (f *filter) addGiven(column, value string) {
	if value != "" {
		f.add(column+" = %s", value)
	}
}

// addCreated reads created, or created[gt], created[gte], created[lt] and created[lte]. Ids hold the time, so these are
// conditions on the id: the same index serves the filter and the order.
func (f *filter) addCreated(p *params, prefix string) {
	from := func(t *time.Time, delay time.Duration) {
		if t != nil {
			f.add("id >= %s", firstID(prefix, t.Add(delay)))
		}
	}
	until := func(t *time.Time, delay time.Duration) {
		if t != nil {
			f.add("id < %s", firstID(prefix, t.Add(delay)))
		}
	}
	// A time of the API is a whole second and covers all of it.
	exactly := p.timestamp("created")
	from(exactly, 0)
	until(exactly, time.Second)
	from(p.timestamp("created[gt]"), time.Second)
	from(p.timestamp("created[gte]"), 0)
	until(p.timestamp("created[lt]"), 0)
	until(p.timestamp("created[lte]"), time.Second)
}

// A listing is a table, or view of one, that can be read page by page.
type listing struct {
	table       string
	columns     string
	key         string // the column of ids the list is ordered by
	oldestFirst bool   // Stripe's lists are newest first, except an invoice's lines
}

// rowsOf reads a page of a listing in the order of the list, and whether there is more beyond it.
func rowsOf[T any](ctx context.Context, db querier, l listing, f filter, p page) (rows []*T, more bool, err error) {
	ascending := l.oldestFirst
	backwards := p.endingBefore != ""
	if backwards {
		ascending = !ascending
	}
	beyond, direction := " < %s", "DESC"
	if ascending {
		beyond, direction = " > %s", "ASC"
	}
	if cursor := p.startingAfter + p.endingBefore; cursor != "" { // at most one is set
		f.add(l.key+beyond, cursor)
	}
	where := ""
	if len(f.conditions) > 0 {
		where = " WHERE " + strings.Join(f.conditions, " AND ")
	}
	f.args = append(f.args, p.limit+1) // one more tells whether there is more
	sql := fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s %s LIMIT $%d", l.columns, l.table, where, l.key, direction, len(f.args))
	rows, err = all[T](ctx, db, sql, f.args...)
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", l.table, err)
	}
	if len(rows) > p.limit {
		rows, more = rows[:p.limit], true
	}
	if backwards {
		slices.Reverse(rows)
	}
	return rows, more, nil
}

// newList returns the envelope of rows, each rendered by object.
func newList[T any](url string, rows []T, more bool, object func(T) any) listObject {
	list := listObject{Object: "list", URL: url, HasMore: more, Data: make([]any, len(rows))}
	for i, row := range rows {
		list.Data[i] = object(row)
	}
	return list
}
