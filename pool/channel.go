package pool

import (
	"crypto/tls"
	"strings"
)

// TLSChannel is how a connection is encrypted. The zero value is not at all.
type TLSChannel struct{ version, cipherSuite uint16 }

// NewTLSChannel is that of a connection whose handshake has ended.
func NewTLSChannel(state tls.ConnectionState) TLSChannel {
	return TLSChannel{state.Version, state.CipherSuite}
}

// String names version and cipher suite as PgBouncer does: TLSv1.3/TLS_AES_128_GCM_SHA256.
func (c TLSChannel) String() string {
	if c == (TLSChannel{}) {
		return ""
	}
	return strings.Replace(tls.VersionName(c.version), "TLS ", "TLSv", 1) + "/" + tls.CipherSuiteName(c.cipherSuite)
}
