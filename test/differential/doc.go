// Package differential has random clients say random, stateful SQL, one step at a
// time, on a direct connection each and through the proxy, where they share a few
// servers. Every reply must be the same: what one client has set, made, locked or
// prepared must follow it from server to server, and must never reach another.
//
//	case.go       what one seed is about: the proxy, the clients, the features
//	client.go     a client's steps: forms of the protocol
//	statement.go  the statements, and how likely each is
//	setting.go    run-time parameters and roles
//	schema.go     what both databases have
//	excuse.go     what may differ
//	shrink.go     makes a failing case small
//
// A case is a script of package script. A failing one is shrunk and printed as such,
// with the command that replays its seed:
//
//	go test ./test/differential -run TestSeeds -differential.seed=N
//
// For an hour:
//
//	go test ./test/differential -run TestSeeds -timeout 0 -differential.for=1h -differential.from=1000000
//
// With the PostgreSQL of a folder of programs instead of the system's:
//
//	BILLPROXY_PG_BIN=/usr/lib/postgresql/17/bin go test ./test/differential
package differential
