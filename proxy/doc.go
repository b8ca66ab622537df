// Package proxy is the client side of the wire: a session for each client
// connection, from its startup packet (startup.go) over the messages it sends
// (session.go, relay.go) and the prepared statements it names (statement.go,
// statement_names.go) to its end.
//
// A session consumes as much of its client's bytes as it can act on. It asks its
// pool for a server when a sync group is complete, sends the group through the
// lease, and has the replies passed to it. Nothing here does I/O, reads a clock or
// starts a goroutine; all of it runs on the loop of package reactor.
package proxy
