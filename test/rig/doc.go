// Package rig is what benchmarks stand on: a private PostgreSQL, the poolers that are
// compared before it, each a process of its own, and what a reader has to know about
// this machine.
//
// command.go is the process of a benchmark, options.go its flags; rig.go starts
// PostgreSQL; target.go and process.go run a pooler, peers.go says how each is
// configured; proc.go and machine.go read /proc, which only Linux has.
package rig
