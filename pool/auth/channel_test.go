package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
)

func TestServerEndPoint(t *testing.T) {
	raw := []byte("a certificate")
	hash256, hash384, hash512 := sha256.Sum256(raw), sha512.Sum384(raw), sha512.Sum512(raw)
	for algorithm, want := range map[x509.SignatureAlgorithm][]byte{
		x509.MD5WithRSA: hash256[:], x509.SHA1WithRSA: hash256[:], x509.ECDSAWithSHA1: hash256[:],
		x509.SHA256WithRSA: hash256[:], x509.SHA256WithRSAPSS: hash256[:], x509.ECDSAWithSHA256: hash256[:],
		x509.SHA384WithRSA: hash384[:], x509.SHA384WithRSAPSS: hash384[:], x509.ECDSAWithSHA384: hash384[:],
		x509.SHA512WithRSA: hash512[:], x509.SHA512WithRSAPSS: hash512[:], x509.ECDSAWithSHA512: hash512[:],
		x509.PureEd25519: nil, x509.UnknownSignatureAlgorithm: nil,
	} {
		if got := ServerEndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: algorithm}); !bytes.Equal(got, want) {
			t.Errorf("%v: %x, want %x", algorithm, got, want)
		}
	}
}

// exchange has a client log in over its end of a channel to a server at the other.
func exchange(client, server Channel) error {
	keys := DeriveKeys("pencil", []byte("salt"), 2)
	c := NewSCRAMClient(client, [NonceBytes]byte{1})
	s := NewSCRAMServer(NewVerifier("pencil", []byte("salt"), 2), server, [NonceBytes]byte{2})
	challenge, err := s.First([]byte(c.First()))
	if err != nil {
		return err
	}
	if _, _, err := c.Challenge([]byte(challenge)); err != nil {
		return err
	}
	reply, _, ok, err := s.Final([]byte(c.Final(keys)))
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("wrong password")
	}
	return c.Verify([]byte(reply))
}

func TestChannelBinding(t *testing.T) {
	plain, encrypted := Channel{}, Channel{EndPoint: []byte("hash")}
	bound, otherwise := Channel{[]byte("hash"), true}, Channel{[]byte("mash"), true}
	for _, test := range []struct {
		name           string
		client, server Channel
		refusal        string
	}{
		{"no TLS", plain, plain, ""},
		{"bound", bound, bound, ""},
		{"a client that cannot bind", plain, encrypted, ""},
		{"a server that cannot bind", encrypted, plain, ""},
		{"somebody in between", otherwise, bound, "SCRAM channel binding check failed"},
		{"the offer was taken away", encrypted, encrypted, "thinks the server does not"},
		{"bound without the mechanism for it", bound, encrypted, "without channel binding"},
		{"the mechanism without being bound", plain, bound, "does not include channel binding data"},
		{"the mechanism and the flag that it does not exist", encrypted, bound, "does not include channel binding data"},
	} {
		err := exchange(test.client, test.server)
		if test.refusal == "" && err != nil || test.refusal != "" && (err == nil || !strings.Contains(err.Error(), test.refusal)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.refusal)
		}
	}
	s := NewSCRAMServer(Verifier{}, bound, [NonceBytes]byte{})
	if _, err := s.First([]byte("p=tls-unique,,n=,r=abc")); err == nil || !strings.Contains(err.Error(), `channel-binding type "tls-unique"`) {
		t.Errorf("another type of channel binding: %v", err)
	}
}
