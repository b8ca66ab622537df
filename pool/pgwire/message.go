package pgwire

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// Types of frontend messages, that is, messages to PostgreSQL.
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd' // both directions
	CopyDone     = 'c' // both directions
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p'
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Types of backend messages, that is, messages from PostgreSQL.
const (
	Authentication           = 'R'
	BackendKeyData           = 'K'
	BindComplete             = '2'
	CloseComplete            = '3'
	CommandComplete          = 'C'
	CopyBothResponse         = 'W'
	CopyInResponse           = 'G'
	CopyOutResponse          = 'H'
	DataRow                  = 'D'
	EmptyQueryResponse       = 'I'
	ErrorResponse            = 'E'
	FunctionCallResponse     = 'V'
	NegotiateProtocolVersion = 'v'
	NoData                   = 'n'
	NoticeResponse           = 'N'
	NotificationResponse     = 'A'
	ParameterDescription     = 't'
	ParameterStatus          = 'S'
	ParseComplete            = '1'
	PortalSuspended          = 's'
	ReadyForQuery            = 'Z'
	RowDescription           = 'T'
)

// Kinds of object that a Describe or Close message names.
const (
	KindStatement = 'S'
	KindPortal    = 'P'
)

// TxStatus is the transaction status that ReadyForQuery carries.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY
type TxStatus byte

// The statuses.
const (
	TxIdle   TxStatus = 'I' // not in a transaction block
	TxActive TxStatus = 'T' // in a transaction block
	TxFailed TxStatus = 'E' // in a failed transaction block: only its end is accepted
)

// AuthenticationMethod is the first field of an Authentication message: what the
// client is asked for.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-AUTHENTICATIONOK
type AuthenticationMethod uint32

// The methods.
const (
	AuthenticationOK           AuthenticationMethod = 0
	AuthenticationCleartext    AuthenticationMethod = 3
	AuthenticationMD5          AuthenticationMethod = 5
	AuthenticationGSS          AuthenticationMethod = 7
	AuthenticationGSSContinue  AuthenticationMethod = 8
	AuthenticationSSPI         AuthenticationMethod = 9
	AuthenticationSASL         AuthenticationMethod = 10
	AuthenticationSASLContinue AuthenticationMethod = 11
	AuthenticationSASLFinal    AuthenticationMethod = 12
)

// String returns PostgreSQL's name for the method in pg_hba.conf.
func (m AuthenticationMethod) String() string {
	switch m {
	case AuthenticationOK:
		return "trust"
	case AuthenticationCleartext:
		return "password"
	case AuthenticationMD5:
		return "md5"
	case AuthenticationGSS, AuthenticationGSSContinue:
		return "gss"
	case AuthenticationSSPI:
		return "sspi"
	case AuthenticationSASL, AuthenticationSASLContinue, AuthenticationSASLFinal:
		return "scram-sha-256"
	}
	return strconv.FormatUint(uint64(m), 10)
}

// HeaderBytes is the size of a message's type and length.
const HeaderBytes = 5

// MaxMessageBytes bounds the messages that may be long, MaxShortMessageBytes
// the others, as PQ_LARGE_MESSAGE_LIMIT and PQ_SMALL_MESSAGE_LIMIT do in
// PostgreSQL. Both count the length field and the body.
const (
	MaxMessageBytes      = 1<<30 - 2
	MaxShortMessageBytes = 10_000
)

// ProtocolError says what is wrong with bytes received. Its text is fit to be
// sent to the peer with SQLSTATE 08P01.
type ProtocolError struct {
	Message string
}

// Error implements error.
func (e *ProtocolError) Error() string { return e.Message }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{Message: fmt.Sprintf(format, args...)}
}

// frontendLimitBytes is the greatest length of each frontend message type that
// is allowed after the startup packet; 0 marks the bytes that are no type.
var frontendLimitBytes = [256]int{
	Bind: MaxMessageBytes, CopyData: MaxMessageBytes, FunctionCall: MaxMessageBytes,
	Parse: MaxMessageBytes, Query: MaxMessageBytes,
	Close: MaxShortMessageBytes, CopyDone: MaxShortMessageBytes, CopyFail: MaxShortMessageBytes,
	Describe: MaxShortMessageBytes, Execute: MaxShortMessageBytes, Flush: MaxShortMessageBytes,
	Password: MaxShortMessageBytes, Sync: MaxShortMessageBytes, Terminate: MaxShortMessageBytes,
}

// backendTypes marks the bytes that are a backend message type.
var backendTypes = [256]bool{
	Authentication: true, BackendKeyData: true, BindComplete: true, CloseComplete: true, CommandComplete: true,
	CopyBothResponse: true, CopyData: true, CopyDone: true, CopyInResponse: true, CopyOutResponse: true,
	DataRow: true, EmptyQueryResponse: true, ErrorResponse: true, FunctionCallResponse: true,
	NegotiateProtocolVersion: true, NoData: true, NoticeResponse: true, NotificationResponse: true,
	ParameterDescription: true, ParameterStatus: true, ParseComplete: true, PortalSuspended: true,
	ReadyForQuery: true, RowDescription: true,
}

// PeekFrontend reads the header of the frontend message at the beginning of b:
// its type and its whole size, header included. sizeBytes is 0 while b is too
// short to tell. err is a *ProtocolError for what is no message that PostgreSQL
// would accept.
func PeekFrontend(b []byte) (messageType byte, sizeBytes int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	limit := frontendLimitBytes[b[0]]
	if limit == 0 {
		return 0, 0, protocolErrorf("invalid frontend message type %d", b[0])
	}
	if len(b) < HeaderBytes {
		return b[0], 0, nil
	}
	length := int(int32(binary.BigEndian.Uint32(b[1:])))
	if length < 4 || length > limit {
		return 0, 0, protocolErrorf("invalid length %d of frontend message type %q: expected 4 to %d", length, b[0], limit)
	}
	return b[0], 1 + length, nil
}

// PeekBackend is PeekFrontend for the messages of a server.
func PeekBackend(b []byte) (messageType byte, sizeBytes int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if !backendTypes[b[0]] {
		return 0, 0, protocolErrorf("invalid backend message type %d", b[0])
	}
	if len(b) < HeaderBytes {
		return b[0], 0, nil
	}
	length := int(int32(binary.BigEndian.Uint32(b[1:])))
	if length < 4 || length > MaxMessageBytes {
		return 0, 0, protocolErrorf("invalid length %d of backend message type %q: expected 4 to %d", length, b[0], MaxMessageBytes)
	}
	return b[0], 1 + length, nil
}

// CString splits b after its first zero byte. s is the part before it; ok is
// false if there is none.
func CString(b []byte) (s, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return b[:i], b[i+1:], true
		}
	}
	return nil, nil, false
}
