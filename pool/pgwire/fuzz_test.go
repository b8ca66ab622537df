package pgwire_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// checkProtocolError: what is wrong with bytes is told by the one type whose
// text is fit for the peer, and briefly, whatever the bytes were.
func checkProtocolError(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*pgwire.ProtocolError](err)
	if !ok {
		t.Fatalf("error %#v is no *ProtocolError", err)
	}
	if len(e.Message) > 4*pgwire.MaxStartupBytes+200 || strings.Contains(e.Message, "\x00") {
		t.Fatalf("message of %d bytes: %.200q", len(e.Message), e.Message)
	}
}

func FuzzPeek(f *testing.F) {
	f.Add([]byte{})
	f.Add(pgwire.AppendQuery(nil, "select 1"))
	f.Add(pgwire.AppendReadyForQuery(nil, pgwire.TxFailed))
	f.Add([]byte("d\x3f\xff\xff\xff"))
	f.Add([]byte("Q\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, peek := range []func([]byte) (byte, int, error){pgwire.PeekFrontend, pgwire.PeekBackend} {
			messageType, sizeBytes, err := peek(b)
			if err != nil {
				checkProtocolError(t, err)
				if sizeBytes != 0 {
					t.Fatalf("size %d of no message", sizeBytes)
				}
				continue
			}
			if len(b) > 0 && messageType != b[0] {
				t.Fatalf("type %q of a message that begins %q", messageType, b[0])
			}
			if len(b) < pgwire.HeaderBytes {
				if sizeBytes != 0 {
					t.Fatalf("size %d told from %d bytes", sizeBytes, len(b))
				}
				continue
			}
			if want := 1 + int(binary.BigEndian.Uint32(b[1:])); sizeBytes != want {
				t.Fatalf("size %d, want %d", sizeBytes, want)
			}
			if sizeBytes < pgwire.HeaderBytes || sizeBytes > 1+pgwire.MaxMessageBytes {
				t.Fatalf("size %d is outside the limits", sizeBytes)
			}
		}
	})
}

func FuzzStartup(f *testing.F) {
	f.Add([]byte{})
	f.Add(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "bob"))
	f.Add(pgwire.AppendStartupMessage(nil, pgwire.Version32, "user", "bob", "_pq_.x", "1"))
	f.Add(pgwire.AppendCancelRequest(nil, 7, []byte("abcd")))
	f.Add(packet(sslCode, ""))
	f.Add(packet(gssCode, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, sizeBytes, err := pgwire.ParseStartup(b)
		if err != nil {
			checkProtocolError(t, err)
			return
		}
		if s.Kind == pgwire.StartupIncomplete {
			if sizeBytes != 0 || len(b) >= pgwire.MaxStartupBytes {
				t.Fatalf("incomplete after %d bytes, size %d", len(b), sizeBytes)
			}
			return
		}
		if sizeBytes < 8 || sizeBytes > len(b) || sizeBytes > pgwire.MaxStartupBytes {
			t.Fatalf("size %d of %d bytes", sizeBytes, len(b))
		}
		// Built again from what was understood, it is the same packet.
		var again []byte
		switch s.Kind {
		case pgwire.StartupIncomplete: // returned above
		case pgwire.StartupMessage:
			var parameters []string
			for _, p := range s.Parameters {
				parameters = append(parameters, string(p.Name), string(p.Value))
			}
			again = pgwire.AppendStartupMessage(nil, s.Version, parameters...)
		case pgwire.StartupCancel:
			again = pgwire.AppendCancelRequest(nil, s.CancelPID, s.CancelKey)
		case pgwire.StartupSSL:
			again = packet(sslCode, "")
		case pgwire.StartupGSS:
			again = packet(gssCode, "")
		}
		if string(again) != string(b[:sizeBytes]) {
			t.Fatalf("packet %q was understood as %q", b[:sizeBytes], again)
		}
	})
}

func FuzzSASLInitialResponse(f *testing.F) {
	f.Add([]byte("SCRAM-SHA-256\x00\x00\x00\x00\x01n"))
	f.Add([]byte("SCRAM-SHA-256\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		mechanism, data, err := pgwire.ParseSASLInitialResponse(body)
		if err != nil {
			checkProtocolError(t, err)
			return
		}
		if again := pgwire.AppendSASLInitialResponse(nil, mechanism, string(data)); string(again[pgwire.HeaderBytes:]) != string(body) {
			t.Fatalf("%q was understood as %q", body, again)
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("SFATAL\x00VFATAL\x00C57P01\x00Mgone\x00Dd\x00Hh\x00Rr\x00\x00"))
	f.Add([]byte("VFATAL\x00Mcut o"))
	f.Fuzz(func(t *testing.T, body []byte) {
		e := pgwire.ParseError(body)
		parts := len(e.Severity) + len(e.SQLState) + len(e.Message) + len(e.Detail) + len(e.Hint) + len(e.Routine)
		if parts > len(body)+len(pgwire.SeverityError) {
			t.Fatalf("%d bytes of fields from %d bytes", parts, len(body))
		}
		b := pgwire.AppendError(nil, e)
		messageType, sizeBytes, err := pgwire.PeekBackend(b)
		if messageType != pgwire.ErrorResponse || sizeBytes != len(b) || err != nil {
			t.Fatalf("built message of %d bytes has type %q, size %d, error %v", len(b), messageType, sizeBytes, err)
		}
		if e.Severity == "" {
			e.Severity = pgwire.SeverityError // an absent field reads as the default
		}
		if again := pgwire.ParseError(b[pgwire.HeaderBytes:]); *again != *e {
			t.Fatalf("%+v was read back as %+v", *e, *again)
		}
	})
}

func FuzzOptions(f *testing.F) {
	f.Add("-c geqo=off --statement-timeout=5s", "search_path", "a, b")
	f.Add(`-c a=b\`, "a", `\`)
	f.Add("-W", "", "")
	f.Fuzz(func(t *testing.T, options, name, value string) {
		settings := 0
		err := pgwire.ParseOptions(options, func(name, _ string) {
			settings++
			if name == "" || strings.Contains(name, "=") {
				t.Fatalf("setting named %q", name)
			}
		})
		if err == nil && settings == 0 && strings.Trim(options, " \t\n\v\f\r") != "" {
			t.Fatalf("options %q set nothing and no error", options)
		}
		// What a client escapes is read back as it was.
		if name == "" || strings.Contains(name, "=") {
			return
		}
		var got []string
		err = pgwire.ParseOptions("-c "+escapeOption(name+"="+value), func(name, value string) { got = append(got, name, value) })
		want := strings.ReplaceAll(name, "-", "_")
		if err != nil || len(got) != 2 || got[0] != want || got[1] != value {
			t.Fatalf("setting %q = %q was read back as %q, error %v", name, value, got, err)
		}
	})
}

// escapeOption writes a word as libpq's documentation asks: backslashes before
// spaces and backslashes.
func escapeOption(word string) string {
	var b strings.Builder
	for i := range len(word) {
		if strings.IndexByte(" \t\n\v\f\r\\", word[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	return b.String()
}
