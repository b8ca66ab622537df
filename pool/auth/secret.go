package auth

import (
	"bytes"
	"errors"
	"strings"
)

// mask stands where a secret was.
const mask = "xxxxx"

// Secret is what is known of a user's password: the password itself, PostgreSQL's
// md5 hash of it, a SCRAM verifier, or nothing.
type Secret struct {
	password string
	md5      string
	verifier *Verifier
}

// PasswordSecret is the password itself. The empty one is no password: PostgreSQL
// lets nobody in with it.
func PasswordSecret(password string) Secret { return Secret{password: password} }

// ParseSecret reads a secret as PostgreSQL and PgBouncer store it.
func ParseSecret(user, text string) (Secret, error) {
	if strings.HasPrefix(text, verifierPrefix) {
		verifier, err := ParseVerifier(text)
		return Secret{verifier: &verifier}, err
	}
	if isMD5Hash(text) {
		if text == MD5Hash(user, "") {
			return Secret{}, errors.New("the md5 hash is that of an empty password")
		}
		return Secret{md5: text}, nil
	}
	return PasswordSecret(text), nil
}

// WithVerifier returns the secret with a verifier, made from the password if there
// is one, at the price of DeriveKeys.
func (s Secret) WithVerifier(salt []byte, iterations int) Secret {
	if s.password != "" && s.verifier == nil {
		verifier := NewVerifier(s.password, salt, iterations)
		s.verifier = &verifier
	}
	return s
}

// Same reports whether both are good for the same: verifiers made from the password
// are not looked at.
func (s Secret) Same(other Secret) bool {
	if s.password != other.password || s.md5 != other.md5 {
		return false
	}
	if s.password != "" || s.verifier == nil || other.verifier == nil {
		return s.password != "" || s.verifier == other.verifier
	}
	return s.verifier.Iterations == other.verifier.Iterations && bytes.Equal(s.verifier.Salt, other.verifier.Salt) &&
		s.verifier.StoredKey == other.verifier.StoredKey && s.verifier.ServerKey == other.verifier.ServerKey
}

// Empty reports whether nothing is known: nobody gets in with such a secret.
func (s Secret) Empty() bool { return s.password == "" && s.md5 == "" && s.verifier == nil }

// Password returns the password; empty if it is not known.
func (s Secret) Password() string { return s.password }

// MD5 returns the hash for the user of that name; empty if it cannot be known.
func (s Secret) MD5(user string) string {
	if s.password != "" {
		return MD5Hash(user, s.password)
	}
	return s.md5
}

// Verifier returns the SCRAM verifier, nil if there is none.
func (s Secret) Verifier() *Verifier { return s.verifier }

// String keeps secrets out of logs.
func (s Secret) String() string { return mask }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return mask }
