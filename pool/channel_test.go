package pool

import (
	"crypto/tls"
	"testing"
)

func TestTLSChannel(t *testing.T) {
	for _, test := range []struct {
		state tls.ConnectionState
		want  string
	}{
		{tls.ConnectionState{}, ""},
		{tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}, "TLSv1.3/TLS_AES_128_GCM_SHA256"},
		{tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, "TLSv1.2/TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
	} {
		if got := NewTLSChannel(test.state).String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
