package pool

import (
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestRedefinitions(t *testing.T) {
	tests := []struct {
		name    string
		replies []string // to one query
		ended   bool     // a generation has begun
	}{
		{"create", []string{"C|CREATE TABLE", "Z|I"}, true},
		{"alter", []string{"C|ALTER VIEW", "Z|I"}, true},
		{"drop", []string{"C|DROP TYPE", "Z|I"}, true},
		{"hidden in a block", []string{"C|DO", "Z|I"}, true},
		{"committed by another session", []string{"C|COMMIT PREPARED", "Z|I"}, true},
		{"before something else", []string{"C|DROP TABLE", "C|INSERT 0 1", "Z|I"}, true},
		{"before an error", []string{"C|DROP TABLE", "E|ERROR|22012|no", "Z|I"}, true},
		{"not yet committed", []string{"C|BEGIN", "C|DROP TABLE", "Z|T"}, false},
		{"read", []string{"T|c", "D|1", "C|SELECT 1", "Z|I"}, false},
		{"copied", []string{"C|COPY 3", "Z|I"}, false},
		{"committed", []string{"C|COMMIT", "Z|I"}, false},
		{"deleted", []string{"C|DELETE 1", "Z|I"}, false},
		{"analyzed", []string{"C|ANALYZE", "Z|I"}, false},
		{"declared", []string{"C|DECLARE CURSOR", "Z|I"}, false},
		{"refused", []string{"E|ERROR|42501|no", "Z|I"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			statement := c.reference("select 1")
			c.send("Q|?")
			f.feed(conn, test.replies...)
			if ended := !f.pools.registry.Current(statement); ended != test.ended {
				t.Errorf("a generation has begun: %v, want %v", ended, test.ended)
			}
		})
	}
}

// What a transaction has changed is there for others when it ends, however it does.
func TestRedefinitionsEnd(t *testing.T) {
	for name, end := range map[string]func(*fixture, *testClient, *pooltest.Conn){
		"commit": func(f *fixture, c *testClient, conn *pooltest.Conn) {
			c.send("Q|commit")
			f.feed(conn, "C|COMMIT", "Z|I")
		},
		"loss": func(f *fixture, _ *testClient, conn *pooltest.Conn) {
			conn.End(pooltest.EOF)
			f.world.Settle()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c, conn := f.client()
			statement := c.reference("select 1")
			c.send("Q|begin; drop table a")
			f.feed(conn, "C|BEGIN", "C|DROP TABLE", "Z|T")
			c.send("Q|select 1")
			f.feed(conn, "T|c", "D|1", "C|SELECT 1", "Z|T")
			if !f.pools.registry.Current(statement) {
				t.Error("a generation began within the transaction")
			}
			end(f, c, conn)
			if f.pools.registry.Current(statement) {
				t.Error("no generation began at the end of the transaction")
			}
		})
	}
}
