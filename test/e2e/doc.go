// Package e2e tests the billproxy binary from outside: TestMain builds it with the
// race detector and starts one private PostgreSQL; every test runs a proxy process
// of its own, with a database and a role of its own, and compares what clients see
// through it with what they see on a direct connection.
//
// Scripts of messages of which only the answers matter are in test/twin.
//
// Helpers: process_test.go runs the binary, log_test.go judges what it logs,
// stats_test.go reads its counters, database_test.go is the PostgreSQL side,
// gate_test.go holds queries up for as long as a test wants, wire_test.go speaks the
// protocol byte by byte, message_test.go has its messages, twin_test.go runs steps on
// both sides, for tests that look at the proxy too, traffic_test.go keeps clients at
// work.
//
// Nothing sleeps to let something happen: tests poll for it, up to patience.
package e2e
