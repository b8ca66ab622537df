// Package auth is how a client and a server of PostgreSQL prove to each other who
// they are, without I/O, clock or random source: what is random is an argument.
//
//	saslprep.go      passwords in the form in which they are hashed
//	scram.go         the keys of SCRAM-SHA-256 and PostgreSQL's verifier
//	scram_client.go  the exchange as a client of a server
//	scram_server.go  the exchange as the server of a client
//	channel.go       what binds an exchange to an encrypted channel
//	md5.go           the older challenge
//	secret.go        what is known of a user's password
//	userlist.go      PgBouncer's auth_file
//	throttle.go      how long the answer to a failed login waits
//
// See https://www.postgresql.org/docs/current/sasl-authentication.html, RFC 5802,
// RFC 5929 and RFC 7677.
package auth
