package proxy

import (
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// relayed is a client and a server that answers every group with the same bytes, with
// nothing between them but the session and the server of package pool.
type relayed struct {
	f        *fixture
	client   *client
	request  []byte
	received int // bytes that have reached the client
}

// relay returns a client whose group, in words, is answered in words.
func relay(tb testing.TB, request, reply []string, changes ...func(*Config)) *relayed {
	tb.Helper()
	f := newFixture(tb, append([]func(*Config){oneServer}, changes...)...)
	r := &relayed{f: f, client: f.login(), request: pooltest.Frontend(request...)}
	r.client.prepare("s", "select 1")
	for range 3 { // the server has the statement now, and is shared if it will be
		r.client.send("B||s", "E|", "S")
		r.client.send(request...)
	}
	r.client.conn.Sent()
	server := f.server().Conn
	answer := pooltest.Backend(reply...)
	server.OnSent = func([]byte) { server.Feed(answer) }
	r.client.conn.OnSent = func(b []byte) { r.received += len(b) }
	for range 100 {
		r.round()
	}
	if want := 100 * len(answer); r.received != want {
		tb.Fatalf("%d bytes reached the client, want %d", r.received, want)
	}
	return r
}

func (r *relayed) round() {
	r.client.conn.Feed(r.request)
	r.f.world.Settle()
}

var (
	preparedGroup = []string{"B||s", "DP|", "E|", "S"}
	preparedReply = []string{"2", "T|c", "D|1", "C|SELECT 1", "Z|I"}
	simpleGroup   = []string{"Q|select 1"}
	simpleReply   = []string{"T|c", "D|1", "C|SELECT 1", "Z|I"}
	writeGroup    = []string{"Q|insert into t values (1)"}
	writeReply    = []string{"C|INSERT 0 1", "Z|I"}
)

// The path of every query costs no memory that is not there already.
func TestRelayDoesNotAllocate(t *testing.T) {
	tests := []struct {
		name           string
		request, reply []string
		changes        []func(*Config)
	}{
		{"prepared", preparedGroup, preparedReply, nil},
		{"prepared, shared", preparedGroup, preparedReply, []func(*Config){sharedReads}},
		{"simple", simpleGroup, simpleReply, nil},
		{"simple, shared", simpleGroup, simpleReply, []func(*Config){sharedReads}},
		{"a write", writeGroup, writeReply, nil},
		{"a write, where reads are shared", writeGroup, writeReply, []func(*Config){sharedReads}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := relay(t, test.request, test.reply, test.changes...)
			if n := testing.AllocsPerRun(1000, r.round); n != 0 {
				t.Errorf("%v allocations per group, want 0", n)
			}
		})
	}
}

// batched is clients whose reads go to the only server in one batch.
type batched struct {
	f        *fixture
	server   *pooltest.Conn
	clients  []*client
	request  []byte
	received int // bytes that have reached the clients
}

// batch returns clients of which each sends a group, in words, that the server answers
// in words, all but the end.
func batch(tb testing.TB, request, reply []string) *batched {
	tb.Helper()
	r := &batched{f: newFixture(tb, oneServer, sharedReads), request: pooltest.Frontend(request...)}
	var answer []byte
	for range 8 {
		c := r.f.login()
		c.prepare("s", "select 1")
		for range 3 {
			c.send("B||s", "E|", "S")
			c.send(request...)
		}
		c.conn.Sent()
		c.conn.OnSent = func(b []byte) { r.received += len(b) }
		r.clients = append(r.clients, c)
		answer = append(answer, pooltest.Backend(reply...)...)
	}
	answer = append(answer, pooltest.Backend("Z|I")...)
	r.server = r.f.server().Conn
	r.server.OnSent = func([]byte) { r.server.Feed(answer) }
	for range 100 {
		r.round()
	}
	if r.received == 0 || r.f.stats().GroupsRunAgain > 0 {
		tb.Fatalf("%d bytes reached the clients, stats %+v", r.received, r.f.stats())
	}
	return r
}

func (r *batched) round() {
	r.server.Stall()
	for _, c := range r.clients {
		c.conn.Feed(r.request)
	}
	r.f.world.Settle()
	r.server.Flow()
	r.f.world.Settle()
}

var (
	preparedJoined = []string{"2", "T|c", "D|1", "C|SELECT 1"}
	simpleJoined   = []string{"1", "2", "T|c", "D|1", "C|SELECT 1"}
)

func TestBatchDoesNotAllocate(t *testing.T) {
	for name, r := range map[string]*batched{
		"prepared": batch(t, preparedGroup, preparedJoined),
		"simple":   batch(t, simpleGroup, simpleJoined),
	} {
		if n := testing.AllocsPerRun(1000, r.round); n != 0 {
			t.Errorf("%s: %v allocations per batch, want 0", name, n)
		}
	}
}

// BenchmarkBatchPrepared and BenchmarkBatchSimple are eight reads that share a Sync.
func BenchmarkBatchPrepared(b *testing.B) { benchmarkBatch(b, preparedGroup, preparedJoined) }

// BenchmarkBatchSimple is the same with simple queries.
func BenchmarkBatchSimple(b *testing.B) { benchmarkBatch(b, simpleGroup, simpleJoined) }

func benchmarkBatch(b *testing.B, request, reply []string) {
	b.Helper()
	r := batch(b, request, reply)
	b.ReportAllocs()
	for b.Loop() {
		r.round()
	}
}

func benchmarkRelay(b *testing.B, request, reply []string, changes ...func(*Config)) {
	b.Helper()
	r := relay(b, request, reply, changes...)
	b.ReportAllocs()
	for b.Loop() {
		r.round()
	}
}

// BenchmarkRelayPrepared is a Bind, Describe, Execute and Sync of a prepared statement
// through a session and a server, without sockets.
func BenchmarkRelayPrepared(b *testing.B) { benchmarkRelay(b, preparedGroup, preparedReply) }

// BenchmarkRelaySimple is a simple query.
func BenchmarkRelaySimple(b *testing.B) { benchmarkRelay(b, simpleGroup, simpleReply) }

// BenchmarkRelayPreparedShared and BenchmarkRelaySimpleShared are the same on a server
// that is shared.
func BenchmarkRelayPreparedShared(b *testing.B) {
	benchmarkRelay(b, preparedGroup, preparedReply, sharedReads)
}

// BenchmarkRelaySimpleShared is a simple query on a shared server.
func BenchmarkRelaySimpleShared(b *testing.B) {
	benchmarkRelay(b, simpleGroup, simpleReply, sharedReads)
}
