package proxy

import (
	"encoding/binary"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// table is what a SHOW command returns.
type table struct {
	columns []columnHead

	// open returns the rows as they are now. They belong to the loop of the proxy that
	// they are of, and are made one by one: there may be thousands of clients.
	open func(*Proxy) rows
}

// rows appends the next row as a DataRow with every call, until it reports false.
type rows func(b []byte, formats resultFormats) ([]byte, bool)

// tableOf is a table with a row for each T that next yields.
func tableOf[T any](open func(*Proxy) (next func() (T, bool)), columns ...columnOf[T]) *table {
	t := &table{}
	for _, c := range columns {
		t.columns = append(t.columns, c.columnHead)
	}
	t.open = func(p *Proxy) rows {
		next := open(p)
		return func(b []byte, formats resultFormats) ([]byte, bool) {
			row, ok := next()
			if !ok {
				return b, false
			}
			start := len(b)
			b = pgwire.AppendHeader(b, pgwire.DataRow, 0)
			b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
			for i, c := range columns {
				b = appendCell(b, c.value(&row), c.dataType, formats.of(i))
			}
			return endMessage(b, start), true
		}
	}
	return t
}

// each yields the elements of a list.
func each[T any](list []T) func() (T, bool) {
	return func() (element T, ok bool) {
		if len(list) == 0 {
			return element, false
		}
		element, list = list[0], list[1:]
		return element, true
	}
}

// listTable is tableOf a list that is made at once.
func listTable[T any](list func(*Proxy) []T, columns ...columnOf[T]) *table {
	return tableOf(func(p *Proxy) func() (T, bool) { return each(list(p)) }, columns...)
}
