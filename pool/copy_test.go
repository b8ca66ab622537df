package pool

import (
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// What the server says after each send is given with it.
type copyStep struct {
	send  []string
	reply []string
}

func TestCopyIn(t *testing.T) {
	tests := []struct {
		name  string
		steps []copyStep
		want  []string
	}{
		{"simple", []copyStep{
			{[]string{"Q|copy t from stdin"}, []string{"G"}},
			{[]string{"d|1", "d|2", "c"}, []string{"C|COPY 2", "Z|I"}},
		}, []string{"G", "C|COPY 2", "Z|I", "[end I]", "[released]"}},
		{"simple, the client fails it", []copyStep{
			{[]string{"Q|copy t from stdin"}, []string{"G"}},
			{[]string{"d|1", "f|no"}, []string{"E|ERROR|57014|no", "Z|I"}},
		}, []string{"G", "E|ERROR|57014|no", "Z|I", "[end I]", "[released]"}},
		{"simple, the server fails it", []copyStep{
			{[]string{"Q|copy t from stdin"}, []string{"G"}},
			{[]string{"d|bad"}, []string{"E|ERROR|22P02|no", "Z|I"}},
		}, []string{"G", "E|ERROR|22P02|no", "Z|I", "[end I]", "[released]"}},
		{"simple, in the middle of several statements", []copyStep{
			{[]string{"Q|select 1;copy t from stdin;copy u from stdin"}, []string{"T|c", "C|SELECT 0", "G"}},
			{[]string{"d|1", "c"}, []string{"C|COPY 1", "G"}},
			{[]string{"c"}, []string{"C|COPY 0", "Z|I"}},
		}, []string{"T|c", "C|SELECT 0", "G", "C|COPY 1", "G", "C|COPY 0", "Z|I", "[end I]", "[released]"}},
		{"simple, without waiting", []copyStep{
			{[]string{"Q|copy t from stdin", "d|1", "c"}, []string{"G", "C|COPY 1", "Z|I"}},
		}, []string{"G", "C|COPY 1", "Z|I", "[end I]", "[released]"}},
		{"extended, sync behind", []copyStep{
			{[]string{"P||copy", "B||", "E|", "H"}, []string{"1", "2", "G"}},
			{[]string{"d|1", "c", "S"}, []string{"C|COPY 1", "Z|I"}},
		}, []string{"1", "2", "G", "C|COPY 1", "Z|I", "[end I]", "[released]"}},
		{"extended, sync ahead and behind", []copyStep{
			{[]string{"P||copy", "B||", "E|", "S"}, []string{"1", "2", "G"}},
			{[]string{"d|1", "c", "S"}, []string{"C|COPY 1", "Z|I"}},
		}, []string{"1", "2", "G", "C|COPY 1", "Z|I", "[end I]", "[released]"}},
		{"extended, two syncs ahead", []copyStep{
			{[]string{"P||copy", "B||", "E|", "S", "S"}, []string{"1", "2", "G"}},
			{[]string{"c", "S"}, []string{"C|COPY 0", "Z|I"}},
		}, []string{"1", "2", "G", "C|COPY 0", "Z|I", "[end I]", "[released]"}},
		{"extended, syncs during the copy", []copyStep{
			{[]string{"P||copy", "B||", "E|", "H"}, []string{"1", "2", "G"}},
			{[]string{"d|1", "S", "d|2", "S", "H", "c", "S"}, []string{"C|COPY 2", "Z|I"}},
		}, []string{"1", "2", "G", "C|COPY 2", "Z|I", "[end I]", "[released]"}},
		{"extended, the copy does not begin", []copyStep{
			{[]string{"P||copy", "B||", "E|", "S", "S"}, []string{"1", "2", "E|ERROR|42501|no", "Z|I", "Z|I"}},
		}, []string{"1", "2", "[error 0]", "E|ERROR|42501|no", "Z|I", "[end I]", "Z|I", "[end I]", "[released]"}},
		{"extended, without waiting", []copyStep{
			{[]string{"P||copy", "B||", "E|", "d|1", "c", "S"}, []string{"1", "2", "G", "C|COPY 1", "Z|I"}},
		}, []string{"1", "2", "G", "C|COPY 1", "Z|I", "[end I]", "[released]"}},
		{"extended, without waiting, a group behind", []copyStep{
			{[]string{"P||copy", "B||", "E|", "S", "d|1", "c", "S", "Q|select 1"}, []string{"1", "2", "G", "C|COPY 1", "Z|I", "T|c", "C|SELECT 0", "Z|I"}},
		}, []string{"1", "2", "G", "C|COPY 1", "Z|I", "[end I]", "T|c", "C|SELECT 0", "Z|I", "[end I]", "[released]"}},
		{"extended, the server fails it", []copyStep{
			{[]string{"P||copy", "B||", "E|", "H"}, []string{"1", "2", "G"}},
			{[]string{"d|bad"}, []string{"E|ERROR|22P02|no"}},
			{[]string{"S"}, []string{"Z|I"}},
		}, []string{"1", "2", "G", "[error 0]", "E|ERROR|22P02|no", "Z|I", "[end I]", "[released]"}},
		{"in a transaction", []copyStep{
			{[]string{"Q|begin"}, []string{"C|BEGIN", "Z|T"}},
			{[]string{"Q|copy t from stdin"}, []string{"G"}},
			{[]string{"d|1", "c"}, []string{"C|COPY 1", "Z|T"}},
			{[]string{"Q|commit"}, []string{"C|COMMIT", "Z|I"}},
		}, []string{
			"C|BEGIN", "Z|T", "[end T]", "G", "C|COPY 1", "Z|T", "[end T]", "C|COMMIT", "Z|I", "[end I]", "[released]",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			for _, step := range test.steps {
				if c.server == nil {
					t.Fatal("the lease has ended")
				}
				c.send(step.send...)
				f.feed(conn, step.reply...)
			}
			c.want(test.want...)
			if conn.Closed() {
				t.Error("the server's connection was closed")
			}
		})
	}
}

func TestCopyInIsKnown(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|copy t from stdin")
	if c.server.CopyIn() {
		t.Error("COPY before the server said so")
	}
	f.feed(conn, "G")
	if !c.server.CopyIn() {
		t.Error("no COPY though the server said so")
	}
	c.send("c")
	if c.server.CopyIn() {
		t.Error("COPY after CopyDone")
	}
}

// After a COPY that failed while Syncs were ahead of it, it is not certain which of
// them PostgreSQL has read: an empty query tells. Neither the client nor the next is
// told of a ReadyForQuery too many.
func TestCopyFailedWithSyncsAhead(t *testing.T) {
	for name, early := range map[string][]string{"ignored": nil, "not ignored": {"Z|I"}, "two not ignored": {"Z|I", "Z|I"}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, poolSize(1))
			c, conn := f.client()
			c.send("P||copy", "B||", "E|", "S", "S")
			f.feed(conn, "1", "2", "G")
			c.send("d|bad")
			f.feed(conn, append([]string{"E|ERROR|22P02|no"}, early...)...)
			c.want("1", "2", "G", "[error 0]", "E|ERROR|22P02|no")
			if !c.server.Skipping() {
				t.Error("the group is not known to be skipped")
			}
			conn.Sent()
			c.send("c", "S")
			f.wantSent(conn, "c", "S", "Q|")
			next := f.newClient()
			next.acquire(f.pool)
			f.feed(conn, "Z|I", "I", "Z|I")
			c.want("Z|I", "[end I]", "[released]")
			if conn.Closed() {
				t.Fatal("the server's connection was closed")
			}
			next.want("[lease]")
			next.send("Q|select 1")
			f.feed(conn, "C|SELECT 1", "Z|I")
			next.want("C|SELECT 1", "Z|I", "[end I]", "[released]")
		})
	}
}

func TestLongCopyDataEndsTheLeaseLate(t *testing.T) {
	f := newFixture(t)
	c, conn := f.client()
	c.send("Q|copy t from stdin")
	f.feed(conn, "G")
	message := pgwire.AppendHeader(nil, pgwire.CopyData, 1000)
	c.server.Forward(message)
	c.server.Unsent(pgwire.CopyData, 1000)
	c.server.ForwardRest(make([]byte, 400))
	f.feed(conn, "E|ERROR|22P02|no", "Z|I") // in the middle of the message
	c.want("G", "E|ERROR|22P02|no", "Z|I", "[end I]")
	c.server.ForwardRest(make([]byte, 599))
	c.want()
	c.server.ForwardRest(make([]byte, 1))
	c.want("[released]")
	f.world.Settle()
	if got := conn.Sent(); len(got) != len("Q\x00\x00\x00\x05copy t from stdin\x00")+1005 {
		t.Errorf("%d bytes sent", len(got))
	}
}
