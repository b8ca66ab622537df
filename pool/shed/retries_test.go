package shed

import (
	"testing"
	"time"
)

func TestRetries(t *testing.T) {
	// Each letter is an event of one piece of work: a arrives and is no retry, r arrives and is
	// one, f fails; . is a second, - half a minute.
	for name, events := range map[string]string{
		"never failed":              "aaaa",
		"fails once":                "afraaa",
		"fails again and again":     "afrfrfrfrf",
		"fails long ago":            "af-aaf",
		"fails now and then":        "afrf...rf...rf",
		"some are under way":        "afraafaaf",
		"a poller that succeeds":    "afr.a.a.a.af.a.a",
		"a poller that never does":  "af.rf.rf.rf",
		"succeeded and failed anew": "afrfraf.a",
	} {
		t.Run(name, func(t *testing.T) {
			var retries Retries
			const hash = Hash(12345)
			now := 24 * time.Hour
			for i, event := range events {
				switch event {
				case 'a', 'r':
					if got := retries.Arrive(hash, now); got != (event == 'r') {
						t.Errorf("%s|%s: taken for a retry: %v", events[:i], events[i:], got)
					}
				case 'f':
					retries.Fail(hash, now)
				case '.':
					now += time.Second
				case '-':
					now += retryMemory + time.Second
				}
			}
			if retries.Arrive(hash+retrySlots, now) {
				t.Error("other work is taken for it")
			}
		})
	}
}

func TestRetriesAreBounded(t *testing.T) {
	var retries Retries
	now := time.Hour
	for i := range Hash(4 * retrySlots) {
		retries.Fail(HashSeed.AddNumber(uint64(i)), now)
		now += time.Microsecond
	}
	if len(retries.slots) != retrySlots {
		t.Fatalf("%d slots", len(retries.slots))
	}
	known := 0
	for i := range Hash(1000) {
		if retries.Arrive(HashSeed.AddNumber(uint64(4*retrySlots-1-i)), now) {
			known++
		}
	}
	if known < 990 {
		t.Errorf("%d of the last thousand are known", known)
	}
}

func TestHash(t *testing.T) {
	seen := map[Hash]string{}
	for _, parts := range [][]string{
		{""},
		{"a"},
		{"ab"},
		{"ba"},
		{"a", "b"},
		{"ab", ""},
		{"", "ab"},
		{"abcdefgh"},
		{"abcdefghi"},
		{"abcdefgh", "i"},
		{"a\x00"},
		{"\x00"},
		{"\x00\x00"},
		{"\x00", "\x00"},
	} {
		h := HashSeed
		for _, part := range parts {
			h = h.Add([]byte(part))
		}
		if other, ok := seen[h]; ok {
			t.Errorf("%q has the hash of %q", parts, other)
		}
		seen[h] = parts[0]
	}
}
