package pool

import "time"

// ServerStats is a copy of what there is to know of one server.
type ServerStats struct {
	ID             uint64
	PID            uint32
	Database, User string

	// State is PgBouncer's word for what the server is doing.
	State string

	// Address is the server's, LocalAddress the proxy's end; TLS is how the connection
	// is encrypted, "" if it is not.
	Address, LocalAddress string
	TLS                   string

	ApplicationName string // that it has been given
	Statements      int    // that it has prepared

	// ConnectedAt, and UsedAt, when it was lent last, are of the loop's clock.
	// CloseNeeded: it is closed as soon as nobody holds it.
	ConnectedAt time.Duration
	UsedAt      time.Duration
	CloseNeeded bool

	// Client is who holds it, and Pins is why across transactions. Shared: it works for
	// many instead. Groups is how many groups are under way.
	Client Client
	Pins   StateSet
	Shared bool
	Groups int
}

// serverStateNames are PgBouncer's words.
var serverStateNames = [stateCount]string{
	stateOpening:   "new",
	stateIdle:      "idle",
	stateLeased:    "active",
	stateShared:    "active",
	stateResetting: "tested",
	stateCanceling: "being_canceled",
	stateClosed:    "closed",
}

// ID tells the server from all others that there have been.
func (s *Server) ID() uint64 { return s.id }

// Closed reports whether the server has ended.
func (s *Server) Closed() bool { return s.state == stateClosed }

// Stats returns a copy of what there is to know of the server.
func (s *Server) Stats() ServerStats {
	stats := ServerStats{
		ID: s.id, PID: s.cancelPID, Database: s.pool.Database, User: s.pool.User,
		State: serverStateNames[s.state], Address: s.pool.config.Upstream.Address, TLS: s.negotiation.channel.String(),
		Statements: s.prepared.lru.Len(), ConnectedAt: s.createdAt, UsedAt: s.leasedAt, CloseNeeded: s.expired(s.pool.now()) || s.stale(),
		Client: s.client, Pins: s.pins, Shared: s.state == stateShared, Groups: s.groups.count,
	}
	if s.conn != nil {
		stats.Address, stats.LocalAddress = s.conn.RemoteAddr(), s.conn.LocalAddr()
	}
	stats.ApplicationName, _ = s.settings.Value("application_name")
	return stats
}

// Servers returns the servers of all pools.
func (p *Pools) Servers() []*Server {
	servers := make([]*Server, 0, p.serverCount)
	for _, pool := range p.list {
		servers = append(servers, pool.servers...)
	}
	return servers
}
