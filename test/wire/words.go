package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgproto3"
)

// IsEnd reports whether err says that the server has closed the connection.
func IsEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Name is the name of a message's type in the manual.
func Name(message any) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", message), "*pgproto3.")
}

// firstUserOID is the first OID that is given to what users make.
const firstUserOID = 16384

// tempSchema is the name of a schema of temporary tables: which of them a session
// has is its server's affair.
var tempSchema = regexp.MustCompile(`\bpg_(toast_)?temp_\d+\b`)

// Words describes a message by what a client can rely on: of an error, not the lines
// of PostgreSQL's source; and no process ids, keys and OIDs of what users made, which
// are others every time.
func Words(message pgproto3.BackendMessage) string {
	return tempSchema.ReplaceAllString(words(message), "pg_${1}temp_N")
}

func words(message pgproto3.BackendMessage) string {
	name := Name(message)
	switch m := message.(type) {
	case *pgproto3.ErrorResponse:
		return name + " " + report(m)
	case *pgproto3.NoticeResponse:
		return name + " " + report((*pgproto3.ErrorResponse)(m))
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("%s %s=%s", name, m.Name, m.Value)
	case *pgproto3.ReadyForQuery:
		return fmt.Sprintf("%s %c", name, m.TxStatus)
	case *pgproto3.CommandComplete:
		return fmt.Sprintf("%s %s", name, m.CommandTag)
	case *pgproto3.CopyData:
		return fmt.Sprintf("%s %q", name, m.Data)
	case *pgproto3.NotificationResponse:
		return fmt.Sprintf("%s %s %q", name, m.Channel, m.Payload)
	case *pgproto3.ParameterDescription:
		var types []string
		for _, oid := range m.ParameterOIDs {
			types = append(types, typeName(oid))
		}
		return strings.TrimSpace(name + " " + strings.Join(types, ","))
	case *pgproto3.RowDescription:
		var fields []string
		for _, f := range m.Fields {
			fields = append(fields, fmt.Sprintf("%s:%s/%d/%d/%d/%d", f.Name, typeName(f.DataTypeOID), f.DataTypeSize, f.TypeModifier, f.Format, f.TableAttributeNumber))
		}
		return strings.TrimSpace(name + " " + strings.Join(fields, ","))
	case *pgproto3.DataRow:
		var columns []string
		for _, column := range m.Values {
			columns = append(columns, quoted(column))
		}
		return strings.TrimSpace(name + " " + strings.Join(columns, ","))
	case *pgproto3.FunctionCallResponse:
		return name + " " + quoted(m.Result)
	case *pgproto3.ParseComplete, *pgproto3.BindComplete, *pgproto3.CloseComplete, *pgproto3.NoData, *pgproto3.BackendKeyData,
		*pgproto3.PortalSuspended, *pgproto3.EmptyQueryResponse, *pgproto3.CopyDone, *pgproto3.AuthenticationOk:
		return name
	}
	content, err := json.Marshal(message)
	if err != nil {
		return name + " " + err.Error()
	}
	return name + " " + string(content)
}

func quoted(value []byte) string {
	if value == nil {
		return "NULL"
	}
	return fmt.Sprintf("%q", value)
}

func typeName(oid uint32) string {
	if oid >= firstUserOID {
		return "user's"
	}
	return fmt.Sprint(oid)
}

// report describes an error or a notice.
func report(e *pgproto3.ErrorResponse) string {
	words := fmt.Sprintf("%s %s %q", e.SeverityUnlocalized, e.Code, e.Message)
	for _, field := range []struct{ name, value string }{
		{"detail", e.Detail},
		{"hint", e.Hint},
		{"where", e.Where},
		{"query", e.InternalQuery},
		{"schema", e.SchemaName},
		{"table", e.TableName},
		{"column", e.ColumnName},
		{"type", e.DataTypeName},
		{"constraint", e.ConstraintName},
	} {
		if field.value != "" {
			words += fmt.Sprintf(" %s=%q", field.name, field.value)
		}
	}
	if e.Position != 0 {
		words += fmt.Sprintf(" position=%d", e.Position)
	}
	if e.InternalPosition != 0 {
		words += fmt.Sprintf(" internal position=%d", e.InternalPosition)
	}
	return words
}
