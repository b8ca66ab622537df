package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Mechanism and MechanismPlus are the SASL mechanisms that are spoken: the latter
// binds the proof to the encrypted channel that it is given on.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// DefaultIterations and SaltBytes are PostgreSQL's for the verifiers it makes.
const (
	DefaultIterations = 4096
	SaltBytes         = 16
)

// NonceBytes is how many random bytes a nonce is made of, as in PostgreSQL.
const NonceBytes = 18

// maxIterations bounds the work that the other side may ask for: about ten seconds.
const maxIterations = 10_000_000

// Key is the output of SHA-256.
type Key [sha256.Size]byte

// Keys is what a password becomes with a salt and a number of iterations. Whoever
// has the ClientKey can log in, whoever has the ServerKey can pose as the server.
type Keys struct {
	ClientKey, ServerKey Key
}

// DeriveKeys hashes a password. It costs milliseconds: that is its purpose.
func DeriveKeys(password string, salt []byte, iterations int) Keys {
	salted, err := pbkdf2.Key(sha256.New, normalize(password), salt, iterations, sha256.Size)
	if err != nil {
		panic("BUG: PBKDF2 refuses its parameters: " + err.Error())
	}
	return Keys{ClientKey: mac(salted, "Client Key"), ServerKey: mac(salted, "Server Key")}
}

// String and GoString keep keys out of logs.
func (k Keys) String() string { return mask }

// GoString implements fmt.GoStringer.
func (k Keys) GoString() string { return mask }

// Verifier is what a server stores in place of a password.
type Verifier struct {
	Iterations           int
	Salt                 []byte
	StoredKey, ServerKey Key
}

// NewVerifier returns the verifier of a password, at the price of DeriveKeys.
func NewVerifier(password string, salt []byte, iterations int) Verifier {
	keys := DeriveKeys(password, salt, iterations)
	return Verifier{iterations, salt, sha256.Sum256(keys.ClientKey[:]), keys.ServerKey}
}

const verifierPrefix = Mechanism + "$"

// ParseVerifier reads PostgreSQL's "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey".
func ParseVerifier(text string) (Verifier, error) {
	var v Verifier
	rest, ok := strings.CutPrefix(text, verifierPrefix)
	parameters, keys, ok2 := strings.Cut(rest, "$")
	iterations, salt, ok3 := strings.Cut(parameters, ":")
	storedKey, serverKey, ok4 := strings.Cut(keys, ":")
	if !ok || !ok2 || !ok3 || !ok4 {
		return v, errVerifier
	}
	var err error
	if v.Iterations, err = parseIterations(iterations); err != nil {
		return v, errVerifier
	}
	if v.Salt, err = base64.StdEncoding.Strict().DecodeString(salt); err != nil || len(v.Salt) == 0 {
		return v, errVerifier
	}
	if !decodeKey(&v.StoredKey, storedKey) || !decodeKey(&v.ServerKey, serverKey) {
		return v, errVerifier
	}
	return v, nil
}

var errVerifier = errors.New("malformed SCRAM verifier: expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")

// String returns what ParseVerifier reads, but for the keys.
func (v Verifier) String() string {
	return fmt.Sprintf("%s%d:%s$%s", verifierPrefix, v.Iterations, base64.StdEncoding.EncodeToString(v.Salt), mask)
}

// GoString implements fmt.GoStringer.
func (v Verifier) GoString() string { return v.String() }

// CheckPassword reports whether the verifier is that of the password, at the price
// of DeriveKeys.
func (v Verifier) CheckPassword(password string) (Keys, bool) {
	keys := DeriveKeys(password, v.Salt, v.Iterations)
	return keys, v.CheckClientKey(keys.ClientKey)
}

// CheckClientKey reports whether the key is that of the password.
func (v Verifier) CheckClientKey(key Key) bool {
	storedKey := sha256.Sum256(key[:])
	return subtle.ConstantTimeCompare(storedKey[:], v.StoredKey[:]) == 1
}

// FakeVerifier is that of a user who does not exist: the same every time, as a real
// one is, and fit for no password. secret must be unknown to clients.
func FakeVerifier(user string, secret []byte, iterations int) Verifier {
	salt := mac(secret, "salt "+user)
	return Verifier{
		Iterations: iterations, Salt: salt[:SaltBytes],
		StoredKey: mac(secret, "stored key "+user), ServerKey: mac(secret, "server key "+user),
	}
}

// mac is HMAC-SHA-256.
func mac(key []byte, message string) Key {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return Key(h.Sum(nil))
}

func xor(a, b Key) Key {
	var result Key
	subtle.XORBytes(result[:], a[:], b[:])
	return result
}

func decodeKey(key *Key, text string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil && copy(key[:], b) == len(key) && len(b) == len(key)
}

func parseIterations(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 || n > maxIterations {
		return 0, fmt.Errorf("SCRAM iteration count %.20q: expected 1 to %d", text, maxIterations)
	}
	return int(n), nil
}

// nonceText is a nonce as it is sent.
func nonceText(random [NonceBytes]byte) string { return base64.StdEncoding.EncodeToString(random[:]) }

// printable reports whether a nonce has only the characters it may have.
func printable(nonce []byte) bool {
	for _, c := range nonce {
		if c < '!' || c > '~' || c == ',' {
			return false
		}
	}
	return len(nonce) > 0
}

// attribute splits the attribute of that name off the beginning of a message.
func attribute(b []byte, name byte) (value, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != name || b[1] != '=' {
		return nil, nil, false
	}
	value, rest, _ = bytes.Cut(b[2:], []byte{','})
	return value, rest, true
}
