package pgwire

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// ProtocolVersion is a protocol's major version in the upper and its minor
// version in the lower 16 bits.
// See https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-VERSIONS
type ProtocolVersion uint32

// The protocol versions spoken. 3.2 differs from 3.0 in the length of cancel
// keys; 3.1 was never used by PostgreSQL.
const (
	Version30 ProtocolVersion = 3 << 16
	Version32 ProtocolVersion = 3<<16 | 2
)

// Major and Minor are the version's parts.
func (v ProtocolVersion) Major() int { return int(v >> 16) }

// Minor is the lower part of the version.
func (v ProtocolVersion) Minor() int { return int(v & 0xffff) }

// String is the form "3.0".
func (v ProtocolVersion) String() string { return fmt.Sprintf("%d.%d", v.Major(), v.Minor()) }

// MaxStartupBytes bounds a startup packet, as MAX_STARTUP_PACKET_LENGTH does in
// PostgreSQL.
const MaxStartupBytes = 10_000

const (
	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssEncRequestCode = 1234<<16 | 5680

	maxCancelKeyBytes = 256
)

// StartupKind tells the packets that may begin a connection apart.
type StartupKind uint8

// The kinds.
const (
	// StartupIncomplete says that more bytes are needed to tell.
	StartupIncomplete StartupKind = iota
	// StartupMessage asks for a session.
	StartupMessage
	// StartupSSL asks for TLS; the answer is one byte.
	StartupSSL
	// StartupGSS asks for GSSAPI encryption, likewise.
	StartupGSS
	// StartupCancel asks to cancel what another connection runs.
	StartupCancel
)

// Startup is a decoded startup packet. Its slices point into the packet.
type Startup struct {
	Kind StartupKind

	// Of a StartupMessage.
	Version    ProtocolVersion
	Parameters []Parameter

	// Of a cancel request.
	CancelPID uint32
	CancelKey []byte
}

// Parameter is a name and a value from a startup packet.
type Parameter struct {
	Name, Value []byte
}

// ParseStartup reads the startup packet at the beginning of b and its size;
// while b does not hold all of it the kind is StartupIncomplete. err is a
// *ProtocolError.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-STARTUPMESSAGE
func ParseStartup(b []byte) (s Startup, sizeBytes int, err error) {
	if len(b) < 4 {
		return Startup{}, 0, nil
	}
	length := binary.BigEndian.Uint32(b)
	if length < 8 || length > MaxStartupBytes {
		return Startup{}, 0, protocolErrorf("invalid length %d of startup packet: expected 8 to %d", length, MaxStartupBytes)
	}
	sizeBytes = int(length)
	if len(b) < sizeBytes {
		return Startup{}, 0, nil
	}
	code, body := binary.BigEndian.Uint32(b[4:]), b[8:sizeBytes]
	switch code {
	case sslRequestCode, gssEncRequestCode:
		if len(body) != 0 {
			return Startup{}, 0, protocolErrorf("invalid length %d of encryption request: expected 8", length)
		}
		if code == sslRequestCode {
			return Startup{Kind: StartupSSL}, sizeBytes, nil
		}
		return Startup{Kind: StartupGSS}, sizeBytes, nil
	case cancelRequestCode:
		if len(body) < 8 || len(body) > 4+maxCancelKeyBytes {
			return Startup{}, 0, protocolErrorf("invalid length %d of cancel request: expected 16 to %d", length, 12+maxCancelKeyBytes)
		}
		return Startup{Kind: StartupCancel, CancelPID: binary.BigEndian.Uint32(body), CancelKey: body[4:]}, sizeBytes, nil
	}
	s = Startup{Kind: StartupMessage, Version: ProtocolVersion(code)}
	if s.Version.Major() != 3 {
		return Startup{}, 0, protocolErrorf("unsupported frontend protocol %s: server supports 3.0 to 3.2", s.Version)
	}
	s.Parameters, err = parseParameters(body)
	return s, sizeBytes, err
}

// parseParameters reads pairs of strings up to the zero byte that ends them.
func parseParameters(b []byte) ([]Parameter, error) {
	var parameters []Parameter
	for {
		name, rest, ok := CString(b)
		if !ok {
			break
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				break
			}
			return parameters, nil
		}
		value, rest, ok := CString(rest)
		if !ok {
			break
		}
		parameters, b = append(parameters, Parameter{name, value}), rest
	}
	return nil, protocolErrorf("invalid startup packet layout: expected terminator as last byte")
}

// AppendStartupMessage appends the packet that asks a server for a session, with
// parameters given as name, value, name, value and so on.
func AppendStartupMessage(b []byte, version ProtocolVersion, parameters ...string) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(version))
	for _, p := range parameters {
		b = append(append(b, p...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// AppendSSLRequest appends the packet that asks a server for TLS.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
func AppendSSLRequest(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 8), sslRequestCode)
}

// AppendCancelRequest appends the packet that asks a server to cancel what the
// connection with this key runs.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func AppendCancelRequest(b []byte, pid uint32, key []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(12+len(key)))
	b = binary.BigEndian.AppendUint32(b, cancelRequestCode)
	b = binary.BigEndian.AppendUint32(b, pid)
	return append(b, key...)
}

// ParseOptions reads the startup parameter "options", the command line of a
// session: "-c name=value" and "--name=value", words separated by spaces, a
// backslash taking the next character literally. err names the first word that is
// anything else.
// See https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-SHELL
func ParseOptions(options string, set func(name, value string)) error {
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		word := words[i]
		var assignment string
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			assignment = words[i]
		case strings.HasPrefix(word, "--"):
			assignment = word[2:]
		case strings.HasPrefix(word, "-c") && len(word) > 2:
			assignment = word[2:]
		default:
			return protocolErrorf("unsupported word %q in startup parameter options: expected -c name=value", word)
		}
		name, value, ok := strings.Cut(assignment, "=")
		if !ok || name == "" {
			return protocolErrorf("invalid setting %q in startup parameter options: expected name=value", assignment)
		}
		set(strings.ReplaceAll(name, "-", "_"), value)
	}
	return nil
}

func splitOptions(options string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(options); i++ {
		switch c := options[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case c == '\\':
			if i++; i < len(options) {
				word.WriteByte(options[i])
			}
			inWord = true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
