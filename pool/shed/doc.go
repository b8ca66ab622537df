// Package shed decides who gets a server, who waits and who is told no, so that a
// pool whose PostgreSQL cannot keep up answers as much as it can, and the rest at
// once. It is pure: time and events go in, decisions come out; it reads no clock,
// starts no goroutine and does no I/O, so every rule is a test without waiting.
//
// A [Gate] stands in front of each pool. Who arrives while a server is free and
// nobody waits passes it at the price of a few comparisons and no allocation; all
// others get a [Ticket] in its queue or a [Reason] why not:
//
//   - While waits are short or do not grow, everybody waits in turn, as in any pool.
//     With more clients than servers there is always a queue; it is no overload.
//   - If more arrives than is served for as long as the interval, while more wait than
//     the target allows, and there are clients enough to make waits too long, or if
//     waits come near what clients put up with, there is an [overload]: the queue is kept
//     as short as the target says, whoever would make it longer is told no at once, and
//     who has waited for longer than twice the target is told so, too, one after the
//     other. After Nichols and Jacobson, Controlling Delay Managing Queues,
//     https://queue.acm.org/detail.cfm?id=2209336, and Maurer, Fail at Scale,
//     https://queue.acm.org/detail.cfm?id=2839461.
//   - Tenants take turns by the time that their work takes (deficit round robin), and
//     share what room there is in the queue. Critical work goes first.
//   - While there is a storm, retries are admitted as far as their tenant's [Budget]
//     goes. [Retries] recognises them.
//   - Fewer servers are used, as [Limit] says, if more make all of them slow, and for a
//     while after nothing was answered at all.
//
// Work in a transaction never comes here but with its first statement, so COMMIT and
// ROLLBACK always pass.
package shed
