package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestCopyKeepsServer ends COPY in every way that leaves its client connected: the
// server is free afterwards, and is the same. What the client is told is in
// test/twin.
func TestCopyKeepsServer(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int primary key, name text)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	fillPool(t, p, d, 1)
	pids := d.pids(t, 1)
	data := func(text string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(text)} }
	done, fail := &pgproto3.CopyDone{}, &pgproto3.CopyFail{Message: "changed my mind"}
	send := func(messages ...pgproto3.FrontendMessage) step { return step{send: messages} }
	begin := simple("copy item from stdin").expecting("CopyInResponse")
	prepared := extended(parse("", "copy item from stdin"), bind(""), execute()).expecting("CopyInResponse")
	for _, script := range [][]step{
		{begin, send(data("1\tone\n"), done)},
		{begin, send(data("2\ttwo\n"), fail)},
		{begin, send(data("x\n"), data(strings.Repeat("2\ttwo\n", 50_000)), done)},
		{simple("begin"), begin, send(data("x\n"), done), simple("rollback")},
		{prepared, send(data("3\tthree\n"), done, syncMessage())},
		{prepared, send(data("x\n"), fail, syncMessage())},
		{simple("copy item to stdout"), simple("copy (select 1/0) to stdout")},
	} {
		client := loginWire(t, p.address, d)
		for _, s := range script {
			client.play(t, s)
		}
		client.usable(t)
	}
	p.waitPool(t, d, "the server is free", func(s poolStats) bool { return s.ServersIdle == 1 })
	d.expectPIDs(t, pids)
}
