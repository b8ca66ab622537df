package pool

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// Mode says how long a client keeps the server it was lent, as PgBouncer's
// pool_mode.
type Mode uint8

const (
	// ModeTransaction takes the server back when the transaction ends.
	ModeTransaction Mode = iota
	// ModeSession takes the server back when the client disconnects.
	ModeSession
	// ModeStatement takes the server back after every query and refuses
	// transactions of several statements.
	ModeStatement
)

var modeNames = [...]string{ModeTransaction: "transaction", ModeSession: "session", ModeStatement: "statement"}

// String returns PgBouncer's word for the mode.
func (m Mode) String() string { return modeNames[m] }

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler over PgBouncer's words.
func (m *Mode) UnmarshalText(text []byte) error {
	for i, name := range modeNames {
		if strings.EqualFold(string(text), name) {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("pool mode %q: expected transaction, session or statement", text)
}

// Config is what the server side needs to know. The fields named after a
// PgBouncer parameter have its meaning.
type Config struct {
	// Upstream is where PostgreSQL listens.
	Upstream reactor.Address

	Mode Mode

	// TLS is how the connections to it are encrypted.
	TLS ServerTLS

	// Secrets is what is known of the passwords with which the proxy logs in, by
	// user.
	Secrets map[string]auth.Secret

	// DefaultPoolSize is how many servers one pool, that is one pair of
	// database and user, may have. MaxDBConnections bounds the servers of all
	// pools together; 0 is no bound.
	DefaultPoolSize  int
	MaxDBConnections int

	// SharedReads puts the reads of many clients on few servers, one behind the
	// other; SharedDepth is how many of them one server may have under way.
	SharedReads bool
	SharedDepth int

	// QueryWaitTimeout is how long a client waits for a server before it is
	// told no; 0 waits forever.
	QueryWaitTimeout time.Duration

	// Shed is how an overload is met; its Patience is QueryWaitTimeout. ShedSQLState is
	// what those are told who get no server.
	Shed         shed.Config
	ShedSQLState pgwire.SQLState

	// ServerConnectTimeout bounds connecting and logging in to PostgreSQL.
	ServerConnectTimeout time.Duration

	// ServerIdleTimeout closes a server that nobody has used for so long,
	// ServerLifetime one that is so old, as soon as it is idle; 0 is never.
	ServerIdleTimeout time.Duration
	ServerLifetime    time.Duration

	// MaxPreparedStatements is how many prepared statements one server keeps.
	MaxPreparedStatements int

	// Random spreads reconnects. It is used on the loop only.
	Random *rand.Rand

	// Entropy yields nonces that nobody can guess: crypto/rand.Reader. It is used
	// on the loop only, and only for users whose secret is known.
	Entropy io.Reader
}
