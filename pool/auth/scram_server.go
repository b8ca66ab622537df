package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

// MaxSASLBytes bounds the SASL messages of a client that is not yet known, as
// PG_MAX_SASL_MESSAGE_LENGTH does in PostgreSQL.
const MaxSASLBytes = 1024

// SCRAMServer is the exchange of a server with a client: First, then Final.
type SCRAMServer struct {
	channel     Channel
	ourNonce    string
	verifier    Verifier
	clientFirst []byte // without the header
	header      []byte // of GS2: what the client says about channel binding
	nonce       []byte // both parts
	serverFirst string
	step        scramStep
}

// NewSCRAMServer begins an exchange with a client who should know the password of
// the verifier. MechanismPlus has been offered if the channel has an end point, and
// chosen if it is bound.
func NewSCRAMServer(verifier Verifier, channel Channel, random [NonceBytes]byte) *SCRAMServer {
	return &SCRAMServer{channel: channel, verifier: verifier, ourNonce: nonceText(random)}
}

// First reads the client-first-message and returns the server-first-message. An
// error is a violation of the protocol. The user's name in the message is ignored,
// as in PostgreSQL: that of the startup packet counts.
func (s *SCRAMServer) First(message []byte) (string, error) {
	if s.step != scramBegun {
		return "", errOutOfTurn
	}
	if len(message) > MaxSASLBytes {
		return "", errTooLong
	}
	rest, err := s.readFlag(message)
	if err != nil {
		return "", err
	}
	if bytes.HasPrefix(rest, []byte("a=")) {
		return "", errors.New("client uses authorization identity, but it is not supported")
	}
	if !bytes.HasPrefix(rest, []byte(",")) {
		return "", malformed("unexpected attribute")
	}
	bare := rest[1:]
	if bytes.HasPrefix(bare, []byte("m=")) {
		return "", errors.New("client requires an unsupported SCRAM extension")
	}
	_, rest, ok := attribute(bare, 'n')
	nonce, _, ok2 := attribute(rest, 'r')
	if !ok || !ok2 {
		return "", malformed("expected user name and nonce")
	}
	if !printable(nonce) {
		return "", malformed("non-printable characters in nonce")
	}
	s.header = bytes.Clone(message[:len(message)-len(bare)])
	s.clientFirst = bytes.Clone(bare)
	s.nonce = append(bytes.Clone(nonce), s.ourNonce...)
	s.serverFirst = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.verifier.Salt), s.verifier.Iterations)
	s.step = scramChallenged
	return s.serverFirst, nil
}

// readFlag reads what the client says about channel binding.
func (s *SCRAMServer) readFlag(message []byte) (rest []byte, err error) {
	flag, rest, ok := bytes.Cut(message, []byte{','})
	bindingName, binds := bytes.CutPrefix(flag, []byte("p="))
	switch {
	case !ok, !binds && string(flag) != "n" && string(flag) != "y":
		return nil, malformed("unexpected channel binding flag")
	case binds && !s.channel.Bound:
		return nil, errors.New("the client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data")
	case binds && string(bindingName) != bindingType:
		return nil, fmt.Errorf("unsupported SCRAM channel-binding type %.100q", bindingName)
	case binds:
	case s.channel.Bound:
		return nil, errors.New("the client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data")
	case string(flag) == "y" && s.channel.EndPoint != nil:
		// Somebody in between has taken the offer away.
		return nil, errors.New("the client supports SCRAM channel binding but thinks the server does not; however, this server does support channel binding")
	}
	return rest, nil
}

// Final reads the client-final-message. ok reports whether the client knows the
// password: then it is to be sent reply, the server-final-message, and keys are
// those with which it has proved it. An error is a violation of the protocol.
func (s *SCRAMServer) Final(message []byte) (reply string, keys Keys, ok bool, err error) {
	if s.step != scramChallenged {
		return "", Keys{}, false, errOutOfTurn
	}
	s.step = scramDone
	if len(message) > MaxSASLBytes {
		return "", Keys{}, false, errTooLong
	}
	binding, rest, ok := attribute(message, 'c')
	switch {
	case ok && string(binding) == s.channel.binding(string(s.header)):
	case ok && s.channel.Bound:
		return "", Keys{}, false, ErrChannelBinding
	default:
		return "", Keys{}, false, malformed("unexpected channel binding attribute")
	}
	nonce, _, ok := attribute(rest, 'r')
	if !ok || !bytes.Equal(nonce, s.nonce) {
		return "", Keys{}, false, malformed("nonce does not match")
	}
	var proof Key
	end := bytes.LastIndex(message, []byte(",p="))
	if end < 0 || !decodeKey(&proof, string(message[end+3:])) {
		return "", Keys{}, false, malformed("expected a proof")
	}
	authMessage := string(s.clientFirst) + "," + s.serverFirst + "," + string(message[:end])
	clientKey := xor(proof, mac(s.verifier.StoredKey[:], authMessage))
	if !s.verifier.CheckClientKey(clientKey) {
		return "", Keys{}, false, nil
	}
	signature := mac(s.verifier.ServerKey[:], authMessage)
	return "v=" + base64.StdEncoding.EncodeToString(signature[:]), Keys{clientKey, s.verifier.ServerKey}, true, nil
}

// ErrChannelBinding says that the proof of a client is bound to another channel:
// somebody is in between.
var ErrChannelBinding = errors.New("SCRAM channel binding check failed")

var errTooLong = fmt.Errorf("malformed SCRAM message: longer than %d bytes", MaxSASLBytes)

func malformed(what string) error { return errors.New("malformed SCRAM message: " + what) }
