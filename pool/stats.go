package pool

import (
	"time"

	"github.com/billproxy/billproxy/pool/shed"
)

// Stats is a copy of one pool's state and counters. The columns of PgBouncer's
// SHOW POOLS and SHOW STATS derive from it.
type Stats struct {
	Database string
	User     string
	Mode     Mode

	// Clients of the pool now: ClientsActive are linked to a server or idle,
	// ClientsWaiting want a server and have none.
	ClientsActive  int
	ClientsWaiting int

	// Servers now, by state. MaxServers is the limit they count against.
	ServersOpening   int
	ServersIdle      int
	ServersLeased    int
	ServersShared    int
	ServersResetting int
	ServersCanceling int
	ServersPinned    int // of those leased, by clients whose session state keeps them there
	MaxServers       int

	// OldestWait is the age of the oldest waiter.
	OldestWait time.Duration

	// Gate is who waits, who is let in and who is told no.
	Gate shed.Stats

	// Counters since the start.
	TransactionCount uint64
	QueryCount       uint64
	ReceivedBytes    uint64        // from clients
	SentBytes        uint64        // to clients
	TransactionTime  time.Duration // of leases
	SharedTime       time.Duration // of groups on shared servers
	QueryTime        time.Duration // of all groups
	WaitTime         time.Duration
	LeaseCount       uint64
	LoginCount       uint64 // clients that have logged in
	WaitTimeouts     uint64
	SharedGroups     uint64 // groups answered on shared servers
	GroupsRunAgain   uint64 // groups run again, unnoticed by their clients

	// CoalescedReads counts groups answered with the answer to another client's.
	CoalescedReads uint64

	// ParameterizedReads counts simple queries sent with parameters.
	ParameterizedReads uint64

	ServerConnects   uint64
	ServerFailures   uint64
	ParseCount       uint64 // Parse messages from clients
	ServerParseCount uint64 // Parse messages to servers
	BindCount        uint64
	Inspections      uint64 // questions to servers about the state of a session

	// ClientsPinned counts, by reason, the clients that state of their session keeps on
	// a server now. One may have several reasons.
	ClientsPinned map[string]int

	// ServersClosed counts closed servers by reason.
	ServersClosed map[string]uint64
}
