// Command bench measures billproxy beside direct connections, PgBouncer and Odyssey,
// on one machine and in one run, and writes docs/benchmarks.
//
// It starts a private PostgreSQL, the poolers that are installed, and lets pgbench do
// the same work on each of them in turn, several times, in an order that rotates: what
// else the machine does hits all of them. Every figure of the report is the median of
// the repetitions. A pooler that does not finish is reported, not waited for.
//
// main.go reads the command line; bench.go owns the server, the targets and the order;
// works.go lists the work, pgbench.go does most of it, idle.go, sleeper.go, guess.go,
// schema.go, gate.go and secured.go the rest; results.go holds what was measured; goal.go,
// report.go, share.go and plot.go write it down. How each pooler is started is in test/rig.
//
// It reads /proc and therefore runs on Linux only.
package main
