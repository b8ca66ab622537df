package main

import (
	"fmt"

	"github.com/billproxy/billproxy/test/page"
	"github.com/billproxy/billproxy/test/rig"
)

// shareTable is who uses the processors, and how fast a pooler would be that used none:
// no pooler can do better, unless it makes the work of the other two less.
func shareTable(r *results) string {
	t := page.Table{Columns: []string{"work", "target", "tps", "client, µs", "pooler, µs", "PostgreSQL, µs", "tps at most"}, Left: 2}
	for _, work := range []struct{ title, name string }{
		{"`pgbench -S`, prepared, 64", workSelect("prepared", 64)},
		{"`pgbench -S`, prepared, 256", workSelect("prepared", 256)},
		{simpleUpdate.title + ", prepared, 64", simpleUpdate.work("prepared", 64)},
		{fmt.Sprintf("%s, prepared, %d", simpleUpdate.title, poolSize), simpleUpdate.direct("prepared", 64)},
	} {
		for _, name := range r.names(everybody) {
			client, server := r.of(work.name, name, clientCPU), r.of(work.name, name, serverCPU)
			if !client.Measured() {
				continue
			}
			pooler := page.Absent
			if name != rig.Direct {
				pooler = r.of(work.name, name, cpu)
			}
			most := page.Figure{Value: float64(r.Machine.Cores) * 1e6 / (client.Value + server.Value)}
			t.Add(work.title, name, r.of(work.name, name, tps).Text(page.Count),
				client.Text(page.Decimal), pooler.Text(page.Decimal), server.Text(page.Decimal), most.Text(page.Count))
		}
	}
	return page.Section("Whose the processors' time is", "CPU time per transaction, logins included. Clients and PostgreSQL share the "+
		"machine with the pooler, so one that cost nothing would get no further than the last column says, with as much work "+
		"for them as it makes.", &t)
}
