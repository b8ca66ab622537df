package proxy

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

const canceled = "E|ERROR|57014|canceling statement due to user request"

func TestCancel(t *testing.T) {
	t.Run("a query that runs", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|wait")
		c.cancel()
		c.want(canceled, "Z|I")
		if !slices.Equal(f.pg.CancelPIDs, []uint32{f.server().PID}) {
			t.Errorf("cancel requests for %v", f.pg.CancelPIDs)
		}
		c.ask("1")
		if f.ended(endCancelRequest) != 1 || f.proxy.Stats().CancelRequests != 1 {
			t.Errorf("stats %+v", f.proxy.Stats())
		}
	})
	t.Run("one in a transaction", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("Q|begin", "P||wait", "B||", "E|", "S")
		c.cancel()
		c.want("C|BEGIN", "Z|T", "1", "2", canceled, "Z|E")
		c.send("Q|rollback")
		c.want("C|ROLLBACK", "Z|I")
	})
	t.Run("one that waits for a server", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		c := f.login()
		c.send("Q|insert 1", "Q|insert 2")
		c.cancel()
		c.want(canceled, "Z|I")
		if len(f.pg.CancelPIDs) != 0 {
			t.Error("PostgreSQL is asked to cancel another client's query")
		}
		release()
		c.want("C|INSERT 0 1", "Z|I")
		if got := f.server().Executed; slices.Contains(got, "insert 1") || !slices.Contains(got, "insert 2") {
			t.Errorf("executed %q", got)
		}
	})
	t.Run("a group that waits for a server", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		c := f.login()
		c.send("P||insert", "B||", "E|", "S", "P||select 2", "B||", "E|", "S")
		c.cancel()
		c.want(canceled, "Z|I")
		release()
		c.want("1", "2", "D|2", "C|SELECT 1", "Z|I")
	})
	t.Run("the first statement of a transaction that waits", func(t *testing.T) {
		f := newFixture(t, oneServer)
		release := f.block()
		c := f.login()
		c.send("Q|begin", "Q|insert")
		c.cancel()
		c.want("C|BEGIN", "Z|T", canceled, "Z|E")
		c.send("Q|insert")
		c.want("E|ERROR|25P02|current transaction is aborted, commands ignored until end of transaction block", "Z|E")
		c.send("Q|commit")
		c.want("C|ROLLBACK", "Z|I")
		release()
		c.ask("1")
	})
	t.Run("nothing", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.ask("1")
		c.cancel()
		c.send("Q|begin", "Q|insert")
		c.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T")
		c.cancel()
		c.send("Q|commit")
		c.want("C|COMMIT", "Z|I")
		if len(f.pg.CancelPIDs) != 0 {
			t.Errorf("cancel requests for %v", f.pg.CancelPIDs)
		}
	})
	t.Run("a login", func(t *testing.T) {
		f := newFixture(t, oneServer)
		f.block()
		c := f.dial()
		c.startup("application_name", "x")
		c.id, c.key = f.proxy.lastID, make([]byte, 4) // it has not been told any
		c.cancel()
		c.want()
	})
}

func TestCancelWithAWrongKey(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("Q|wait")
	wrong := bytes.Clone(c.key)
	wrong[3] ^= 1
	for _, request := range [][]byte{
		pgwire.AppendCancelRequest(nil, c.id, wrong),
		pgwire.AppendCancelRequest(nil, c.id+1, c.key),
		pgwire.AppendCancelRequest(nil, c.id, append(bytes.Clone(c.key), 0)),
		pgwire.AppendCancelRequest(nil, 0, c.key),
	} {
		d := f.dial()
		d.feed(request)
		d.wantEnd()
	}
	c.want()
	if len(f.pg.CancelPIDs) != 0 || !f.server().Waiting() {
		t.Error("a stranger has canceled a query")
	}
}

// The server is not given to another client while a request may still strike it.
func TestCancelHoldsTheServer(t *testing.T) {
	f := newFixture(t, oneServer)
	f.pg.HoldCancels = true
	c := f.login()
	c.send("Q|wait")
	other := f.login()
	other.send("Q|insert")
	c.cancel()
	c.want(canceled, "Z|I")
	other.want()
	f.pg.EndCancels()
	other.want("C|INSERT 0 1", "Z|I")
}

// A client that goes while its query runs has it canceled, and costs no server.
func TestCancelForAClientThatIsGone(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("Q|begin", "Q|wait")
	c.close(errors.New("reset"))
	if len(f.pg.CancelPIDs) != 1 || f.server().Waiting() {
		t.Errorf("cancel requests for %v", f.pg.CancelPIDs)
	}
	f.checkIdle()
	if got := f.server().Executed; !slices.Contains(got, "ROLLBACK") {
		t.Errorf("executed %q", got)
	}
}
