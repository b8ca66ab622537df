// Package devpg runs a private PostgreSQL cluster for `billproxy dev` and for
// tests: it finds the server programs or installs them, creates the data
// directory, starts the server as an unprivileged user, and makes sure that no
// server outlives the process that started it.
//
// Each running server has two goroutines, both ended by the exit of the server:
// one waits for the postmaster, one for the watchdog (see watchdog.go).
//
// The server listens on a Unix-domain socket, in a directory that only the
// user it runs as and root may enter, and on a free port of 127.0.0.1. Both
// trust whoever connects, as initdb sets up by default: such a cluster is for
// development data on a developer's machine.
package devpg
