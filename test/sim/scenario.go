package sim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/shed"
	"github.com/billproxy/billproxy/proxy"
)

// Scenario is what one seed is about. A seed draws every field; a class of faults
// that is left out is drawn all the same, so that the rest stays as it is.
type Scenario struct {
	Seed uint64

	// Sizes.
	Clients          int
	StepsPerClient   int
	PoolSize         int
	MaxDBConnections int
	Databases        int
	MaxPrepared      int
	MaxClientConn    int
	MaxLoginConn     int
	SharedReads      bool

	ParameterizedReads bool
	CoalesceReads      bool
	HotReads           bool // many clients read the same
	SharedDepth        int
	Shed               shed.Config

	// The proxy's parameters.
	Mode                   pool.Mode
	QueryWaitTimeout       time.Duration
	ServerConnectTimeout   time.Duration
	ServerIdleTimeout      time.Duration
	ServerLifetime         time.Duration
	ClientLoginTimeout     time.Duration
	ClientStallTimeout     time.Duration
	IdleTransactionTimeout time.Duration

	// The network.
	Latency         time.Duration
	SplitPercent    int
	WindowBytes     int
	NetworkStalls   bool
	LoopStalls      bool
	NoticePausedEnd bool

	// Classes of faults and of client behaviour.
	ServerLoss    bool // sessions terminated or reset, restarts
	DialFaults    bool // connections refused, unanswered, slow
	LoginFaults   bool // logins refused, unanswered, reset
	ClientDeath   bool
	Cancels       bool
	SlowReaders   bool
	Garbage       bool
	Copy          bool
	CopyAhead     bool // COPY data is sent before the server asks for it
	Large         bool
	Settings      bool
	Timeouts      bool // clients that make the proxy's timeouts strike
	EarlyShutdown bool
	Drift         bool // the result types of statements change
	State         bool // sessions have state that pins them to a server
}

// classes names the classes of faults that can be left out.
var classes = map[string]func(*Scenario){
	"loss":     func(s *Scenario) { s.ServerLoss = false },
	"dial":     func(s *Scenario) { s.DialFaults = false },
	"login":    func(s *Scenario) { s.LoginFaults = false },
	"death":    func(s *Scenario) { s.ClientDeath = false },
	"cancel":   func(s *Scenario) { s.Cancels = false },
	"slow":     func(s *Scenario) { s.SlowReaders = false },
	"garbage":  func(s *Scenario) { s.Garbage = false },
	"copy":     func(s *Scenario) { s.Copy = false },
	"ahead":    func(s *Scenario) { s.CopyAhead = false },
	"large":    func(s *Scenario) { s.Large = false },
	"settings": func(s *Scenario) { s.Settings = false },
	"timeout":  func(s *Scenario) { s.Timeouts = false },
	"shutdown": func(s *Scenario) { s.EarlyShutdown = false },
	"split":    func(s *Scenario) { s.SplitPercent = 0 },
	"stall":    func(s *Scenario) { s.NetworkStalls, s.LoopStalls = false, false },
	"shared":   func(s *Scenario) { s.SharedReads = false },
	"param":    func(s *Scenario) { s.ParameterizedReads = false },
	"coalesce": func(s *Scenario) { s.CoalesceReads = false },
	"shed":     func(s *Scenario) { s.Shed = shed.Config{} },
	"drift":    func(s *Scenario) { s.Drift = false },
	"state":    func(s *Scenario) { s.State = false },
	"mode":     func(s *Scenario) { s.Mode = pool.ModeTransaction },
}

// newScenario draws the scenario of a seed, without the named classes of faults.
func newScenario(seed uint64, without string) *Scenario {
	r := rand.New(rand.NewPCG(seed, 0x7363656e6172696f))
	one := func(n int) bool { return r.IntN(n) == 0 }
	s := &Scenario{
		Seed:             seed,
		Clients:          2 + r.IntN(7),
		StepsPerClient:   3 + r.IntN(10),
		PoolSize:         1 + r.IntN(3),
		Databases:        1,
		MaxPrepared:      []int{2, 3, 5, 100}[r.IntN(4)],
		MaxClientConn:    1000,
		SharedReads:      !one(3),
		SharedDepth:      1 + r.IntN(16),
		QueryWaitTimeout: []time.Duration{0, 120 * time.Second, 120 * time.Second, 2 * time.Second, 20 * time.Millisecond}[r.IntN(5)],

		ServerConnectTimeout:   []time.Duration{500 * time.Millisecond, 15 * time.Second}[r.IntN(2)],
		ServerIdleTimeout:      []time.Duration{0, 600 * time.Second, 2 * time.Second}[r.IntN(3)],
		ServerLifetime:         []time.Duration{0, 3600 * time.Second, time.Second}[r.IntN(3)],
		ClientLoginTimeout:     60 * time.Second,
		ClientStallTimeout:     []time.Duration{0, 60 * time.Second}[r.IntN(2)],
		IdleTransactionTimeout: []time.Duration{0, 60 * time.Second}[r.IntN(2)],

		Latency:         []time.Duration{20 * time.Microsecond, 200 * time.Microsecond, 5 * time.Millisecond}[r.IntN(3)],
		SplitPercent:    []int{0, 10, 50, 90}[r.IntN(4)],
		WindowBytes:     []int{600, 8 << 10, 64 << 10, 256 << 10}[r.IntN(4)],
		NetworkStalls:   one(3),
		LoopStalls:      one(3),
		NoticePausedEnd: !one(3),

		ServerLoss:    one(3),
		DialFaults:    one(4),
		LoginFaults:   one(5),
		ClientDeath:   one(3),
		Cancels:       one(3),
		SlowReaders:   one(4),
		Garbage:       one(6),
		Copy:          one(2),
		CopyAhead:     one(2),
		Large:         one(8),
		Settings:      one(3),
		Timeouts:      one(5),
		EarlyShutdown: one(8),
		Drift:         one(3),

		ParameterizedReads: !one(3),
	}
	if one(4) {
		s.Databases = 2
		if one(2) {
			s.MaxDBConnections = 2 + r.IntN(2)
		}
	}
	switch r.IntN(12) {
	case 0:
		s.Mode = pool.ModeSession
	case 1:
		s.Mode = pool.ModeStatement
	}
	if one(10) {
		s.MaxClientConn = 1 + r.IntN(s.Clients)
	}
	s.State = one(3)
	if s.Large {
		s.SlowReaders = s.SlowReaders || one(2)
		s.WindowBytes = max(s.WindowBytes, 32<<10)
		s.SplitPercent = min(s.SplitPercent, 50)
	}
	if one(6) {
		s.MaxLoginConn = 1 + r.IntN(s.Clients)
	}
	s.Shed = shed.Config{Interval: 100 * time.Millisecond, Fair: !one(3), AdaptiveLimit: !one(3)}
	if one(3) { // what is refused finds nothing
		s.Shed.MaxWaiters = []int{0, 2, 100}[r.IntN(3)]
		s.Shed.RetryBudget = []float64{0, 0.1}[r.IntN(2)]
		s.Shed.Target = []time.Duration{time.Microsecond, 5 * time.Millisecond}[r.IntN(2)]
	}
	s.CoalesceReads, s.HotReads = !one(4), !one(3)
	if s.HotReads && one(2) { // and wait for it
		s.Clients, s.PoolSize, s.SharedDepth = s.Clients+3, 1, 1
	}
	for _, class := range strings.Split(without, ",") {
		if leaveOut, ok := classes[class]; ok {
			leaveOut(s)
		}
	}
	if s.Timeouts {
		s.ClientLoginTimeout = time.Second
		s.ClientStallTimeout = 2 * time.Second
		s.IdleTransactionTimeout = 2 * time.Second
	}
	return s
}

// sheds reports whether work may be refused before it has waited for long.
func (s *Scenario) sheds() bool { return s.Shed.Target > 0 || s.Shed.MaxWaiters > 0 }

// proxyConfig is the configuration of the proxy under test.
func (s *Scenario) proxyConfig() proxy.Config {
	return proxy.Config{
		Pool: pool.Config{
			Upstream:              upstream,
			Mode:                  s.Mode,
			DefaultPoolSize:       s.PoolSize,
			SharedReads:           s.SharedReads,
			SharedDepth:           s.SharedDepth,
			MaxDBConnections:      s.MaxDBConnections,
			QueryWaitTimeout:      s.QueryWaitTimeout,
			ServerConnectTimeout:  s.ServerConnectTimeout,
			ServerIdleTimeout:     s.ServerIdleTimeout,
			ServerLifetime:        s.ServerLifetime,
			MaxPreparedStatements: s.MaxPrepared,
			Shed:                  s.Shed,
			ShedSQLState:          pgwire.ConfigurationLimitExceeded,
			Random:                rand.New(rand.NewPCG(s.Seed, 0x6a6974746572)),
		},
		MaxClientConn:          s.MaxClientConn,
		MaxLoginConn:           s.MaxLoginConn,
		ParameterizedReads:     s.ParameterizedReads,
		CoalesceReads:          s.CoalesceReads,
		LoginDelay:             s.Shed.Target > 0,
		ClientLoginTimeout:     s.ClientLoginTimeout,
		IdleTransactionTimeout: s.IdleTransactionTimeout,
		ClientStallTimeout:     s.ClientStallTimeout,
		Entropy:                entropy{rand.New(rand.NewPCG(s.Seed, 0x656e74726f7079))},
	}
}

// entropy is a source of bytes that a seed determines.
type entropy struct{ random *rand.Rand }

// Read implements io.Reader.
func (e entropy) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e.random.Uint32())
	}
	return len(b), nil
}
