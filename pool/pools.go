package pool

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// Pools is every pool of a proxy, with what they share: the limit on servers, the
// statement registry and the settings. It is used on the loop only.
type Pools struct {
	// Static after construction.
	config Config
	loop   reactor.Loop
	logger *slog.Logger

	byKey map[key]*Pool
	list  []*Pool // in order of creation, so that a simulation repeats itself

	registry    *Registry
	settings    settingsTable
	lastMeaning uint64                 // numbers what texts meant in transactions that nobody can tell of
	credentials map[string]*credential // of the users whose secret is known
	serverCount int                    // of all pools
	lastServer  uint64                 // numbers servers

	// protocol is the newest version that the servers speak, 0 if none has said yet.
	protocol pgwire.ProtocolVersion

	// laneSettings is what a lane has for clients with the settings in the key.
	laneSettings map[*Settings]*Settings
	closed       bool
	pauses       pauses

	tickets []*ticket // that are not used

	timer   reactor.Timer
	scratch []byte
}

type key struct {
	database, user string
}

// tendPeriod is how often idle servers and unused pools are looked at.
const tendPeriod = time.Second

// forgetDelay is how long a pool that nobody uses is remembered after its last
// failure, so that one client after the other does not try a wrong login at once.
const forgetDelay = 10 * time.Second

// New returns an empty set of pools.
func New(config Config, loop reactor.Loop, logger *slog.Logger) *Pools {
	p := &Pools{
		config: config, loop: loop, logger: logger, byKey: map[key]*Pool{},
		registry: NewRegistry(), credentials: map[string]*credential{},
	}
	p.config.Shed.Patience = config.QueryWaitTimeout
	// A client that holds a server for as long as it is connected makes it no slower.
	p.config.Shed.AdaptiveLimit = config.Shed.AdaptiveLimit && config.Mode != ModeSession
	p.timer.Fire = p.tend
	return p
}

// Protocol is the newest version of the protocol that the servers speak, so that clients
// are promised no other; 0 if no server has logged in yet.
func (p *Pools) Protocol() pgwire.ProtocolVersion { return p.protocol }

// learnProtocol concludes it from the version of a server.
// See https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-VERSIONS
func (p *Pools) learnProtocol(serverVersion string) {
	const firstWith32 = 18
	digits := strings.IndexFunc(serverVersion, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(serverVersion)
	}
	p.protocol = pgwire.Version30
	if major, err := strconv.Atoi(serverVersion[:digits]); err == nil && major >= firstWith32 {
		p.protocol = pgwire.Version32
	}
}

// Get returns the pool of that database and user, a new one if need be.
func (p *Pools) Get(database, user string) *Pool {
	if pool, ok := p.byKey[key{database, user}]; ok {
		return pool
	}
	pool := &Pool{
		Database: database, User: user, pools: p, database: p.database(database),
		config: &p.config, loop: p.loop, credential: p.credential(user),
		hash: shed.HashSeed.Add([]byte(database)).Add([]byte(user)),
		gate: shed.NewGate(&p.config.Shed, p.config.DefaultPoolSize),
	}
	if pool.paused() {
		pool.gate.Pause()
	}
	pool.waitTimer.Fire = pool.refuseOverdue
	pool.tickTimer.Fire = pool.tick
	pool.retryTimer.Fire = pool.grow
	pool.laneTimer.Fire = pool.tendLanes
	pool.numbersTimer.Fire = pool.releaseNumbers
	p.byKey[key{database, user}] = pool
	p.list = append(p.list, pool)
	if !p.timer.Armed() {
		p.loop.SetTimer(&p.timer, p.loop.Now()+tendPeriod)
	}
	return pool
}

// tend closes what has been idle for too long. The timer rests while there is no
// pool.
func (p *Pools) tend() {
	now := p.loop.Now()
	kept := p.list[:0]
	for _, pool := range p.list {
		pool.closeIdle(now, false)
		if pool.unused() && now >= pool.retryAt+forgetDelay {
			p.loop.StopTimer(&pool.retryTimer)
			p.loop.StopTimer(&pool.numbersTimer)
			p.loop.StopTimer(&pool.tickTimer)
			delete(p.byKey, key{pool.Database, pool.User})
			continue
		}
		kept = append(kept, pool)
	}
	clear(p.list[len(kept):])
	p.list = kept
	if len(p.list) > 0 {
		p.loop.SetTimer(&p.timer, now+tendPeriod)
	}
}

// makeRoom reports whether one more server may be opened for the pool, after it
// has closed another pool's oldest idle server if that is what it takes.
func (p *Pools) makeRoom(wanting *Pool) bool {
	limit := p.config.MaxDBConnections
	if limit == 0 || p.serverCount < limit {
		return true
	}
	var oldest *Server
	for _, pool := range p.list {
		if pool != wanting && len(pool.idle) > 0 && (oldest == nil || pool.idle[0].idleSince < oldest.idleSince) {
			oldest = pool.idle[0]
		}
	}
	if oldest == nil {
		return false
	}
	oldest.close(ReasonMakeRoom)
	return p.serverCount < limit
}

// serveStarving lets pools grow that could not because of MaxDBConnections, the
// one whose client has waited longest first.
func (p *Pools) serveStarving() {
	if p.config.MaxDBConnections == 0 || p.closed {
		return
	}
	var starving *Pool
	for _, pool := range p.list {
		waiting := pool.gate.Waiting()
		if waiting > 0 && p.loop.Now() >= pool.retryAt && len(pool.servers) < p.config.DefaultPoolSize && pool.serverCount[stateOpening] < waiting &&
			(starving == nil || pool.gate.OldestAt() < starving.gate.OldestAt()) {
			starving = pool
		}
	}
	if starving != nil {
		starving.grow()
	}
}

// Close closes idle servers now and the others as soon as they are given back.
// No server is opened any more.
func (p *Pools) Close() {
	p.closed = true
	p.loop.StopTimer(&p.timer)
	for _, pool := range p.list {
		p.loop.StopTimer(&pool.retryTimer)
		pool.closeIdle(p.loop.Now(), true)
	}
}

// Abort closes every server, whatever it does.
func (p *Pools) Abort() {
	p.closed = true
	for _, pool := range p.list {
		pool.abort(ReasonShutdown)
	}
}

// ServerCount is how many servers there are, those being opened included.
func (p *Pools) ServerCount() int { return p.serverCount }

// Stats returns a copy of every pool's state and counters.
func (p *Pools) Stats() []Stats {
	stats := make([]Stats, 0, len(p.list))
	for _, pool := range p.list {
		stats = append(stats, pool.Stats())
	}
	return stats
}
