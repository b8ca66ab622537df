package proxy

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// randomWords are what a random client may say, some more often than others: outside
// transactions, and in them, where it prepares nothing.
var randomWords = [2]string{
	`S S S S S S H Q|select_1 Q|select_2 Q|insert Q|fail Q|bad Q|select_hidden Q|commit Q|rollback Q|set_timezone=UTC
	Q|deallocate_all Q|select_1;select_2 Q|copy_in Q|copy_out Q|notice Q| F|call
	P|a|select_1 P|a|select_2 P|b|select_1 P||select_1 P||select_3 P||insert P||bad P||commit P||rollback P||copy_in P||fail
	B||a B||b B|| B|p| B|p|a B||none B||a|bad DS|a DS|b DS| DS|none DP| DP|p E| E| E| E|p E|none CS|a CS|b CS| CS|none CP|p
	d|1 d|bad c c f|no`,
	`S S S S S S S H Q|select_1 Q|select_2 Q|insert Q|fail Q|select_hidden Q|begin Q|begin Q|commit Q|rollback Q|set_timezone=UTC
	Q|copy_in Q|notice Q| B||a B||b B|p|a B||begin B||begin B||commit B||rollback B||write B||none B||a|bad
	DS|a DS|b DS|none DP| DP|p E| E| E| E| E|p E|none CP|p d|1 c`,
}

// prepared is what the clients that speak of transactions have prepared.
var prepared = []string{"P|a|select 1", "P|b|select 2", "P|begin|begin", "P|commit|commit", "P|rollback|rollback", "P|write|insert", "S"}

// randomConversation returns what a random client says. It ends outside a transaction
// and a COPY. A simple query does not stand in an extended group, and the data of a
// COPY follows a simple query at once: no driver does otherwise.
func randomConversation(random *rand.Rand) []string {
	language := random.IntN(len(randomWords))
	words := strings.Fields(randomWords[language])
	var list []string
	if language == 1 {
		list = append(list, prepared...)
	}
	inGroup := false
	say := func(word string) {
		if query := word[0] == 'Q' || word[0] == 'F'; query && inGroup {
			list = append(list, "S")
		}
		inGroup = strings.IndexByte("PBDECH", word[0]) >= 0 || inGroup && strings.IndexByte("dcf", word[0]) >= 0
		list = append(list, word)
	}
	for range 1 + random.IntN(25) {
		word := strings.ReplaceAll(words[random.IntN(len(words))], "_", " ")
		say(word)
		if word == "Q|copy in" {
			say([]string{"d|1", "d|bad"}[random.IntN(2)])
			say([]string{"c", "f|no"}[random.IntN(2)])
		}
	}
	say("c")
	say("S")
	say("Q|rollback")
	say("Q|select 9")
	return list
}

// What a client is answered through the proxy, whatever it says, is what it would be
// answered without one.
func TestRandomConversations(t *testing.T) {
	seeds := uint64(400)
	failures := 0
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 7))
		var names []string
		for name := range sharing {
			names = append(names, name)
		}
		slices.Sort(names)
		f := newFixture(t, sharing[names[random.IntN(len(names))]]...)
		for range 3 {
			words := randomConversation(random)
			want := withoutProxy(words)
			if strings.HasPrefix(want[len(want)-1], "E|FATAL") {
				continue // what does not belong in a COPY: the connection ends
			}
			c := f.login()
			b := pooltest.Frontend(words...)
			for len(b) > 0 {
				n := 1 + random.IntN(len(b))
				c.feed(b[:n])
				b = b[n:]
			}
			got := pooltest.BackendWords(c.conn.Sent())
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: %s\n got %s\nwant %s", seed, strings.Join(words, "  "), strings.Join(got, "  "), strings.Join(want, "  "))
				if failures++; failures == 5 {
					return
				}
			}
			c.send("X")
			if c.conn.Closed() && referenced(f.registry()) != 0 {
				t.Fatalf("seed %d: %s\n%d statements are in use by nobody", seed, strings.Join(words, "  "), referenced(f.registry()))
			}
			f.checkIdle()
			if t.Failed() {
				break
			}
		}
	}
}
