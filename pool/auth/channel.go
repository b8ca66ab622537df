package auth

import (
	"crypto"
	_ "crypto/sha256" // the hashes of ServerEndPoint
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
)

// bindingType is the only type of channel binding that PostgreSQL knows.
const bindingType = "tls-server-end-point"

// Channel is what an exchange of SCRAM may be bound to.
type Channel struct {
	// EndPoint is the ServerEndPoint of a channel that is encrypted. It is nil of
	// others, and then nothing is bound.
	EndPoint []byte
	// Bound is whether this exchange is, which is MechanismPlus.
	Bound bool
}

// ServerEndPoint is what binds to a channel of TLS, the hash of the server's
// certificate, and nil if its signature has no hash that could be used.
// See RFC 5929, section 4.
func ServerEndPoint(certificate *x509.Certificate) []byte {
	var hash crypto.Hash
	switch certificate.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(certificate.Raw)
	return h.Sum(nil)
}

// CommonName is the name that a certificate of a client is for, empty if it has none
// or several.
func CommonName(certificate *x509.Certificate) string {
	name := ""
	for _, attribute := range certificate.Subject.Names {
		if !attribute.Type.Equal(commonNameOID) {
			continue
		}
		value, ok := attribute.Value.(string)
		if !ok || name != "" {
			return ""
		}
		name = value
	}
	return name
}

var commonNameOID = asn1.ObjectIdentifier{2, 5, 4, 3}

// binding is the channel binding attribute of a client that has said header.
func (c Channel) binding(header string) string {
	bound := []byte(header)
	if c.Bound {
		bound = append(bound, c.EndPoint...)
	}
	return base64.StdEncoding.EncodeToString(bound)
}
