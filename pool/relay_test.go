package pool

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// exchange is what a client sends on a fresh lease, what reaches the server, what
// the server answers in one piece, and what the client is told. Messages are passed
// on in runs, so an event in the middle of a group may precede what came before it.
type exchange struct {
	name   string
	before []string // sent and answered well on an earlier lease of the same client
	send   []string
	sent   []string // if not the same as send
	reply  []string
	want   []string
}

// The text of a named statement is the name of the statement on the server: bp_1
// is the first that the test's client prepares.
var exchanges = []exchange{
	{
		name:  "simple query",
		send:  []string{"Q|select 1"},
		reply: []string{"T|c", "D|1", "D|2", "C|SELECT 2", "Z|I"},
		want:  []string{"T|c", "D|1", "D|2", "C|SELECT 2", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "several statements in one query",
		send:  []string{"Q|select 1;update"},
		reply: []string{"T|c", "D|1", "C|SELECT 1", "C|UPDATE 3", "Z|I"},
		want:  []string{"T|c", "D|1", "C|SELECT 1", "C|UPDATE 3", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "empty query",
		send:  []string{"Q|"},
		reply: []string{"I", "Z|I"},
		want:  []string{"I", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "failed query",
		send:  []string{"Q|select 1/0"},
		reply: []string{"T|c", "E|ERROR|22012|division by zero", "Z|I"},
		want:  []string{"T|c", "E|ERROR|22012|division by zero", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "transaction",
		send:  []string{"Q|begin", "Q|fail", "Q|rollback"},
		reply: []string{"C|BEGIN", "Z|T", "E|ERROR|22012|no", "Z|E", "C|ROLLBACK", "Z|I"},
		want: []string{
			"C|BEGIN", "Z|T", "[end T]", "E|ERROR|22012|no", "Z|E", "[end E]", "C|ROLLBACK", "Z|I", "[end I]", "[released]",
		},
	},
	{
		name:  "function call",
		send:  []string{"F|call"},
		reply: []string{"V|1", "Z|I"},
		want:  []string{"V|1", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "first parse",
		send:  []string{"P|s|select 1", "B||s|7", "DP|", "E|", "S"},
		sent:  []string{"P|bp_1|select 1", "B||bp_1|7", "DP|", "E|", "S"},
		reply: []string{"1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I"},
		want:  []string{"1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I", "[end I]", "[released]"},
	},
	{
		name:   "bind of a statement that the server has",
		before: []string{"P|s|select 1"},
		send:   []string{"B||s", "E|", "S"},
		sent:   []string{"B||bp_1", "E|", "S"},
		reply:  []string{"2", "D|1", "C|SELECT 1", "Z|I"},
		want:   []string{"2", "D|1", "C|SELECT 1", "Z|I", "[end I]", "[released]"},
	},
	{
		name:   "parse of a statement that the server has",
		before: []string{"P|s|select 1"},
		send:   []string{"P|s2|select 1", "DS|s2", "S"},
		sent:   []string{"DS|bp_1", "S"},
		reply:  []string{"t", "T|c", "Z|I"},
		want:   []string{"1", "t", "T|c", "Z|I", "[end I]", "[released]"},
	},
	{
		name:   "replies of our own in their turn",
		before: []string{"P|a|select 1", "P|b|select 2"},
		send:   []string{"CS|a", "P||select 1", "B||", "E|", "P|x|select 2", "CS|b", "DS|x", "P|y|select 1", "CP|", "CS|y", "S"},
		sent:   []string{"B||bp_1", "E|", "DS|bp_2", "CP|", "S"},
		reply:  []string{"2", "D|1", "C|SELECT 1", "t", "n", "3", "Z|I"},
		want: []string{
			"3", "1", "2", "D|1", "C|SELECT 1", "1", "3", "t", "n", "1", "3", "3", "Z|I", "[end I]", "[released]",
		},
	},
	{
		name:   "our replies after a group, and before the next",
		before: []string{"P|a|select 1"},
		send:   []string{"B||a", "E|", "CS|a", "S", "P||select 1", "P||select 1", "B||", "E|", "S", "P||select 1", "S"},
		sent:   []string{"B||bp_1", "E|", "S", "B||bp_1", "E|", "S", "S"},
		reply:  []string{"2", "C|SELECT 0", "Z|I", "2", "C|SELECT 0", "Z|I", "Z|I"},
		want: []string{
			"2", "C|SELECT 0", "3", "Z|I", "[end I]", "1", "1", "2", "C|SELECT 0", "Z|I", "[end I]", "1", "Z|I", "[end I]", "[released]",
		},
	},
	{
		name:  "portals",
		send:  []string{"P||select 1", "B|p|", "DP|p", "E|p", "E|p", "CP|p", "S"},
		sent:  []string{"P|bp_1|select 1", "B|p|bp_1", "DP|p", "E|p", "E|p", "CP|p", "S"},
		reply: []string{"1", "2", "T|c", "D|1", "s", "D|2", "C|SELECT 2", "3", "Z|I"},
		want:  []string{"1", "2", "T|c", "D|1", "s", "D|2", "C|SELECT 2", "3", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "empty query, extended",
		send:  []string{"P||", "B||", "DP|", "E|", "S"},
		sent:  []string{"P|bp_1|", "B||bp_1", "DP|", "E|", "S"},
		reply: []string{"1", "2", "n", "I", "Z|I"},
		want:  []string{"1", "2", "n", "I", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "error skips to sync",
		send:  []string{"P|s|select 1", "B||s", "E|", "CS|s", "S", "P|s2|select 2", "S"},
		sent:  []string{"P|bp_1|select 1", "B||bp_1", "E|", "S", "P|bp_2|select 2", "S"},
		reply: []string{"1", "E|ERROR|22023|no", "Z|I", "1", "Z|I"},
		want: []string{
			"1", "[error 2]", "E|ERROR|22023|no", "Z|I", "[end I]", "1", "Z|I", "[end I]", "[released]",
		},
	},
	{
		name:  "error of the parse",
		send:  []string{"P|s|bad", "B||s", "E|", "P|s2|select 2", "S"},
		sent:  []string{"P|bp_1|bad", "B||bp_1", "E|", "P|bp_2|select 2", "S"},
		reply: []string{"E|ERROR|42601|no", "Z|I"},
		want:  []string{"[parse error 1]", "E|ERROR|42601|no", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "error at the sync",
		send:  []string{"P|s|update", "B||s", "E|", "S"},
		sent:  []string{"P|bp_1|update", "B||bp_1", "E|", "S"},
		reply: []string{"1", "2", "C|UPDATE 1", "E|ERROR|23505|deferred", "Z|I"},
		want:  []string{"1", "2", "C|UPDATE 1", "E|ERROR|23505|deferred", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "error of ours",
		send:  []string{"P|s|select 1", "fail|26000", "B||s", "E|", "S"},
		sent:  []string{"P|bp_1|select 1", "DP|bp_refused", "B||bp_1", "E|", "S"},
		reply: []string{"1", "E|ERROR|34000|portal does not exist", "Z|E"},
		want:  []string{"1", "[error 0]", "E|ERROR|26000|ours", "Z|E", "[end E]"},
	},
	{
		name:  "error before the error of ours",
		send:  []string{"P|s|bad", "fail|26000", "S"},
		sent:  []string{"P|bp_1|bad", "DP|bp_refused", "S"},
		reply: []string{"E|ERROR|42601|theirs", "Z|I"},
		want:  []string{"[parse error 1]", "E|ERROR|42601|theirs", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "query in an extended group",
		send:  []string{"P|s|select 1", "B||s", "E|", "Q|select 2"},
		sent:  []string{"P|bp_1|select 1", "B||bp_1", "E|", "Q|select 2"},
		reply: []string{"1", "2", "C|SELECT 1", "T|c", "C|SELECT 1", "Z|I"},
		want:  []string{"1", "2", "C|SELECT 1", "T|c", "C|SELECT 1", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "query in an extended group that failed",
		send:  []string{"P|s|select 1", "B||s", "E|", "Q|select 2", "S"},
		sent:  []string{"P|bp_1|select 1", "B||bp_1", "E|", "Q|select 2", "S"},
		reply: []string{"1", "E|ERROR|22023|no", "Z|I"},
		want:  []string{"1", "[error 0]", "E|ERROR|22023|no", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "notices, notifications and settings",
		send:  []string{"Q|set TimeZone"},
		reply: []string{"N|before", "A|channel", "C|SET", "S|TimeZone|UTC", "N|after", "Z|I"},
		want: []string{
			"[TimeZone=UTC]", "N|before", "A|channel", "C|SET", "S|TimeZone|UTC", "N|after", "Z|I", "[end I]", "[released]",
		},
	},
	{
		name:  "copy out, simple",
		send:  []string{"Q|copy t to stdout"},
		reply: []string{"H", "d|1", "d|2", "c", "C|COPY 2", "Z|I"},
		want:  []string{"H", "d|1", "d|2", "c", "C|COPY 2", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "copy out, extended",
		send:  []string{"P||copy t to stdout", "B||", "E|", "S"},
		sent:  []string{"P|bp_1|copy t to stdout", "B||bp_1", "E|", "S"},
		reply: []string{"1", "2", "H", "d|1", "c", "C|COPY 1", "Z|I"},
		want:  []string{"1", "2", "H", "d|1", "c", "C|COPY 1", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "deallocate all",
		send:  []string{"Q|deallocate all"},
		reply: []string{"C|DEALLOCATE ALL", "Z|I"},
		want:  []string{"[deallocate all]", "C|DEALLOCATE ALL", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "discard all",
		send:  []string{"Q|discard all"},
		reply: []string{"C|DISCARD ALL", "Z|I"},
		want:  []string{"[deallocate all]", "C|DISCARD ALL", "[discard []]", "Z|I", "[end I]", "[released]"},
	},
	{
		name:  "no other discard",
		send:  []string{"Q|discard temp;deallocate s"},
		reply: []string{"C|DISCARD TEMP", "C|DEALLOCATE", "C|DELETE 1", "C|DECLARE CURSOR", "Z|I"},
		want:  []string{"C|DISCARD TEMP", "C|DEALLOCATE", "C|DELETE 1", "C|DECLARE CURSOR", "Z|I", "[end I]", "[released]"},
	},
}

// play runs an exchange with the server's answers cut at the given positions.
func (x *exchange) play(t *testing.T, cuts ...int) (bytesGot []byte, c *testClient) {
	t.Helper()
	f := newFixture(t)
	c, conn := f.client()
	if x.before != nil {
		c.send(append(slices.Clone(x.before), "S")...)
		f.feed(conn, append(slices.Repeat([]string{"1"}, len(x.before)), "Z|I")...)
		c.want(append(slices.Repeat([]string{"1"}, len(x.before)), "Z|I", "[end I]", "[released]")...)
		conn.Sent()
		c.acquire(f.pool)
	}
	c.tag, c.all = 0, nil
	c.send(x.send...)
	if x.sent == nil {
		x.sent = x.send
	}
	f.wantSent(conn, x.sent...)
	reply := pooltest.Backend(x.reply...)
	from := 0
	for _, cut := range append(cuts, len(reply)) {
		conn.Feed(reply[from:cut])
		f.world.Settle()
		from = cut
	}
	if conn.Closed() {
		t.Fatal("the server's connection was closed")
	}
	return slices.Clone(c.all), c
}

func TestRelay(t *testing.T) {
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) {
			_, c := x.play(t)
			c.want(x.want...)
		})
	}
}

func TestRelayInAnySplit(t *testing.T) {
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) {
			whole, _ := x.play(t)
			n := len(pooltest.Backend(x.reply...))
			for i := 1; i < n; i++ {
				if got, _ := x.play(t, i); !bytes.Equal(got, whole) {
					t.Fatalf("cut at %d: the client got %q, want %q", i, got, whole)
				}
			}
			every := make([]int, 0, n)
			for i := 1; i < n; i++ {
				every = append(every, i)
			}
			got, c := x.play(t, every...)
			if !bytes.Equal(got, whole) {
				t.Fatalf("byte by byte the client got %q, want %q", got, whole)
			}
			c.flush()
			events := slices.DeleteFunc(slices.Clone(x.want), func(word string) bool { return !strings.HasPrefix(word, "[") })
			gotEvents := slices.DeleteFunc(c.log, func(word string) bool { return !strings.HasPrefix(word, "[") })
			wantWords(t, "events", gotEvents, events)
		})
	}
}

// Of a message beyond maxWholeBytes the parts are passed on as they come, and what
// is ours follows behind it, however it is cut.
func TestRelayStreams(t *testing.T) {
	row := fmt.Sprintf("D|*%d", 2*maxWholeBytes)
	wide := fmt.Sprintf("T|*%d", 2*maxWholeBytes)
	tests := []exchange{
		{
			name:  "rows",
			send:  []string{"Q|select 1"},
			reply: []string{"T|c", row, "D|1", "C|SELECT 2", "Z|I"},
			want:  []string{"T|c", row, "D|1", "C|SELECT 2", "Z|I", "[end I]", "[released]"},
		},
		{
			name:  "a row description with a reply of ours behind it",
			send:  []string{"P|s|select 1", "DS|s", "CS|s", "S"},
			sent:  []string{"P|bp_1|select 1", "DS|bp_1", "S"},
			reply: []string{"1", "t", wide, "Z|I"},
			want:  []string{"1", "t", wide, "3", "Z|I", "[end I]", "[released]"},
		},
		{
			name:  "an error and a notice",
			send:  []string{"Q|select 1"},
			reply: []string{fmt.Sprintf("N|*%d", 2*maxWholeBytes), fmt.Sprintf("E|ERROR|XX000|*%d", 2*maxWholeBytes), "Z|I"},
			want: []string{
				fmt.Sprintf("N|*%d", 2*maxWholeBytes), fmt.Sprintf("E|ERROR|XX000|*%d", 2*maxWholeBytes), "Z|I", "[end I]", "[released]",
			},
		},
		{
			name:  "an error of ours in place of a long one",
			send:  []string{"fail|26000", "S"},
			sent:  []string{"DP|bp_refused", "S"},
			reply: []string{fmt.Sprintf("E|ERROR|34000|*%d", 2*maxWholeBytes), "Z|I"},
			want:  []string{"[error 0]", "E|ERROR|26000|ours", "Z|I", "[end I]", "[released]"},
		},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			whole, c := x.play(t)
			c.want(x.want...)
			cuts := []int{maxWholeBytes - 1, maxWholeBytes, maxWholeBytes + 1, maxWholeBytes + pgwire.HeaderBytes}
			for i := 1; i < 12; i++ { // the headers at both ends
				cuts = append(cuts, i, len(pooltest.Backend(x.reply...))-i)
			}
			for _, cut := range cuts {
				if got, _ := x.play(t, cut); !bytes.Equal(got, whole) {
					t.Fatalf("cut at %d: the client got %d bytes that differ from the %d whole ones", cut, len(got), len(whole))
				}
			}
			var pieces []int
			for i := 10_000; i < len(pooltest.Backend(x.reply...)); i += 10_000 {
				pieces = append(pieces, i)
			}
			if got, _ := x.play(t, pieces...); !bytes.Equal(got, whole) {
				t.Fatal("in pieces of 10000 bytes the client got something else")
			}
		})
	}
}

// A long row reaches the client before it is complete, and costs no memory here.
func TestRelayPassesPartsOn(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|select 1")
	row := pooltest.Backend(fmt.Sprintf("D|*%d", 10*maxWholeBytes))
	for i := 0; i < len(row); i += 8 << 10 {
		conn.Feed(row[i:min(len(row), i+8<<10)])
		f.world.Settle()
		if conn.UnreadBytes() != 0 {
			t.Fatalf("%d bytes are held back", conn.UnreadBytes())
		}
		if len(c.bytes) != min(len(row), i+8<<10) {
			t.Fatalf("the client has %d of %d bytes", len(c.bytes), i+8<<10)
		}
	}
}

// While a description is being passed on, a reply of ours to the next message waits.
func TestRelaySynthesizesBehindAStream(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("P|s|select 1", "DS|s", "H")
	wide := fmt.Sprintf("T|*%d", 2*maxWholeBytes)
	reply := pooltest.Backend("1", "t", wide)
	conn.Feed(reply[:maxWholeBytes])
	f.world.Settle()
	c.send("P|s2|select 1", "CS|s", "B||s2", "S")
	conn.Feed(reply[maxWholeBytes:])
	f.feed(conn, "2", "Z|I")
	c.want("1", "t", wide, "1", "3", "2", "Z|I", "[end I]", "[released]")
}

func TestInjectedParse(t *testing.T) {
	// prepared on one server, used on another that does not have it
	begin := func(t *testing.T) (*fixture, *testClient, *pooltest.Conn) {
		f := newFixture(t)
		c, _ := f.client()
		other, conn := f.client()
		other.names["s"] = c.reference("select 1")
		return f, other, conn
	}
	t.Run("is swallowed", func(t *testing.T) {
		f, c, conn := begin(t)
		c.send("B||s", "DS|s", "E|", "S")
		f.wantSent(conn, "P|bp_1|select 1", "B||bp_1", "DS|bp_1", "E|", "S")
		f.feed(conn, "N|parsing", "1", "2", "t", "T|c", "C|SELECT 0", "Z|I")
		c.want("2", "t", "T|c", "C|SELECT 0", "Z|I", "[end I]", "[released]")
	})
	t.Run("in front of a describe", func(t *testing.T) {
		f, c, conn := begin(t)
		c.send("DS|s", "S")
		f.wantSent(conn, "P|bp_1|select 1", "DS|bp_1", "S")
		f.feed(conn, "1", "t", "T|c", "Z|I")
		c.want("t", "T|c", "Z|I", "[end I]", "[released]")
	})
	t.Run("its error is the answer", func(t *testing.T) {
		f, c, conn := begin(t)
		c.send("B||s", "E|", "S", "B||s", "S")
		conn.Sent()
		f.feed(conn, "E|ERROR|42P01|no table", "Z|I")
		c.want("[error 0]", "E|ERROR|42P01|no table", "Z|I", "[end I]")
		f.feed(conn, "E|ERROR|26000|no statement", "Z|I")
		c.want("[error 0]", "E|ERROR|26000|no statement", "Z|I", "[end I]", "[released]")
		c.acquire(f.pool)
		c.send("B||s", "S")
		f.wantSent(conn, "P|bp_1|select 1", "B||bp_1", "S")
	})
	t.Run("with an eviction", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.MaxPreparedStatements = 2; c.DefaultPoolSize = 1 })
		c, conn := f.client()
		c.send("P|a|select 1", "P|b|select 2", "P|c|select 3", "S") // the lease may have more than two
		f.wantSent(conn, "P|bp_1|select 1", "P|bp_2|select 2", "P|bp_3|select 3", "S")
		f.feed(conn, "1", "1", "1", "Z|I")
		c.want("1", "1", "1", "Z|I", "[end I]", "[released]")
		c.acquire(f.pool)
		c.send("P|d|select 4", "B||d", "S")
		f.wantSent(conn, "CS|bp_1", "CS|bp_2", "P|bp_4|select 4", "B||bp_4", "S")
		f.feed(conn, "3", "3", "1", "2", "Z|I")
		c.want("1", "2", "Z|I", "[end I]", "[released]")
		c.acquire(f.pool)
		c.send("B||a", "B||c", "S")
		f.wantSent(conn, "CS|bp_3", "P|bp_1|select 1", "B||bp_1", "CS|bp_4", "P|bp_3|select 3", "B||bp_3", "S")
	})
	t.Run("an eviction that was skipped did not happen", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.MaxPreparedStatements = 1; c.DefaultPoolSize = 1 })
		c, conn := f.client()
		c.send("P|a|select 1", "S")
		f.feed(conn, "1", "Z|I")
		c.want("1", "Z|I", "[end I]", "[released]")
		c.acquire(f.pool)
		conn.Sent()
		c.send("DP|none", "P|b|select 2", "S")
		f.wantSent(conn, "DP|none", "CS|bp_1", "P|bp_2|select 2", "S")
		f.feed(conn, "E|ERROR|34000|no portal", "Z|I")
		c.want("[error 2]", "E|ERROR|34000|no portal", "Z|I", "[end I]", "[released]")
		c.acquire(f.pool)
		c.send("B||a", "S")
		f.wantSent(conn, "B||bp_1", "S")
	})
}

func TestServerSaysWhatItShouldNot(t *testing.T) {
	tests := []struct {
		name string
		send []string
		say  string
	}{
		{"a row description unasked", nil, string(pooltest.Backend("T|c"))},
		{"ready unasked", nil, string(pooltest.Backend("Z|I"))},
		{"ready inside a group", []string{"P||select 1", "S"}, string(pooltest.Backend("Z|I"))},
		{"parse complete for a bind", []string{"P||select 1", "B||", "S"}, string(pooltest.Backend("1", "1"))},
		{"bind complete for a query", []string{"Q|select 1"}, string(pooltest.Backend("2"))},
		{"another login", []string{"Q|select 1"}, string(pooltest.Backend("R"))},
		{"a malformed ready", []string{"Q|select 1"}, "Z\x00\x00\x00\x04"},
		{"a malformed parameter", []string{"Q|select 1"}, "S\x00\x00\x00\x06ab"},
		{"no message type", []string{"Q|select 1"}, "\x00\x00\x00\x00\x04"},
		{"no length", []string{"Q|select 1"}, "D\x00\x00\x00\x01"},
		{"a huge length", []string{"Q|select 1"}, "D\xff\xff\xff\xff"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			c.send(test.send...)
			conn.Feed([]byte(test.say))
			f.world.Settle()
			if !conn.Closed() || c.loss == nil || c.loss.Cause.Severity != pgwire.SeverityFatal || c.loss.Cause.Message == "" {
				t.Fatalf("closed %v, loss %+v", conn.Closed(), c.loss)
			}
			if stats := f.pool.Stats(); stats.ServersClosed[ReasonProtocol.String()] != 1 || stats.ServersLeased != 0 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

func TestStatsOfARelay(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|select 1")
	f.feed(conn, "T|c", "D|1", "C|SELECT 1", "Z|I")
	c.acquire(f.pool)
	c.send("P|s|select 1", "B||s", "E|", "S", "P|s2|select 1", "S")
	f.feed(conn, "1", "2", "C|SELECT 0", "Z|I", "Z|I")
	stats := f.pool.Stats()
	if stats.QueryCount != 3 || stats.LeaseCount != 2 || stats.TransactionCount != 2 || stats.ParseCount != 2 || stats.ServerParseCount != 1 || stats.BindCount != 1 {
		t.Errorf("stats %+v", stats)
	}
	want := len(pooltest.Backend("T|c", "D|1", "C|SELECT 1", "Z|I", "1", "2", "C|SELECT 0", "Z|I", "1", "Z|I"))
	if stats.SentBytes != uint64(want) {
		t.Errorf("%d bytes sent to clients, want %d", stats.SentBytes, want)
	}
}
