package pool

import (
	"cmp"
	"slices"
	"time"
)

// ServerCount is how many servers the pool has.
func (s *Stats) ServerCount() int {
	return s.ServersOpening + s.ServersIdle + s.ServersLeased + s.ServersShared + s.ServersResetting + s.ServersCanceling
}

// Transactions counts groups on shared servers, too, and those answered with the answer to
// another: each is a transaction to its client.
func (s *Stats) Transactions() uint64 {
	return s.TransactionCount + s.SharedGroups + s.CoalescedReads
}

// TransactionsTime is the time of Transactions.
func (s *Stats) TransactionsTime() time.Duration { return s.TransactionTime + s.SharedTime }

// Assignments counts how often a client was given a server, or a place on a shared one.
func (s *Stats) Assignments() uint64 { return s.LeaseCount + s.SharedGroups }

// Add adds the clients, servers and counters of another pool.
func (s *Stats) Add(other *Stats) {
	s.ClientsActive += other.ClientsActive
	s.ClientsWaiting += other.ClientsWaiting
	s.ServersOpening += other.ServersOpening
	s.ServersIdle += other.ServersIdle
	s.ServersLeased += other.ServersLeased
	s.ServersShared += other.ServersShared
	s.ServersResetting += other.ServersResetting
	s.ServersCanceling += other.ServersCanceling
	s.ServersPinned += other.ServersPinned
	s.OldestWait = max(s.OldestWait, other.OldestWait)
	s.addCounters(other, 1)
}

// Since returns what the counters have grown by since an earlier copy. A pool that was
// forgotten meanwhile has begun anew.
func (s *Stats) Since(earlier Stats) Stats {
	grown := *s
	if earlier.QueryCount <= s.QueryCount && earlier.LoginCount <= s.LoginCount && earlier.SentBytes <= s.SentBytes {
		grown.addCounters(&earlier, -1)
	}
	return grown
}

// addCounters adds the counters of another pool, or takes them off.
func (s *Stats) addCounters(other *Stats, sign int) {
	for _, counter := range []struct {
		to   *uint64
		from uint64
	}{
		{&s.TransactionCount, other.TransactionCount},
		{&s.QueryCount, other.QueryCount},
		{&s.ReceivedBytes, other.ReceivedBytes},
		{&s.SentBytes, other.SentBytes},
		{&s.LeaseCount, other.LeaseCount},
		{&s.LoginCount, other.LoginCount},
		{&s.SharedGroups, other.SharedGroups},
		{&s.CoalescedReads, other.CoalescedReads},
		{&s.ParseCount, other.ParseCount},
		{&s.ServerParseCount, other.ServerParseCount},
		{&s.BindCount, other.BindCount},
	} {
		*counter.to += counter.from * uint64(sign)
	}
	for _, counter := range []struct{ to, from *time.Duration }{
		{&s.TransactionTime, &other.TransactionTime},
		{&s.SharedTime, &other.SharedTime},
		{&s.QueryTime, &other.QueryTime},
		{&s.WaitTime, &other.WaitTime},
	} {
		*counter.to += *counter.from * time.Duration(sign)
	}
}

// ByDatabase adds the pools of each database up.
func ByDatabase(pools []Stats) []Stats {
	sorted := slices.SortedFunc(slices.Values(pools), func(a, b Stats) int { return cmp.Compare(a.Database, b.Database) })
	var databases []Stats
	for i := range sorted {
		if last := len(databases) - 1; last >= 0 && databases[last].Database == sorted[i].Database {
			databases[last].Add(&sorted[i])
		} else {
			databases = append(databases, sorted[i])
		}
	}
	return databases
}
