package proxy

import (
	"encoding/binary"
	"strconv"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// columnType is the type of a column of the console, as PgBouncer's.
type columnType uint8

const (
	typeText columnType = iota
	typeInt4
	typeInt8
	typeNumeric
)

// columnTypes are PostgreSQL's numbers of the types, and the sizes of their values, -1 if
// they differ.
// See https://www.postgresql.org/docs/current/catalog-pg-type.html
var columnTypes = [...]struct {
	oid  uint32
	size int16
}{
	typeText:    {25, -1},
	typeInt4:    {23, 4},
	typeInt8:    {20, 8},
	typeNumeric: {1700, -1},
}

// columnHead is name and type of a column.
type columnHead struct {
	name     string
	dataType columnType
}

// cell is a value of a row: a text, a number or NULL.
type cell struct {
	text   string
	number int64
	null   bool
}

// columnOf is a column of a table whose rows are made of a T.
type columnOf[T any] struct {
	columnHead
	value func(*T) cell
}

func textColumn[T any](name string, value func(*T) string) columnOf[T] {
	return columnOf[T]{columnHead{name, typeText}, func(row *T) cell { return cell{text: value(row)} }}
}

// nullColumn is for what PgBouncer has and the proxy does not.
func nullColumn[T any](name string) columnOf[T] {
	return columnOf[T]{columnHead{name, typeText}, func(*T) cell { return cell{null: true} }}
}

func intColumn[T any](name string, value func(*T) int) columnOf[T] {
	return columnOf[T]{columnHead{name, typeInt4}, func(row *T) cell { return cell{number: int64(value(row))} }}
}

func bigColumn[T any](name string, value func(*T) uint64) columnOf[T] {
	return columnOf[T]{columnHead{name, typeInt8}, func(row *T) cell { return cell{number: int64(value(row))} }}
}

// noneColumn is a count of what PgBouncer has and the proxy has none of.
func noneColumn[T any](name string) columnOf[T] {
	return intColumn(name, func(*T) int { return 0 })
}

func numericColumn[T any](name string, value func(*T) uint64) columnOf[T] {
	return columnOf[T]{columnHead{name, typeNumeric}, func(row *T) cell { return cell{number: int64(value(row))} }}
}

// Formats of values.
// See https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-FORMAT-CODES
const (
	formatText   = 0
	formatBinary = 1
)

// resultFormats are the formats that a client wants columns in: none for text, one for
// all, or one for each.
type resultFormats []int16

func (f resultFormats) of(i int) int16 {
	switch len(f) {
	case 0:
		return formatText
	case 1:
		return f[0]
	}
	return f[i]
}

// appendRowDescription appends the description of a row.
func appendRowDescription(b []byte, columns []columnHead, formats resultFormats) []byte {
	start := len(b)
	b = pgwire.AppendHeader(b, pgwire.RowDescription, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
	for i, c := range columns {
		b = append(append(b, c.name...), 0)
		b = append(b, 0, 0, 0, 0, 0, 0) // of no table
		b = binary.BigEndian.AppendUint32(b, columnTypes[c.dataType].oid)
		b = binary.BigEndian.AppendUint16(b, uint16(columnTypes[c.dataType].size))
		b = append(b, 0xff, 0xff, 0xff, 0xff) // no modifier
		b = binary.BigEndian.AppendUint16(b, uint16(formats.of(i)))
	}
	return endMessage(b, start)
}

// appendCell appends a value with its length.
func appendCell(b []byte, c cell, dataType columnType, format int16) []byte {
	if c.null {
		return binary.BigEndian.AppendUint32(b, 0xffff_ffff)
	}
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	switch {
	case dataType == typeText:
		b = append(b, c.text...)
	case format == formatText:
		b = strconv.AppendInt(b, c.number, 10)
	case dataType == typeInt4:
		b = binary.BigEndian.AppendUint32(b, uint32(c.number))
	case dataType == typeInt8:
		b = binary.BigEndian.AppendUint64(b, uint64(c.number))
	default:
		b = appendNumeric(b, uint64(c.number))
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// appendNumeric appends a whole number as a numeric in the binary format: the count of
// its digits to the base of 10,000, the weight of the first, a sign, no digits behind the
// point, and the digits.
func appendNumeric(b []byte, n uint64) []byte {
	const base = 10_000
	var digits [5]uint16 // from the last
	count := 0
	for ; n > 0; n /= base {
		digits[count] = uint16(n % base)
		count++
	}
	b = binary.BigEndian.AppendUint16(b, uint16(count))
	b = binary.BigEndian.AppendUint16(b, uint16(max(count, 1)-1))
	b = append(b, 0, 0, 0, 0)
	for count > 0 {
		count--
		b = binary.BigEndian.AppendUint16(b, digits[count])
	}
	return b
}

// endMessage sets the length of the message that begins at b[start].
func endMessage(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-1))
	return b
}
