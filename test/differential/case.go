package differential

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/test/script"
)

// generator makes a case from a seed.
type generator struct {
	random *rand.Rand

	// What the case is about.
	features  []feature
	weight    int // of all features
	superuser bool
	leaves    bool // clients leave and are replaced
	started   bool // clients log in with parameters

	// The client at hand.
	client int
	words  int // how many words have been made up
}

// pick picks one of the list.
func pick[T any](g *generator, list []T) T { return list[g.random.IntN(len(list))] }

// one is true once in n times.
func (g *generator) one(n int) bool { return g.random.IntN(n) == 0 }

// name is that of the client at hand.
func (g *generator) name() string { return string(rune('a' + g.client)) }

// statement makes one of the features' statements.
func (g *generator) statement() statement {
	n := g.random.IntN(g.weight)
	for _, f := range g.features {
		if n -= f.weight; n < 0 {
			return f.make(g)
		}
	}
	panic("BUG: the weight is more than that of all features")
}

// featuresNamed are the optional features whose names are in a list with commas.
func featuresNamed(list string) []feature {
	names := strings.Split(list, ",")
	return slices.DeleteFunc(slices.Clone(optional), func(f feature) bool { return !slices.Contains(names, f.name) })
}

// newCase makes the script of a seed, with some of the optional features.
func newCase(seed uint64, optional []feature) *script.Script {
	g := &generator{random: rand.New(rand.NewPCG(seed, 0))}
	clients := 2 + g.random.IntN(2)
	servers := clients
	// In every third case nothing may keep a client on a server: one serves all.
	oneServer := g.one(3)
	if oneServer {
		servers = 1
	}
	g.superuser, g.leaves, g.started = g.one(5), !g.one(4), g.one(3)
	g.features = always
	for _, f := range optional {
		if g.one(2) && (f.replayed || !oneServer) {
			g.features = append(g.features[:len(g.features):len(g.features)], f)
		}
	}
	for _, f := range g.features {
		g.weight += f.weight
	}
	s := &script.Script{
		Setup:   schema,
		Repeats: true,
		Excuse:  excuse,
		GiveUp:  giveUp,
		Servers: servers,
		Proxy: map[string]string{
			"DEFAULT_POOL_SIZE":       strconv.Itoa(servers),
			"SHARED_READS":            pick(g, []string{"on", "off"}),
			"MAX_PREPARED_STATEMENTS": pick(g, []string{"3", "200"}),
		},
	}
	for g.client = range clients {
		s.Steps = append(s.Steps, g.login())
	}
	for range 20 + g.random.IntN(100) {
		if g.one(3) { // else the same client goes on
			g.client = g.random.IntN(clients)
		}
		s.Steps = append(s.Steps, g.step()...)
	}
	return s
}
