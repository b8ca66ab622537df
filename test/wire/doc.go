// Package wire is a PostgreSQL client for tests that speaks the protocol message by
// message, and tells in words what it is answered, so that two servers' answers can
// be compared.
package wire
