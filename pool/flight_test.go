package pool

import (
	"slices"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/shed"
)

// flying returns clients that ask the same, of whom the first leads, behind a holder of
// the only server.
func (f *fixture) flying(count int) (holder *testClient, conn *pooltest.Conn, clients []*testClient) {
	f.Helper()
	holder, conn = f.client()
	work := shed.Work{Expected: 1}
	for i := range count {
		c := f.newClient()
		if follows := f.pool.Follow(&c.waiter, nil, work, []byte("question")); follows != (i > 0) {
			f.Fatalf("client %d follows: %v", i, follows)
		}
		if i == 0 {
			if f.pool.Share(&c.waiter, nil, work, false) != nil {
				f.Fatal("the leader need not wait")
			}
			f.pool.Lead(&c.waiter, []byte("question"))
		}
		clients = append(clients, c)
	}
	return holder, conn, clients
}

// A leader that does not ask after all leaves its followers free to.
func TestFlightWithoutAQuery(t *testing.T) {
	for name, end := range map[string]func(f *fixture, leader *testClient, conn *pooltest.Conn){
		"declined": func(_ *fixture, leader *testClient, _ *pooltest.Conn) { leader.server.Decline(&leader.waiter) },
		"lost": func(f *fixture, leader *testClient, conn *pooltest.Conn) {
			conn.End(pooltest.EOF)
			f.world.Settle()
			if leader.server.Claim(&leader.waiter) {
				t.Error("the place is still there")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, sharing(16, 1))
			holder, conn, clients := f.flying(3)
			holder.server.Release()
			clients[0].want("[lease]")
			clients[1].want()
			end(f, clients[0], conn)
			for _, c := range clients[1:] {
				c.want("[alone false]")
				if c.waiter.Waiting() {
					t.Error("it follows all the same")
				}
			}
			if len(f.pool.questions) != 0 {
				t.Errorf("%d questions are left", len(f.pool.questions))
			}
		})
	}
}

// Only what is the answer to a query that has succeeded is for others, and nothing is
// that has news for one session.
func TestIsAnswer(t *testing.T) {
	for _, test := range []struct {
		words []string
		want  bool
	}{
		{[]string{"T|c", "D|1", "C|SELECT 1", "Z|I"}, true},
		{[]string{"1", "2", "T|c", "C|SELECT 0", "Z|I"}, true},
		{[]string{"2", "n", "C|SELECT 1", "Z|I"}, true},
		{[]string{"T|c", "E|ERROR|22012|division by zero", "Z|I"}, false},
		{[]string{"T|c", "D|1", "E|ERROR|57014|canceled", "Z|I"}, false},
		{[]string{"S|TimeZone|UTC", "T|c", "C|SELECT 0", "Z|I"}, false},
		{[]string{"T|c", "C|SELECT 0", "N|notice", "Z|I"}, false},
		{[]string{"T|c", "D|1", "C|SELECT 1"}, false},
		{[]string{"Z|I"}, false},
		{nil, false},
	} {
		reply := pooltest.Backend(test.words...)
		if got := isAnswer(reply); got != test.want {
			t.Errorf("%q is an answer: %v", test.words, got)
		}
		if len(reply) > 0 && isAnswer(slices.Clone(reply[:len(reply)-1])) {
			t.Errorf("%q, cut off, is an answer", test.words)
		}
	}
}
