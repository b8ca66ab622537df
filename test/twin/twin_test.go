package twin

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/cmd/billproxy/devpg/devpgtest"
	"github.com/billproxy/billproxy/test/process"
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
		err = process.Build(context.Background(), shared.binary, "-race")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := devpgtest.Run(m, map[string]string{"max_prepared_transactions": "5"}, &shared.cluster)
	fmt.Printf("twin: %d scripts, played %d times, %d steps, %d messages compared\n",
		played.scripts, played.plays, played.steps, played.messages)
	return code
}

// variants are what every script is played with, besides what it asks for itself.
var variants = []map[string]string{
	{"DEFAULT_POOL_SIZE": "2", "SHARED_READS": "on"},
	{"DEFAULT_POOL_SIZE": "2", "SHARED_READS": "off"},
}

// TestScripts plays all scripts.
func TestScripts(t *testing.T) {
	if err := process.OpenSources(); err != nil {
		t.Fatal(err)
	}
	twins, err := script.NewTwins(t.Context(), shared.cluster, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer twins.Close(context.WithoutCancel(t.Context()))
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata has %d scripts, %v", len(files), err)
	}
	played.scripts = len(files)
	proxies := map[string]*process.Proxy{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s, err := script.Parse(string(text))
			if err != nil {
				t.Fatalf("%s, %v", file, err)
			}
			for _, variant := range variants {
				environment := maps.Clone(variant)
				maps.Copy(environment, s.Proxy)
				proxy := proxies[fmt.Sprint(environment)]
				if proxy == nil {
					proxy = start(t, environment)
					proxies[fmt.Sprint(environment)] = proxy
				}
				result, err := twins.Play(t.Context(), proxy.Address, s)
				if err != nil {
					t.Fatal(err)
				}
				played.plays++
				played.steps += result.Steps
				played.messages += result.Messages
				if result.Mismatch != nil {
					t.Errorf("%s with %v, %s", file, environment, result.Mismatch)
				}
			}
		})
	}
	for _, proxy := range proxies {
		if err := proxy.Stop(patience); err != nil {
			t.Error(err)
		}
		if err := proxy.Log.Problem(); err != nil {
			t.Error(err)
		}
	}
}

func start(t *testing.T, environment map[string]string) *process.Proxy {
	t.Helper()
	proxy, err := process.StartProxy(t.Context(), shared.binary, shared.cluster, environment)
	if err != nil {
		t.Fatal(err)
	}
	return proxy
}
