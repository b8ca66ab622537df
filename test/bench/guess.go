package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/billproxy/billproxy/test/rig"
)

// guess is a login by SCRAM-SHA-256 with a wrong password, as far as it has come. A wrong
// proof needs no hash of a password: it costs the client as little as an attacker who has
// hashed his list before.
// See https://www.postgresql.org/docs/current/sasl-authentication.html
type guess struct {
	in     []byte // of a message that is not complete
	proved bool
}

// guessHello is what a guess begins with: it need not wait to be asked for SCRAM.
var guessHello = func() []byte {
	const first = "n,,n=,r=bench"
	return appendPassword(appendStartup(nil, rig.User, rig.Database), "SCRAM-SHA-256\x00\x00\x00\x00"+string(rune(len(first)))+first)
}()

// take reads what the server says. What the guess says to that is appended to reply. done
// reports that it was refused; an error is anything else that should not come.
func (g *guess) take(b, reply []byte) (_ []byte, done bool, err error) {
	g.in = append(g.in, b...)
	for {
		if len(g.in) < 5 {
			return reply, false, nil
		}
		messageType, length := g.in[0], int(binary.BigEndian.Uint32(g.in[1:]))
		if length < 4 || length > maxMessageBytes {
			return nil, false, fmt.Errorf("message %q of %d bytes: expected at most %d", messageType, length, maxMessageBytes)
		}
		if len(g.in) < 1+length {
			return reply, false, nil
		}
		body := g.in[5 : 1+length]
		g.in = g.in[1+length:]
		switch method, challenge := authenticationMethod(messageType, body); {
		case method == 10 && !g.proved:
		case method == 11 && !g.proved:
			nonce, _, _ := bytes.Cut(challenge, []byte{','})
			proof := base64.StdEncoding.EncodeToString(make([]byte, 32))
			reply, g.proved = appendPassword(reply, fmt.Sprintf("c=biws,%s,p=%s", nonce, proof)), true
		case messageType == 'E' && (bytes.Contains(body, []byte("\x00C28P01\x00")) || bytes.Contains(body, []byte("\x00C53300\x00"))):
			return nil, true, nil
		default:
			return nil, false, fmt.Errorf("a failing login was answered with message %q: expected an error", messageType)
		}
	}
}

// authenticationMethod is what an Authentication message asks for, 0 for any other.
func authenticationMethod(messageType byte, body []byte) (method uint32, data []byte) {
	if messageType != 'R' || len(body) < 4 {
		return 0, nil
	}
	return binary.BigEndian.Uint32(body), body[4:]
}

func appendPassword(b []byte, body string) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 'p'), uint32(4+len(body)))
	return append(b, body...)
}
