package main

import (
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/rig"
)

func TestDrawPlots(t *testing.T) {
	t.Parallel()
	plots := drawPlots(sample(3, rig.Direct, rig.PgBouncer, rig.Billproxy))
	if len(plots) != 5 {
		t.Fatalf("%d plots, want 5", len(plots))
	}
	for _, p := range plots {
		if direct := strings.Contains(p.SVG, ">direct<"); direct == strings.HasPrefix(p.File, "cpu") {
			t.Errorf("%s: direct connections drawn: %v", p.File, direct)
		}
	}
	if plots := drawPlots(new(results)); plots != nil {
		t.Errorf("plots of nothing: %v", plots)
	}
}
