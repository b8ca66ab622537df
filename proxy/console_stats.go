package proxy

import (
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/reactor"
)

// statsPeriod is PgBouncer's stats_period: averages are over the last whole one and what
// has passed of the present one.
const statsPeriod = time.Minute

// averages keeps the counters of databases as they were, to tell what has happened since.
type averages struct {
	older, newer     map[string]pool.Stats
	olderAt, newerAt time.Duration
	timer            reactor.Timer
}

// start takes a copy of the counters now and then every period.
func (a *averages) start(p *Proxy) {
	a.newerAt = p.loop.Now()
	a.turn(p)
	a.timer.Fire = func() { a.turn(p) }
}

func (a *averages) turn(p *Proxy) {
	a.older, a.olderAt = a.newer, a.newerAt
	a.newer, a.newerAt = map[string]pool.Stats{}, p.loop.Now()
	for _, stats := range pool.ByDatabase(p.poolStats()) {
		a.newer[stats.Database] = stats
	}
	p.loop.SetTimer(&a.timer, p.loop.Now()+statsPeriod)
}

// databaseStats is the counters of a database, and what was added to them in the span
// that averages are over.
type databaseStats struct {
	total, added pool.Stats
	span         time.Duration
}

// databaseStats returns those of all databases.
func (p *Proxy) databaseStats() []databaseStats {
	a := &p.consoles.averages
	var all []databaseStats
	for _, stats := range pool.ByDatabase(p.poolStats()) {
		all = append(all, databaseStats{stats, stats.Since(a.older[stats.Database]), p.loop.Now() - a.olderAt})
	}
	return all
}

// counter is what PgBouncer counts and the proxy, too. PgBouncer has several names for it.
type counter struct {
	total, average string // in SHOW STATS
	name           string // in SHOW STATS_TOTALS
	averageName    string // in SHOW STATS_AVERAGES
	sum            string // in SHOW TOTALS, behind total_ and avg_

	value func(*pool.Stats) uint64
	per   func(*pool.Stats) uint64 // what the average is taken over; nil for seconds
}

// newCounter is a counter with the same name nearly everywhere.
func newCounter(name string, value, per func(*pool.Stats) uint64) counter {
	return counter{"total_" + name, "avg_" + name, name, name, name, value, per}
}

// newYoungCounter is one that PgBouncer has had for less long.
func newYoungCounter(name, sum string, value func(*pool.Stats) uint64) counter {
	return counter{"total_" + name, "avg_" + name, name, "avg_" + name, sum, value, nil}
}

var counters = []counter{
	newCounter("server_assignment_count", (*pool.Stats).Assignments, nil),
	newCounter("xact_count", (*pool.Stats).Transactions, nil),
	newCounter("query_count", queryCount, nil),
	{"total_received", "avg_recv", "bytes_received", "bytes_received", "client_bytes", func(s *pool.Stats) uint64 { return s.ReceivedBytes }, nil},
	{"total_sent", "avg_sent", "bytes_sent", "bytes_sent", "server_bytes", func(s *pool.Stats) uint64 { return s.SentBytes }, nil},
	newCounter("xact_time", func(s *pool.Stats) uint64 { return microseconds(s.TransactionsTime()) }, (*pool.Stats).Transactions),
	newCounter("query_time", func(s *pool.Stats) uint64 { return microseconds(s.QueryTime) }, queryCount),
	newCounter("wait_time", func(s *pool.Stats) uint64 { return microseconds(s.WaitTime) }, (*pool.Stats).Assignments),
	newYoungCounter("client_parse_count", "ps_client_parse_count", func(s *pool.Stats) uint64 { return s.ParseCount }),
	newYoungCounter("server_parse_count", "ps_server_parse_count", func(s *pool.Stats) uint64 { return s.ServerParseCount }),
	newYoungCounter("bind_count", "ps_bind_count", func(s *pool.Stats) uint64 { return s.BindCount }),
	newYoungCounter("client_login_count", "client_login_count", func(s *pool.Stats) uint64 { return s.LoginCount }),
}

func queryCount(s *pool.Stats) uint64 { return s.QueryCount }

func microseconds(d time.Duration) uint64 { return uint64(d / time.Microsecond) }

// averageOf is the average of a counter: per second, or per what it is taken over.
func (c *counter) averageOf(d *databaseStats) uint64 {
	added, over := c.value(&d.added), uint64(0)
	if c.per != nil {
		over = c.per(&d.added)
	} else {
		added, over = added*uint64(time.Second/time.Millisecond), uint64(d.span/time.Millisecond)
	}
	if over == 0 {
		return 0
	}
	return added / over
}

// statsTable is a table of a line for each database, with columns of the counters.
func statsTable(columns ...func(*counter) columnOf[databaseStats]) *table {
	all := []columnOf[databaseStats]{textColumn("database", func(d *databaseStats) string { return d.total.Database })}
	for _, column := range columns {
		for i := range counters {
			all = append(all, column(&counters[i]))
		}
	}
	return listTable((*Proxy).databaseStats, all...)
}

func totalColumn(name string, c *counter) columnOf[databaseStats] {
	return numericColumn(name, func(d *databaseStats) uint64 { return c.value(&d.total) })
}

var showStats = statsTable(
	func(c *counter) columnOf[databaseStats] { return totalColumn(c.total, c) },
	func(c *counter) columnOf[databaseStats] { return numericColumn(c.average, c.averageOf) },
)

var showTotals = statsTable(func(c *counter) columnOf[databaseStats] { return totalColumn(c.name, c) })

var showAverages = statsTable(func(c *counter) columnOf[databaseStats] { return numericColumn(c.averageName, c.averageOf) })

// sum is a line of SHOW TOTALS.
type sum struct {
	name  string
	value uint64
}

var showSums = listTable(
	func(p *Proxy) []sum {
		var all databaseStats
		for _, d := range p.databaseStats() {
			all.total.Add(&d.total)
			all.added.Add(&d.added)
			all.span = d.span
		}
		var sums []sum
		for i := range counters {
			sums = append(sums, sum{"total_" + counters[i].sum, counters[i].value(&all.total)})
		}
		for i := range counters {
			sums = append(sums, sum{"avg_" + counters[i].sum, counters[i].averageOf(&all)})
		}
		return sums
	},
	textColumn("name", func(s *sum) string { return s.name }),
	numericColumn("value", func(s *sum) uint64 { return s.value }),
)
