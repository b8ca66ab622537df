package sim

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutantSources are where bugs are planted.
const mutantSources = "../../p*/mutant_on.go"

// mutantSeeds is within how many seeds a planted bug has to be found.
const mutantSeeds = "4000"

// mutants returns the names of the planted bugs.
func mutants(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(mutantSources)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`mutant\("(\w+)"\)`).FindAllSubmatch(source, -1) {
			names = append(names, string(match[1]))
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s plant no bugs", mutantSources)
	}
	return names
}

// TestPlantedBugs builds the simulation with the planted bugs and checks that it
// finds each of them, that what it prints replays, and that without one chosen
// there is nothing to find.
func TestPlantedBugs(t *testing.T) {
	names := mutants(t)
	binary := filepath.Join(t.TempDir(), "sim.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "mutant", "-o", binary, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	run := func(t *testing.T, name string, arguments ...string) (output string, failed bool) {
		t.Helper()
		command := exec.CommandContext(t.Context(), binary, append([]string{"-test.run=^TestSeeds$"}, arguments...)...)
		command.Env = append(os.Environ(), "MUTANT="+name)
		b, err := command.CombinedOutput()
		return string(b), err != nil
	}
	t.Run("none", func(t *testing.T) {
		if output, failed := run(t, "", "-sim.seeds=200"); failed {
			t.Fatalf("without a planted bug:\n%s", output)
		}
	})
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			output, failed := run(t, name, "-sim.seeds="+mutantSeeds)
			if !failed {
				t.Fatalf("not found within %s seeds", mutantSeeds)
			}
			replay := regexp.MustCompile(`replay: go test \./test/sim -run TestSeeds (-sim\.seed=\d+)`).FindStringSubmatch(output)
			if replay == nil {
				t.Fatalf("no replay command in:\n%s", output)
			}
			if _, failed := run(t, name, replay[1]); !failed {
				t.Errorf("%s does not fail again", replay[1])
			}
			_, found, _ := strings.Cut(output, "seed ")
			found, _, _ = strings.Cut(found, "\n")
			t.Logf("found by seed %s", found)
		})
	}
}
