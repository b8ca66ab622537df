// Package api is a billing API over HTTP that the official Stripe SDKs can drive: customers, invoice items and
// invoices, with Stripe's form-encoded requests, JSON shapes, errors and idempotency keys. It is Stripe-SDK-compatible,
// not Stripe: there is no payment provider behind it.
//
// A request passes through these files, in order:
//
//	handler.go      request id, headers, panics, 404 and 405; the one place that writes an answer and logs it
//	auth.go         which API keys are accepted
//	form.go         form encoding to names and values
//	params.go       names and values to checked Go values; address.go, money.go and expand.go help
//	customer.go     the resources: each handler checks its parameters and returns an operation on the database;
//	invoice_item.go invoice_object.go has the JSON of invoices, invoice_state.go their life, list.go the pages of all
//	invoice.go
//	payment.go
//	transaction.go  one POST is one transaction …
//	idempotency.go  … and under an Idempotency-Key it happens once; flight.go holds back duplicates that arrive while
//	                the first is still running
//	database.go     connections
//	error.go        what the client is told when the request is wrong; database_error.go: when the database fails
//
// The database is reached by the DSN in [Config] and nothing else, normally the proxy's. Nothing here needs session
// state, so any transaction pooler will do: no SET outside a transaction, no LISTEN, no session advisory locks, and
// column lists are spelled out so that a prepared statement outlives a new column.
//
// Rows are locked in the order invoice, invoice items, customer. The customer comes last because its invoice counter
// is what concurrent finalizes contend for, and so it is held for the shortest time.
//
// The only background goroutine, started by [New] and awaited by [Server.Close], deletes idempotency keys older than
// 24 hours, every ten minutes.
package api
