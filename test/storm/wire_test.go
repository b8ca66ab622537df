package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// message is one of a server's.
func message(messageType byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{messageType}, uint32(4+len(body)))) + body
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r, err := newRequest(tagged(plainStatement, true, 3))
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.Clone(r.of(1234))
	if text := string(first); !strings.Contains(text, plainStatement+" /*priority='critical',try='3'*/\x00") || !strings.Contains(text, "\x00\x00\x00\x130000000000000001234") {
		t.Errorf("the request is %q", text)
	}
	var types []byte
	for rest := first; len(rest) > 0; {
		messageType, _, next, ok, err := nextMessage(rest)
		if err != nil || !ok {
			t.Fatalf("message at %q: %v, %v", rest, ok, err)
		}
		types, rest = append(types, messageType), next
	}
	if string(types) != "PBDES" {
		t.Errorf("messages %q, want PBDES", types)
	}
	if again := r.of(1234); !bytes.Equal(again, first) {
		t.Errorf("a second time: %q", again)
	}
	if other := r.of(9); bytes.Equal(other, first) {
		t.Error("another operation has the same request")
	}
}

func TestNextMessage(t *testing.T) {
	t.Parallel()
	whole := message('Z', "I") + message('C', "SELECT 1\x00")
	for n := range len(whole) {
		messageType, body, rest, ok, err := nextMessage([]byte(whole[:n]))
		if err != nil || ok != (n >= 6) || ok && (messageType != 'Z' || string(body) != "I" || len(rest) != n-6) || !ok && len(rest) != n {
			t.Fatalf("%d bytes: %q, %q, %q, %v, %v", n, messageType, body, rest, ok, err)
		}
	}
	for _, bad := range []string{"Z\x00\x00\x00\x03", "Z\x7f\x00\x00\x00"} {
		if _, _, _, _, err := nextMessage([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestErrorField(t *testing.T) {
	t.Parallel()
	body := "SERROR\x00VERROR\x00C53400\x00Mno\x00Dreason=queue retry_after_ms=20\x00\x00"
	for field, want := range map[byte]string{'S': "ERROR", 'C': "53400", 'D': "reason=queue retry_after_ms=20", 'H': ""} {
		if got := errorField([]byte(body), field); got != want {
			t.Errorf("field %q is %q, want %q", field, got, want)
		}
	}
	for _, body := range []string{"", "\x00", "C", "C53400"} {
		if got := errorField([]byte(body), 'C'); got != "" {
			t.Errorf("%q: %q", body, got)
		}
	}
}
