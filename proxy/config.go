package proxy

import (
	"io"
	"time"

	"github.com/billproxy/billproxy/pool"
)

// Config is what the proxy needs to know. The fields named after a PgBouncer
// parameter have its meaning.
type Config struct {
	Pool pool.Config

	// MaxClientConn bounds the client connections, those not yet logged in
	// included.
	MaxClientConn int

	// ClientLoginTimeout bounds the time from accept to the first
	// ReadyForQuery.
	ClientLoginTimeout time.Duration

	// IdleTransactionTimeout closes a client that leaves a transaction open and
	// idle for so long; 0 is never.
	IdleTransactionTimeout time.Duration

	// ClientStallTimeout closes a client that holds a server and reads nothing
	// of its replies for so long; 0 is never.
	ClientStallTimeout time.Duration

	// Entropy yields the secret cancel keys: crypto/rand.Reader, or a seeded
	// source in a simulation.
	Entropy io.Reader
}
