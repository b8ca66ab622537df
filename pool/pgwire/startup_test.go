package pgwire_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// packet is a startup packet with a correct length.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, body...)
}

const (
	cancelCode = 1234<<16 | 5678
	sslCode    = 1234<<16 | 5679
	gssCode    = 1234<<16 | 5680
)

func TestParseStartup(t *testing.T) {
	longName := strings.Repeat("n", pgwire.MaxStartupBytes-8-len("user\x00\x00\x00"))
	longKey := strings.Repeat("k", 256)
	tests := []struct {
		name      string
		bytes     []byte
		want      string // Kind, then what belongs to the kind
		wantBytes int
		wantError string
	}{
		{name: "nothing", want: "incomplete"},
		{name: "half a length", bytes: []byte{0, 0, 0}, want: "incomplete"},
		{name: "length only", bytes: []byte{0, 0, 0, 8}, want: "incomplete"},
		{name: "one byte missing", bytes: packet(sslCode, "")[:7], want: "incomplete"},
		{name: "protocol 3.0", bytes: packet(3<<16, "user\x00bob\x00\x00"), want: "startup 3.0 user=bob", wantBytes: 18},
		{name: "protocol 3.2", bytes: packet(3<<16|2, "user\x00bob\x00database\x00b\x00\x00"), want: "startup 3.2 user=bob database=b", wantBytes: 29},
		{name: "protocol to come", bytes: packet(3<<16|9999, "user\x00bob\x00\x00"), want: "startup 3.9999 user=bob", wantBytes: 18},
		{name: "what follows stays", bytes: append(packet(3<<16, "user\x00bob\x00\x00"), 'Q'), want: "startup 3.0 user=bob", wantBytes: 18},
		{name: "no parameters", bytes: packet(3<<16, "\x00"), want: "startup 3.0", wantBytes: 9},
		{name: "empty value", bytes: packet(3<<16, "user\x00\x00\x00"), want: "startup 3.0 user=", wantBytes: 15},
		{name: "a name twice", bytes: packet(3<<16, "a\x001\x00a\x002\x00\x00"), want: "startup 3.0 a=1 a=2", wantBytes: 17},
		{name: "the longest", bytes: packet(3<<16, "user\x00"+longName+"\x00\x00"), want: "startup 3.0 user=" + longName, wantBytes: pgwire.MaxStartupBytes},
		{name: "ssl", bytes: packet(sslCode, ""), want: "ssl", wantBytes: 8},
		{name: "gss", bytes: packet(gssCode, ""), want: "gss", wantBytes: 8},
		{name: "cancel", bytes: packet(cancelCode, "\x00\x00\x00\x07abcd"), want: "cancel 7 abcd", wantBytes: 16},
		{name: "cancel of protocol 3.2", bytes: packet(cancelCode, "\x00\x00\x00\x07"+longKey), want: "cancel 7 " + longKey, wantBytes: 268},

		{name: "length below the least", bytes: []byte{0, 0, 0, 7}, wantError: "invalid length 7 of startup packet: expected 8 to 10000"},
		{name: "length zero", bytes: []byte{0, 0, 0, 0}, wantError: "invalid length 0"},
		{name: "too long is told before it came", bytes: []byte{0, 0, 0x27, 0x11}, wantError: "invalid length 10001"},
		{name: "huge", bytes: []byte{0xff, 0xff, 0xff, 0xff}, wantError: "invalid length 4294967295"},
		{name: "http", bytes: []byte("GET / HTTP/1.1\r\n"), wantError: "invalid length"},
		{name: "tls hello", bytes: []byte("\x16\x03\x01\x02\x00"), wantError: "invalid length"},
		{name: "protocol 2", bytes: packet(2<<16, "\x00"), wantError: "unsupported frontend protocol 2.0"},
		{name: "protocol 4", bytes: packet(4<<16, "\x00"), wantError: "unsupported frontend protocol 4.0"},
		{name: "no body", bytes: packet(3<<16, ""), wantError: "expected terminator as last byte"},
		{name: "no terminator", bytes: packet(3<<16, "user\x00bob\x00"), wantError: "expected terminator as last byte"},
		{name: "value not ended", bytes: packet(3<<16, "user\x00bob"), wantError: "expected terminator as last byte"},
		{name: "name not ended", bytes: packet(3<<16, "user"), wantError: "expected terminator as last byte"},
		{name: "name without value", bytes: packet(3<<16, "user\x00"), wantError: "expected terminator as last byte"},
		{name: "terminator too early", bytes: packet(3<<16, "user\x00bob\x00\x00x"), wantError: "expected terminator as last byte"},
		{name: "ssl with a body", bytes: packet(sslCode, "x"), wantError: "invalid length 9 of encryption request"},
		{name: "cancel without key", bytes: packet(cancelCode, "\x00\x00\x00\x07"), wantError: "invalid length 12 of cancel request"},
		{name: "cancel key too short", bytes: packet(cancelCode, "\x00\x00\x00\x07abc"), wantError: "invalid length 15 of cancel request"},
		{name: "cancel key too long", bytes: packet(cancelCode, "\x00\x00\x00\x07k"+longKey), wantError: "invalid length 269 of cancel request"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, sizeBytes, err := pgwire.ParseStartup(test.bytes)
			if test.wantError != "" {
				if _, ok := errors.AsType[*pgwire.ProtocolError](err); !ok || !strings.Contains(err.Error(), test.wantError) {
					t.Fatalf("got error %v, want a *ProtocolError with %q", err, test.wantError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := describeStartup(s); got != test.want || sizeBytes != test.wantBytes {
				t.Errorf("got %q of %d bytes, want %q of %d", got, sizeBytes, test.want, test.wantBytes)
			}
		})
	}
}

// TestParseStartupPrefixes cuts a packet at every byte: nothing is concluded
// before the packet is whole.
func TestParseStartupPrefixes(t *testing.T) {
	whole := pgwire.AppendStartupMessage(nil, pgwire.Version32, "user", "bob", "database", "billing")
	for n := range whole {
		s, sizeBytes, err := pgwire.ParseStartup(whole[:n])
		if s.Kind != pgwire.StartupIncomplete || sizeBytes != 0 || err != nil {
			t.Fatalf("%d of %d bytes: got %q of %d bytes and error %v, want incomplete", n, len(whole), describeStartup(s), sizeBytes, err)
		}
	}
}

func describeStartup(s pgwire.Startup) string {
	switch s.Kind {
	case pgwire.StartupIncomplete:
		return "incomplete"
	case pgwire.StartupSSL:
		return "ssl"
	case pgwire.StartupGSS:
		return "gss"
	case pgwire.StartupCancel:
		return fmt.Sprintf("cancel %d %s", s.CancelPID, s.CancelKey)
	case pgwire.StartupMessage:
		text := "startup " + s.Version.String()
		for _, p := range s.Parameters {
			text += " " + string(p.Name) + "=" + string(p.Value)
		}
		return text
	}
	return fmt.Sprintf("kind %d", s.Kind)
}

func TestParseOptions(t *testing.T) {
	tests := []struct {
		options   string
		want      []string
		wantError string
	}{
		{options: ""},
		{options: "   "},
		{options: "-c a=b", want: []string{"a=b"}},
		{options: "-ca=b", want: []string{"a=b"}},
		{options: "--a=b", want: []string{"a=b"}},
		{options: "--statement-timeout=5s", want: []string{"statement_timeout=5s"}},
		{options: "-c\tgeqo=off\n--a.b=c  -c d=", want: []string{"geqo=off", "a.b=c", "d="}},
		{options: `-c search_path=a,\ b`, want: []string{"search_path=a, b"}},
		{options: `-c a=\\`, want: []string{`a=\`}},
		{options: `-c a=b=c`, want: []string{"a=b=c"}},
		{options: `-c a=b\`, want: []string{"a=b"}}, // pg_split_opts drops a last backslash
		{options: "-c", wantError: `"-c"`},
		{options: "-c a", wantError: `invalid setting "a"`},
		{options: "-c =a", wantError: `invalid setting "=a"`},
		{options: "--=a", wantError: `invalid setting "=a"`},
		{options: "--", wantError: `invalid setting ""`},
		{options: "-W 5", wantError: `unsupported word "-W"`},
		{options: "a=b", wantError: `unsupported word "a=b"`},
		{options: "-c a=b x", want: []string{"a=b"}, wantError: `unsupported word "x"`},
	}
	for _, test := range tests {
		var got []string
		err := pgwire.ParseOptions(test.options, func(name, value string) { got = append(got, name+"="+value) })
		if !slices.Equal(got, test.want) {
			t.Errorf("options %q: got %q, want %q", test.options, got, test.want)
		}
		if test.wantError == "" && err != nil {
			t.Errorf("options %q: unexpected error %v", test.options, err)
		}
		if test.wantError != "" && (err == nil || !strings.Contains(err.Error(), test.wantError)) {
			t.Errorf("options %q: got error %v, want it to contain %q", test.options, err, test.wantError)
		}
	}
}

func TestProtocolVersion(t *testing.T) {
	for version, want := range map[pgwire.ProtocolVersion]string{
		pgwire.Version30: "3.0", pgwire.Version32: "3.2", 2 << 16: "2.0", 3<<16 | 9999: "3.9999", 0xffffffff: "65535.65535",
	} {
		if got := version.String(); got != want {
			t.Errorf("version %d is %q, want %q", uint32(version), got, want)
		}
	}
}
