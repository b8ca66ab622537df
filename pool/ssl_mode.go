package pool

import (
	"fmt"
	"slices"
	"strings"
)

// SSLMode says whether a connection is encrypted and what the other side has to
// prove, as libpq's sslmode and, for clients, PgBouncer's client_tls_sslmode.
// See https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
type SSLMode uint8

// The modes, each stricter than the one before.
const (
	SSLDisable SSLMode = iota
	SSLAllow
	SSLPrefer
	SSLRequire
	SSLVerifyCA
	SSLVerifyFull
)

var sslModeNames = [...]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// String returns libpq's word for the mode.
func (m SSLMode) String() string { return sslModeNames[m] }

// UnmarshalText implements encoding.TextUnmarshaler over libpq's words.
func (m *SSLMode) UnmarshalText(text []byte) error {
	i := slices.Index(sslModeNames[:], strings.ToLower(string(text)))
	if i < 0 {
		return fmt.Errorf("sslmode %q: expected %s", text, SSLModeWords)
	}
	*m = SSLMode(i)
	return nil
}

// SSLModeWords is what UnmarshalText reads.
const SSLModeWords = "disable, allow, prefer, require, verify-ca or verify-full"
