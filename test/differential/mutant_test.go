package differential

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/billproxy/billproxy/test/launch"
	"github.com/billproxy/billproxy/test/script"
)

// mutantSource is where the leaks are planted.
const mutantSource = "../../pool/mutant_on.go"

const (
	// mutantSeeds is within how many seeds a planted leak has to be found.
	mutantSeeds = 60

	// mutantPatience is how long a reply is waited for, beside locks that stay.
	mutantPatience = 2 * time.Second
)

// leakFeatures is what leads to each leak: nothing else is played.
var leakFeatures = map[string]string{
	"leak_set":       "set",
	"leak_temporary": "temporary table",
	"leak_lock":      "advisory lock",
	"leak_channel":   "notification",
	"leak_prepared":  "prepare",
}

// leaks returns the names of the planted leaks of session state.
func leaks(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile(mutantSource)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, match := range regexp.MustCompile(`mutant\("(leak_\w+)"\)`).FindAllSubmatch(source, -1) {
		names = append(names, string(match[1]))
	}
	if len(names) < 5 {
		t.Fatalf("%s plants the leaks %q, want five", mutantSource, names)
	}
	return names
}

// TestPlantedLeaks plays cases with a proxy in which a bug has been planted, and
// checks that each is found, and that without it the same case has no mismatch.
func TestPlantedLeaks(t *testing.T) {
	names := leaks(t)
	binary := filepath.Join(t.TempDir(), "billproxy-mutant")
	if err := launch.Build(t.Context(), binary, "-tags", "mutant"); err != nil {
		t.Fatal(err)
	}
	p := newPlayer(t, "twin", binary)
	p.twins.SetPatience(mutantPatience) // a lock that stays would be waited for
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= mutantSeeds; seed++ {
				s := newCase(seed, featuresNamed(leakFeatures[name]))
				if p.finds(t, name, s) && !p.finds(t, "", s) {
					t.Logf("found by seed %d", seed)
					return
				}
			}
			t.Errorf("not found within %d seeds", mutantSeeds)
		})
	}
}

// finds reports whether the case has a mismatch with the planted bug.
func (p *player) finds(t *testing.T, mutant string, s *script.Script) bool {
	t.Helper()
	t.Setenv(launch.Mutant, mutant)
	mismatch, err := p.play(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return mismatch != nil
}
