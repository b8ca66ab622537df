// Package sim runs the whole proxy inside one goroutine, from a seed: its loop,
// its connections, its clock, PostgreSQL behind it and the clients in front of it
// are simulated, and so is what can go wrong between them.
//
//	world.go       the loop (reactor.Loop), virtual time, the order of events
//	wire.go        a connection: split reads, delays, windows, resets
//	scenario.go    what one seed is about: sizes, timeouts, classes of faults
//	fault.go       the faults that befall the servers and the network
//	sql.go         the few statements that the scripted PostgreSQL understands
//	postgres.go    the scripted PostgreSQL: connections, login, cancel requests
//	backend.go     one session of it: the protocol's state machine
//	extended.go    the extended query protocol of a session
//	execute.go     one statement of it: rows, COPY, delays, errors
//	client.go      a scripted client: what it has sent and what it may get
//	program.go     what a client does, chosen at random
//	request.go     the statements and messages that it is made of
//	login.go       how a client introduces itself, and what it is told
//	op.go          what a client can do
//	excuse.go      what may come instead: judged
//	twin.go        the session that a client would have without a proxy
//	invariant.go   what must hold after every step and at the end
//	trace.go       what happened, as a hash and, on demand, in words
//
// A client's expectations are computed, not written down: every message that it
// sends is also given to a private, undisturbed session of the scripted
// PostgreSQL, its twin, and what comes through the proxy must equal what the twin
// answers, message for message. Where a fault touched a group, an error from a
// fixed set may come instead, and the twin is brought in line with it.
//
// A seed always takes the same course. A failing one is replayed, with a trace in
// words, by
//
//	go test ./test/sim -run TestSeeds -sim.seed=N
package sim
