package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/proxy"
)

// Metrics named pgbouncer_… are those of pgbouncer_exporter, so that dashboards
// made for it work; those named billproxy_… are ours.
const (
	exporterPrefix = "pgbouncer_"
	ownPrefix      = "billproxy_"
)

// metric is one number of a T.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*T) float64
}

func gauge[T any](name, help string, labels []string, value func(*T) float64) metric[T] {
	return metric[T]{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, value}
}

func counter[T any](name, help string, labels []string, value func(*T) float64) metric[T] {
	return metric[T]{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, value}
}

func (m metric[T]) of(from *T, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(m.desc, m.kind, m.value(from), labels...)
}

func seconds(d time.Duration) float64 { return d.Seconds() }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// metrics is the catalogue of what a scrape returns.
type metrics struct {
	overall   []metric[proxy.Stats]
	databases []metric[pool.Stats] // by database, over its users
	endpoints []metric[pool.Stats] // the same, labelled as SHOW DATABASES
	pools     []metric[pool.Stats]

	up            *prometheus.Desc
	version       *prometheus.Desc
	counts        [3]*prometheus.Desc // databases, users, pools
	maxDatabase   *prometheus.Desc
	logDropped    *prometheus.Desc
	clientsClosed *prometheus.Desc
	clientsPinned *prometheus.Desc
	serversClosed *prometheus.Desc
	shed          *prometheus.Desc
	tenantShed    *prometheus.Desc
}

func newMetrics() *metrics {
	database := []string{"database"}
	endpoint := []string{"name", "host", "port", "database", "force_user", "pool_mode"}
	return &metrics{
		overall:   overallMetrics(),
		databases: databaseMetrics(database),
		endpoints: []metric[pool.Stats]{
			gauge(exporterPrefix+"databases_pool_size", "Most servers of a pool.", endpoint,
				func(s *pool.Stats) float64 { return float64(s.MaxServers) }),
			gauge(exporterPrefix+"databases_current_connections", "Servers of the database.", endpoint,
				func(s *pool.Stats) float64 { return float64(s.ServerCount()) }),
		},
		pools:   poolMetrics([]string{"database", "user"}),
		up:      prometheus.NewDesc(exporterPrefix+"up", "Whether the proxy answered.", nil, nil),
		version: prometheus.NewDesc(exporterPrefix+"version_info", "The version.", []string{"version"}, nil),
		counts: [3]*prometheus.Desc{
			prometheus.NewDesc(exporterPrefix+"databases", "Databases in use.", nil, nil),
			prometheus.NewDesc(exporterPrefix+"users", "Users of these databases.", nil, nil),
			prometheus.NewDesc(exporterPrefix+"pools", "Pools: pairs of database and user.", nil, nil),
		},
		maxDatabase: prometheus.NewDesc(exporterPrefix+"databases_max_connections",
			"Most servers altogether; 0 is no limit.", endpoint, nil),
		logDropped: prometheus.NewDesc(ownPrefix+"log_records_dropped_total",
			"Log records lost because standard error was slow.", nil, nil),
		clientsClosed: prometheus.NewDesc(ownPrefix+"clients_closed_total",
			"Client connections that ended, by reason.", []string{"reason"}, nil),
		clientsPinned: prometheus.NewDesc(ownPrefix+"clients_pinned",
			"Clients that state of their session keeps on a server, by what it is.", []string{"database", "user", "reason"}, nil),
		serversClosed: prometheus.NewDesc(ownPrefix+"servers_closed_total",
			"Server connections that ended, by reason.", []string{"database", "user", "reason"}, nil),
		shed: prometheus.NewDesc(ownPrefix+"shed_total",
			"Work that was refused before it began, by reason.", []string{"database", "user", "reason"}, nil),
		tenantShed: prometheus.NewDesc(ownPrefix+"tenant_shed_total",
			"Work that was refused before it began, by tenant: at most 257 of a pool.", []string{"database", "user", "tenant"}, nil),
	}
}

func overallMetrics() []metric[proxy.Stats] {
	return []metric[proxy.Stats]{
		gauge(exporterPrefix+"used_clients", "Client connections.", nil,
			func(s *proxy.Stats) float64 { return float64(s.ClientCount) }),
		gauge(exporterPrefix+"login_clients", "Client connections that have not logged in yet.", nil,
			func(s *proxy.Stats) float64 { return float64(s.ClientLoginCount) }),
		gauge(exporterPrefix+"free_servers", "Servers nobody uses.", nil,
			func(s *proxy.Stats) float64 { return sum(s.Pools, func(p *pool.Stats) int { return p.ServersIdle }) }),
		gauge(exporterPrefix+"used_servers", "Servers in use.", nil,
			func(s *proxy.Stats) float64 {
				return sum(s.Pools, func(p *pool.Stats) int { return p.ServerCount() - p.ServersIdle })
			}),
		counter(ownPrefix+"logins_delayed_total", "Clients that had to wait before they were let in.", nil,
			func(s *proxy.Stats) float64 { return float64(s.LoginsDelayed) }),
		gauge(exporterPrefix+"config_max_client_connections", "Most client connections.", nil,
			func(s *proxy.Stats) float64 { return float64(s.MaxClientConn) }),
		counter(ownPrefix+"clients_accepted_total", "Client connections accepted.", nil,
			func(s *proxy.Stats) float64 { return float64(s.ClientsAccepted) }),
		counter(ownPrefix+"clients_refused_total", "Client connections refused.", nil,
			func(s *proxy.Stats) float64 { return float64(s.ClientsRefused) }),
		counter(ownPrefix+"cancel_requests_total", "Cancel requests.", nil,
			func(s *proxy.Stats) float64 { return float64(s.CancelRequests) }),
		gauge(ownPrefix+"draining", "1 while the proxy shuts down.", nil,
			func(s *proxy.Stats) float64 { return flag(s.Draining) }),
		gauge(ownPrefix+"uptime_seconds", "Age of the event loop.", nil,
			func(s *proxy.Stats) float64 { return seconds(s.Uptime) }),
	}
}

func databaseMetrics(labels []string) []metric[pool.Stats] {
	const prefix = exporterPrefix + "stats_totals_"
	return []metric[pool.Stats]{
		counter(prefix+"queries_pooled_total", "Queries.", labels,
			func(s *pool.Stats) float64 { return float64(s.QueryCount) }),
		counter(prefix+"sql_transactions_pooled_total", "Transactions.", labels,
			func(s *pool.Stats) float64 { return float64(s.Transactions()) }),
		counter(prefix+"received_bytes_total", "Bytes received from clients.", labels,
			func(s *pool.Stats) float64 { return float64(s.ReceivedBytes) }),
		counter(prefix+"sent_bytes_total", "Bytes sent to clients.", labels,
			func(s *pool.Stats) float64 { return float64(s.SentBytes) }),
		counter(prefix+"server_in_transaction_seconds_total", "Time in transactions.", labels,
			func(s *pool.Stats) float64 { return seconds(s.TransactionsTime()) }),
		counter(prefix+"queries_duration_seconds_total", "Time servers took for queries.", labels,
			func(s *pool.Stats) float64 { return seconds(s.QueryTime) }),
		counter(prefix+"client_wait_seconds_total", "Time clients waited for a server.", labels,
			func(s *pool.Stats) float64 { return seconds(s.WaitTime) }),
		counter(prefix+"server_assignments_total", "Times a client was lent a server.", labels,
			func(s *pool.Stats) float64 { return float64(s.Assignments()) }),
		counter(prefix+"client_parses_total", "Parse messages from clients.", labels,
			func(s *pool.Stats) float64 { return float64(s.ParseCount) }),
		counter(prefix+"server_parses_total", "Parse messages to servers.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServerParseCount) }),
		counter(prefix+"binds_total", "Bind messages from clients.", labels,
			func(s *pool.Stats) float64 { return float64(s.BindCount) }),
	}
}

func poolMetrics(labels []string) []metric[pool.Stats] {
	const prefix = exporterPrefix + "pools_"
	return []metric[pool.Stats]{
		gauge(prefix+"client_active_connections", "Clients with a server, or idle.", labels,
			func(s *pool.Stats) float64 { return float64(s.ClientsActive) }),
		gauge(prefix+"client_waiting_connections", "Clients that wait for a server.", labels,
			func(s *pool.Stats) float64 { return float64(s.ClientsWaiting) }),
		gauge(prefix+"client_maxwait_seconds", "Age of the oldest wait.", labels,
			func(s *pool.Stats) float64 { return seconds(s.OldestWait) }),
		gauge(prefix+"server_active_connections", "Servers lent to a client or shared.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServersLeased + s.ServersShared) }),
		gauge(prefix+"server_idle_connections", "Servers nobody uses.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServersIdle) }),
		gauge(prefix+"server_testing_connections", "Servers being reset.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServersResetting) }),
		gauge(prefix+"server_login_connections", "Servers connecting and logging in.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServersOpening) }),
		gauge(prefix+"server_being_canceled_connections", "Servers that wait for a cancel to arrive.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServersCanceling) }),
		gauge(ownPrefix+"pool_max_servers", "Most servers of the pool.", labels,
			func(s *pool.Stats) float64 { return float64(s.MaxServers) }),
		counter(ownPrefix+"shared_groups_total", "Groups that shared a server.", labels,
			func(s *pool.Stats) float64 { return float64(s.SharedGroups) }),
		counter(ownPrefix+"groups_run_again_total", "Groups that were run again, unnoticed by their clients.", labels,
			func(s *pool.Stats) float64 { return float64(s.GroupsRunAgain) }),
		counter(ownPrefix+"coalesced_reads_total", "Groups that were answered with the answer to another client's.", labels,
			func(s *pool.Stats) float64 { return float64(s.CoalescedReads) }),
		counter(ownPrefix+"parameterized_reads_total", "Simple queries that were sent with parameters.", labels,
			func(s *pool.Stats) float64 { return float64(s.ParameterizedReads) }),
		counter(ownPrefix+"inspections_total", "Questions to servers about the state of a session.", labels,
			func(s *pool.Stats) float64 { return float64(s.Inspections) }),
		gauge(ownPrefix+"pool_usable_servers", "Most servers of the pool that are used at present.", labels,
			func(s *pool.Stats) float64 { return float64(s.Gate.Servers) }),
		gauge(ownPrefix+"queue_oldest_seconds", "How long the client has waited for a server that waits longest.", labels,
			func(s *pool.Stats) float64 { return seconds(s.OldestWait) }),
		gauge(ownPrefix+"storm", "Whether there is a storm.", labels,
			func(s *pool.Stats) float64 { return flag(s.Gate.Storm.On) }),
		counter(ownPrefix+"storms_total", "Storms.", labels,
			func(s *pool.Stats) float64 { return float64(s.Gate.Storms) }),
		counter(ownPrefix+"retries_total", "Work that was recognised as tried before.", labels,
			func(s *pool.Stats) float64 { return float64(s.Gate.Retries) }),
		counter(ownPrefix+"abandoned_total", "Work whose client went or cancelled before it began.", labels,
			func(s *pool.Stats) float64 { return float64(s.Gate.Abandoned) }),
		counter(ownPrefix+"wait_timeouts_total", "Clients that waited too long for a server.", labels,
			func(s *pool.Stats) float64 { return float64(s.WaitTimeouts) }),
		counter(ownPrefix+"server_connects_total", "Servers logged in.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServerConnects) }),
		counter(ownPrefix+"server_failures_total", "Servers that could not be connected or logged in.", labels,
			func(s *pool.Stats) float64 { return float64(s.ServerFailures) }),
	}
}

func sum(pools []pool.Stats, value func(*pool.Stats) int) float64 {
	total := 0
	for i := range pools {
		total += value(&pools[i])
	}
	return float64(total)
}
