// Command storm measures what becomes of clients when PostgreSQL cannot keep up: by
// how much they are served, who does not recover, and what is executed for nobody. It
// compares billproxy with direct connections, PgBouncer and Odyssey, on one machine and
// in one run, and writes docs/storm.
//
// The load is open: operations begin when the schedule says so, whatever became of
// those before, and their latency counts from then. Services retry at once, and their
// drivers cancel, hang up and reconnect as pgx does. Every operation has a number that
// PostgreSQL writes down each time it is executed, so that the database itself can tell
// how often that was, and for whom.
//
// main.go reads the command line; storm.go owns the server, the targets and the order;
// scenario.go lists what is done to them and arrivals.go when. generator.go is the event
// loop that plays all clients: operation.go is the work and its retries, service.go the
// pool of a driver, client.go and wire.go a connection. stall.go stops PostgreSQL,
// ledger.go is its side of the account. measure.go runs one scenario on one target,
// summary.go does the arithmetic; results.go holds what was measured, goal.go, report.go
// and plot.go write it down.
//
// It runs on Linux only.
package main
