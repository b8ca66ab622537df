package differential

import (
	"math/rand/v2"
	"regexp"
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

	// No case has both of these, which the proxy cannot get right together.
	constants bool // statements with names have constants that settings decide; else search_path may change
	shadows   bool // temporary tables hide others; else prepared statements may be about those
	describes bool // statements are described and not run; else transactions may say how they are isolated
	foreign   bool // clients call each other's functions; else there may be transaction blocks

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

// statement makes one of the features' statements that the case may have.
func (g *generator) statement() statement {
	for {
		if s := g.anyStatement(); !g.avoids(s.inline()) {
			return s
		}
	}
}

func (g *generator) anyStatement() statement {
	n := g.random.IntN(g.weight)
	for _, f := range g.features {
		if n -= f.weight; n < 0 {
			return f.make(g)
		}
	}
	panic("BUG: the weight is more than that of all features")
}

var (
	isolations = regexp.MustCompile(`(begin|transaction) (isolation|read|deferrable)`)
	constants  = regexp.MustCompile(`'02/03/2026'|'{null}'`)
	rereads    = regexp.MustCompile(`search_path|temp|discard (plans|all)`) // or may be followed by that
	blocks     = regexp.MustCompile(`(?i)\b(begin|start transaction)\b`)
	bodies     = regexp.MustCompile(`begin return .*; end`) // of functions
	hides      = regexp.MustCompile(`temp(orary)?( table)? item\b|_temp\('item'\)`)
	hidden     = regexp.MustCompile(`(from|into) item\b`)
	keepsPlan  = regexp.MustCompile(`^prepare .* from item\b|lib\.scoped\(\)`) // of what is about such a table
)

// avoids reports whether the case has no such statement.
func (g *generator) avoids(text string) bool {
	return g.foreign && blocks.MatchString(bodies.ReplaceAllString(text, "")) ||
		g.constants && rereads.MatchString(text) || g.describes && isolations.MatchString(text) ||
		g.shadows && keepsPlan.MatchString(text) || !g.shadows && hides.MatchString(text)
}

// names reports whether the case may give a statement a name.
func (g *generator) names(text string) bool {
	return (g.constants || !constants.MatchString(text)) && (!g.shadows || !hidden.MatchString(text))
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
	g.constants, g.shadows, g.describes, g.foreign = g.one(3), g.one(2), g.one(2), g.one(3)
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
