package main

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/test/rig"
	"github.com/billproxy/billproxy/test/wire"
)

// maxMessageBytes bounds what a server may send.
const maxMessageBytes = 64 << 10

// numberDigits is the length of an operation's number in a request.
const numberDigits = 19

// request is the messages that run a statement with one parameter, an operation's
// number. It is encoded once: one operation differs from the next in the digits only.
type request struct {
	bytes  []byte
	digits int // where they are
}

// newRequest encodes a statement as drivers do that keep none prepared: everything in
// one write.
func newRequest(statement string) (*request, error) {
	number := bytes.Repeat([]byte{'0'}, numberDigits)
	b, err := wire.Encode(
		&pgproto3.Parse{Query: statement},
		&pgproto3.Bind{Parameters: [][]byte{number}},
		&pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{},
		&pgproto3.Sync{},
	)
	if err != nil {
		return nil, err
	}
	at := bytes.Index(b, number)
	if at < 0 {
		return nil, fmt.Errorf("statement %q: its parameter is not in the message", statement)
	}
	return &request{b, at}, nil
}

// of is the request for an operation, valid until the next call.
func (r *request) of(operation int64) []byte {
	digits := r.bytes[r.digits : r.digits+numberDigits]
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + operation%10)
		operation /= 10
	}
	return r.bytes
}

func startup(service string) ([]byte, error) {
	return wire.Encode(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": rig.User, "database": rig.Database, "application_name": service,
	}})
}

// terminate is what a client says before it hangs up.
var terminate = []byte{'X', 0, 0, 0, 4}

func cancelRequest(pid uint32, key []byte) ([]byte, error) {
	return wire.Encode(&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key})
}

// nextMessage cuts the first message off b. An incomplete one is left: ok is false.
func nextMessage(b []byte) (messageType byte, body, rest []byte, ok bool, err error) {
	if len(b) < 5 {
		return 0, nil, b, false, nil
	}
	length := int(binary.BigEndian.Uint32(b[1:]))
	if length < 4 || length > maxMessageBytes {
		return 0, nil, nil, false, fmt.Errorf("message %q of %d bytes: expected 4 to %d", b[0], length, maxMessageBytes)
	}
	if len(b) < 1+length {
		return 0, nil, b, false, nil
	}
	return b[0], b[5 : 1+length], b[1+length:], true, nil
}

// errorField is a field of an ErrorResponse.
// See https://www.postgresql.org/docs/current/protocol-error-fields.html
func errorField(body []byte, field byte) string {
	for len(body) > 1 && body[0] != 0 {
		value, rest, found := bytes.Cut(body[1:], []byte{0})
		if !found {
			return ""
		}
		if body[0] == field {
			return string(value)
		}
		body = rest
	}
	return ""
}
