// Package pgwire turns bytes into PostgreSQL messages and back. It does no I/O
// and keeps no state: every function takes a slice that begins at a message and
// returns sizes, sub-slices of it, or bytes appended to a slice of the caller.
//
// A message is a type byte, a four-byte length that counts itself, and a body;
// a startup packet has no type byte.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html
package pgwire
