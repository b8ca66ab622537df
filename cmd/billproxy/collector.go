package main

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/proxy"
)

// collector is a prometheus.Collector over one copy of the proxy's state: a
// scrape makes its own.
type collector struct {
	metrics    *metrics
	about      proxyDescription
	logDropped uint64
	stats      proxy.Stats
	up         bool // stats is valid
}

// newRegistry returns a registry of what describes the process, or one scrape.
func newRegistry(collectors ...prometheus.Collector) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors...)
	return registry
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) {
	m := c.metrics
	for _, metric := range m.overall {
		descriptions <- metric.desc
	}
	for _, metric := range slices.Concat(m.databases, m.endpoints, m.pools) {
		descriptions <- metric.desc
	}
	for _, desc := range []*prometheus.Desc{
		m.up, m.version, m.counts[0], m.counts[1], m.counts[2], m.maxDatabase, m.logDropped, m.clientsClosed, m.clientsPinned, m.serversClosed, m.shed, m.tenantShed,
	} {
		descriptions <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	m := c.metrics
	constant := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	constant(m.version, prometheus.GaugeValue, 1, proxy.ConsoleVersion(versionText()))
	constant(m.logDropped, prometheus.CounterValue, float64(c.logDropped))

	constant(m.up, prometheus.GaugeValue, flag(c.up))
	if !c.up {
		return
	}
	for _, metric := range m.overall {
		out <- metric.of(&c.stats)
	}
	for reason, count := range c.stats.ClientsClosed {
		constant(m.clientsClosed, prometheus.CounterValue, float64(count), reason)
	}
	users := make(map[string]bool)
	for i := range c.stats.Pools {
		p := &c.stats.Pools[i]
		users[p.User] = true
		for _, metric := range m.pools {
			out <- metric.of(p, p.Database, p.User)
		}
		for reason, count := range p.ClientsPinned {
			constant(m.clientsPinned, prometheus.GaugeValue, float64(count), p.Database, p.User, reason)
		}
		for reason, count := range p.ServersClosed {
			constant(m.serversClosed, prometheus.CounterValue, float64(count), p.Database, p.User, reason)
		}
		for reason, count := range p.Gate.Shed.ByName() {
			constant(m.shed, prometheus.CounterValue, float64(count), p.Database, p.User, reason)
		}
		for _, tenant := range p.Gate.Tenants {
			constant(m.tenantShed, prometheus.CounterValue, float64(tenant.Shed.Total()), p.Database, p.User, strings.ToValidUTF8(tenant.Name, "?"))
		}
	}
	databases := pool.ByDatabase(c.stats.Pools)
	host, port := c.about.upstream.hostPort()
	for i := range databases {
		d := &databases[i]
		for _, metric := range m.databases {
			out <- metric.of(d, d.Database)
		}
		labels := []string{d.Database, host, port, d.Database, "", d.Mode.String()}
		for _, metric := range m.endpoints {
			out <- metric.of(d, labels...)
		}
		constant(m.maxDatabase, prometheus.GaugeValue, float64(c.about.maxDBConnections), labels...)
	}
	for i, count := range []int{len(databases), len(users), len(c.stats.Pools)} {
		constant(m.counts[i], prometheus.GaugeValue, float64(count))
	}
}
