package proxy

import (
	"time"
)

// ClientStats is a copy of what there is to know of one client. It has no SQL and no
// values of settings, which may be secrets.
type ClientStats struct {
	ID             uint32 // the process id that the client knows
	Address        string
	Database, User string
	Console        bool // it is at the admin console

	// Where it came in, and how it is encrypted, "" if it is not.
	LocalAddress string
	TLS          string

	ApplicationName string
	Settings        []string // the names of those that are not the server's defaults
	Statements      int      // that it has prepared

	// ConnectedAt and ActiveAt, when it last sent something, are of the loop's clock.
	// Waited is for how long it has been waiting for a server.
	ConnectedAt time.Duration
	ActiveAt    time.Duration
	Waiting     bool
	Waited      time.Duration

	// The server that it has, or shares; 0 if there is none. Reasons are the kinds of
	// state that keep it there.
	ServerID  uint64
	ServerPID uint32
	Reasons   []string

	// Groups is how many sync groups it has been answered.
	Groups uint64
}

// Stats returns a copy of what there is to know of the client, who has logged in or waits
// for a server to do so.
func (s *session) stats() ClientStats {
	stats := ClientStats{
		ID: s.id, Address: s.conn.RemoteAddr(), LocalAddress: s.conn.LocalAddr(),
		ConnectedAt: s.startedAt, ActiveAt: s.activeAt, Groups: s.groupsAnswered,
	}
	if s.channel != nil {
		stats.TLS = s.channel.tls.String()
	}
	if c := s.console; c != nil {
		stats.Database, stats.User, stats.Console = c.database, c.user, true
		stats.ApplicationName, stats.Statements = c.applicationName, len(c.statements)
		return stats
	}
	stats.Database, stats.User = s.pool.Database, s.pool.User
	stats.ApplicationName, _ = s.settings.Value("application_name")
	for _, setting := range s.settings.All() {
		if setting.Name != "application_name" {
			stats.Settings = append(stats.Settings, setting.Name)
		}
	}
	stats.Statements = s.statements.count()
	stats.Waiting, stats.Waited = s.waiter.Waiting(), s.waiter.Waited(s.proxy.loop.Now())
	server := s.server
	if server == nil {
		server = s.shared
	}
	if server != nil {
		stats.ServerID, stats.ServerPID = server.ID(), server.PID()
	}
	if s.server != nil {
		stats.Reasons = s.server.Pins().Names()
	}
	return stats
}
