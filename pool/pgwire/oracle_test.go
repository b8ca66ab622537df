package pgwire_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// TestAppendBackend: what is built for clients reads, by an independent
// implementation, as what was meant.
func TestAppendBackend(t *testing.T) {
	full := &pgwire.Error{
		Severity: pgwire.SeverityFatal, SQLState: pgwire.AdminShutdown, Message: "gone", Detail: "why", Hint: "wait", Routine: "here",
	}
	tests := []struct {
		name string
		got  []byte
		want pgproto3.BackendMessage
	}{
		{"AuthenticationOk", pgwire.AppendAuthenticationOk(nil), &pgproto3.AuthenticationOk{}},
		{"AuthenticationCleartextPassword", pgwire.AppendAuthentication(nil, pgwire.AuthenticationCleartext, ""), &pgproto3.AuthenticationCleartextPassword{}},
		{
			"AuthenticationMD5Password", pgwire.AppendAuthentication(nil, pgwire.AuthenticationMD5, "salt"),
			&pgproto3.AuthenticationMD5Password{Salt: [4]byte{'s', 'a', 'l', 't'}},
		},
		{
			"AuthenticationSASL", pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASL, "SCRAM-SHA-256\x00\x00"),
			&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}},
		},
		{
			"AuthenticationSASLContinue", pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASLContinue, "r=x"),
			&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x")},
		},
		{
			"AuthenticationSASLFinal", pgwire.AppendAuthentication(nil, pgwire.AuthenticationSASLFinal, "v=x"),
			&pgproto3.AuthenticationSASLFinal{Data: []byte("v=x")},
		},
		{"ParameterStatus", pgwire.AppendParameterStatus(nil, "TimeZone", "UTC"), &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}},
		{"ParameterStatus empty", pgwire.AppendParameterStatus(nil, "application_name", ""), &pgproto3.ParameterStatus{Name: "application_name"}},
		{
			"BackendKeyData", pgwire.AppendBackendKeyData(nil, 0x80000001, []byte{0xff, 0, 0, 2}),
			&pgproto3.BackendKeyData{ProcessID: 0x80000001, SecretKey: 0xff000002},
		},
		{"ReadyForQuery I", pgwire.AppendReadyForQuery(nil, pgwire.TxIdle), &pgproto3.ReadyForQuery{TxStatus: 'I'}},
		{"ReadyForQuery T", pgwire.AppendReadyForQuery(nil, pgwire.TxActive), &pgproto3.ReadyForQuery{TxStatus: 'T'}},
		{"ReadyForQuery E", pgwire.AppendReadyForQuery(nil, pgwire.TxFailed), &pgproto3.ReadyForQuery{TxStatus: 'E'}},
		{"ErrorResponse", pgwire.AppendError(nil, full), &pgproto3.ErrorResponse{
			Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "gone", Detail: "why", Hint: "wait", Routine: "here",
		}},
		{"ErrorResponse short", pgwire.AppendError(nil, &pgwire.Error{Severity: pgwire.SeverityError, Message: "no"}), &pgproto3.ErrorResponse{
			Severity: "ERROR", SeverityUnlocalized: "ERROR", Message: "no",
		}},
		{"ParseComplete", pgwire.AppendEmpty(nil, pgwire.ParseComplete), &pgproto3.ParseComplete{}},
		{"BindComplete", pgwire.AppendEmpty(nil, pgwire.BindComplete), &pgproto3.BindComplete{}},
		{"CloseComplete", pgwire.AppendEmpty(nil, pgwire.CloseComplete), &pgproto3.CloseComplete{}},
		{"NoData", pgwire.AppendEmpty(nil, pgwire.NoData), &pgproto3.NoData{}},
		{"PortalSuspended", pgwire.AppendEmpty(nil, pgwire.PortalSuspended), &pgproto3.PortalSuspended{}},
		{"EmptyQueryResponse", pgwire.AppendEmpty(nil, pgwire.EmptyQueryResponse), &pgproto3.EmptyQueryResponse{}},
		{
			"CommandComplete", pgwire.AppendMessage(nil, pgwire.CommandComplete, []byte("BEGIN\x00")),
			&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")},
		},
		{"CopyDone", pgwire.AppendEmpty(nil, pgwire.CopyDone), &pgproto3.CopyDone{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stream := bytes.NewReader(test.got)
			got, err := pgproto3.NewFrontend(pgproto3.NewChunkReader(stream), nil).Receive()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("pgproto3 reads %+v, want %+v", got, test.want)
			}
			checkFrame(t, pgwire.PeekBackend, test.got)
		})
	}
}

// TestAppendFrontend: the same for what is built for servers.
func TestAppendFrontend(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want pgproto3.FrontendMessage
	}{
		{"Query", pgwire.AppendQuery(nil, "select 1"), &pgproto3.Query{String: "select 1"}},
		{"Query empty", pgwire.AppendQuery(nil, ""), &pgproto3.Query{}},
		{"Close statement", pgwire.AppendClose(nil, pgwire.KindStatement, "bp_1"), &pgproto3.Close{ObjectType: 'S', Name: "bp_1"}},
		{"Close portal", pgwire.AppendClose(nil, pgwire.KindPortal, ""), &pgproto3.Close{ObjectType: 'P'}},
		{"CopyFail", pgwire.AppendCopyFail(nil, "client gone"), &pgproto3.CopyFail{Message: "client gone"}},
		{"Sync", pgwire.AppendEmpty(nil, pgwire.Sync), &pgproto3.Sync{}},
		{"Flush", pgwire.AppendEmpty(nil, pgwire.Flush), &pgproto3.Flush{}},
		{"Terminate", pgwire.AppendEmpty(nil, pgwire.Terminate), &pgproto3.Terminate{}},
		{"CopyDone", pgwire.AppendEmpty(nil, pgwire.CopyDone), &pgproto3.CopyDone{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := pgproto3.NewBackend(pgproto3.NewChunkReader(bytes.NewReader(test.got)), nil).Receive()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("pgproto3 reads %+v, want %+v", got, test.want)
			}
			checkFrame(t, pgwire.PeekFrontend, test.got)
		})
	}
}

// TestAppendPassword: the same for the messages that are told apart by what the server
// has asked for.
func TestAppendPassword(t *testing.T) {
	for _, test := range []struct {
		got    []byte
		method uint32
		want   pgproto3.FrontendMessage
	}{
		{pgwire.AppendPassword(nil, "pä ss"), pgproto3.AuthTypeCleartextPassword, &pgproto3.PasswordMessage{Password: "pä ss"}},
		{
			pgwire.AppendSASLInitialResponse(nil, "SCRAM-SHA-256", "n,,n=,r=x"), pgproto3.AuthTypeSASL,
			&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=x")},
		},
		{pgwire.AppendSASLResponse(nil, "c=biws"), pgproto3.AuthTypeSASLContinue, &pgproto3.SASLResponse{Data: []byte("c=biws")}},
	} {
		backend := pgproto3.NewBackend(pgproto3.NewChunkReader(bytes.NewReader(test.got)), nil)
		if err := backend.SetAuthType(test.method); err != nil {
			t.Fatal(err)
		}
		got, err := backend.Receive()
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("pgproto3 reads %+v, %v, want %+v", got, err, test.want)
		}
		checkFrame(t, pgwire.PeekFrontend, test.got)
	}
}

func TestParseSASLInitialResponse(t *testing.T) {
	b := pgwire.AppendSASLInitialResponse(nil, "SCRAM-SHA-256", "n,,n=,r=x")
	mechanism, data, err := pgwire.ParseSASLInitialResponse(b[pgwire.HeaderBytes:])
	if mechanism != "SCRAM-SHA-256" || string(data) != "n,,n=,r=x" || err != nil {
		t.Errorf("%q, %q, %v", mechanism, data, err)
	}
	for _, body := range []string{"", "a", "a\x00", "a\x00\x00\x00\x00", "a\x00\x00\x00\x00\x01", "a\x00\xff\xff\xff\xff", "a\x00\x00\x00\x00\x01xy"} {
		_, _, err := pgwire.ParseSASLInitialResponse([]byte(body))
		checkProtocolError(t, err)
	}
}

// TestAppendStartup: the same for startup packets.
func TestAppendStartup(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want pgproto3.FrontendMessage
	}{
		{
			"StartupMessage", pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "bob", "database", "billing"),
			&pgproto3.StartupMessage{
				ProtocolVersion: pgproto3.ProtocolVersionNumber,
				Parameters:      map[string]string{"user": "bob", "database": "billing"},
			},
		},
		{
			"CancelRequest", pgwire.AppendCancelRequest(nil, 0x80000001, []byte{0xff, 0, 0, 2}),
			&pgproto3.CancelRequest{ProcessID: 0x80000001, SecretKey: 0xff000002},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := pgproto3.NewBackend(pgproto3.NewChunkReader(bytes.NewReader(test.got)), nil).ReceiveStartupMessage()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("pgproto3 reads %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestAppendNegotiateProtocolVersion spells the message out, because pgproto3/v2
// does not know it: the newest version, then the options that were not known.
func TestAppendNegotiateProtocolVersion(t *testing.T) {
	got := pgwire.AppendNegotiateProtocolVersion(nil, pgwire.Version32, [][]byte{[]byte("_pq_.a"), []byte("_pq_.bc")})
	want := "v\x00\x00\x00\x1b" + "\x00\x03\x00\x02" + "\x00\x00\x00\x02" + "_pq_.a\x00" + "_pq_.bc\x00"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	checkFrame(t, pgwire.PeekBackend, got)

	got = pgwire.AppendNegotiateProtocolVersion(nil, pgwire.Version30, nil)
	if want := "v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAppendLongKey: pgproto3/v2 knows four-byte cancel keys only, so the long
// ones of protocol 3.2 are spelled out.
func TestAppendLongKey(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	got := pgwire.AppendBackendKeyData(nil, 9, key)
	if want := "K\x00\x00\x00\x28\x00\x00\x00\x09" + string(key); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	cancel := pgwire.AppendCancelRequest(nil, 9, key)
	if want := "\x00\x00\x00\x2c\x04\xd2\x16\x2e\x00\x00\x00\x09" + string(key); string(cancel) != want {
		t.Errorf("got %q, want %q", cancel, want)
	}
}

// TestAppendKeepsPrefix: every Append function leaves alone what the slice holds.
func TestAppendKeepsPrefix(t *testing.T) {
	prefix := []byte("prefix")
	for name, build := range map[string]func(b []byte) []byte{
		"AuthenticationOk": pgwire.AppendAuthenticationOk,
		"NegotiateProtocolVersion": func(b []byte) []byte {
			return pgwire.AppendNegotiateProtocolVersion(b, pgwire.Version32, [][]byte{[]byte("x")})
		},
		"ParameterStatus": func(b []byte) []byte { return pgwire.AppendParameterStatus(b, "a", "b") },
		"BackendKeyData":  func(b []byte) []byte { return pgwire.AppendBackendKeyData(b, 1, []byte("abcd")) },
		"ReadyForQuery":   func(b []byte) []byte { return pgwire.AppendReadyForQuery(b, pgwire.TxIdle) },
		"Query":           func(b []byte) []byte { return pgwire.AppendQuery(b, "select 1") },
		"Close":           func(b []byte) []byte { return pgwire.AppendClose(b, pgwire.KindPortal, "x") },
		"CopyFail":        func(b []byte) []byte { return pgwire.AppendCopyFail(b, "no") },
		"Empty":           func(b []byte) []byte { return pgwire.AppendEmpty(b, pgwire.Sync) },
		"Error":           func(b []byte) []byte { return pgwire.AppendError(b, &pgwire.Error{Severity: "ERROR"}) },
		"Message":         func(b []byte) []byte { return pgwire.AppendMessage(b, pgwire.DataRow, []byte("row")) },
		"StartupMessage": func(b []byte) []byte {
			return pgwire.AppendStartupMessage(b, pgwire.Version30, "user", "bob")
		},
		"CancelRequest": func(b []byte) []byte { return pgwire.AppendCancelRequest(b, 1, []byte("abcd")) },
	} {
		alone, after := build(nil), build(prefix[:len(prefix):len(prefix)])
		if string(after) != "prefix"+string(alone) {
			t.Errorf("%s after a prefix is %q, alone %q", name, after, alone)
		}
	}
}

// TestFrameBackend: everything pgproto3 encodes for a client is framed right,
// whole, alone and in a stream.
func TestFrameBackend(t *testing.T) {
	var messages []encoder
	for _, m := range []pgproto3.BackendMessage{
		&pgproto3.AuthenticationOk{}, &pgproto3.AuthenticationCleartextPassword{}, &pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}},
		&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}, &pgproto3.AuthenticationSASLContinue{Data: []byte("r=")},
		&pgproto3.AuthenticationSASLFinal{Data: []byte("v=")},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: 2}, &pgproto3.BindComplete{}, &pgproto3.CloseComplete{},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.CopyBothResponse{ColumnFormatCodes: []uint16{0}},
		&pgproto3.CopyData{Data: bytes.Repeat([]byte{1}, 70_000)}, &pgproto3.CopyDone{},
		&pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0, 1}}, &pgproto3.CopyOutResponse{ColumnFormatCodes: []uint16{0}},
		&pgproto3.DataRow{Values: [][]byte{[]byte("a"), nil, {}}}, &pgproto3.EmptyQueryResponse{},
		&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "syntax error"}, &pgproto3.FunctionCallResponse{Result: []byte("1")},
		&pgproto3.NoData{}, &pgproto3.NoticeResponse{Severity: "NOTICE", Message: "hello"},
		&pgproto3.NotificationResponse{PID: 1, Channel: "c", Payload: "p"}, &pgproto3.ParameterDescription{ParameterOIDs: []uint32{23}},
		&pgproto3.ParameterStatus{Name: "a", Value: "b"}, &pgproto3.ParseComplete{}, &pgproto3.PortalSuspended{},
		&pgproto3.ReadyForQuery{TxStatus: 'T'}, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("n"), DataTypeOID: 25}}},
	} {
		messages = append(messages, m)
	}
	checkFrames(t, pgwire.PeekBackend, messages)
}

// TestFrameFrontend: the same for the messages to a server.
func TestFrameFrontend(t *testing.T) {
	var messages []encoder
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s", Parameters: [][]byte{[]byte("1"), nil}}, &pgproto3.Close{ObjectType: 'S', Name: "s"},
		&pgproto3.CopyData{Data: bytes.Repeat([]byte{1}, 70_000)}, &pgproto3.CopyDone{}, &pgproto3.CopyFail{Message: "no"},
		&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 7}, &pgproto3.Flush{},
		&pgproto3.FunctionCall{Function: 1, ResultFormatCode: 0}, &pgproto3.Parse{Name: "s", Query: "select $1", ParameterOIDs: []uint32{23}},
		&pgproto3.PasswordMessage{Password: "secret"}, &pgproto3.Query{String: "select 1"}, &pgproto3.Sync{}, &pgproto3.Terminate{},
	} {
		messages = append(messages, m)
	}
	checkFrames(t, pgwire.PeekFrontend, messages)
}

// TestFrameStartup: the same for startup packets.
func TestFrameStartup(t *testing.T) {
	tests := []struct {
		message encoder
		want    string
	}{
		{&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "bob"}}, "startup 3.0 user=bob"},
		{&pgproto3.SSLRequest{}, "ssl"},
		{&pgproto3.GSSEncRequest{}, "gss"},
		{&pgproto3.CancelRequest{ProcessID: 7, SecretKey: binary.BigEndian.Uint32([]byte("abcd"))}, "cancel 7 abcd"},
	}
	for _, test := range tests {
		b, err := test.message.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		s, sizeBytes, err := pgwire.ParseStartup(append(b, "what follows"...))
		if got := describeStartup(s); got != test.want || sizeBytes != len(b) || err != nil {
			t.Errorf("got %q of %d bytes, error %v, want %q of %d", got, sizeBytes, err, test.want, len(b))
		}
	}
}

// TestParseErrorOracle: an error with every field set is read as pgproto3 reads
// it.
func TestParseErrorOracle(t *testing.T) {
	sent := &pgproto3.ErrorResponse{
		Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "0A000", Message: "cached plan must not change result type",
		Detail: "d", Hint: "h", Position: 3, InternalPosition: 4, InternalQuery: "q", Where: "w", SchemaName: "s", TableName: "t",
		ColumnName: "c", DataTypeName: "dt", ConstraintName: "cn", File: "plancache.c", Line: 717, Routine: "RevalidateCachedQuery",
	}
	b, err := sent.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := pgwire.ParseError(b[pgwire.HeaderBytes:])
	want := pgwire.Error{
		Severity: "ERROR", SQLState: pgwire.FeatureNotSupported, Message: sent.Message, Detail: "d", Hint: "h", Routine: sent.Routine,
	}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

type encoder interface {
	Encode(dst []byte) ([]byte, error)
}

type peek = func(b []byte) (messageType byte, sizeBytes int, err error)

func checkFrames(t *testing.T, peek peek, messages []encoder) {
	t.Helper()
	var stream []byte
	var starts []int
	for _, m := range messages {
		b, err := m.Encode(nil)
		if err != nil {
			t.Fatalf("encode %T: %v", m, err)
		}
		checkFrame(t, peek, b)
		starts = append(starts, len(stream))
		stream = append(stream, b...)
	}
	offset := 0
	for i, m := range messages {
		if offset != starts[i] {
			t.Fatalf("%T begins at %d of the stream, want %d", m, offset, starts[i])
		}
		_, sizeBytes, err := peek(stream[offset:])
		if err != nil {
			t.Fatalf("%T in the stream: %v", m, err)
		}
		offset += sizeBytes
	}
	if offset != len(stream) {
		t.Fatalf("the stream ends at %d, want %d", offset, len(stream))
	}
}

// checkFrame peeks at every prefix of one message: with the header there, its
// size is told; before, it is not.
func checkFrame(t *testing.T, peek peek, b []byte) {
	t.Helper()
	for n := range min(len(b), 64) + 1 {
		want := len(b)
		if n < pgwire.HeaderBytes {
			want = 0
		}
		messageType, sizeBytes, err := peek(b[:n])
		if err != nil || sizeBytes != want || n > 0 && messageType != b[0] {
			t.Fatalf("first %d bytes of %.40q: type %q, size %d, error %v, want size %d", n, b, messageType, sizeBytes, err, want)
		}
	}
}
