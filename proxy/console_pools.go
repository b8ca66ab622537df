package proxy

import (
	"cmp"
	"maps"
	"slices"

	"github.com/billproxy/billproxy/pool"
)

// poolStats are the pools, and the console as if it were one.
func (p *Proxy) poolStats() []pool.Stats { return append(p.pools.Stats(), p.consoles.stats) }

var showPools = listTable(
	(*Proxy).poolStats,
	textColumn("database", func(s *pool.Stats) string { return s.Database }),
	textColumn("user", func(s *pool.Stats) string { return s.User }),
	intColumn("cl_active", func(s *pool.Stats) int { return s.ClientsActive }),
	intColumn("cl_waiting", func(s *pool.Stats) int { return s.ClientsWaiting }),
	noneColumn[pool.Stats]("cl_active_cancel_req"),
	noneColumn[pool.Stats]("cl_waiting_cancel_req"),
	intColumn("sv_active", func(s *pool.Stats) int { return s.ServersLeased + s.ServersShared }),
	noneColumn[pool.Stats]("sv_active_cancel"),
	intColumn("sv_being_canceled", func(s *pool.Stats) int { return s.ServersCanceling }),
	intColumn("sv_idle", func(s *pool.Stats) int { return s.ServersIdle }),
	noneColumn[pool.Stats]("sv_used"),
	intColumn("sv_tested", func(s *pool.Stats) int { return s.ServersResetting }),
	intColumn("sv_login", func(s *pool.Stats) int { return s.ServersOpening }),
	intColumn("maxwait", func(s *pool.Stats) int { return wholeSeconds(s.OldestWait) }),
	intColumn("maxwait_us", func(s *pool.Stats) int { return theirMicroseconds(s.OldestWait) }),
	textColumn("pool_mode", func(s *pool.Stats) string { return s.Mode.String() }),
	nullColumn[pool.Stats]("load_balance_hosts"),
	intColumn("sv_shared", func(s *pool.Stats) int { return s.ServersShared }),
	intColumn("sv_pinned", func(s *pool.Stats) int { return s.ServersPinned }),
	intColumn("pool_size", func(s *pool.Stats) int { return s.MaxServers }),
)

// databaseRow is a line of SHOW DATABASES.
type databaseRow struct {
	pool.Stats  // of its pools together
	host        string
	port        int
	config      *pool.Config
	maxServers  int
	forcedUser  string
	paused, off bool
}

// databases returns the databases that are known, in their order.
func (p *Proxy) databases() []databaseRow {
	cs := &p.consoles
	rows := map[string]databaseRow{}
	add := func(stats pool.Stats) {
		rows[stats.Database] = databaseRow{
			Stats: stats, host: cs.config.Host, port: cs.config.Port, config: &p.config.Pool,
			maxServers: p.config.Pool.MaxDBConnections, paused: p.pools.Paused(stats.Database), off: cs.disabled[stats.Database],
		}
	}
	for _, name := range append(slices.Collect(maps.Keys(cs.disabled)), p.pools.PausedDatabases()...) {
		add(p.unusedDatabase(name))
	}
	if cs.config.Database != "" {
		add(p.unusedDatabase(cs.config.Database))
	}
	for _, stats := range pool.ByDatabase(p.pools.Stats()) {
		add(stats)
	}
	rows[cs.stats.Database] = databaseRow{Stats: cs.stats, config: &pool.Config{}, forcedUser: consoleUser}
	return slices.SortedFunc(maps.Values(rows), func(a, b databaseRow) int { return cmp.Compare(a.Database, b.Database) })
}

// unusedDatabase is the stats of a database without pools.
func (p *Proxy) unusedDatabase(name string) pool.Stats {
	return pool.Stats{Database: name, Mode: p.config.Pool.Mode, MaxServers: p.config.Pool.DefaultPoolSize}
}

var showDatabases = listTable(
	(*Proxy).databases,
	textColumn("name", func(d *databaseRow) string { return d.Database }),
	columnOf[databaseRow]{columnHead{"host", typeText}, func(d *databaseRow) cell { return cell{text: d.host, null: d.host == ""} }},
	intColumn("port", func(d *databaseRow) int { return d.port }),
	textColumn("database", func(d *databaseRow) string { return d.Database }),
	columnOf[databaseRow]{columnHead{"force_user", typeText}, func(d *databaseRow) cell { return cell{text: d.forcedUser, null: d.forcedUser == ""} }},
	intColumn("pool_size", func(d *databaseRow) int { return d.MaxServers }),
	noneColumn[databaseRow]("min_pool_size"),
	noneColumn[databaseRow]("reserve_pool_size"),
	intColumn("server_lifetime", func(d *databaseRow) int { return wholeSeconds(d.config.ServerLifetime) }),
	textColumn("pool_mode", func(d *databaseRow) string { return d.Mode.String() }),
	nullColumn[databaseRow]("load_balance_hosts"),
	intColumn("max_connections", func(d *databaseRow) int { return d.maxServers }),
	intColumn("current_connections", func(d *databaseRow) int { return d.ServerCount() }),
	noneColumn[databaseRow]("max_client_connections"),
	intColumn("current_client_connections", func(d *databaseRow) int { return d.ClientsActive + d.ClientsWaiting }),
	intColumn("paused", func(d *databaseRow) int { return flag(d.paused) }),
	intColumn("disabled", func(d *databaseRow) int { return flag(d.off) }),
)

// userRow is a line of SHOW USERS.
type userRow struct {
	name             string
	servers, clients int
}

// users returns the users who have a pool, in their order.
func (p *Proxy) users() []userRow {
	rows := map[string]userRow{}
	for _, stats := range p.pools.Stats() {
		row := rows[stats.User]
		rows[stats.User] = userRow{stats.User, row.servers + stats.ServerCount(), row.clients + stats.ClientsActive + stats.ClientsWaiting}
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b userRow) int { return cmp.Compare(a.name, b.name) })
}

var showUsers = listTable(
	(*Proxy).users,
	textColumn("name", func(u *userRow) string { return u.name }),
	textColumn("pool_size", func(*userRow) string { return "" }),
	textColumn("reserve_pool_size", func(*userRow) string { return "" }),
	nullColumn[userRow]("pool_mode"),
	noneColumn[userRow]("max_user_connections"),
	intColumn("current_connections", func(u *userRow) int { return u.servers }),
	noneColumn[userRow]("max_user_client_connections"),
	intColumn("current_client_connections", func(u *userRow) int { return u.clients }),
)
