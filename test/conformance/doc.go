// Command conformance runs other people's tests against PostgreSQL directly and through
// billproxy, compares, and writes docs/compatibility.md.
//
// A test differs if it passes directly and does not through the proxy. What is known to
// differ, and why, is in known.txt: any other difference is an error, and so is an entry
// that no longer occurs.
//
//	main.go       which suites are run, and what is written
//	options.go    the command line
//	server.go     the versions of PostgreSQL that suites are run against
//	place.go      where a suite runs: a private PostgreSQL, and a proxy in front of it
//	outcome.go    what became of tests, and how two runs compare
//	known.go      known.txt
//	gotest.go     what `go test -json` says
//	pgx.go        the tests of pgx
//	regress.go    PostgreSQL's regression suite; source.go gets it
//	drivers.go    the programs in drivers, one for each driver
//	own.go        our twin scripts, differential fuzzer and fuzz targets
//	results.go    results.json: the last result of each suite and version
//	report.go     docs/compatibility.md, from it
//
// What a suite needs is installed by its package manager into a cache, bin/conformance,
// which `make clean` removes; what was said there in the last run is in its folder out.
//
// With other versions of PostgreSQL, such as one that is not the system's:
//
//	make conformance CONFORMANCE='-pg-bin /usr/lib/postgresql/15/bin,/usr/lib/postgresql/17/bin'
//
// The tests in test and cmd take the folder of one from BILLPROXY_PG_BIN.
package main
