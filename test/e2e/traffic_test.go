package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// traffic is clients that read, write and run transactions without pause while the
// server is being ill-treated. They keep account of what they were told, and know
// which errors they may be told.
type traffic struct {
	t        *testing.T
	database *database
	url      string
	clients  []*trafficClient
	stopping atomic.Bool
	calm     atomic.Bool // from here on there is no reason for any error
	leaving  atomic.Bool // the proxy may go, and clients end with it
	running  sync.WaitGroup

	mu         sync.Mutex
	operations map[string]bool // by id; true if the client was told that it is done
	errorCodes map[string]int
}

// trafficClient is one client; its fields are its goroutine's.
type trafficClient struct {
	traffic  *traffic
	number   int
	mode     pgx.QueryExecMode
	conn     *pgx.Conn
	random   *rand.Rand
	sequence int
	written  int // rows that it knows of
	maybe    int // rows of which it does not know

	attempts  atomic.Int64
	successes atomic.Int64
}

// excuses are the errors that a client may get when its server goes away.
var excuses = []string{"57P01", "57P02", "57P03", "08006", "08001", "53400"}

func startTraffic(t *testing.T, p *proxyProcess, d *database, clientCount int) *traffic {
	t.Helper()
	// Without a unique constraint, which would hide a write sent twice.
	d.execAsRole(t, "create table operation (id text, client int, part int); create index on operation (client)")
	traffic := &traffic{
		t: t, database: d, url: p.url(d),
		operations: map[string]bool{}, errorCodes: map[string]int{},
	}
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	// What a write may do to its session is asked for behind the first one. Until then a
	// client ends with its server.
	w := loginWire(t, p.address, d)
	w.ask(t, "delete from operation where false")
	w.ask(t, "select 1") // behind that question
	ctx := patient(t)
	for i := range clientCount {
		c := &trafficClient{traffic: traffic, number: i, mode: modes[i%len(modes)], random: rand.New(rand.NewPCG(1, uint64(i)))}
		traffic.clients = append(traffic.clients, c)
		traffic.running.Go(func() { c.run(ctx) })
	}
	t.Cleanup(func() {
		traffic.stopping.Store(true)
		traffic.running.Wait()
	})
	return traffic
}

// waitEach returns when every client has done that many more operations, with
// success or not as asked for.
func (tr *traffic) waitEach(what string, more int64, of func(*trafficClient) *atomic.Int64) {
	tr.t.Helper()
	var goals []int64
	for _, c := range tr.clients {
		goals = append(goals, of(c).Load()+more)
	}
	for i, c := range tr.clients {
		eventually(tr.t, fmt.Sprintf("client %d: %s", c.number, what), func() bool {
			return of(c).Load() >= goals[i] || tr.t.Failed()
		})
	}
}

func attempts(c *trafficClient) *atomic.Int64  { return &c.attempts }
func successes(c *trafficClient) *atomic.Int64 { return &c.successes }

// settle checks that everything works again: once each client has had a success,
// none may fail any more.
func (tr *traffic) settle() {
	tr.t.Helper()
	tr.waitEach("recovered", 2, successes)
	tr.calm.Store(true)
	tr.waitEach("works after the recovery", 10, successes)
	tr.calm.Store(false)
}

// finish stops the clients and compares what they were told with what there is.
func (tr *traffic) finish() {
	tr.t.Helper()
	tr.stopping.Store(true)
	tr.running.Wait()
	d := tr.database
	d.mu.Lock()
	defer d.mu.Unlock()
	rows, err := d.admin.Query(patient(tr.t), "select id, count(*), count(*) filter (where part = 1) from operation group by id")
	if err != nil {
		tr.t.Fatal(err)
	}
	stored := map[string]int{}
	var id string
	var parts, first int
	_, err = pgx.ForEachRow(rows, []any{&id, &parts, &first}, func() error {
		stored[id] = parts
		if want := partsOf(id); parts != want || first != 1 {
			tr.t.Errorf("operation %s left %d rows, %d of them the first; want %d, 1", id, parts, first, want)
		}
		if _, known := tr.operations[id]; !known {
			tr.t.Errorf("operation %s was never sent", id)
		}
		return nil
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	acknowledged := 0
	for id, done := range tr.operations {
		if done {
			acknowledged++
			if stored[id] == 0 {
				tr.t.Errorf("operation %s was acknowledged and is lost", id)
			}
		}
	}
	tr.t.Logf("%d operations, %d acknowledged; errors: %v", len(tr.operations), acknowledged, tr.errorCodes)
	if acknowledged == 0 {
		tr.t.Error("no operation was acknowledged")
	}
}

// partsOf is how many rows an operation writes: transactions write two.
func partsOf(id string) int {
	if id[0] == 't' {
		return 2
	}
	return 1
}

func (tr *traffic) record(id string, done bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.operations[id] = done
}

// excused reports whether the error is one that the client may get at this time,
// with the severity that goes with what becomes of its connection.
func (tr *traffic) excused(err error, severity string) bool {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		tr.t.Errorf("a client got what is no answer: %v", err)
		return false
	}
	tr.mu.Lock()
	tr.errorCodes[failure.Code]++
	tr.mu.Unlock()
	if tr.calm.Load() || !slices.Contains(excuses, failure.Code) || failure.Severity != severity {
		tr.t.Errorf("a client got %s %s: %s; want %s and one of %v, and none when all is calm",
			failure.Severity, failure.Code, failure.Message, severity, excuses)
		return false
	}
	return true
}

func (c *trafficClient) run(ctx context.Context) {
	tr := c.traffic
	defer func() {
		if c.conn != nil {
			_ = c.conn.Close(ctx)
		}
	}()
	for !tr.stopping.Load() && !tr.t.Failed() {
		if c.conn == nil {
			conn, err := pgx.Connect(ctx, tr.url)
			if err != nil {
				c.attempts.Add(1)
				if !tr.excused(err, "FATAL") {
					return
				}
				continue
			}
			c.conn = conn
		}
		var ok, done bool
		switch c.random.IntN(4) {
		case 0:
			done, ok = c.read(ctx)
		case 1, 2:
			done, ok = c.write(ctx)
		default:
			done, ok = c.transact(ctx)
		}
		c.attempts.Add(1)
		if !ok {
			return
		}
		if done {
			c.successes.Add(1)
		}
	}
}

// outside judges the error of a statement outside a transaction: the connection
// must survive it, unless it is the proxy that goes.
func (c *trafficClient) outside(err error) (ok bool) {
	if c.traffic.leaving.Load() && c.conn.IsClosed() {
		c.traffic.excused(err, "FATAL")
		return false
	}
	if !c.traffic.excused(err, "ERROR") {
		return false
	}
	if c.conn.IsClosed() {
		c.traffic.t.Errorf("client %d lost its connection outside a transaction: %v", c.number, err)
		return false
	}
	return true
}

// first judges the error of the first statement of a transaction. BEGIN need not
// have taken a server: if none is to be had, the transaction fails and the
// connection stays.
func (c *trafficClient) first(ctx context.Context, tx pgx.Tx, err error) (ok bool) {
	if c.conn.IsClosed() {
		return c.inside(err)
	}
	if !c.outside(err) {
		return false
	}
	if status := c.conn.PgConn().TxStatus(); status != 'E' {
		c.traffic.t.Errorf("client %d has transaction status %c after %v", c.number, status, err)
	}
	if err := tx.Rollback(ctx); err != nil || c.conn.IsClosed() {
		c.traffic.t.Errorf("client %d could not roll back: %v", c.number, err)
		return false
	}
	return true
}

// inside judges the error of a statement inside a transaction, which costs the
// connection.
func (c *trafficClient) inside(err error) (ok bool) {
	if !c.traffic.excused(err, "FATAL") {
		return false
	}
	if !c.conn.IsClosed() {
		c.traffic.t.Errorf("client %d kept its connection although it lost its transaction: %v", c.number, err)
		return false
	}
	c.conn = nil
	return true
}

// read checks that what comes back is the client's, and all that it has written.
func (c *trafficClient) read(ctx context.Context) (done, ok bool) {
	c.sequence++
	var client, sequence, count int
	var text string
	err := c.conn.QueryRow(ctx, "select $1::int, $2::int, $3::text, count(*) from operation where client = $1::int",
		c.mode, c.number, c.sequence, secretMarker).Scan(&client, &sequence, &text, &count)
	if err != nil {
		return false, c.outside(err)
	}
	if client != c.number || sequence != c.sequence || text != secretMarker || count < c.written || count > c.written+c.maybe {
		c.traffic.t.Errorf("client %d, sequence %d, with %d to %d rows, got client %d, sequence %d, %d rows",
			c.number, c.sequence, c.written, c.written+c.maybe, client, sequence, count)
		return false, false
	}
	return true, true
}

const insertOperation = "insert into operation values ($1, $2, $3)"

func (c *trafficClient) write(ctx context.Context) (done, ok bool) {
	id := fmt.Sprintf("w-%d-%d", c.number, c.sequence)
	c.sequence++
	c.traffic.record(id, false)
	if _, err := c.conn.Exec(ctx, insertOperation, c.mode, id, c.number, 1); err != nil {
		c.maybe++
		return false, c.outside(err)
	}
	c.traffic.record(id, true)
	c.written++
	return true, true
}

func (c *trafficClient) transact(ctx context.Context) (done, ok bool) {
	id := fmt.Sprintf("t-%d-%d", c.number, c.sequence)
	c.sequence++
	c.traffic.record(id, false)
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return false, c.outside(err)
	}
	for part := range 2 {
		_, err := tx.Exec(ctx, insertOperation, c.mode, id, c.number, part+1)
		switch {
		case err != nil && part == 0:
			return false, c.first(ctx, tx, err)
		case err != nil:
			return false, c.inside(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		c.maybe += 2
		return false, c.inside(err)
	}
	c.traffic.record(id, true)
	c.written += 2
	return true, true
}
