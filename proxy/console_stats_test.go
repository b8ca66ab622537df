package proxy

import (
	"testing"
	"time"
)

func TestShowStats(t *testing.T) {
	f := newFixture(t, withConsole)
	console := f.enter("viewer")
	c := f.login()
	work := func(queries int) {
		for range queries {
			c.send("Q|wait")
			f.world.Advance(10 * time.Millisecond)
			f.server().Go()
			f.world.Settle()
			c.conn.Sent()
		}
	}
	work(1)
	shop := func(what string) line {
		t.Helper()
		return find(t, console.show(what), "database", "shop")
	}
	wantLine(t, shop("STATS_TOTALS"), "xact_count", "1", "query_count", "1", "query_time", "10000", "xact_time", "10000", "client_login_count", "1")

	// The present period and the last whole one count.
	f.world.Advance(statsPeriod) // which begins when the proxy does
	work(60)
	f.world.Advance(statsPeriod - f.world.Now()%statsPeriod)
	f.world.Advance(statsPeriod / 2)
	wantLine(t, shop("STATS_AVERAGES"), "query_count", "0", "xact_count", "0", "query_time", "10000", "xact_time", "10000", "wait_time", "0")
	work(120)
	l := shop("STATS")
	wantLine(t, l, "total_query_count", "181", "total_xact_count", "181", "avg_query_count", "1", "avg_query_time", "10000", "avg_xact_time", "10000",
		"total_client_login_count", "1", "avg_client_login_count", "0", "total_server_assignment_count", "182")
	wantLine(t, find(t, console.show("TOTALS"), "name", "total_xact_count"), "value", "185") // and those at the console
	f.world.Advance(3 * statsPeriod)
	wantLine(t, shop("STATS_AVERAGES"), "query_count", "0", "query_time", "0")
	wantLine(t, find(t, console.show("STATS_TOTALS"), "database", "pgbouncer"), "client_login_count", "1", "query_count", "6")
}

func TestShowPools(t *testing.T) {
	f := newFixture(t, withConsole, oneServer, func(c *Config) { c.Pool.MaxDBConnections = 7; c.Pool.ServerLifetime = time.Hour })
	console := f.enter("viewer")
	wantLine(t, find(t, console.show("DATABASES"), "name", "shop"), "pool_size", "1", "current_connections", "0", "paused", "0") // that of the URL
	release := f.block()
	waiter := f.login()
	waiter.send("Q|select 1")
	f.world.Advance(3*time.Second + 5*time.Microsecond)
	wantLine(t, find(t, console.show("POOLS"), "database", "shop"), "user", "app", "cl_active", "1", "cl_waiting", "1", "sv_active", "1", "sv_idle", "0",
		"maxwait", "3", "maxwait_us", "5", "pool_mode", "transaction", "load_balance_hosts", "~", "pool_size", "1")
	wantLine(t, find(t, console.show("POOLS"), "database", "pgbouncer"), "user", "pgbouncer", "cl_active", "1", "pool_mode", "statement")
	wantLine(t, find(t, console.show("DATABASES"), "name", "shop"), "host", "db.example", "port", "5433", "database", "shop", "force_user", "~",
		"pool_size", "1", "server_lifetime", "3600", "max_connections", "7", "current_connections", "1", "current_client_connections", "2")
	wantLine(t, find(t, console.show("DATABASES"), "name", "pgbouncer"), "host", "~", "force_user", "pgbouncer", "pool_size", "2")
	wantLine(t, find(t, console.show("USERS"), "name", "app"), "current_connections", "1", "current_client_connections", "2", "pool_mode", "~")
	for list, items := range map[string]string{
		"databases": "2", "users": "1", "pools": "1", "used_clients": "3", "free_clients": "97", "login_clients": "0", "used_servers": "1", "free_servers": "0",
	} {
		wantLine(t, find(t, console.show("LISTS"), "list", list), "items", items)
	}
	wantLine(t, find(t, console.show("MEM"), "name", "server_cache"), "used", "1")
	release()
	waiter.want("T|c", "D|1", "C|SELECT 1", "Z|I")
	wantLine(t, find(t, console.show("POOLS"), "database", "shop"), "cl_waiting", "0", "sv_idle", "1", "maxwait", "0")
}
