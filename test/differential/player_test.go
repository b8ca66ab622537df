package differential

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/test/launch"
	"github.com/billproxy/billproxy/test/script"
)

// player plays cases.
type player struct {
	twins  *script.Twins
	binary string
	mode   string
	played counts
}

// counts are of all cases that were played.
type counts struct {
	cases, steps, messages int

	// waits is how many cases ended early because their clients waited for each other.
	waits int
}

func (c *counts) add(other counts) {
	c.cases += other.cases
	c.steps += other.steps
	c.messages += other.messages
	c.waits += other.waits
}

func (c *counts) String() string {
	return fmt.Sprintf("%d cases, %d steps, %d messages compared, %d cases ended by clients that wait for each other",
		c.cases, c.steps, c.messages, c.waits)
}

// newPlayer returns one with databases of that name.
func newPlayer(t *testing.T, name, binary string) *player {
	t.Helper()
	twins, err := script.NewTwins(t.Context(), shared.cluster, name, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := twins.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &player{twins: twins, binary: binary, mode: flags.mode}
}

// play plays a case with a proxy of its own, so that it depends on no other.
func (p *player) play(ctx context.Context, s *script.Script) (*script.Mismatch, error) {
	environment := map[string]string{"POOL_MODE": p.mode, "QUERY_WAIT_TIMEOUT": waitTimeout, "LOG_LEVEL": "info"}
	maps.Copy(environment, s.Proxy)
	if p.mode == "session" {
		environment["DEFAULT_POOL_SIZE"] = "10"
	}
	proxy, err := launch.StartProxy(ctx, p.binary, shared.cluster, environment)
	if err != nil {
		return nil, err
	}
	defer proxy.Kill()
	result, err := p.twins.Play(ctx, proxy.Address, s)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, proxy.Log)
	}
	p.played.add(counts{cases: 1, steps: result.Steps, messages: result.Messages})
	if result.Waits {
		p.played.waits++
	}
	if result.Mismatch == nil {
		return nil, proxy.Log.Problem()
	}
	return result.Mismatch, nil
}

// shrink makes a failing case small. What does not fail again is returned as it is.
func (p *player) shrink(ctx context.Context, s *script.Script, first *script.Mismatch) (*script.Script, *script.Mismatch) {
	short := *s
	short.Steps = s.Steps[:first.Index+1]
	deadline := time.Now().Add(shrinkTime)
	p.twins.SetPatience(shrinkPatience)
	defer p.twins.SetPatience(patience)
	// Which server a client gets is also a matter of time: some cases do not fail
	// every time.
	attempts := 1
	last := first
	fails := func(candidate *script.Script) bool {
		for range attempts {
			if time.Now().After(deadline) {
				return false
			}
			if mismatch, err := p.play(ctx, candidate); err == nil && mismatch != nil {
				last = mismatch
				return true
			}
		}
		return false
	}
	for !fails(&short) {
		if attempts++; attempts > maxAttempts {
			return s, first
		}
	}
	return shrink(&short, fails), last
}

// report describes a failing case by a small one, as a script.
func (p *player) report(ctx context.Context, title string, s *script.Script, first *script.Mismatch) string {
	small, mismatch := p.shrink(ctx, s, first)
	small.Setup = "" // every case has the schema
	var b strings.Builder
	for line := range strings.Lines(fmt.Sprintf("%s, %s\n", title, mismatch)) {
		b.WriteString("# " + line)
	}
	return b.String() + small.String()
}
