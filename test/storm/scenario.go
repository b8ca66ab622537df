package main

import (
	"fmt"
	"strconv"
	"time"
)

// What every client does, as services in front of a customer do.
const (
	// deadline is how long after its intended start an operation is worth an answer.
	deadline = time.Second
	// attemptTimeout is how long a service waits for one attempt.
	attemptTimeout = time.Second
	// immediateRetries is how often a service tries again, at once, whatever went wrong
	// and however late it is.
	immediateRetries = 3
)

// poolerClients is the connections of all services together, where a pooler is between
// them and PostgreSQL.
const poolerClients = 2000

// Groups of operations that are looked at apart.
const (
	groupAll      = "all"
	groupLoud     = "loud tenant"
	groupOthers   = "other tenants"
	groupCritical = "critical work"
	groupBurst    = "burst"
)

// Phases of scenarios.
const (
	phaseWarmUp = "warm-up" // not looked at
	phaseLoad   = "load"
	phaseBefore = "before"
	phaseDuring = "during"
	phaseAfter  = "after"
)

// phase is a stretch of time in which the load does not change.
type phase struct {
	name   string
	length time.Duration
}

// stream is operations of one kind that begin at random.
type stream struct {
	group    string
	service  int       // whose operations they are
	critical bool      // they say so
	rates    []float64 // per second, in each phase
}

// serviceKind is a service: the application_name and the largest number of its
// connections.
type serviceKind struct {
	name    string
	clients int
}

// stall is how PostgreSQL is kept from working in phaseDuring.
type stall uint8

const (
	stallNone stall = iota
	stallStop       // SIGSTOP for every backend
	stallLock       // an ACCESS EXCLUSIVE lock on a table that all work needs
)

// scenario is what is done to a target.
type scenario struct {
	name     string
	phases   []phase
	services []serviceKind
	streams  []stream
	retries  int
	stall    stall
	crowd    int // clients that log in all at once when phaseDuring begins, and stay
}

// loads are the offered loads of the curve, by capacity.
var loads = []float64{0.5, 0.8, 1, 1.5, 2, 3, 5}

// Names of scenarios.
const (
	scenarioStop    = "stall/stop"
	scenarioLock    = "stall/lock"
	scenarioSurge   = "surge"
	scenarioTenants = "tenants"
	scenarioCrowd   = "crowd"
	scenarioBurst   = "burst"
)

func scenarioLoad(factor float64) string {
	return "load/" + strconv.FormatFloat(factor, 'g', -1, 64)
}

// The sizes of scenarios.
const (
	calm         = 0.8 // of the capacity, before and after
	surgeFactor  = 3
	tenants      = 10
	loudFactor   = 10
	criticalPart = 0.1 // of each other tenant's operations
	crowdClients = 10_000
	burstRate    = 50_000 // operations per second
)

// durations are how long the phases take.
type durations struct {
	warmUp, load, before, stall, surge, burst, after time.Duration
}

var (
	fullDurations = durations{
		warmUp: 2 * time.Second, load: 10 * time.Second, before: 5 * time.Second,
		stall: 10 * time.Second, surge: 10 * time.Second, burst: 5 * time.Second, after: 15 * time.Second,
	}
	quickDurations = durations{
		warmUp: 200 * time.Millisecond, load: 500 * time.Millisecond, before: 500 * time.Millisecond,
		stall: 500 * time.Millisecond, surge: 500 * time.Millisecond, burst: 200 * time.Millisecond, after: 1500 * time.Millisecond,
	}
)

// scenarios lists what is done to every target. A quick run has one of each kind, and
// the crowd and the burst are smaller.
func scenarios(capacity float64, quick bool) []scenario {
	d, factors, crowd, burst := fullDurations, loads, crowdClients, float64(burstRate)
	if quick {
		d, factors, crowd, burst = quickDurations, []float64{0.5, 2}, 200, 5000
	}
	var all []scenario
	for _, factor := range factors {
		all = append(all, scenario{
			name: scenarioLoad(factor), services: oneService(poolerClients), retries: immediateRetries,
			phases:  []phase{{phaseWarmUp, d.warmUp}, {phaseLoad, d.load}},
			streams: []stream{{group: groupAll, rates: []float64{capacity / 2, capacity * factor}}},
		})
	}
	steps := func(during time.Duration) []phase {
		return []phase{{phaseWarmUp, d.warmUp}, {phaseBefore, d.before}, {phaseDuring, during}, {phaseAfter, d.after}}
	}
	steady := func(factor float64) []float64 {
		return []float64{capacity / 2, capacity * factor, capacity * factor, capacity * factor}
	}
	for _, stalled := range []struct {
		name string
		how  stall
	}{{scenarioStop, stallStop}, {scenarioLock, stallLock}} {
		all = append(all, scenario{
			name: stalled.name, services: oneService(poolerClients), retries: immediateRetries, stall: stalled.how,
			phases:  steps(d.stall),
			streams: []stream{{group: groupAll, rates: steady(calm)}},
		})
	}
	all = append(all, scenario{
		name: scenarioSurge, services: oneService(poolerClients), retries: immediateRetries,
		phases:  steps(d.surge),
		streams: []stream{{group: groupAll, rates: []float64{capacity / 2, capacity * calm, capacity * surgeFactor, capacity * calm}}},
	}, tenantScenario(capacity, d), scenario{
		name: scenarioCrowd, services: oneService(poolerClients / 10), retries: immediateRetries, crowd: crowd,
		phases:  steps(d.burst),
		streams: []stream{{group: groupAll, rates: steady(0.5)}},
	}, scenario{
		name: scenarioBurst, services: oneService(poolerClients),
		phases: steps(d.burst),
		streams: []stream{
			{group: groupAll, rates: steady(calm)},
			{group: groupBurst, rates: []float64{0, 0, burst, 0}},
		},
	})
	return all
}

// tenantScenario has tenants that need four fifths of the capacity, each as much as any
// other, until the first wants ten times as much.
func tenantScenario(capacity float64, d durations) scenario {
	s := scenario{
		name: scenarioTenants, retries: immediateRetries,
		phases: []phase{{phaseWarmUp, d.warmUp}, {phaseBefore, d.before}, {phaseDuring, d.surge}},
	}
	share := capacity * calm / tenants
	for i := range tenants {
		s.services = append(s.services, serviceKind{fmt.Sprintf("tenant-%d", i), poolerClients / tenants})
		if i == 0 {
			s.streams = append(s.streams, stream{group: groupLoud, service: i, rates: []float64{share / 2, share, share * loudFactor}})
			continue
		}
		critical, other := share*criticalPart, share*(1-criticalPart)
		s.streams = append(s.streams,
			stream{group: groupOthers, service: i, rates: []float64{other / 2, other, other}},
			stream{group: groupCritical, service: i, critical: true, rates: []float64{critical / 2, critical, critical}})
	}
	return s
}

func oneService(clients int) []serviceKind { return []serviceKind{{"service", clients}} }

// forClients gives the services that many connections in all, for a target that takes
// no more.
func (s scenario) forClients(clients int) scenario {
	services := make([]serviceKind, len(s.services))
	for i, kind := range s.services {
		services[i] = serviceKind{kind.name, max(clients/len(services), 1)}
	}
	s.services = services
	return s
}

// span is when a phase begins and ends; both are zero if the scenario has none of that
// name.
func (s *scenario) span(name string) (from, to time.Duration) {
	for _, p := range s.phases {
		from, to = to, to+p.length
		if p.name == name {
			return from, to
		}
	}
	return 0, 0
}

// length is when the last operation begins.
func (s *scenario) length() time.Duration {
	total := time.Duration(0)
	for _, p := range s.phases {
		total += p.length
	}
	return total
}
