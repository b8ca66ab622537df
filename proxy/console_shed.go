package proxy

import (
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/shed"
)

// tenantRow is a line of SHOW SHED: what the gate of a pool has told a tenant.
type tenantRow struct {
	pool *pool.Stats
	shed.TenantStats
}

var showShed = listTable(
	func(p *Proxy) []tenantRow {
		var rows []tenantRow
		for _, stats := range p.pools.Stats() {
			for _, tenant := range stats.Gate.Tenants {
				rows = append(rows, tenantRow{&stats, tenant})
			}
		}
		return rows
	},
	textColumn("database", func(r *tenantRow) string { return r.pool.Database }),
	textColumn("user", func(r *tenantRow) string { return r.pool.User }),
	textColumn("tenant", func(r *tenantRow) string { return r.Name }),
	intColumn("waiting", func(r *tenantRow) int { return r.Waiting }),
	intColumn("open", func(r *tenantRow) int { return r.Open }),
	bigColumn("admitted", func(r *tenantRow) uint64 { return r.Admitted }),
	bigColumn("followed", func(r *tenantRow) uint64 { return r.Followed }),
	bigColumn("shed", func(r *tenantRow) uint64 { return r.Shed.Total() }),
	shedColumn(shed.Overload),
	shedColumn(shed.QueueDelay),
	shedColumn(shed.WaitTimeout),
	shedColumn(shed.Deadline),
	shedColumn(shed.QueueFull),
	shedColumn(shed.RetryBudget),
)

func shedColumn(reason shed.Reason) columnOf[tenantRow] {
	return bigColumn(reason.String(), func(r *tenantRow) uint64 { return r.Shed[reason] })
}

// stormRow is a line of SHOW STORMS: the gate of a pool, and its storm under way, or the
// last.
type stormRow struct {
	pool.Stats
	began, ended string
}

func (r *stormRow) storm() *shed.Storm { return &r.Gate.Storm }

var showStorms = listTable(
	func(p *Proxy) []stormRow {
		var rows []stormRow
		for _, stats := range p.pools.Stats() {
			row := stormRow{Stats: stats}
			if storm := row.storm(); stats.Gate.Storms > 0 {
				row.began = p.consoles.timeOfDay(storm.BeganAt)
				if !storm.On {
					row.ended = p.consoles.timeOfDay(storm.EndedAt)
				}
			}
			rows = append(rows, row)
		}
		return rows
	},
	textColumn("database", func(r *stormRow) string { return r.Database }),
	textColumn("user", func(r *stormRow) string { return r.User }),
	textColumn("storm", func(r *stormRow) string { return yesNo(r.storm().On) }),
	textColumn("overloaded", func(r *stormRow) string { return yesNo(r.Gate.Overloaded) }),
	intColumn("usable_servers", func(r *stormRow) int { return r.Gate.Servers }),
	intColumn("waiting", func(r *stormRow) int { return r.Gate.Waiting }),
	intColumn("oldest_wait_us", func(r *stormRow) int { return int(r.Gate.OldestWait / time.Microsecond) }),
	bigColumn("storms", func(r *stormRow) uint64 { return r.Gate.Storms }),
	columnOf[stormRow]{columnHead{"began", typeText}, func(r *stormRow) cell { return cell{text: r.began, null: r.began == ""} }},
	columnOf[stormRow]{columnHead{"ended", typeText}, func(r *stormRow) cell { return cell{text: r.ended, null: r.ended == ""} }},
	bigColumn("arrivals", func(r *stormRow) uint64 { return r.storm().Arrivals }),
	bigColumn("admitted", func(r *stormRow) uint64 { return r.storm().Admitted }),
	bigColumn("shed", func(r *stormRow) uint64 { return r.storm().Shed.Total() }),
	bigColumn("retries", func(r *stormRow) uint64 { return r.storm().Retries }),
	bigColumn("abandoned", func(r *stormRow) uint64 { return r.storm().Abandoned }),
	intColumn("most_waiting", func(r *stormRow) int { return r.storm().MostWaiting }),
	intColumn("longest_wait_us", func(r *stormRow) int { return int(r.storm().LongestWait / time.Microsecond) }),
)
