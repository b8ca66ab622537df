package proxy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
)

const overdueWord = "E|ERROR|53400|no server became free within 10s"

// A group for which there is no server is answered as one that failed, and the client
// goes on.
func TestRefusal(t *testing.T) {
	tests := []struct {
		name string
		send []string
		want []string // after the timeout
		then []string
		rest []string
	}{
		{"query", []string{"Q|insert"}, []string{overdueWord, "Z|I"}, nil, nil},
		{"function call", []string{"F|call"}, []string{overdueWord, "Z|I"}, nil, nil},
		{"group", []string{"P||insert", "B||", "E|", "S"}, []string{overdueWord, "Z|I"}, nil, nil},
		{"group with a flush", []string{"P||insert", "H", "B||"}, []string{overdueWord}, []string{"E|", "H", "Q|insert", "S"}, []string{"Z|I"}},
		{"long query", []string{"Q|*300000"}, []string{overdueWord, "Z|I"}, nil, nil},
		{"copy with data", []string{"Q|copy in", "d|1", "c"}, []string{overdueWord, "Z|I"}, nil, nil},
		{"extended copy with data", []string{"P||copy in", "B||", "E|", "d|1", "c", "S"}, []string{overdueWord, "Z|I"}, nil, nil},
		{"extended copy with a sync ahead", []string{"P||copy in", "B||", "E|", "S", "d|1", "c", "S"}, []string{overdueWord, "Z|I", "Z|I"}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, oneServer)
			release := f.block()
			c := f.login()
			c.send(test.send...)
			c.want()
			f.world.Advance(10 * time.Second)
			c.want(test.want...)
			c.send(test.then...)
			c.want(test.rest...)
			release()
			c.want()
			c.ask("1")
			c.send("P||select 2", "B||", "E|", "S")
			c.want("1", "2", "D|2", "C|SELECT 1", "Z|I")
			if got := f.server().Executed; slices.Contains(got, "insert") {
				t.Errorf("executed %q", got)
			}
			c.send("X")
			if n := referenced(f.registry()); n != 0 {
				t.Errorf("%d statements are in use by nobody", n)
			}
			f.checkIdle()
		})
	}
}

// Each group of a pipeline waits for itself.
func TestRefusalOfAPipeline(t *testing.T) {
	f := newFixture(t, oneServer)
	release := f.block()
	c := f.login()
	c.send("Q|insert 1", "Q|insert 2", "Q|insert 3")
	f.world.Advance(10 * time.Second)
	c.want(overdueWord, "Z|I")
	f.world.Advance(10 * time.Second)
	c.want(overdueWord, "Z|I")
	release()
	c.want("C|INSERT 0 1", "Z|I")
	if got := f.server().Executed; slices.Contains(got, "insert 1") || slices.Contains(got, "insert 2") {
		t.Errorf("executed %q", got)
	}
}

func TestRefusalWithoutAServer(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	connect := f.world.OnDial
	f.world.OnDial = func(d *pooltest.Dial) { d.Fail(errors.New("connection refused")) }
	f.server().Terminate()
	f.world.Settle()
	c.send("Q|select 1")
	f.world.Advance(10 * time.Second)
	got := pooltest.BackendWords(c.conn.Sent())
	if len(got) != 2 || !strings.HasPrefix(got[0], "E|ERROR|08001|no server available: cannot connect to server postgres:5432") || got[1] != "Z|I" {
		t.Errorf("got %q", got)
	}
	f.world.OnDial = connect
	c.send("Q|select 1")
	f.world.Advance(5 * time.Second)
	c.want("T|c", "D|1", "C|SELECT 1", "Z|I")
}

// What cannot be mended is told at once to those who are connected, too.
func TestRefusalForGood(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	f.server().Terminate()
	f.world.Settle()
	f.pg.Login = func(string, string) []string { return []string{"E|FATAL|28000|role is not permitted to log in"} }
	c.send("Q|select 1")
	c.want("E|ERROR|28000|role is not permitted to log in", "Z|I")
}
