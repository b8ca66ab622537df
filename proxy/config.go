package proxy

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/auth"
)

// Config is what the proxy needs to know. The fields named after a PgBouncer
// parameter have its meaning.
type Config struct {
	Pool pool.Config

	// AuthType is how clients prove who they are, Secrets what is known of their
	// passwords, by user. For AuthPassword and AuthSCRAM a secret that is a
	// password needs a verifier (auth.Secret.WithVerifier), so that no client
	// makes the proxy compute one.
	AuthType AuthType
	Secrets  map[string]auth.Secret

	// ClientTLS is how connections of clients are encrypted.
	ClientTLS ClientTLS

	// AuthQuery finds the secrets of users that Secrets does not have.
	AuthQuery AuthQuery

	// MaxClientConn bounds the client connections, those not yet logged in
	// included. MaxLoginConn bounds those whose client has not proved yet who it
	// is; 0 is no bound of their own.
	MaxClientConn int
	MaxLoginConn  int

	// ClientLoginTimeout bounds the time from accept to the first
	// ReadyForQuery.
	ClientLoginTimeout time.Duration

	// IdleTransactionTimeout closes a client that leaves a transaction open and
	// idle for so long; 0 is never.
	IdleTransactionTimeout time.Duration

	// ClientStallTimeout closes a client that holds a server and reads nothing
	// of its replies for so long; 0 is never.
	ClientStallTimeout time.Duration

	// Critical names users, and tenants of their pools, whose work goes before that of
	// all others.
	Critical []string

	// LoginDelay lets clients wait who log in in great numbers.
	LoginDelay bool

	// CoalesceReads asks once for clients that wait to ask the same.
	CoalesceReads bool

	// ParameterizedReads sends reads in the simple protocol that share a server as
	// executions of prepared statements, with constants as parameters.
	ParameterizedReads bool

	// Console is the admin console.
	Console ConsoleConfig

	// Entropy yields the secret cancel keys and nonces: crypto/rand.Reader, or a
	// seeded source in a simulation.
	Entropy io.Reader
}

// AuthQuery is how PostgreSQL is asked for the secret of a user. There is none if its
// User is empty.
type AuthQuery struct {
	// Text is the query: it has $1, the name of the user, and returns at most one row
	// of two columns, the name and the secret, an md5 hash or a SCRAM verifier. The
	// secret is null for a user who may not log in with a password.
	Text string

	// User runs it, in Database.
	User, Database string
}

// AuthType is how clients prove who they are, as PgBouncer's auth_type.
type AuthType uint8

const (
	// AuthTrust believes clients of this machine and refuses others.
	AuthTrust AuthType = iota
	// AuthPassword asks for the password itself; PgBouncer calls it plain.
	AuthPassword
	// AuthMD5 asks for an md5 response, and by SCRAM those of whose password only
	// a verifier is known.
	AuthMD5
	// AuthSCRAM is SCRAM-SHA-256, over TLS with channel binding if the client wants.
	AuthSCRAM
	// AuthCert believes a client whose certificate has the user as common name. It
	// takes ClientTLS of a mode that verifies certificates.
	AuthCert
)

var authTypeNames = [...]string{
	AuthTrust: "trust", AuthPassword: "password", AuthMD5: "md5", AuthSCRAM: "scram-sha-256", AuthCert: "cert",
}

// String returns PostgreSQL's word for the type in pg_hba.conf.
func (a AuthType) String() string { return authTypeNames[a] }

// UnmarshalText implements encoding.TextUnmarshaler over PgBouncer's and
// PostgreSQL's words.
func (a *AuthType) UnmarshalText(text []byte) error {
	word := strings.ToLower(string(text))
	if word == "plain" {
		word = authTypeNames[AuthPassword]
	}
	for i, name := range authTypeNames {
		if word == name {
			*a = AuthType(i)
			return nil
		}
	}
	return fmt.Errorf("auth type %q: expected trust, password, md5, scram-sha-256 or cert", text)
}
