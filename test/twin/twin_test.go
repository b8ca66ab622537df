package twin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/test/launch"
	"github.com/billproxy/billproxy/test/script"
)

// patience bounds every wait. It only decides how soon a broken test fails.
const patience = 30 * time.Second

// shared is what TestMain prepares.
var shared struct {
	cluster *devpg.Cluster
	binary  string
}

// played counts, for the last line that is printed.
var played struct{ scripts, plays, steps, messages int }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "billproxy-twin-")
	if err == nil {
		defer os.RemoveAll(dir)
		shared.binary = filepath.Join(dir, "billproxy")
		err = launch.Build(context.Background(), shared.binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := devpgtest.Run(m, nil, &shared.cluster)
	fmt.Printf("twin: %d scripts, played %d times, %d steps, %d messages compared\n",
		played.scripts, played.plays, played.steps, played.messages)
	return code
}

// variants are what every script is played with, besides what it asks for itself: all that
// is on by default, and all off that has a switch.
var variants = []map[string]string{
	{"DEFAULT_POOL_SIZE": "2", "SHARED_READS": "on"},
	{
		"DEFAULT_POOL_SIZE": "2", "SHARED_READS": "off", "COALESCE_READS": "off", "PARAMETERIZED_READS": "off", "QUEUE_TARGET": "0",
		"RETRY_BUDGET": "0", "MAX_WAITERS": "0", "TENANT_FAIRNESS": "off", "ADAPTIVE_LIMIT": "off", "LOGIN_DELAY": "off",
	},
}

// TestScripts plays all scripts.
func TestScripts(t *testing.T) {
	if err := launch.OpenSources(); err != nil {
		t.Fatal(err)
	}
	twins, err := script.NewTwins(t.Context(), shared.cluster, "twin", patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := twins.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata has %d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, section := range sections(string(text)) {
				t.Run(section.name, func(t *testing.T) {
					s, err := script.Parse(section.text)
					if err != nil {
						t.Fatalf("%s, %v", file, err)
					}
					played.scripts++
					play(t, twins, file, s)
				})
			}
		})
	}
}

// section is one script of a file.
type section struct{ name, text string }

// sections takes a file apart. A line "== name" begins a script; what is above the
// first one belongs to all. Lines keep their numbers.
func sections(text string) []section {
	const mark = "== "
	var head string
	var list []section
	lines := 0
	for line := range strings.Lines(text) {
		name, begins := strings.CutPrefix(line, mark)
		switch {
		case begins:
			blank := strings.Repeat("\n", lines-strings.Count(head, "\n")+1)
			list = append(list, section{strings.TrimSpace(name), head + blank})
		case len(list) == 0:
			head += line
		default:
			list[len(list)-1].text += line
		}
		lines++
	}
	return list
}

// play plays a script, each time with a proxy of its own, that knows nothing.
func play(t *testing.T, twins *script.Twins, file string, s *script.Script) {
	t.Helper()
	for _, variant := range variants {
		environment := maps.Clone(variant)
		maps.Copy(environment, s.Proxy)
		proxy, err := launch.StartProxy(t.Context(), shared.binary, shared.cluster, environment)
		if err != nil {
			t.Fatal(err)
		}
		result, err := twins.Play(t.Context(), proxy.Address, s)
		if err := errors.Join(err, proxy.Stop(patience), proxy.Log.Problem()); err != nil {
			t.Fatal(err)
		}
		played.plays++
		played.steps += result.Steps
		played.messages += result.Messages
		if result.Waits {
			t.Errorf("%s with %v: nothing comes on either side", file, environment)
		}
		if result.Mismatch != nil {
			t.Errorf("%s with %v, %s", file, environment, result.Mismatch)
		}
	}
}
