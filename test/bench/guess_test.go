package main

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestGuess(t *testing.T) {
	t.Parallel()
	message := func(messageType byte, body string) string {
		return string(binary.BigEndian.AppendUint32([]byte{messageType}, uint32(4+len(body)))) + body
	}
	sasl := message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")
	challenge := message('R', "\x00\x00\x00\x0br=bench123,s=c2FsdA==,i=4096")
	refusal := func(code string) string { return message('E', "SFATAL\x00C"+code+"\x00Mno\x00\x00") }
	for _, test := range []struct {
		name, answer string
		done, fails  bool
	}{
		{"refused", sasl + challenge + refusal("28P01"), true, false},
		{"turned away", refusal("53300"), true, false},
		{"under way", sasl + challenge, false, false},
		{"let in", sasl + challenge + message('R', "\x00\x00\x00\x00"), false, true},
		{"trusted", message('R', "\x00\x00\x00\x00"), false, true},
		{"another error", sasl + refusal("57P03"), false, true},
		{"out of turn", challenge + challenge, false, true},
		{"oversized", "R\x7f\xff\xff\xff", false, true},
	} {
		for size := 1; size <= len(test.answer); size++ {
			var g guess
			var said []byte
			var done bool
			var err error
			for rest := []byte(test.answer); len(rest) > 0 && !done && err == nil; {
				n := min(size, len(rest))
				var reply []byte
				reply, done, err = g.take(rest[:n], nil)
				said, rest = append(said, reply...), rest[n:]
			}
			if done != test.done || (err != nil) != test.fails {
				t.Fatalf("%s, %d bytes at a time: done %v, error %v", test.name, size, done, err)
			}
			if test.name == "under way" && !strings.HasPrefix(string(said[5:]), "c=biws,r=bench123,p=AAAA") {
				t.Fatalf("said %q", said)
			}
		}
	}
	if hello := string(guessHello); !strings.HasSuffix(hello, "SCRAM-SHA-256\x00\x00\x00\x00\x0dn,,n=,r=bench") || !strings.Contains(hello, "database\x00bench") {
		t.Errorf("begins with %q", hello)
	}
}
