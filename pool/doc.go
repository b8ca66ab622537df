// Package pool is the server side of the proxy: it opens connections to
// PostgreSQL, lends them to clients for a transaction, relays the replies, and
// cleans what comes back.
//
// A server (server.go) holds an expected-reply queue (reply.go): one entry per
// message that was sent, saying what answers it and whether the client gets that
// answer. The relay (relay.go) matches what the server says against the queue; a
// client sends through the lease (lease.go). Prepared statements are shared through
// a registry (statement.go) under names of their own. What proves to PostgreSQL who
// the user is belongs to the user's pools together (credential.go).
//
// Nothing here does I/O, reads a clock or starts a goroutine: package reactor's
// Loop is the world. All of it runs on the loop. Two things recur: idle servers and
// unused pools are looked at once per second (Pools.tend), and the longest waiter's
// timeout is a timer.
package pool
