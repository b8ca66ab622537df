package pooltest

import (
	"slices"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

func TestWordsRoundTrip(t *testing.T) {
	frontend := []string{
		"Q|select 1", "P|s|select $1", "P||", "B|p|s", "B|||7", "DS|s", "DP|", "CS|s", "CP|p", "E|p", "S", "H", "X", "c",
		"d|1\t2", "f|no", "F|call", "Q|*1000", "d|*70000", "B||s|*200",
	}
	if got := FrontendWords(Frontend(frontend...)); !slices.Equal(got, frontend) {
		t.Errorf("frontend words %q came back as %q", frontend, got)
	}
	backend := []string{
		"R", "R|5", "S|TimeZone|UTC", "Z|I", "1", "2", "3", "n", "t", "I", "s", "T|c", "D|1", "C|SELECT 1", "E|ERROR|42601|no",
		"E|FATAL|57P01|*200", "N|hear", "A|channel", "G", "H", "W", "c", "d|1", "V|x", "D|*1000",
		"T|a|b", "D|a|b", "D|~|b", "D||",
	}
	if got := BackendWords(Backend(backend...)); !slices.Equal(got, backend) {
		t.Errorf("backend words %q came back as %q", backend, got)
	}
	if got := BackendWords(append(Backend("K|7|key7"), 'Z', 0, 0)); !slices.Equal(got, []string{"K|7|4", "+3"}) {
		t.Errorf("a key and a part of a message are %q", got)
	}
}

// The words mean what package pgwire takes them for.
func TestWordsAreMessages(t *testing.T) {
	for _, word := range []string{"Q|a", "P|a|b", "B|a|b|c", "DS|a", "CP|a", "E|", "S", "H", "X", "c", "d|a", "f|a", "F|a"} {
		b := Frontend(word)
		messageType, size, err := pgwire.PeekFrontend(b)
		if err != nil || size != len(b) || messageType != word[0] {
			t.Errorf("%q: type %c, %d of %d bytes, %v", word, messageType, size, len(b), err)
		}
	}
	for _, word := range []string{"R", "K|1|key", "S|a|b", "Z|I", "1", "2", "3", "n", "t", "I", "s", "T|a", "D|a", "C|a", "E|a|b|c", "N|a", "A|a", "G", "H", "W", "c", "d|a", "V|a", "v"} {
		b := Backend(word)
		messageType, size, err := pgwire.PeekBackend(b)
		if err != nil || size != len(b) || messageType != word[0] {
			t.Errorf("%q: type %c, %d of %d bytes, %v", word, messageType, size, len(b), err)
		}
	}
}
