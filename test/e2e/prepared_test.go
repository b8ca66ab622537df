package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

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
