package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestCopyTwins copies in both protocols, with every way to end it.
func TestCopyTwins(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	fillPool(t, p, d, 1)
	pids := d.pids(t, 1)
	data := func(text string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(text)} }
	done, fail := &pgproto3.CopyDone{}, &pgproto3.CopyFail{Message: "changed my mind"}
	begin := func(sql string) step {
		return step{send: []pgproto3.FrontendMessage{parse("", sql), bind(""), execute(), syncMessage()}, until: "CopyInResponse"}
	}
	send := func(messages ...pgproto3.FrontendMessage) step { return step{send: messages} }
	const copyIn = "copy item from stdin"
	simpleCopy := simple(copyIn).expecting("CopyInResponse")
	for _, script := range []namedScript{
		{"simple", []step{simpleCopy, send(data("1\tone\n2\t"), data("two\n"), done)}},
		{"simple, failed by the client", []step{simpleCopy, send(data("1\tone\n"), fail)}},
		{"simple, bad data", []step{simpleCopy, send(data("x\tone\n"), data("2\ttwo\n"), done)}},
		{"simple, bad data, then much more", []step{simpleCopy, send(data("x\tone\n"), data(strings.Repeat("2\ttwo\n", 50_000)), done)}},
		{"simple, a query within", []step{simpleCopy, send(data("1\tone\n"), &pgproto3.Query{String: "select 1"}).expecting("close")}},
		{"simple, flush and sync within", []step{simpleCopy, send(data("1\tone\n"), &pgproto3.Flush{}, syncMessage(), data("2\ttwo\n"), done)}},
		{"simple, two in a query", []step{
			simple("copy item from stdin; copy item from stdin; select count(*) from item").expecting("CopyInResponse"),
			{send: []pgproto3.FrontendMessage{data("1\tone\n"), done}, until: "CopyInResponse"},
			send(data("2\ttwo\n"), done),
		}},
		{"simple, in a transaction", []step{simple("begin"), simpleCopy, send(data("1\tone\n"), done), simple("select count(*) from item"), simple("rollback")}},
		{"simple, failed in a transaction", []step{simple("begin"), simpleCopy, send(data("x\n"), done), simple("select 1"), simple("rollback")}},
		{"extended", []step{begin(copyIn), send(data("1\tone\n"), done, syncMessage())}},
		{"extended, without the first sync", []step{
			{send: []pgproto3.FrontendMessage{parse("", copyIn), bind(""), execute(), &pgproto3.Flush{}}, until: "CopyInResponse"},
			send(data("1\tone\n"), done, syncMessage()),
		}},
		{"extended, all at once", []step{send(parse("", copyIn), bind(""), execute(), data("1\tone\n"), done, syncMessage())}},
		{"extended, failed by the client", []step{begin(copyIn), send(data("1\tone\n"), fail, syncMessage())}},
		{"extended, bad data", []step{begin(copyIn), send(data("x\tone\n"), data("2\ttwo\n"), done, syncMessage())}},
		{"extended, two", []step{begin(copyIn), send(data("1\tone\n"), done, syncMessage()), begin(copyIn), send(data("2\ttwo\n"), done, syncMessage())}},
		{"extended, then more in the group", []step{begin(copyIn), send(data("1\tone\n"), done, parse("", "select count(*) from item"), bind(""), execute(), syncMessage())}},
		{"extended, prepared", []step{
			extended(parse("c", copyIn)),
			{send: []pgproto3.FrontendMessage{bind("c"), execute(), syncMessage()}, until: "CopyInResponse"},
			send(data("1\tone\n"), done, syncMessage()),
		}},
		{"refused", []step{simple("copy missing from stdin"), extended(parse("", "copy missing from stdin"), bind(""), execute())}},
		{"out", []step{
			simple("insert into item values (1, 'one'), (2, null)"), simple("copy item to stdout"), simple("copy (select 1) to stdout; select 2"),
			extended(parse("", "copy item to stdout"), bind(""), execute()), simple("copy item to stdout (format binary)"), simple("copy (select 1/0) to stdout"),
		}},
	} {
		t.Run(script.name, func(t *testing.T) {
			script.steps = append(script.steps, simple("select * from item order by id").by(1))
			runTwins(t, p, d, "drop table if exists item; create table item (id int primary key, name text)", script.steps)
		})
	}
	p.waitPool(t, d, "the server is free", func(s poolStats) bool { return s.ServersIdle == 1 })
	d.expectPIDs(t, pids)
}
