// Package pooltest is the world in which the tests of packages pool and proxy run:
// the loop, the clock and the connections of package reactor in memory, moved by
// the test, so that every interleaving can be written down.
//
//	world.go     the loop (reactor.Loop): virtual clock, timers, dials
//	conn.go      a connection (reactor.Conn) and what the test does at its other end
//	words.go     messages as short words: "P|name|text", "Z|I"
//	postgres.go  a server that understands a dozen statements: logins, cancel requests
//	session.go   one connection to it: the protocol, as PostgreSQL 15 speaks it
//
// Nothing here is random and nothing waits. The package does not know the code
// under test.
package pooltest
