package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// proxyStats is what the admin server tells of the proxy.
type proxyStats struct {
	ClientCount      int
	ClientLoginCount int
	ClientsRefused   int
	CancelRequests   int
	PinnedClients    []pinnedClient
	Pools            []poolStats
}

type pinnedClient struct {
	ID      uint32
	Reasons []string
}

type poolStats struct {
	Database, User   string
	ClientsActive    int
	ClientsWaiting   int
	ServersOpening   int
	ServersIdle      int
	ServersLeased    int
	ServersShared    int
	ServersResetting int
	ServersCanceling int
	ServerConnects   int
	ServerFailures   int
	QueryCount       int
	LeaseCount       int
	SharedGroups     int
	GroupsRunAgain   int
	WaitTimeouts     int
	Inspections      int
	ServersClosed    map[string]int

	ParameterizedReads int
	CoalescedReads     int
}

func (s poolStats) serverCount() int {
	return s.ServersOpening + s.ServersIdle + s.ServersLeased + s.ServersShared + s.ServersResetting + s.ServersCanceling
}

// stats asks the admin server.
func (p *proxyProcess) stats(t testing.TB) proxyStats {
	t.Helper()
	code, body := p.adminGet(t, "/stats")
	if code != http.StatusOK {
		t.Fatalf("admin server: status %d: %s", code, body)
	}
	var status struct{ Stats proxyStats }
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	return status.Stats
}

// poolStats is the part about the database's pool, zero if there is none yet.
func (p *proxyProcess) poolStats(t testing.TB, d *database) poolStats {
	t.Helper()
	for _, pool := range p.stats(t).Pools {
		if pool.Database == d.name && pool.User == d.role {
			return pool
		}
	}
	return poolStats{}
}

// waitPool polls the pool of the database.
func (p *proxyProcess) waitPool(t testing.TB, d *database, what string, condition func(poolStats) bool) {
	t.Helper()
	last := p.poolStats(t, d)
	for deadline := time.Now().Add(patience); !condition(last); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s\npool: %+v\nbackends: %+v", patience, what, last, d.backends(t))
		}
		last = p.poolStats(t, d)
	}
}
