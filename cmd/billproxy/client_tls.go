package main

import (
	"crypto/tls"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/proxy"
)

// readClientTLS reads the files of CLIENT_TLS_*.
func readClientTLS(c *config) (proxy.ClientTLS, error) {
	mode := c.ClientTLSSSLMode.value
	if c.AuthType.value == proxy.AuthCert && mode < pool.SSLVerifyCA {
		return proxy.ClientTLS{}, newConfigError("%sCLIENT_TLS_SSLMODE is %q: expected verify-ca or verify-full, because %sAUTH_TYPE is cert",
			variablePrefix, mode, variablePrefix)
	}
	if mode == pool.SSLDisable {
		return proxy.ClientTLS{}, nil
	}
	pair, err := readKeyPair(
		variableFile{variablePrefix + "CLIENT_TLS_CERT_FILE", string(c.ClientTLSCertFile)},
		variableFile{variablePrefix + "CLIENT_TLS_KEY_FILE", string(c.ClientTLSKeyFile)})
	if err != nil {
		return proxy.ClientTLS{}, err
	}
	t := newTLSConfig()
	t.MinVersion, t.MaxVersion = c.ClientTLSProtocols.min, c.ClientTLSProtocols.max
	t.Certificates = []tls.Certificate{pair}
	if mode >= pool.SSLVerifyCA {
		t.ClientCAs, err = readAuthorities(variableFile{variablePrefix + "CLIENT_TLS_CA_FILE", string(c.ClientTLSCAFile)})
		if err != nil {
			return proxy.ClientTLS{}, err
		}
		// Who shows none is refused in PostgreSQL's words.
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return proxy.ClientTLS{Mode: mode, Config: t, EndPoint: auth.ServerEndPoint(pair.Leaf)}, nil
}
