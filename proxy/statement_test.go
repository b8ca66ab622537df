package proxy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pooltest"
)

// referenced is how many statements of a registry are in use by clients.
func referenced(r *pool.Registry) int {
	return reflect.ValueOf(r).Elem().FieldByName("used").Len()
}

func (f *fixture) registry() *pool.Registry {
	return f.proxy.pools.Get("shop", "app").Registry()
}

// model is what a client's names stand for, kept in the simplest way: the bodies by
// name, and for each change the state before it.
type model struct {
	now    map[string]string
	before []map[string]string
}

func (m *model) set(name, body string) {
	previous := map[string]string{}
	for k, v := range m.now {
		previous[k] = v
	}
	m.before = append(m.before, previous)
	if body == "" {
		delete(m.now, name)
	} else {
		m.now[name] = body
	}
}

// In any order of changes, undoing and settling, the names stand for what they
// should and no reference is lost or kept.
func TestStatementNames(t *testing.T) {
	names, bodies := []string{"", "a", "b", "c"}, []string{"1", "2", "3", "4"}
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		registry := pool.NewRegistry()
		var n statementNames
		m := model{now: map[string]string{}}
		for range 60 {
			switch random.IntN(10) {
			case 0, 1, 2, 3:
				name, body := names[random.IntN(4)], bodies[random.IntN(4)]
				m.set(name, body)
				if tag := n.set([]byte(name), registry.Reference(nil, []byte(body))); int(tag) != len(m.before) {
					t.Fatalf("seed %d: tag %d, want %d", seed, tag, len(m.before))
				}
			case 4, 5:
				name := names[random.IntN(4)]
				m.set(name, "")
				n.set([]byte(name), nil)
			case 6, 7:
				lowest := random.IntN(len(m.before) + 3)
				if lowest > 0 && lowest <= len(m.before) {
					m.now = m.before[lowest-1]
					m.before = m.before[:lowest-1]
				}
				n.undo(registry, uint32(lowest))
			case 8:
				n.settle(registry)
				m.before = nil
			case 9:
				if random.IntN(4) == 0 {
					n.releaseAll(registry)
					m = model{now: map[string]string{}}
					if referenced(registry) != 0 {
						t.Fatalf("seed %d: %d statements are referenced by no name", seed, referenced(registry))
					}
				}
			}
			if n.unsettled() != (len(m.before) > 0) {
				t.Fatalf("seed %d: unsettled %v with %d changes", seed, n.unsettled(), len(m.before))
			}
			for _, name := range names {
				got := ""
				if s := n.get([]byte(name)); s != nil {
					got = s.Body
				}
				if got != m.now[name] {
					t.Fatalf("seed %d: %q stands for %q, want %q", seed, name, got, m.now[name])
				}
			}
		}
		n.releaseAll(registry)
		if referenced(registry) != 0 {
			t.Fatalf("seed %d: %d statements are referenced in the end", seed, referenced(registry))
		}
	}
}

func TestDescribed(t *testing.T) {
	registry := pool.NewRegistry()
	s := registry.Reference(nil, []byte("1"))
	var n statementNames
	n.set([]byte("a"), s)
	registry.Retain(s)
	n.set(nil, s)
	if n.describedBefore(s, 9, false) {
		t.Error("described before it was")
	}
	n.describe([]byte("a"), "")
	if n.describedBefore(s, s.Epoch, false) || !n.describedBefore(s, s.Epoch+1, false) {
		t.Error("what the client knows of a named statement is wrong")
	}
	n.set([]byte("a"), nil)
	if n.describedBefore(s, s.Epoch+1, false) {
		t.Error("described by a name that is gone")
	}
	n.describe(nil, "")
	if !n.describedBefore(s, s.Epoch+1, false) {
		t.Error("what the client knows of the unnamed statement is wrong")
	}
	s.Epoch++
	n.told(s, 1, s.Epoch, "")
	if !n.describedBefore(s, s.Epoch, false) {
		t.Error("the client is taken to have been told without a Describe")
	}
	n.recent = []describedName{{"", len(n.changes)}} // a Describe is under way
	n.told(s, 1, s.Epoch, "")
	if n.describedBefore(s, s.Epoch, false) {
		t.Error("the client has been told again")
	}
}

// TestToldBehindChange: a name is given to another statement behind a Describe, which then
// is answered, and the change undone.
func TestToldBehindChange(t *testing.T) {
	registry := pool.NewRegistry()
	s := registry.Reference(nil, []byte("1"))
	var n statementNames
	n.set([]byte("a"), s)
	n.settle(registry)
	n.recent = []describedName{{"a", 0}}
	tag := n.set([]byte("a"), nil)
	registry.Retain(s)
	n.set([]byte("a"), s)
	n.told(s, 1, s.Epoch, "")
	if n.describedBefore(s, s.Epoch+1, false) {
		t.Error("the client is taken to have been told of the second statement")
	}
	n.undo(registry, tag)
	if !n.describedBefore(s, s.Epoch+1, false) {
		t.Error("what the client was told of the first statement is forgotten")
	}
}

func TestPreparedStatements(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("P|s|select 1", "DS|s", "B||s", "DP|", "E|", "S")
	c.want("1", "t", "T|c", "2", "T|c", "D|1", "C|SELECT 1", "Z|I")
	f.wantReceived("P|bp_1|select 1", "DS|bp_1", "B||bp_1", "DP|", "E|", "S")
	c.send("B||s", "E|", "S")
	c.want("2", "D|1", "C|SELECT 1", "Z|I")

	// Another client with the same text, and one with the same name.
	d := f.login()
	f.server().Received = nil
	d.send("P|other|select 1", "B||other", "E|", "S")
	d.want("1", "2", "D|1", "C|SELECT 1", "Z|I")
	f.wantReceived("B||bp_1", "E|", "S")
	e := f.login()
	e.send("P|s|select 2", "B||s", "E|", "S")
	e.want("1", "2", "D|2", "C|SELECT 1", "Z|I")
	c.send("B||s", "E|", "S")
	c.want("2", "D|1", "C|SELECT 1", "Z|I")

	// A name can be given up and used for another text.
	c.send("CS|s", "P|s|select 3", "B||s", "E|", "S")
	c.want("3", "1", "2", "D|3", "C|SELECT 1", "Z|I")
	c.send("CS|s", "S")
	c.want("3", "Z|I")
	c.send("B||s", "E|", "S")
	c.want(`E|ERROR|26000|prepared statement "s" does not exist`, "Z|I")
	for _, each := range []*client{c, d, e} {
		each.send("X")
	}
	if n := referenced(f.registry()); n != 0 {
		t.Errorf("%d statements are in use by nobody", n)
	}
	f.checkIdle()
}

// A Parse behind a change of the schema is of what the text means now, in whatever
// way the answers to it are found; names keep what they stand for.
func TestParseBehindRedefinition(t *testing.T) {
	for name, changes := range sharing {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, changes...)
			c, d := f.login(), f.login()
			for _, each := range []*client{c, d} {
				each.send("P|s|select 1", "DS|s", "P||select 1", "B||", "DP|", "E|", "S")
				each.want("1", "t", "T|c", "1", "2", "T|c", "D|1", "C|SELECT 1", "Z|I")
			}
			d.send("Q|alter d")
			d.want("C|ALTER TABLE", "Z|I")
			for _, each := range []*client{c, d} {
				each.send("P||select 1", "B||", "DP|", "E|", "S")
				each.want("1", "2", "T|d", "D|1", "C|SELECT 1", "Z|I")
				each.send("P|new|select 1", "DS|new", "S")
				each.want("1", "t", "T|d", "Z|I")
				each.send("B||new", "E|", "S")
				each.want("2", "D|1", "C|SELECT 1", "Z|I")
				each.send("B||s", "E|", "S")
				each.want("E|ERROR|0A000|cached plan must not change result type", "Z|I")
				each.send("X")
			}
			if n := referenced(f.registry()); n != 0 {
				t.Errorf("%d statements are in use by nobody", n)
			}
			f.checkIdle()
		})
	}
}

func TestUnnamedStatement(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("P||select 1", "S")
	c.want("1", "Z|I")
	c.send("B||", "E|", "S")
	c.want("2", "D|1", "C|SELECT 1", "Z|I")
	c.send("P||select 2", "B||", "E|", "P||select 3", "B||", "E|", "S")
	c.want("1", "2", "D|2", "C|SELECT 1", "1", "2", "D|3", "C|SELECT 1", "Z|I")
	for range 3 {
		c.send("P||select 3", "B||", "E|", "S")
		c.want("1", "2", "D|3", "C|SELECT 1", "Z|I")
	}
	c.send("CS|", "B||", "S")
	c.want("3", "E|ERROR|26000|unnamed prepared statement does not exist", "Z|I")
	c.send("P||select 4", "S")
	c.want("1", "Z|I")
	c.ask("5") // a simple query drops it
	c.send("B||", "E|", "S")
	c.want("E|ERROR|26000|unnamed prepared statement does not exist", "Z|I")
	c.send("X")
	if n := referenced(f.registry()); n != 0 {
		t.Errorf("%d statements are in use by nobody", n)
	}
}

func TestStatementErrors(t *testing.T) {
	tests := []struct {
		name string
		send []string
		want []string
		sent []string // to the server; nil if that is not the point
	}{
		{"duplicate", []string{"P|s|select 2", "B||s", "E|", "S"}, []string{`E|ERROR|42P05|prepared statement "s" already exists`, "Z|I"}, nil},
		{"unknown at bind", []string{"B||none", "S"}, []string{`E|ERROR|26000|prepared statement "none" does not exist`, "Z|I"}, nil},
		{"unknown at describe", []string{"DS|none", "S"}, []string{`E|ERROR|26000|prepared statement "none" does not exist`, "Z|I"}, nil},
		{"unknown at close", []string{"CS|none", "CP|none", "S"}, []string{"3", "3", "Z|I"}, nil},
		{"a name of ours at bind", []string{"B||bp_1", "S"}, []string{`E|ERROR|26000|prepared statement "bp_1" does not exist`, "Z|I"}, nil},
		{"a name of ours at describe", []string{"DS|bp_1", "S"}, []string{`E|ERROR|26000|prepared statement "bp_1" does not exist`, "Z|I"}, nil},
		{"a name of ours at close", []string{"CS|bp_1", "S"}, []string{"3", "Z|I"}, []string{"S"}},
		{"bad text", []string{"P|x|bad", "DS|x", "S"}, []string{"E|ERROR|42601|syntax error", "Z|I"}, nil},
		{"the second of two", []string{"B||s", "E|", "P|x|bad", "B||x", "E|", "S"}, []string{"2", "D|1", "C|SELECT 1", "E|ERROR|42601|syntax error", "Z|I"}, nil},
		{"unknown portal", []string{"E|none", "S"}, []string{`E|ERROR|34000|portal "none" does not exist`, "Z|I"}, nil},
		{"in the middle of a pipeline", []string{"B||s", "E|", "S", "B||none", "E|", "S", "B||s", "E|", "S"}, []string{
			"2", "D|1", "C|SELECT 1", "Z|I", `E|ERROR|26000|prepared statement "none" does not exist`, "Z|I", "2", "D|1", "C|SELECT 1", "Z|I",
		}, nil},
		{"unknown unnamed", []string{"B||", "S"}, []string{"E|ERROR|26000|unnamed prepared statement does not exist", "Z|I"}, nil},
		{"a query in a group that failed", []string{"B||none", "Q|select 7", "P|x|select 8", "S"}, []string{`E|ERROR|26000|prepared statement "none" does not exist`, "Z|I"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			c.prepare("s", "select 1")
			f.server().Received = nil
			c.send(test.send...)
			c.want(test.want...)
			if test.sent != nil {
				f.wantReceived(test.sent...)
			}
			c.send("B||s", "E|", "S") // the names are what they were
			c.want("2", "D|1", "C|SELECT 1", "Z|I")
			c.send("P|x|select 9", "B||x", "E|", "S")
			c.want("1", "2", "D|9", "C|SELECT 1", "Z|I")
			c.send("X")
			if n := referenced(f.registry()); n != 0 {
				t.Errorf("%d statements are in use by nobody", n)
			}
			f.checkIdle()
		})
	}
}

// What an error makes PostgreSQL skip has not happened; what came before it has. Each
// group is sent whole, and message by message with the answers awaited in between.
func TestStatementChangesAndErrors(t *testing.T) {
	const fail = "E|none"
	groups := [][]string{
		{fail, "P|s|select 2", "S"},
		{fail, "CS|s", "S"},
		{fail, "CS|s", "P|s|select 2", "S"},
		{fail, "P||select 2", "S"},
		{"P|x|select 2", fail, "CS|x", "S"},
		{"P|x|select 2", "CS|s", fail, "P|s|select 3", "CS|x", "S"},
		{"CS|s", fail, "P|s|select 2", "S"},
		{"CS|s", "P|s|select 2", fail, "CS|s", "S"},
		{"CS|s", "P|s|bad", "CS|s", "S"},
		{"P||select 2", fail, "P||select 3", "S"},
		{"P||select 2", "P||bad", "P||select 3", "S"},
		{"P|x|bad", "P|x|select 2", "S"},
		{"P|x|select 2", "CS|x", "P|x|select 3", fail, "S"},
	}
	for _, group := range groups {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, whole %v", strings.Join(group, " "), whole), func(t *testing.T) {
				f := newFixture(t, oneServer)
				c := f.login()
				// The same is done without a proxy.
				world := pooltest.NewWorld()
				pg := pooltest.NewPostgres(world)
				direct := connectDirectly(world)
				_ = pg
				both := func(words ...string) {
					t.Helper()
					direct.Write(pooltest.Frontend(words...))
					world.Settle()
					want := direct.take()
					c.send(words...)
					wantWords(t, strings.Join(words, " "), pooltest.BackendWords(c.conn.Sent()), want)
				}
				both("P|s|select 1", "S")
				both("P||select u", "S")
				if whole {
					both(group...)
				} else {
					for _, word := range group[:len(group)-1] {
						both(word, "H")
					}
					both(group[len(group)-1])
				}
				for _, name := range []string{"s", "x"} {
					both("B||"+name, "E|", "S")
					both("CS|"+name, "P|"+name+"|select 5", "B||"+name, "E|", "S")
				}
				c.send("X")
				if n := referenced(f.registry()); n != 0 {
					t.Errorf("%d statements are in use by nobody", n)
				}
				f.checkIdle()
			})
		}
	}
}

func TestStatementsAcrossServers(t *testing.T) {
	f := newFixture(t)
	c, d := f.login(), f.login()
	c.prepare("s", "select 1")
	d.send("Q|begin")
	d.want("C|BEGIN", "Z|T")
	d.send("Q|insert")
	d.want("C|INSERT 0 1", "Z|T") // holds the server that has the statement
	c.send("B||s", "E|", "S")
	c.want("2", "D|1", "C|SELECT 1", "Z|I")
	if open := f.pg.Open(); len(open) != 2 || open[1].Statements() != 1 {
		t.Errorf("%d servers", len(open))
	}
}

func TestEviction(t *testing.T) {
	f := newFixture(t, oneServer, func(c *Config) { c.Pool.MaxPreparedStatements = 3 })
	c := f.login()
	for i := range 10 {
		c.prepare(fmt.Sprintf("s%d", i), fmt.Sprintf("select %d", i))
	}
	for round := range 3 {
		for i := range 10 {
			c.send(fmt.Sprintf("B||s%d", i), "E|", "S")
			c.want("2", fmt.Sprintf("D|%d", i), "C|SELECT 1", "Z|I")
			if n := f.server().Statements(); n > 3 {
				t.Fatalf("round %d: the server has %d statements", round, n)
			}
		}
	}
}

// A client that stays on its server does not make it keep what it will not use again.
func TestEvictionInOneLease(t *testing.T) {
	f := newFixture(t, oneServer, func(c *Config) { c.Pool.MaxPreparedStatements, c.Pool.Mode = 3, pool.ModeSession })
	c := f.login()
	for i := range 50 {
		c.send(fmt.Sprintf("P||select %d", i), "B||", "E|", "S")
		c.want("1", "2", fmt.Sprintf("D|%d", i), "C|SELECT 1", "Z|I")
		if n := f.server().Statements(); n > 4 {
			t.Fatalf("the server has %d statements", n)
		}
	}
}

// TestMeaningIsKnownBehindInspection: what texts mean behind a statement that may have changed
// that, and has not, is known once the server has said so, though the next transaction has begun.
func TestMeaningIsKnownBehindInspection(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login()
	c.send("P|s|select 1", "B||s", "E|", "S")
	f.pg.HoldHazards = true
	c.send("Q|do f")
	c.send("Q|begin")
	f.pg.HoldHazards = false
	f.server().Resume()
	f.world.Settle()
	f.server().Received = nil
	c.send("B||s", "E|", "S")
	f.wantReceived("B||bp_1", "E|", "S")
}
