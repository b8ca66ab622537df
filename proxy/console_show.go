package proxy

import (
	"reflect"
	"time"

	"github.com/billproxy/billproxy/pool"
)

// shows are the tables of the console by the word behind SHOW. Each begins with the
// columns of PgBouncer's, if that has one; columns of our own are its last.
var shows = map[string]*table{
	"CLIENTS":        showClients,
	"CONFIG":         showConfig,
	"DATABASES":      showDatabases,
	"LISTS":          showLists,
	"MEM":            showMemory,
	"POOLS":          showPools,
	"SERVERS":        showServers,
	"SHED":           showShed,
	"STATE":          showState,
	"STATS":          showStats,
	"STATS_AVERAGES": showAverages,
	"STATS_TOTALS":   showTotals,
	"STORMS":         showStorms,
	"TOTALS":         showSums,
	"USERS":          showUsers,
	"VERSION":        showVersion,
}

// pair is a line of a table of two columns.
type pair struct {
	name, value string
}

var showVersion = listTable(
	func(p *Proxy) []string { return []string{p.consoles.config.Version} },
	textColumn("version", func(version *string) string { return *version }),
)

var showState = listTable(
	func(p *Proxy) []pair {
		paused := p.pools.Paused("")
		return []pair{{"active", yesNo(!paused)}, {"paused", yesNo(paused)}, {"suspended", yesNo(false)}}
	},
	textColumn("key", func(line *pair) string { return line.name }),
	textColumn("value", func(line *pair) string { return line.value }),
)

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

var showConfig = listTable(
	func(p *Proxy) []ConsoleSetting { return p.consoles.config.Settings },
	textColumn("key", func(s *ConsoleSetting) string { return s.Key }),
	textColumn("value", func(s *ConsoleSetting) string { return s.Value }),
	textColumn("default", func(s *ConsoleSetting) string { return s.Default }),
	textColumn("changeable", func(s *ConsoleSetting) string { return yesNo(s.Changeable) }),
)

// count is a line of SHOW LISTS.
type count struct {
	list  string
	items int
}

var showLists = listTable(
	func(p *Proxy) []count {
		stats := p.Stats()
		idle, used := 0, 0
		for i := range stats.Pools {
			idle += stats.Pools[i].ServersIdle
			used += stats.Pools[i].ServerCount() - stats.Pools[i].ServersIdle
		}
		return []count{
			{"databases", len(p.databases())},
			{"users", len(p.users())},
			{"peers", 0},
			{"pools", len(stats.Pools)},
			{"peer_pools", 0},
			{"free_clients", max(0, stats.MaxClientConn-stats.ClientCount)},
			{"used_clients", stats.ClientCount},
			{"login_clients", stats.ClientLoginCount},
			{"free_servers", idle},
			{"used_servers", used},
			{"dns_names", 0},
			{"dns_zones", 0},
			{"dns_queries", 0},
			{"dns_pending", 0},
		}
	},
	textColumn("list", func(c *count) string { return c.list }),
	intColumn("items", func(c *count) int { return c.items }),
)

// memory is a line of SHOW MEM: objects of one kind.
type memory struct {
	name        string
	size, count int
}

var showMemory = listTable(
	func(p *Proxy) []memory {
		return []memory{
			{"client_cache", int(reflect.TypeFor[session]().Size()), len(p.sessions)},
			{"pool_cache", int(reflect.TypeFor[pool.Pool]().Size()), len(p.pools.Stats())},
			{"server_cache", int(reflect.TypeFor[pool.Server]().Size()), p.pools.ServerCount()},
		}
	},
	textColumn("name", func(m *memory) string { return m.name }),
	intColumn("size", func(m *memory) int { return m.size }),
	intColumn("used", func(m *memory) int { return m.count }),
	noneColumn[memory]("free"),
	intColumn("memtotal", func(m *memory) int { return m.size * m.count }),
)

// timeOfDay is a time of the loop's clock as PgBouncer prints it.
func (cs *consoles) timeOfDay(at time.Duration) string {
	return cs.config.BeganAt.Add(at).Format("2006-01-02 15:04:05 MST")
}

// wholeSeconds and theirMicroseconds are the two parts of a wait.
func wholeSeconds(d time.Duration) int { return int(d / time.Second) }

func theirMicroseconds(d time.Duration) int { return int(d % time.Second / time.Microsecond) }
