package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestPreparedTwins runs scripts of prepared statements directly and through one
// server that all clients take turns on.
func TestPreparedTwins(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for _, sharedReads := range []string{"on", "off"} {
		p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "MAX_PREPARED_STATEMENTS": "5", "SHARED_READS": sharedReads})
		for _, script := range preparedScripts() {
			t.Run(script.name+", shared reads "+sharedReads, func(t *testing.T) {
				runTwins(t, p, d, "drop table if exists item; create table item (id int primary key, name text)", script.steps)
			})
		}
	}
}

func preparedScripts() []namedScript {
	return []namedScript{
		{"parse, describe, bind, execute at once", []step{
			extended(parse("s", "select $1::int + 1 as n"), describe("s"), bind("s", "1"), describePortal(), execute()),
			runPrepared("s", "2"), runPrepared("s", "3"),
		}},
		{"same name, different texts", []step{
			extended(parse("s", "select 'first'")).by(0), extended(parse("s", "select 'second'")).by(1), extended(parse("s", "select 'third'")).by(2),
			runPrepared("s").by(0), runPrepared("s").by(1), runPrepared("s").by(2), runPrepared("s").by(1), runPrepared("s").by(0),
		}},
		{"different names, same text", []step{
			extended(parse("a", "select $1::text")).by(0), extended(parse("b", "select $1::text")).by(1),
			runPrepared("a", "x").by(0), runPrepared("b", "y").by(1), runPrepared("b", "not hers").by(0), runPrepared("a", "not his").by(1), runPrepared("a", "z").by(0),
		}},
		{"same text, different types", []step{
			extended(&pgproto3.Parse{Name: "s", Query: "select pg_typeof($1)", ParameterOIDs: []uint32{23}}),
			extended(&pgproto3.Parse{Name: "t", Query: "select pg_typeof($1)", ParameterOIDs: []uint32{25}}),
			extended(describe("s"), describe("t")), runPrepared("s", "1"), runPrepared("t", "1"),
		}},
		{"name in use", []step{
			extended(parse("s", "select 1")), extended(parse("s", "select 2")), extended(parse("s", "select 1")), runPrepared("s"),
			extended(closeStatement("s")), extended(parse("s", "select 3")), runPrepared("s"),
		}},
		{"name in use, within one group", []step{
			extended(parse("s", "select 1"), parse("s", "select 2"), bind("s"), execute()), runPrepared("s"),
		}},
		{"unknown name", []step{
			runPrepared("none"), extended(describe("none")), extended(closeStatement("none")), runPrepared(""), extended(describe("")),
			extended(parse("s", "select 1")), runPrepared("s"),
		}},
		{"unknown name in a transaction", []step{
			simple("begin"), runPrepared("none"), simple("select 1"), simple("rollback"), simple("select 1"),
		}},
		{"unnamed statement", []step{
			extended(parse("", "select $1::int")), runPrepared("", "1"), simple("select 2"), runPrepared("", "3"),
			extended(parse("", "select 'other'")), runPrepared(""), extended(closeStatement("")), runPrepared(""),
		}},
		{"unnamed statement of two clients", []step{
			extended(parse("", "select 'a'")).by(0), extended(parse("", "select 'b'")).by(1), runPrepared("").by(0), runPrepared("").by(1), runPrepared("").by(0),
		}},
		{"failing parse of the unnamed statement", []step{
			extended(parse("", "select 'old'")), extended(parse("", "selec nonsense")), runPrepared(""),
		}},
		{"deallocate all", []step{
			extended(parse("s", "select 1")).by(0), extended(parse("s", "select 2")).by(1),
			simple("deallocate all").by(0), runPrepared("s").by(0), runPrepared("s").by(1), extended(parse("s", "select 3")).by(0), runPrepared("s").by(0),
		}},
		{"deallocate", []step{
			extended(parse("s", "select 1"), parse("t", "select 2")), simple("deallocate s"), runPrepared("s"), runPrepared("t"),
			simple("deallocate s"), simple(`deallocate "T"`), simple("deallocate T"), runPrepared("t"),
		}},
		{"deallocate by the extended protocol", []step{
			extended(parse("s", "select 1")), extended(parse("", "deallocate s"), bind(""), execute()), runPrepared("s"),
			extended(parse("s", "select 2")), runPrepared("s"),
		}},
		{"discard all", []step{
			extended(parse("s", "select 1")).by(0), extended(parse("s", "select 2")).by(1),
			simple("discard all").by(0), runPrepared("s").by(0), runPrepared("s").by(1),
		}},
		{"deallocate all in a transaction that is rolled back", []step{
			extended(parse("s", "select 1")), simple("begin"), simple("deallocate all"), simple("rollback"), runPrepared("s"),
		}},
		{"parse in a transaction that is rolled back", []step{
			simple("begin"), extended(parse("s", "select 1")), simple("rollback"), runPrepared("s"),
		}},
		{"parse in a failed group", []step{
			extended(parse("s", "select 1"), parse("t", "nonsense"), parse("u", "select 3")), runPrepared("s"), runPrepared("t"), runPrepared("u"),
			extended(parse("u", "select 3")), runPrepared("u"),
		}},
		{"close in a failed group", []step{
			extended(parse("s", "select 1")), extended(closeStatement("s"), parse("t", "nonsense")), runPrepared("s"),
			extended(parse("s", "select 2"), parse("x", "nonsense"), closeStatement("s")), runPrepared("s"),
		}},
		{"close, then parse again in one group", []step{
			extended(parse("s", "select 1")), extended(closeStatement("s"), parse("s", "select 2"), bind("s"), execute()), runPrepared("s"),
		}},
		{"more statements than the server keeps", slices.Concat(
			times(20, func(i int) step { return extended(parse(fmt.Sprint("s", i), fmt.Sprintf("select %d + $1::int", i))) }),
			times(20, func(i int) step { return runPrepared(fmt.Sprint("s", i), "100") }),
			times(20, func(i int) step { return runPrepared(fmt.Sprint("s", 19-i), "200") }),
		)},
		{"more statements than the server keeps, in one transaction", slices.Concat(
			[]step{simple("begin")},
			times(12, func(i int) step { return extended(parse(fmt.Sprint("s", i), fmt.Sprintf("select %d + $1::int", i))) }),
			times(12, func(i int) step { return runPrepared(fmt.Sprint("s", i), "100") }),
			[]step{simple("commit")},
			times(12, func(i int) step { return runPrepared(fmt.Sprint("s", i), "100") }),
		)},
		{"more statements than the server keeps, in one group", []step{
			extended(slices.Concat(times(12, func(i int) pgproto3.FrontendMessage { return parse(fmt.Sprint("s", i), fmt.Sprint("select ", i)) }),
				times(12, func(i int) pgproto3.FrontendMessage { return bind(fmt.Sprint("s", i)) }))...),
			runPrepared("s0"), runPrepared("s11"),
		}},
		{"an error in a pipeline", []step{
			{send: []pgproto3.FrontendMessage{
				parse("", "select 1"), bind(""), execute(), syncMessage(),
				parse("", "select 1/$1::int"), bind("", "0"), execute(), parse("", "select 'skipped'"), bind(""), execute(), syncMessage(),
				parse("", "select 3"), bind(""), execute(), syncMessage(),
				&pgproto3.Query{String: "select 4"},
			}, times: 4},
			simple("select 5"),
		}},
		{"an error in a pipeline in a transaction", []step{
			{send: []pgproto3.FrontendMessage{
				parse("", "begin"), bind(""), execute(), syncMessage(),
				parse("", "insert into item values (1)"), bind(""), execute(), syncMessage(),
				parse("", "insert into item values (1)"), bind(""), execute(), syncMessage(),
				parse("", "insert into item values (2)"), bind(""), execute(), syncMessage(),
				parse("", "commit"), bind(""), execute(), syncMessage(),
			}, times: 5},
			simple("select * from item"),
		}},
		{"several statements in a group are one transaction", []step{
			extended(parse("i", "insert into item values ($1::int)"), bind("i", "1"), execute(), bind("i", "2"), execute(), bind("i", "1"), execute()),
			simple("select * from item"),
			extended(bind("i", "1"), execute(), bind("i", "2"), execute()), simple("select * from item order by id"),
		}},
		{"portals", []step{
			simple("insert into item select i, 'n' || i from generate_series(1, 5) as i"),
			extended(parse("s", "select id from item order by id"), bind("s"), &pgproto3.Execute{MaxRows: 2}, &pgproto3.Execute{MaxRows: 2}, &pgproto3.Execute{MaxRows: 2}),
			extended(&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s"}, &pgproto3.Execute{Portal: "p", MaxRows: 2}),
			extended(&pgproto3.Execute{Portal: "p", MaxRows: 2}), // the portal ended with its transaction
			simple("begin"),
			extended(&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s"}, &pgproto3.Execute{Portal: "p", MaxRows: 2}),
			simple("select 'between'"),
			extended(&pgproto3.Execute{Portal: "p", MaxRows: 2}),
			extended(&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Close{ObjectType: 'P', Name: "p"}, &pgproto3.Close{ObjectType: 'P', Name: "p"}),
			extended(&pgproto3.Execute{Portal: "p"}), simple("rollback"),
		}},
		{"formats", []step{
			extended(parse("s", "select $1::int, $2::text")),
			extended(&pgproto3.Bind{PreparedStatement: "s", ParameterFormatCodes: []int16{1, 0}, Parameters: [][]byte{{0, 0, 0, 7}, []byte("x")}, ResultFormatCodes: []int16{1, 0}},
				describePortal(), execute()),
			extended(&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{nil, nil}, ResultFormatCodes: []int16{1}}, describePortal(), execute()),
		}},
		{"wrong number of parameters", []step{extended(parse("s", "select $1::int, $2::int")), runPrepared("s", "1"), runPrepared("s", "1", "2", "3"), runPrepared("s", "1", "2")}},
		{"bad parameter", []step{extended(parse("s", "select $1::int")), runPrepared("s", "x"), runPrepared("s", "1")}},
		{"notices", []step{
			extended(parse("", "do $$ begin raise notice 'n'; raise warning 'w'; end $$"), bind(""), execute()),
			simple("drop table if exists none"),
		}},
		{"empty queries", []step{simple(""), simple(" ; "), simple("-- comment"), extended(parse("", ""), bind(""), describePortal(), execute()), extended()}},
		{"transaction control by the extended protocol", []step{
			extended(parse("b", "begin")), extended(parse("c", "commit")), extended(parse("r", "rollback")),
			runPrepared("b"), simple("insert into item values (1)"), runPrepared("c"), runPrepared("b"), simple("insert into item values (2)"), runPrepared("r"),
			runPrepared("c"), runPrepared("b"), runPrepared("b"), runPrepared("c"), simple("select * from item"),
			simple("begin isolation level serializable read only"), simple("show transaction_isolation"), simple("insert into item values (3)"), simple("end"),
			simple("start transaction"), simple("commit and chain"), simple("show transaction_read_only"), simple("abort"), simple("begin; select 1; commit; select 2"),
			simple("begin"), simple("rollback"), simple("begin"), simple("commit"), simple("commit"), simple("rollback"), simple("begin"), simple("begin"), simple("end"),
			simple("begin"), simple("nonsense"), simple("select 1"), simple("commit"),
			simple("begin"), simple("savepoint a"), simple("nonsense"), simple("rollback to a"), simple("select 1"), simple("release a"), simple("commit"),
			simple("prepare transaction 'x'"), simple("begin"), simple("set transaction read only"), simple("insert into item values (4)"), simple("rollback"),
		}},
		{"reads on a shared server", []step{
			simple("select count(*) from item").by(0), extended(parse("r", "select count(*) from item"), bind("r"), execute()).by(1),
			simple("insert into item values (1)").by(0), runPrepared("r").by(1), simple("select id from item").by(2),
			simple("select 1/0").by(1), runPrepared("r").by(1), simple("select * from missing").by(2), simple("show default_transaction_read_only").by(0),
			simple("show transaction_read_only").by(1), simple("select current_setting('transaction_read_only')").by(2),
			simple("select nextval('none')").by(0), simple("select id from item for update").by(1), simple("update item set name = 'x' returning name").by(2),
		}},
		{"a statement whose result changes", []step{
			extended(parse("s", "select * from item"), describe("s")).by(0), runPrepared("s").by(0),
			simple("alter table item add more text").by(1), extended(bind("s"), execute()).by(0),
		}},
		{"a table that is made again", []step{
			extended(parse("s", "select id from item")).by(0), runPrepared("s").by(0), simple("drop table item; create table item (id int)").by(1),
			runPrepared("s").by(0), simple("drop table item").by(1), runPrepared("s").by(0), simple("create table item (id int)").by(1), runPrepared("s").by(0),
		}},
		{"flush", []step{
			{send: []pgproto3.FrontendMessage{parse("s", "select $1::text"), describe("s"), &pgproto3.Flush{}}, until: "RowDescription"},
			{send: []pgproto3.FrontendMessage{bind("s", "flushed"), execute(), &pgproto3.Flush{}}, until: "CommandComplete"},
			{send: []pgproto3.FrontendMessage{bind("none"), execute(), &pgproto3.Flush{}}, until: "ErrorResponse"},
			{send: []pgproto3.FrontendMessage{bind("s", "skipped"), execute(), &pgproto3.Flush{}, syncMessage()}},
			simple("select 'after'"),
		}},
	}
}

// TestHealedPlan changes a table under a statement whose result nobody has described:
// where PostgreSQL says that the cached plan must not change, the proxy need not.
func TestHealedPlan(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int); insert into item values (1)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	client, other := loginWire(t, p.address, d), loginWire(t, p.address, d)
	client.play(t, extended(parse("s", "select * from item")))
	for i, want := range []string{`DataRow "1"`, `DataRow "1","0"`, `DataRow "1","0","1"`} {
		got := client.play(t, extended(bind("s"), execute()))
		if !slices.Contains(got, want) {
			t.Errorf("got %q, want %s", got, want)
		}
		other.ask(t, fmt.Sprintf("alter table item add more_%d int default %d", i, i))
	}
	// In a transaction nothing can be run again.
	client.hold(t)
	if got := client.play(t, extended(bind("s"), execute())); errorCode(got) != "ERROR 0A000" || client.status != 'E' {
		t.Errorf("in a transaction: got %q", got)
	}
	client.ask(t, "rollback")
	if got := client.play(t, extended(bind("s"), execute())); !slices.Contains(got, `DataRow "1","0","1","2"`) {
		t.Errorf("after the transaction: got %q", got)
	}
}

// TestDriftedPlan changes a table under a statement whose result the client has been
// told, and has a server run it that has not seen it before: rows of another shape
// must not reach the client.
func TestDriftedPlan(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	for _, change := range []string{"alter table item add more int default 7", "alter table item alter id type text"} {
		for _, sql := range []string{"select * from item", "delete from item returning *"} {
			t.Run(sql+" after "+change, func(t *testing.T) {
				ask := func(address string) []string {
					d.execAsRole(t, "drop table if exists item; create table item (id int); insert into item values (1)")
					client := loginWire(t, address, d)
					client.play(t, extended(parse("s", sql), describe("s")))
					client.ask(t, "begin")
					client.play(t, extended(bind("s"), execute()))
					client.ask(t, "rollback")
					holder := loginWire(t, address, d)
					holder.hold(t) // the server that knows the statement
					d.execAsRole(t, change)
					got := client.play(t, extended(bind("s"), execute()))
					holder.ask(t, "rollback")
					client.usable(t)
					return got
				}
				want, got := ask(d.cluster.TCPAddress()), ask(p.address)
				if !slices.Equal(got, want) {
					t.Errorf("through the proxy:\n\t%s\ndirectly:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
				}
			})
		}
	}
}

// TestPreparedByMany has many clients use the same names for different statements
// on few servers that keep few statements.
func TestPreparedByMany(t *testing.T) {
	t.Parallel()
	const clientCount, statementCount, rounds = 40, 10, 6
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "3", "MAX_PREPARED_STATEMENTS": "20"})
	ctx := patient(t)
	var working sync.WaitGroup
	for i := range clientCount {
		conn := p.connect(t, d, "statement_cache_capacity", "0")
		working.Go(func() {
			if err := useStatements(ctx, conn, i, statementCount, rounds); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	working.Wait()
	if got := p.poolStats(t, d); got.ServerConnects > 3 || len(got.ServersClosed) > 0 {
		t.Errorf("pool: %+v, want at most 3 servers and none closed", got)
	}
}

func useStatements(ctx context.Context, conn *pgx.Conn, client, statementCount, rounds int) error {
	for round := range rounds {
		for i := range statementCount {
			name := fmt.Sprint("statement_", i)
			factor := client%7 + round*100 + 1
			if _, err := conn.Prepare(ctx, name, fmt.Sprintf("select $1::int * %d + %d", factor, i)); err != nil {
				return fmt.Errorf("prepare: %w", err)
			}
		}
		for n := range 3 * statementCount {
			i := n % statementCount
			factor := client%7 + round*100 + 1
			var got int
			if err := conn.QueryRow(ctx, fmt.Sprint("statement_", i), n).Scan(&got); err != nil || got != n*factor+i {
				return fmt.Errorf("got %d, %w; want %d", got, err, n*factor+i)
			}
		}
		if round%2 == 0 {
			if _, err := conn.Exec(ctx, "deallocate all"); err != nil {
				return err
			}
			if err := conn.DeallocateAll(ctx); err != nil {
				return err
			}
			continue
		}
		for i := range statementCount {
			if err := conn.Deallocate(ctx, fmt.Sprint("statement_", i)); err != nil {
				return err
			}
		}
	}
	return nil
}
