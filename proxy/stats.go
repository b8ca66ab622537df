package proxy

import (
	"time"

	"github.com/billproxy/billproxy/pool"
)

// Stats is a copy of the proxy's state and counters, for metrics, the admin
// page and tests. Counters start at zero with the process.
type Stats struct {
	// Uptime is the loop's time when the copy was made.
	Uptime time.Duration

	// ClientCount is the client connections now, ClientLoginCount those among
	// them that have not logged in yet.
	ClientCount      int
	ClientLoginCount int
	MaxClientConn    int

	// ClientsAccepted, ClientsRefused (over MaxClientConn or failed startup) and
	// CancelRequests count connections since the start.
	ClientsAccepted uint64
	ClientsRefused  uint64
	CancelRequests  uint64

	// LoginsDelayed counts clients that had to wait before they were let in.
	LoginsDelayed uint64

	// ClientsClosed counts ended client connections by reason.
	ClientsClosed map[string]uint64

	// PinnedClients are the clients that keep a server across transactions.
	PinnedClients []ClientStats

	// Draining is true from the beginning of a shutdown.
	Draining bool

	Pools []pool.Stats
}
