package proxy

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// fixture is a proxy between clients, which the test plays, and a server that
// understands some statements.
type fixture struct {
	testing.TB
	world *pooltest.World
	pg    *pooltest.Postgres
	proxy *Proxy
}

func newFixture(tb testing.TB, changes ...func(*Config)) *fixture {
	tb.Helper()
	random := rand.NewChaCha8([32]byte{1})
	config := Config{
		Pool: pool.Config{
			Upstream:              reactor.Address{Network: "tcp", Address: "postgres:5432"},
			DefaultPoolSize:       2,
			SharedDepth:           16,
			QueryWaitTimeout:      10 * time.Second,
			ServerConnectTimeout:  5 * time.Second,
			MaxPreparedStatements: 100,
			Shed:                  shed.Config{Target: 5 * time.Millisecond, Interval: 100 * time.Millisecond, RetryBudget: 0.1, Fair: true, AdaptiveLimit: true},
			ShedSQLState:          pgwire.ConfigurationLimitExceeded,
			Random:                rand.New(random),
		},
		MaxClientConn:      100,
		ClientLoginTimeout: time.Minute,
		ClientStallTimeout: time.Minute,
		Entropy:            random,
	}
	for _, change := range changes {
		change(&config)
	}
	world := pooltest.NewWorld()
	return &fixture{
		TB: tb, world: world, pg: pooltest.NewPostgres(world),
		proxy: New(config, world, slog.New(slog.DiscardHandler)),
	}
}

// oneServer makes every client use the same server.
func oneServer(c *Config) { c.Pool.DefaultPoolSize = 1 }

// sharedReads turns shared servers on.
func sharedReads(c *Config) { c.Pool.SharedReads = true }

// stats returns the stats of the only pool.
func (f *fixture) stats() pool.Stats {
	f.Helper()
	pools := f.proxy.Stats().Pools
	if len(pools) != 1 {
		f.Fatalf("%d pools, want 1", len(pools))
	}
	return pools[0]
}

// server returns the only session of the server that is alive.
func (f *fixture) server() *pooltest.Session {
	f.Helper()
	open := f.pg.Open()
	if len(open) != 1 {
		f.Fatalf("%d servers, want 1", len(open))
	}
	return open[0]
}

// wantReceived compares what the only server was sent since the last call.
func (f *fixture) wantReceived(words ...string) {
	f.Helper()
	s := f.server()
	got := s.Received
	s.Received = nil
	wantWords(f, "sent to the server", got, words)
}

func wantWords(tb testing.TB, what string, got, want []string) {
	tb.Helper()
	if !slices.Equal(got, want) {
		tb.Fatalf("%s:\n got %s\nwant %s", what, strings.Join(got, "  "), strings.Join(want, "  "))
	}
}

// client is a connection to the proxy.
type client struct {
	f    *fixture
	conn *pooltest.Conn
	id   uint32 // from BackendKeyData
	key  []byte
}

// dial returns a client that has sent nothing yet.
func (f *fixture) dial() *client {
	conn := f.world.NewConn("127.0.0.1:40000")
	conn.Handle(f.proxy.Accept(conn))
	return &client{f: f, conn: conn}
}

// startup sends a startup message of protocol 3.0 for the user "app" and the database
// "shop", with more parameters.
func (c *client) startup(parameters ...string) {
	all := append([]string{"user", "app", "database", "shop"}, parameters...)
	c.feed(pgwire.AppendStartupMessage(nil, pgwire.Version30, all...))
}

// login returns a client that has logged in.
func (f *fixture) login(parameters ...string) *client {
	f.Helper()
	c := f.dial()
	c.startup(parameters...)
	c.welcomed()
	return c
}

// welcomed reads the answer to a startup message and returns the settings that it
// reports.
func (c *client) welcomed() (settings []string) {
	c.f.Helper()
	b := c.conn.Sent()
	got := pooltest.BackendWords(b)
	if len(got) < 3 || got[0] != "R" || got[len(got)-1] != "Z|I" || !strings.HasPrefix(got[len(got)-2], "K|") {
		c.f.Fatalf("answer to the startup message: %s", strings.Join(got, "  "))
	}
	for len(b) > 0 {
		size := 1 + int(binary.BigEndian.Uint32(b[1:]))
		if b[0] == pgwire.BackendKeyData {
			c.id, c.key = binary.BigEndian.Uint32(b[5:]), slices.Clone(b[9:size])
		}
		b = b[size:]
	}
	return got[1 : len(got)-2]
}

// feed sends bytes.
func (c *client) feed(b []byte) {
	c.conn.Feed(b)
	c.f.world.Settle()
}

// send sends messages, given as words.
func (c *client) send(words ...string) { c.feed(pooltest.Frontend(words...)) }

// want compares what the client was sent since the last call.
func (c *client) want(words ...string) {
	c.f.Helper()
	c.f.world.Settle()
	wantWords(c.f, "sent to the client", pooltest.BackendWords(c.conn.Sent()), words)
}

// wantEnd is want for a client whose connection is closed after that.
func (c *client) wantEnd(words ...string) {
	c.f.Helper()
	c.want(words...)
	if !c.conn.Closed() {
		c.f.Fatal("the connection is left open")
	}
}

// ask sends a simple query and wants its answer, one row.
func (c *client) ask(value string) {
	c.f.Helper()
	c.send("Q|select " + value)
	c.want("T|c", "D|"+value, "C|SELECT 1", "Z|I")
}

// prepare prepares a statement by that name.
func (c *client) prepare(name, text string) {
	c.f.Helper()
	c.send("P|"+name+"|"+text, "S")
	c.want("1", "Z|I")
}

// close closes the client's end in an orderly way, or with an error.
func (c *client) close(err error) {
	c.conn.End(err)
	c.f.world.Settle()
}

// cancel sends a cancel request with the client's key.
func (c *client) cancel() {
	canceler := c.f.dial()
	canceler.feed(pgwire.AppendCancelRequest(nil, c.id, c.key))
	canceler.wantEnd()
}

// block makes the only server busy with another client's query, until the function
// that is returned is called.
func (f *fixture) block() (release func()) {
	f.Helper()
	other := f.login()
	other.send("Q|wait")
	server := f.server()
	if !server.Waiting() {
		f.Fatal("the server does not run the query")
	}
	return func() {
		server.Go()
		f.world.Settle()
		other.send("X")
	}
}

// ended reports how many clients have ended for the reason.
func (f *fixture) ended(reason endReason) int {
	return int(f.proxy.Stats().ClientsClosed[reason.String()])
}

// checkIdle fails unless nothing is left under way: every server idle, no client.
func (f *fixture) checkIdle() {
	f.Helper()
	stats := f.proxy.Stats()
	if stats.ClientCount != 0 || len(f.proxy.byID) != 0 {
		f.Errorf("%d clients are left", stats.ClientCount)
	}
	for _, p := range stats.Pools {
		if p.ServersLeased+p.ServersResetting+p.ServersCanceling+p.ServersOpening+p.ServersShared+p.ClientsWaiting+p.ClientsActive != 0 {
			f.Errorf("left under way: %+v", p)
		}
	}
}

// checkIdleServers fails unless every server is idle.
func (f *fixture) checkIdleServers() {
	f.Helper()
	if stats := f.stats(); stats.ServersIdle != len(f.pg.Open()) {
		f.Errorf("stats %+v", stats)
	}
}

func row(n int) string { return fmt.Sprintf("D|*%d", n) }

// direct is a connection to the server of a world without a proxy between.
type direct struct {
	*pooltest.Conn
	received []byte
}

// connectDirectly logs in to the server that answers the world's dials.
func connectDirectly(world *pooltest.World) *direct {
	d := &direct{}
	world.Dial(reactor.Address{}, 0, func(conn reactor.Conn, _ error) reactor.Handler {
		d.Conn = conn.(*pooltest.Conn)
		return d
	})
	world.Settle()
	d.Write(pgwire.AppendStartupMessage(nil, pgwire.Version30, "user", "app", "database", "shop"))
	world.Settle()
	d.take()
	return d
}

// take returns what came since the last call, as words.
func (d *direct) take() []string {
	words := pooltest.BackendWords(d.received)
	d.received = nil
	return words
}

func (d *direct) OnData(b []byte) int {
	d.received = append(d.received, b...)
	return len(b)
}

func (d *direct) OnDrain() {}

func (d *direct) OnClose(error) {}
