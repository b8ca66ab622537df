// Package reactor is the event loop that owns every connection of the proxy.
//
// One goroutine, the loop, runs all handlers. It waits for a batch of readiness
// events, lets the handlers of the ready connections consume what was received,
// runs due timers and posted functions, and then writes once to every connection
// that was given bytes. On Linux the engine is epoll; elsewhere, and in tests on
// every platform, a portable engine with a goroutine per connection and direction
// keeps the same contract.
//
// The rest of the product sees only the interfaces Loop, Conn and Handler, which
// a simulation implements without any socket.
//
// # Parts
//
// Engine is the loop. What it does with a connection, conn, is the same for every
// engine: it deals with a socket that never blocks and says when it is ready. The
// epoll engine has such sockets; the portable one makes a pipe of a net.Conn and
// two goroutines. StartTLS puts another socket on top of either, which makes records
// of what goes through it. A poller is what remains of an engine: how it waits, listens and
// makes a socket of what was accepted or dialed.
//
// # Memory
//
// An idle connection of the epoll engine is one struct of some 200 bytes. All are
// read into one buffer of the loop, and only what a handler leaves unconsumed, or
// the kernel does not take, is kept, in buffers of a free list. One connection is
// bounded by its handler: what it leaves unconsumed, and HighWaterBytes. An encrypted
// one has 7 KB of crypto/tls besides, up to 24 KB after a record of the longest kind.
//
// # Goroutines
//
// Run waits for every goroutine that an engine started: one for each dial and each
// TLS handshake under way, and in the portable engine one for each listener and two
// for each connection. The timers that the package sets for itself are the retry of
// a listener that cannot accept, after 100 milliseconds, and the limits of 5 seconds
// for connections that are closing and of 10 seconds for handshakes.
package reactor
