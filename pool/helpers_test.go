package pool

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// fixture is a set of pools in a world whose servers the test plays itself.
type fixture struct {
	*testing.T
	world *pooltest.World
	pools *Pools
	pool  *Pool // of database "shop" and user "app"
}

func newFixture(t *testing.T, changes ...func(*Config)) *fixture {
	t.Helper()
	config := Config{
		Upstream:              reactor.Address{Network: "tcp", Address: "postgres:5432"},
		DefaultPoolSize:       2,
		QueryWaitTimeout:      10 * time.Second,
		ServerConnectTimeout:  5 * time.Second,
		MaxPreparedStatements: 100,
		Shed:                  shed.Config{Target: 5 * time.Millisecond, Interval: 100 * time.Millisecond, RetryBudget: 0.1, Fair: true, AdaptiveLimit: true},
		ShedSQLState:          pgwire.ConfigurationLimitExceeded,
		Random:                rand.New(rand.NewPCG(1, 2)),
	}
	for _, change := range changes {
		change(&config)
	}
	world := pooltest.NewWorld()
	pools := New(config, world, slog.New(slog.DiscardHandler))
	return &fixture{T: t, world: world, pools: pools, pool: pools.Get("shop", "app")}
}

// loginWords is how a server welcomes the pool.
var loginWords = []string{"R", "S|server_version|15.0", "S|TimeZone|Etc/UTC", "K|7|key7", "Z|I"}

// connect answers the oldest dial and logs the server in.
func (f *fixture) connect() *pooltest.Conn {
	f.Helper()
	if len(f.world.Dials) == 0 {
		f.Fatal("no dial to answer")
	}
	conn := f.world.Dials[0].Connect()
	f.world.Settle()
	if got := conn.Sent(); !bytes.Contains(got, []byte("user\x00")) {
		f.Fatalf("sent %q at login", got)
	}
	f.feed(conn, loginWords...)
	return conn
}

// feed lets a server say something.
func (f *fixture) feed(conn *pooltest.Conn, words ...string) {
	conn.Feed(pooltest.Backend(words...))
	f.world.Settle()
}

// client returns a client of f.pool that holds a server of its own.
func (f *fixture) client() (*testClient, *pooltest.Conn) {
	f.Helper()
	c := f.newClient()
	c.acquire(f.pool)
	if c.server != nil {
		f.Fatal("the client got a server that was there")
	}
	conn := f.connect()
	if c.server == nil {
		f.Fatal("the client did not get the server that logged in")
	}
	c.log = nil
	return c, conn
}

func (f *fixture) newClient() *testClient {
	c := &testClient{f: f, names: map[string]*Statement{}}
	c.waiter.Client = c
	return c
}

// want compares what a connection was sent since the last call.
func (f *fixture) wantSent(conn *pooltest.Conn, words ...string) {
	f.Helper()
	f.world.Settle()
	wantWords(f.T, "sent to the server", pooltest.FrontendWords(conn.Sent()), words)
}

func wantWords(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\n got %s\nwant %s", what, strings.Join(got, "  "), strings.Join(want, "  "))
	}
}

// testClient is a client that writes down what it is told: messages as words,
// events in brackets.
type testClient struct {
	f      *fixture
	waiter Waiter
	server *Server
	names  map[string]*Statement
	tag    uint32

	bytes []byte // replies since the last event
	all   []byte // all replies
	log   []string
	loss  *Loss

	drains int // how often it was told that the server takes bytes again

	again []byte // the group that it was last asked to run again

	congested bool // it takes no answer of another client

	// described is the epoch of which the client knows the columns of everything.
	described uint32

	// What the client does from within a call.
	onGroupEnd func()
	onSettings func()
	onLease    func()
	onReply    func()
}

func (c *testClient) acquire(p *Pool) {
	c.server = p.Acquire(&c.waiter, nil, shed.Work{})
}

func (c *testClient) event(format string, args ...any) {
	c.flush()
	c.log = append(c.log, "["+fmt.Sprintf(format, args...)+"]")
}

func (c *testClient) flush() {
	c.log = append(c.log, pooltest.BackendWords(c.bytes)...)
	c.bytes = c.bytes[:0]
}

// want compares what the client was told since the last call.
func (c *testClient) want(words ...string) {
	c.f.Helper()
	c.f.world.Settle()
	c.flush()
	got := c.log
	c.log = nil
	wantWords(c.f.T, "told the client", got, words)
}

func (c *testClient) OnLease(server *Server) {
	c.server = server
	c.event("lease")
	if c.onLease != nil {
		c.onLease()
	}
}

func (c *testClient) OnRefused(e *pgwire.Error) { c.event("refused %s", e.SQLState) }

func (c *testClient) OnReply(b []byte) {
	c.bytes = append(c.bytes, b...)
	c.all = append(c.all, b...)
	if c.onReply != nil {
		c.onReply()
	}
}

func (c *testClient) OnParameterStatus(name, value []byte) (pass bool) {
	c.event("%s=%s", name, value)
	return true
}

func (c *testClient) OnReset(pgwire.TxStatus) { c.event("reset") }

func (c *testClient) OnDeallocateAll() { c.event("deallocate all") }

func (c *testClient) OnDiscard(since []Setting) { c.event("discard %v", since) }

func (c *testClient) OnRunAgain(request []byte, reason AgainReason) {
	c.again = append([]byte(nil), request...)
	c.event("again %d", reason)
}

func (c *testClient) OnSharedEnd() { c.event("shared end") }

func (c *testClient) OnAnswer(reply []byte) (taken bool) {
	if c.congested {
		return false
	}
	c.OnReply(reply)
	c.event("answer")
	return true
}

func (c *testClient) OnAlone(failed bool) { c.event("alone %v", failed) }

func (c *testClient) OnSharedLost(loss Loss) {
	c.loss = &loss
	c.event("shared lost %s", loss.Cause.SQLState)
}

func (c *testClient) OnDescribed(statement *Statement, _, _ uint32, _ string) {
	if c.described != 0 {
		c.described = statement.Epoch
	}
}

func (c *testClient) Described(_ *Statement, epoch uint32) bool {
	return c.described != 0 && c.described < epoch
}

func (c *testClient) OnGroupError(lowestTag uint32, parseFailed bool) {
	if parseFailed {
		c.event("parse error %d", lowestTag)
		return
	}
	c.event("error %d", lowestTag)
}

// StatementName is what the test's clients call a statement whose name on the servers
// is in an error.
func (c *testClient) StatementName(*Statement) string { return "mine" }

func (c *testClient) OnFailed() {}

func (c *testClient) OnGroupEnd(status pgwire.TxStatus) {
	c.event("end %c", status)
	if c.onGroupEnd != nil {
		c.onGroupEnd()
	}
}

func (c *testClient) OnSettings(refusal *pgwire.Error) {
	if refusal != nil {
		c.event("settings %s", refusal.SQLState)
	} else {
		c.event("settings")
	}
	if c.onSettings != nil {
		c.onSettings()
	}
}

func (c *testClient) OnInspected(settings *Settings, _ bool) { c.event("inspected %v", settings.all()) }

func (c *testClient) OnReleased() {
	c.server = nil
	c.event("released")
}

func (c *testClient) OnServerLost(loss Loss) {
	c.server = nil
	c.loss = &loss
	c.event("lost %s", loss.Cause.SQLState)
}

func (c *testClient) OnServerDrain() { c.drains++ }

// send sends messages, given as words, through the lease as a session does.
func (c *testClient) send(words ...string) {
	c.f.Helper()
	for _, word := range words {
		c.sendOne(word, strings.Split(word, "|"))
	}
	c.f.world.Settle()
}

func (c *testClient) sendOne(word string, fields []string) {
	s := c.server
	if fields[0] == "fail" {
		s.Fail(&pgwire.Error{Severity: pgwire.SeverityError, SQLState: pgwire.SQLState(fields[1]), Message: "ours"})
		return
	}
	b := pooltest.Frontend(word)
	kinds := map[string]ReplyKind{"Q": ReplyQuery, "F": ReplyFunctionCall, "S": ReplySync, "E": ReplyExecute, "DP": ReplyDescribe, "CP": ReplyClose}
	switch fields[0] {
	case "P":
		statement := c.reference(fields[2])
		c.names[fields[1]] = statement
		c.tag++
		s.Parse(statement, c.tag)
	case "B":
		rest := b[pgwire.HeaderBytes+len(fields[1])+1+len(fields[2])+1:]
		s.Prepare(c.statement(fields[2]))
		s.Bind(append([]byte(fields[1]), 0), c.statement(fields[2]), rest, len(rest))
	case "DS":
		s.DescribeStatement(c.statement(fields[1]), 1)
	case "CS":
		c.tag++
		s.CloseStatement(c.tag)
	case "H":
		s.Flush()
	case "c", "f":
		s.CopyEnd()
		s.Forward(b)
	case "d":
		s.Forward(b)
	default:
		s.Forward(b)
		s.Expect(kinds[fields[0]])
	}
}

func (c *testClient) reference(text string) *Statement {
	return c.f.pools.registry.Reference(nil, []byte(text+"\x00\x00\x00"))
}

func (c *testClient) statement(name string) *Statement {
	statement := c.names[name]
	if statement == nil {
		c.f.Fatalf("the test's client has no statement %q", name)
	}
	return statement
}

// settings returns settings of f.pools: name, value and so on.
func (f *fixture) settings(pairs ...string) *Settings {
	var list []Setting
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Setting{pairs[i], pairs[i+1]})
	}
	return f.pool.Settings(nil, list...)
}
