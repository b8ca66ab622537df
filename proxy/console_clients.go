package proxy

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/pool"
)

// clientRow is a line of SHOW CLIENTS.
type clientRow struct {
	ClientStats
	consoles *consoles
	draining bool
}

var showClients = tableOf(
	func(p *Proxy) func() (clientRow, bool) {
		next := each(slices.Clone(p.sessions)) // they come and go until it is their turn
		return func() (clientRow, bool) {
			for {
				s, ok := next()
				switch {
				case !ok:
					return clientRow{}, false
				case s.state != stateEnded && (s.pool != nil || s.console != nil):
					return clientRow{s.stats(), &p.consoles, p.draining}, true
				}
			}
		}
	},
	textColumn("type", func(*clientRow) string { return "C" }),
	textColumn("user", func(c *clientRow) string { return c.User }),
	textColumn("database", func(c *clientRow) string { return c.Database }),
	textColumn("replication", func(*clientRow) string { return "none" }),
	textColumn("state", func(c *clientRow) string {
		switch {
		case c.Waiting:
			return "waiting"
		case c.ServerID != 0:
			return "active"
		}
		return "idle"
	}),
	textColumn("addr", func(c *clientRow) string { return hostPart(c.Address) }),
	intColumn("port", func(c *clientRow) int { return portPart(c.Address) }),
	textColumn("local_addr", func(c *clientRow) string { return hostPart(c.LocalAddress) }),
	intColumn("local_port", func(c *clientRow) int { return portPart(c.LocalAddress) }),
	textColumn("connect_time", func(c *clientRow) string { return c.consoles.timeOfDay(c.ConnectedAt) }),
	textColumn("request_time", func(c *clientRow) string { return c.consoles.timeOfDay(c.ActiveAt) }),
	intColumn("wait", func(c *clientRow) int { return wholeSeconds(c.Waited) }),
	intColumn("wait_us", func(c *clientRow) int { return theirMicroseconds(c.Waited) }),
	intColumn("close_needed", func(c *clientRow) int { return flag(c.draining) }),
	textColumn("ptr", func(c *clientRow) string { return clientPointer(c.ID) }),
	textColumn("link", func(c *clientRow) string { return serverPointer(c.ServerID) }),
	noneColumn[clientRow]("remote_pid"),
	textColumn("tls", func(c *clientRow) string { return c.TLS }),
	textColumn("application_name", func(c *clientRow) string { return c.ApplicationName }),
	intColumn("prepared_statements", func(c *clientRow) int { return c.Statements }),
	intColumn("id", func(c *clientRow) int { return int(c.ID) }),
	textColumn("pin_reason", func(c *clientRow) string { return strings.Join(c.Reasons, ", ") }),
	textColumn("settings", func(c *clientRow) string { return strings.Join(c.Settings, ", ") }),
	intColumn("server_pid", func(c *clientRow) int { return int(c.ServerPID) }),
	bigColumn("groups", func(c *clientRow) uint64 { return c.Groups }),
)

// serverRow is a line of SHOW SERVERS.
type serverRow struct {
	pool.ServerStats
	consoles *consoles
}

var showServers = tableOf(
	func(p *Proxy) func() (serverRow, bool) {
		next := each(p.pools.Servers())
		return func() (serverRow, bool) {
			for {
				s, ok := next()
				switch {
				case !ok:
					return serverRow{}, false
				case !s.Closed():
					return serverRow{s.Stats(), &p.consoles}, true
				}
			}
		}
	},
	textColumn("type", func(*serverRow) string { return "S" }),
	textColumn("user", func(s *serverRow) string { return s.User }),
	textColumn("database", func(s *serverRow) string { return s.Database }),
	textColumn("replication", func(*serverRow) string { return "none" }),
	textColumn("state", func(s *serverRow) string { return s.State }),
	textColumn("addr", func(s *serverRow) string { return hostPart(s.Address) }),
	intColumn("port", func(s *serverRow) int { return portPart(s.Address) }),
	textColumn("local_addr", func(s *serverRow) string { return hostPart(s.LocalAddress) }),
	intColumn("local_port", func(s *serverRow) int { return portPart(s.LocalAddress) }),
	textColumn("connect_time", func(s *serverRow) string { return s.consoles.timeOfDay(s.ConnectedAt) }),
	textColumn("request_time", func(s *serverRow) string { return s.consoles.timeOfDay(s.UsedAt) }),
	noneColumn[serverRow]("wait"),
	noneColumn[serverRow]("wait_us"),
	intColumn("close_needed", func(s *serverRow) int { return flag(s.CloseNeeded) }),
	textColumn("ptr", func(s *serverRow) string { return serverPointer(s.ID) }),
	textColumn("link", func(s *serverRow) string {
		if client, ok := s.Client.(*session); ok {
			return clientPointer(client.id)
		}
		return ""
	}),
	intColumn("remote_pid", func(s *serverRow) int { return int(s.PID) }),
	textColumn("tls", func(s *serverRow) string { return s.TLS }),
	textColumn("application_name", func(s *serverRow) string { return s.ApplicationName }),
	intColumn("prepared_statements", func(s *serverRow) int { return s.Statements }),
	intColumn("id", func(s *serverRow) int { return int(s.ID) }),
	textColumn("pin_reason", func(s *serverRow) string { return s.Pins.String() }),
	intColumn("shared", func(s *serverRow) int { return flag(s.Shared) }),
	intColumn("groups", func(s *serverRow) int { return s.Groups }),
)

// clientPointer and serverPointer look like PgBouncer's addresses of objects, by which a
// client and its server are found in each other's table.
func clientPointer(id uint32) string { return fmt.Sprintf("0x1%08x", id) }

func serverPointer(id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("0x2%08x", id)
}

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

// hostPart and portPart are those of an address, "unix" and 0 of a Unix-domain socket.
func hostPart(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func portPart(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}
