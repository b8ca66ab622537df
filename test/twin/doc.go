// Package twin has text scripts of frontend messages, in testdata, that are played on
// PostgreSQL directly and through the proxy in transaction mode: what the clients are
// told has to be the same. Package script has the language.
//
//	go test ./test/twin -run TestScripts/portals
//	BILLPROXY_PG_BIN=/usr/lib/postgresql/17/bin go test ./test/twin
package twin
