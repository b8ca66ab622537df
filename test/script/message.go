package script

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/test/wire"
)

// rawMessage is a message of any type with any body.
type rawMessage struct {
	messageType byte
	body        []byte
}

// Frontend implements pgproto3.FrontendMessage.
func (*rawMessage) Frontend() {}

// Decode implements pgproto3.FrontendMessage.
func (*rawMessage) Decode([]byte) error { return nil }

// Encode implements pgproto3.FrontendMessage.
func (m *rawMessage) Encode(b []byte) ([]byte, error) {
	size := 4 + len(m.body)
	return append(append(b, m.messageType, byte(size>>24), byte(size>>16), byte(size>>8), byte(size)), m.body...), nil
}

// parseMessage reads a line such as "Bind s 1".
func parseMessage(line string) (pgproto3.FrontendMessage, error) {
	verb, rest, _ := strings.Cut(line, " ")
	switch l := (words{rest: rest}); verb {
	case "Query":
		return &pgproto3.Query{String: l.text()}, l.err
	case "Parse":
		m := &pgproto3.Parse{Name: l.word()}
		if types, ok := l.option("types"); ok {
			m.ParameterOIDs = numbers[uint32](&l, types)
		}
		m.Query = l.text()
		return m, l.err
	case "Bind":
		return l.bind()
	case "Describe":
		m := &pgproto3.Describe{ObjectType: l.kind(), Name: l.word()}
		return m, l.end()
	case "Close":
		m := &pgproto3.Close{ObjectType: l.kind(), Name: l.word()}
		return m, l.end()
	case "Execute":
		m := &pgproto3.Execute{Portal: l.word()}
		if rows := l.word(); rows != "" {
			m.MaxRows = number[uint32](&l, rows)
		}
		return m, l.end()
	case "FunctionCall":
		m := &pgproto3.FunctionCall{Function: number[uint32](&l, l.word())}
		for l.more() {
			m.Arguments = append(m.Arguments, l.value())
		}
		return m, l.err
	case "Sync":
		return &pgproto3.Sync{}, l.end()
	case "Flush":
		return &pgproto3.Flush{}, l.end()
	case "Terminate":
		return &pgproto3.Terminate{}, l.end()
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(l.text())}, l.err
	case "CopyDone":
		return &pgproto3.CopyDone{}, l.end()
	case "CopyFail":
		return &pgproto3.CopyFail{Message: l.text()}, l.err
	case "Raw":
		messageType := l.word()
		if len(messageType) != 1 {
			return nil, fmt.Errorf("%q is no type of a message: expected a letter", messageType)
		}
		return &rawMessage{messageType[0], []byte(l.text())}, l.err
	}
	return nil, fmt.Errorf("%q is no message: package script lists them", verb)
}

func (l *words) bind() (pgproto3.FrontendMessage, error) {
	m := &pgproto3.Bind{PreparedStatement: l.word()}
	for l.more() {
		if portal, ok := l.option("portal"); ok {
			m.DestinationPortal = portal
		} else if formats, ok := l.option("formats"); ok {
			m.ParameterFormatCodes = numbers[int16](l, formats)
		} else if results, ok := l.option("results"); ok {
			m.ResultFormatCodes = numbers[int16](l, results)
		} else {
			m.Parameters = append(m.Parameters, l.value())
		}
	}
	return m, l.err
}

// formatMessage is the inverse of parseMessage.
func formatMessage(message pgproto3.FrontendMessage) string {
	name := wire.Name(message)
	switch m := message.(type) {
	case *pgproto3.Query:
		return line(name, text(m.String))
	case *pgproto3.Parse:
		types := ""
		if len(m.ParameterOIDs) > 0 {
			types = "types=" + list(m.ParameterOIDs)
		}
		return line(name, word(m.Name), types, text(m.Query))
	case *pgproto3.Bind:
		return line(name, word(m.PreparedStatement), values(m.Parameters), bindOptions(m))
	case *pgproto3.Describe:
		return line(name, kindName(m.ObjectType), word(m.Name))
	case *pgproto3.Close:
		return line(name, kindName(m.ObjectType), word(m.Name))
	case *pgproto3.Execute:
		switch {
		case m.MaxRows != 0:
			return line(name, word(m.Portal), fmt.Sprint(m.MaxRows))
		case m.Portal != "":
			return line(name, word(m.Portal))
		}
		return name
	case *pgproto3.FunctionCall:
		return line(name, fmt.Sprint(m.Function), values(m.Arguments))
	case *pgproto3.CopyData:
		return line(name, text(string(m.Data)))
	case *pgproto3.CopyFail:
		return line(name, text(m.Message))
	case *rawMessage:
		return line("Raw", word(string(m.messageType)), strconv.Quote(string(m.body)))
	}
	return name
}

func bindOptions(m *pgproto3.Bind) string {
	var options []string
	if m.DestinationPortal != "" {
		options = append(options, "portal="+word(m.DestinationPortal))
	}
	if len(m.ParameterFormatCodes) > 0 {
		options = append(options, "formats="+list(m.ParameterFormatCodes))
	}
	if len(m.ResultFormatCodes) > 0 {
		options = append(options, "results="+list(m.ResultFormatCodes))
	}
	return strings.Join(options, " ")
}

// endsGroup reports whether PostgreSQL answers the message with ReadyForQuery.
func endsGroup(message pgproto3.FrontendMessage) bool {
	switch message.(type) {
	case *pgproto3.Query, *pgproto3.Sync, *pgproto3.FunctionCall:
		return true
	}
	return false
}
