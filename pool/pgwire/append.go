package pgwire

import "encoding/binary"

// AppendMessage appends a whole message with the given body.
func AppendMessage(b []byte, messageType byte, body []byte) []byte {
	return append(AppendHeader(b, messageType, len(body)), body...)
}

// AppendHeader appends the type and length of a message whose body, of
// bodyBytes, the caller sends after it.
func AppendHeader(b []byte, messageType byte, bodyBytes int) []byte {
	return binary.BigEndian.AppendUint32(append(b, messageType), uint32(4+bodyBytes))
}

// AppendAuthentication appends what a server says to authenticate a client; data is
// what follows the method.
func AppendAuthentication(b []byte, method AuthenticationMethod, data string) []byte {
	b = AppendHeader(b, Authentication, 4+len(data))
	b = binary.BigEndian.AppendUint32(b, uint32(method))
	return append(b, data...)
}

// AppendAuthenticationOk appends the message that ends authentication.
func AppendAuthenticationOk(b []byte) []byte { return AppendAuthentication(b, AuthenticationOK, "") }

// AppendPassword appends the answer to AuthenticationCleartext or AuthenticationMD5.
func AppendPassword(b []byte, password string) []byte {
	b = AppendHeader(b, Password, len(password)+1)
	return append(append(b, password...), 0)
}

// AppendSASLInitialResponse appends the answer to AuthenticationSASL.
func AppendSASLInitialResponse(b []byte, mechanism, data string) []byte {
	b = AppendHeader(b, Password, len(mechanism)+1+4+len(data))
	b = append(append(b, mechanism...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// AppendSASLResponse appends the answer to AuthenticationSASLContinue.
func AppendSASLResponse(b []byte, data string) []byte {
	return append(AppendHeader(b, Password, len(data)), data...)
}

// ParseSASLInitialResponse reads the body of an answer to AuthenticationSASL.
func ParseSASLInitialResponse(body []byte) (mechanism string, data []byte, err error) {
	name, rest, ok := CString(body)
	if !ok || len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) != int64(len(rest)-4) {
		return "", nil, protocolErrorf("malformed SASLInitialResponse message")
	}
	return string(name), rest[4:], nil
}

// AppendNegotiateProtocolVersion appends the answer to a client that asked for a
// newer minor version or for protocol options, of which unknown is the list.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-NEGOTIATEPROTOCOLVERSION
func AppendNegotiateProtocolVersion(b []byte, newest ProtocolVersion, unknown [][]byte) []byte {
	bodyBytes := 8
	for _, name := range unknown {
		bodyBytes += len(name) + 1
	}
	b = AppendHeader(b, NegotiateProtocolVersion, bodyBytes)
	b = binary.BigEndian.AppendUint32(b, uint32(newest))
	b = binary.BigEndian.AppendUint32(b, uint32(len(unknown)))
	for _, name := range unknown {
		b = append(append(b, name...), 0)
	}
	return b
}

// AppendParameterStatus appends the report of a setting's value.
func AppendParameterStatus(b []byte, name, value string) []byte {
	b = AppendHeader(b, ParameterStatus, len(name)+len(value)+2)
	b = append(append(b, name...), 0)
	return append(append(b, value...), 0)
}

// AppendBackendKeyData appends the key with which a client may cancel.
func AppendBackendKeyData(b []byte, pid uint32, key []byte) []byte {
	b = AppendHeader(b, BackendKeyData, 4+len(key))
	b = binary.BigEndian.AppendUint32(b, pid)
	return append(b, key...)
}

// AppendReadyForQuery appends the message that ends a sync group.
func AppendReadyForQuery(b []byte, status TxStatus) []byte {
	return append(b, ReadyForQuery, 0, 0, 0, 5, byte(status))
}

// AppendQuery appends a simple query.
func AppendQuery(b []byte, text string) []byte {
	b = AppendHeader(b, Query, len(text)+1)
	return append(append(b, text...), 0)
}

// AppendClose appends a Close of the prepared statement or portal of that name.
func AppendClose(b []byte, kind byte, name string) []byte {
	b = append(AppendHeader(b, Close, len(name)+2), kind)
	return append(append(b, name...), 0)
}

// AppendCopyFail appends the message that ends a COPY FROM STDIN with an error.
func AppendCopyFail(b []byte, reason string) []byte {
	b = AppendHeader(b, CopyFail, len(reason)+1)
	return append(append(b, reason...), 0)
}

// AppendEmpty appends a message without a body: Sync, Flush, Terminate,
// ParseComplete, CloseComplete and the like.
func AppendEmpty(b []byte, messageType byte) []byte {
	return append(b, messageType, 0, 0, 0, 4)
}
