//go:build !linux

package main

import "context"

// startGuessers does nothing: measureAll refuses other systems.
func (b *bench) startGuessers(context.Context, *target, int) (stop func() (rate float64, err error)) {
	return func() (float64, error) { return 0, nil }
}
