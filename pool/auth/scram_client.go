package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SCRAMClient is the exchange of a client with a server: First, Challenge, Final,
// Verify, in that order.
type SCRAMClient struct {
	channel     Channel
	nonce       string
	serverFirst string
	serverNonce string
	serverKey   Key
	message     string // AuthMessage of RFC 5802
	step        scramStep
}

// scramStep is what has been done of an exchange.
type scramStep uint8

const (
	scramBegun scramStep = iota
	scramChallenged
	scramProved
	scramDone
)

// NewSCRAMClient begins an exchange over a channel.
func NewSCRAMClient(channel Channel, random [NonceBytes]byte) *SCRAMClient {
	return &SCRAMClient{channel: channel, nonce: nonceText(random)}
}

// First is the client-first-message. PostgreSQL takes the user's name from the
// startup packet, so libpq leaves it out here.
func (c *SCRAMClient) First() string { return c.header() + c.firstBare() }

// header is what we say about channel binding.
func (c *SCRAMClient) header() string {
	switch {
	case c.channel.Bound:
		return "p=" + bindingType + ",,"
	case c.channel.EndPoint != nil:
		return "y,," // the server knows whether its offer has been taken away
	}
	return "n,,"
}

func (c *SCRAMClient) firstBare() string { return "n=,r=" + c.nonce }

// Challenge reads the server-first-message and returns what keys are asked for.
func (c *SCRAMClient) Challenge(serverFirst []byte) (salt []byte, iterations int, err error) {
	if c.step != scramBegun {
		return nil, 0, errOutOfTurn
	}
	nonce, rest, ok := attribute(serverFirst, 'r')
	salt64, rest, ok2 := attribute(rest, 's')
	count, _, ok3 := attribute(rest, 'i')
	if !ok || !ok2 || !ok3 || !printable(nonce) {
		return nil, 0, errors.New("malformed SCRAM challenge from server")
	}
	if len(nonce) <= len(c.nonce) || !strings.HasPrefix(string(nonce), c.nonce) {
		return nil, 0, errors.New("the nonce in the server's SCRAM challenge does not begin with ours")
	}
	salt, err = base64.StdEncoding.DecodeString(string(salt64))
	if err != nil || len(salt) == 0 {
		return nil, 0, errors.New("malformed salt in the server's SCRAM challenge")
	}
	if iterations, err = parseIterations(string(count)); err != nil {
		return nil, 0, err
	}
	c.serverFirst, c.serverNonce, c.step = string(serverFirst), string(nonce), scramChallenged
	return salt, iterations, nil
}

// Final is the client-final-message, which proves that we have the keys.
func (c *SCRAMClient) Final(keys Keys) string {
	if c.step != scramChallenged {
		panic("BUG: SCRAM proof without a challenge")
	}
	withoutProof := "c=" + c.channel.binding(c.header()) + ",r=" + c.serverNonce
	c.message = c.firstBare() + "," + c.serverFirst + "," + withoutProof
	c.serverKey = keys.ServerKey
	c.step = scramProved
	storedKey := sha256.Sum256(keys.ClientKey[:])
	proof := xor(keys.ClientKey, mac(storedKey[:], c.message))
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof[:])
}

// Verify reads the server-final-message, by which the server proves that it knows
// the password, too.
func (c *SCRAMClient) Verify(serverFinal []byte) error {
	if c.step != scramProved {
		return errOutOfTurn
	}
	if reason, _, ok := attribute(serverFinal, 'e'); ok {
		return fmt.Errorf("server refuses the SCRAM proof: %.100q", reason)
	}
	signature64, _, ok := attribute(serverFinal, 'v')
	var signature Key
	if !ok || !decodeKey(&signature, string(signature64)) {
		return errors.New("malformed end of the SCRAM exchange from server")
	}
	want := mac(c.serverKey[:], c.message)
	if subtle.ConstantTimeCompare(signature[:], want[:]) != 1 {
		return errors.New("the server has not proved that it knows the password")
	}
	c.step = scramDone
	return nil
}

// Done reports whether both sides have proved themselves.
func (c *SCRAMClient) Done() bool { return c.step == scramDone }

var errOutOfTurn = errors.New("SCRAM message out of turn")

// ChooseMechanism returns ours of the server's list of SASL mechanisms, of which each
// ends with a zero byte: the one that binds to a channel if it can be; empty if
// there is none. offered is the list for an error.
func ChooseMechanism(list []byte, bindable bool) (mechanism, offered string) {
	var names []string
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	switch {
	case bindable && slices.Contains(names, MechanismPlus):
		mechanism = MechanismPlus
	case slices.Contains(names, Mechanism):
		mechanism = Mechanism
	}
	return mechanism, strings.Join(names, ", ")
}
