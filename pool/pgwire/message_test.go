package pgwire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

const (
	frontendTypes = "BCDEFHPQSXcdfp"
	backendTypes  = "123ACDEGHIKNRSTVWZcdnstv"

	// Frontend messages that may be long; PostgreSQL bounds the others by
	// PQ_SMALL_MESSAGE_LIMIT.
	longFrontendTypes = "BFPQd"
)

func TestPeekFrontend(t *testing.T) {
	tests := []struct {
		name      string
		bytes     string
		wantType  byte
		wantBytes int
		wantError string
	}{
		{name: "nothing", bytes: ""},
		{name: "type only", bytes: "Q", wantType: 'Q'},
		{name: "half a length", bytes: "Q\x00\x00\x00", wantType: 'Q'},
		{name: "sync", bytes: "S\x00\x00\x00\x04", wantType: 'S', wantBytes: 5},
		{name: "body not needed", bytes: "Q\x00\x00\x01\x00", wantType: 'Q', wantBytes: 257},
		{name: "what follows is ignored", bytes: "S\x00\x00\x00\x04Q\x00", wantType: 'S', wantBytes: 5},
		{name: "longest short message", bytes: "X\x00\x00\x27\x10", wantType: 'X', wantBytes: 10_001},
		{name: "short message too long", bytes: "X\x00\x00\x27\x11", wantError: "invalid length 10001 of frontend message type 'X'"},
		{name: "longest message", bytes: "Q\x3f\xff\xff\xfe", wantType: 'Q', wantBytes: 0x3fffffff},
		{name: "message one byte too long", bytes: "Q\x3f\xff\xff\xff", wantError: "invalid length 1073741823"},
		{name: "message too long", bytes: "Q\x40\x00\x00\x00", wantError: "invalid length 1073741824"},
		{name: "length below its own size", bytes: "Q\x00\x00\x00\x03", wantError: "invalid length 3"},
		{name: "length zero", bytes: "S\x00\x00\x00\x00", wantError: "invalid length 0"},
		{name: "negative length", bytes: "Q\xff\xff\xff\xff", wantError: "invalid length -1"},
		{name: "most negative length", bytes: "d\x80\x00\x00\x00", wantError: "invalid length -2147483648"},
		{name: "backend type", bytes: "T\x00\x00\x00\x04", wantError: "invalid frontend message type 84"},
		{name: "unknown type is told by its first byte", bytes: "\x00", wantError: "invalid frontend message type 0"},
		{name: "http", bytes: "GET / HTTP/1.1", wantError: "invalid frontend message type 71"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gotType, gotBytes, err := pgwire.PeekFrontend([]byte(test.bytes))
			checkPeek(t, gotType, gotBytes, err, test.wantType, test.wantBytes, test.wantError)
		})
	}
}

func TestPeekBackend(t *testing.T) {
	tests := []struct {
		name      string
		bytes     string
		wantType  byte
		wantBytes int
		wantError string
	}{
		{name: "nothing", bytes: ""},
		{name: "type only", bytes: "Z", wantType: 'Z'},
		{name: "half a length", bytes: "Z\x00\x00\x00", wantType: 'Z'},
		{name: "ready for query", bytes: "Z\x00\x00\x00\x05I", wantType: 'Z', wantBytes: 6},
		{name: "long row", bytes: "D\x3f\xff\xff\xfe", wantType: 'D', wantBytes: 0x3fffffff},
		{name: "row too long", bytes: "D\x40\x00\x00\x00", wantError: "invalid length 1073741824"},
		{name: "length below its own size", bytes: "Z\x00\x00\x00\x03", wantError: "invalid length 3"},
		{name: "negative length", bytes: "E\xff\xff\xff\xfe", wantError: "invalid length -2"},
		{name: "frontend type", bytes: "Q\x00\x00\x00\x04", wantError: "invalid backend message type 81"},
		{name: "unknown type", bytes: "\xff", wantError: "invalid backend message type 255"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gotType, gotBytes, err := pgwire.PeekBackend([]byte(test.bytes))
			checkPeek(t, gotType, gotBytes, err, test.wantType, test.wantBytes, test.wantError)
		})
	}
}

func checkPeek(t *testing.T, gotType byte, gotBytes int, err error, wantType byte, wantBytes int, wantError string) {
	t.Helper()
	if gotType != wantType || gotBytes != wantBytes {
		t.Errorf("got type %q size %d, want type %q size %d", gotType, gotBytes, wantType, wantBytes)
	}
	if wantError == "" {
		if err != nil {
			t.Errorf("unexpected error %v", err)
		}
		return
	}
	if _, ok := errors.AsType[*pgwire.ProtocolError](err); !ok {
		t.Fatalf("got error %#v, want a *ProtocolError with %q", err, wantError)
	}
	if !strings.Contains(err.Error(), wantError) {
		t.Errorf("got error %q, want it to contain %q", err, wantError)
	}
}

// TestPeekTypes checks every byte value against the lists of the manual, and
// that the bound of each frontend type is the one of its class.
func TestPeekTypes(t *testing.T) {
	for c := range 256 {
		header := []byte{byte(c), 0, 0, 0, 4}
		_, _, err := pgwire.PeekFrontend(header)
		if want := strings.IndexByte(frontendTypes, byte(c)) >= 0; (err == nil) != want {
			t.Errorf("frontend type %q: got error %v, want accepted %t", byte(c), err, want)
		}
		_, _, err = pgwire.PeekBackend(header)
		if want := strings.IndexByte(backendTypes, byte(c)) >= 0; (err == nil) != want {
			t.Errorf("backend type %q: got error %v, want accepted %t", byte(c), err, want)
		}
	}
	for _, c := range []byte(frontendTypes) {
		long := []byte{c, 0, 1, 0, 0}
		_, _, err := pgwire.PeekFrontend(long)
		if want := strings.IndexByte(longFrontendTypes, c) >= 0; (err == nil) != want {
			t.Errorf("frontend type %q of 64 KiB: got error %v, want accepted %t", c, err, want)
		}
	}
}

func TestCString(t *testing.T) {
	tests := []struct {
		bytes, want, wantRest string
		wantOK                bool
	}{
		{"", "", "", false},
		{"abc", "", "", false},
		{"\x00", "", "", true},
		{"abc\x00", "abc", "", true},
		{"abc\x00def\x00", "abc", "def\x00", true},
		{"\x00\x00", "", "\x00", true},
	}
	for _, test := range tests {
		s, rest, ok := pgwire.CString([]byte(test.bytes))
		if string(s) != test.want || string(rest) != test.wantRest || ok != test.wantOK {
			t.Errorf("CString(%q) = %q, %q, %t, want %q, %q, %t", test.bytes, s, rest, ok, test.want, test.wantRest, test.wantOK)
		}
	}
}

// TestPeekAllocations pins the forward path: looking at a message costs no
// memory.
func TestPeekAllocations(t *testing.T) {
	query := pgwire.AppendQuery(nil, "select 1")
	ready := pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)
	var sink int
	for name, run := range map[string]func(){
		"PeekFrontend": func() { _, n, _ := pgwire.PeekFrontend(query); sink += n },
		"PeekBackend":  func() { _, n, _ := pgwire.PeekBackend(ready); sink += n },
		"CString":      func() { s, _, _ := pgwire.CString(query[pgwire.HeaderBytes:]); sink += len(s) },
	} {
		if allocations := testing.AllocsPerRun(100, run); allocations != 0 {
			t.Errorf("%s allocates %v times, want 0", name, allocations)
		}
	}
	if sink == 0 {
		t.Error("nothing was peeked")
	}
}

// BenchmarkPeek finds the messages of one execution of a prepared statement, and of its
// answer.
func BenchmarkPeek(b *testing.B) {
	group := pgwire.AppendEmpty(nil, pgwire.Sync)
	for _, t := range []byte{pgwire.Execute, pgwire.Describe, pgwire.Bind} {
		group = append(pgwire.AppendMessage(nil, t, make([]byte, 24)), group...)
	}
	answer := pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)
	for _, t := range []byte{pgwire.CommandComplete, pgwire.DataRow, pgwire.RowDescription, pgwire.BindComplete} {
		answer = append(pgwire.AppendMessage(nil, t, make([]byte, 24)), answer...)
	}
	for _, test := range []struct {
		name     string
		messages []byte
		peek     func([]byte) (byte, int, error)
	}{{"frontend", group, pgwire.PeekFrontend}, {"backend", answer, pgwire.PeekBackend}} {
		b.Run(test.name, func(b *testing.B) {
			b.SetBytes(int64(len(test.messages)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := test.messages; len(rest) > 0; {
					_, size, err := test.peek(rest)
					if err != nil || size == 0 {
						b.Fatal(size, err)
					}
					rest = rest[size:]
				}
			}
		})
	}
}

func TestSQLStateClass(t *testing.T) {
	for state, want := range map[pgwire.SQLState]string{pgwire.ProtocolViolation: "08", "": "", "5": "", "57": "57"} {
		if got := state.Class(); got != want {
			t.Errorf("class of %q is %q, want %q", state, got, want)
		}
	}
}
