//go:build !linux

package main

import (
	"context"

	"github.com/billproxy/billproxy/test/rig"
)

// startGuessers does nothing: measureAll refuses other systems.
func (b *bench) startGuessers(context.Context, *rig.Target, int) (stop func() (rate float64, err error)) {
	return func() (float64, error) { return 0, nil }
}
