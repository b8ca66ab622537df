package main

import "testing"

func TestRotated(t *testing.T) {
	t.Parallel()
	order := []int{0, 1, 2}
	for by, want := range map[int]int{0: 0, 1: 1, 3: 0, 5: 2} {
		got := rotated(order, by)
		if len(got) != 3 || got[0] != want || got[1] != (want+1)%3 {
			t.Errorf("by %d: %v", by, got)
		}
	}
}
