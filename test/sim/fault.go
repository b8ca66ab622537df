package sim

import (
	"time"
)

// faultKind is what a fault may excuse.
type faultKind uint8

const (
	faultServer  faultKind = iota // a session on the server ended
	faultConnect                  // connecting or logging in went wrong
)

// faultRecord is a fault that has happened.
type faultRecord struct {
	kind faultKind
	at   time.Duration
}

// faultsEnd is when the world gets well, so that every run comes to an end.
const faultsEnd = 10 * time.Second

// faultsOn reports whether faults may still be injected.
func (w *World) faultsOn() bool { return w.now < faultsEnd && !w.clientsDone() }

// fault notes a fault.
func (w *World) fault(kind faultKind, what string) {
	w.trace.add(w.now, traceFault, what, int(kind), nil)
	w.faults = append(w.faults, faultRecord{kind, w.now})
	w.coverage.Faults++
}

// faultSince reports whether a fault of the kind happened at t or later.
func (w *World) faultSince(kind faultKind, t time.Duration) bool {
	for i := len(w.faults) - 1; i >= 0; i-- {
		if f := w.faults[i]; f.kind == kind && f.at >= t {
			return true
		}
	}
	return false
}

// How long after a fault its consequences may still show: the news of a lost
// server takes as long as the network stalls; an attempt to connect fails as late
// as its timeout, and then is not repeated at once.
const (
	lossEcho    = time.Second
	connectEcho = 30 * time.Second
)

// connectFailedSince reports whether something that happened at t or later, or
// shortly before, can have kept the proxy from connecting to the server.
func (w *World) connectFailedSince(t time.Duration) bool {
	return w.faultSince(faultConnect, t-connectEcho) || w.faultSince(faultServer, t-connectEcho)
}

// planFaults schedules the faults of the servers.
func (w *World) planFaults() {
	s := w.scenario
	if s.ServerLoss {
		for range 1 + w.random.IntN(4) {
			w.after(w.between(0, 300*time.Millisecond), w.strike)
		}
	}
	if s.Drift {
		for range 1 + w.random.IntN(4) {
			w.after(w.between(0, 200*time.Millisecond), func() {
				variant := w.random.IntN(5)
				w.trace.add(w.now, traceFault, "drift of variant", variant, nil)
				w.postgres.versions[variant]++
			})
		}
	}
	if s.EarlyShutdown {
		w.after(w.between(0, 500*time.Millisecond), w.shutDown)
	}
}

// strike lets a fault befall the servers.
func (w *World) strike() {
	pg := w.postgres
	if !w.faultsOn() {
		return
	}
	if len(pg.backends) == 0 {
		w.after(w.between(0, 20*time.Millisecond), w.strike)
		return
	}
	b := pg.backends[w.random.IntN(len(pg.backends))]
	switch w.random.IntN(9) {
	case 8:
		w.fault(faultServer, b.name+" sends nonsense")
		b.flush()
		b.conn.peer.Send([]byte{0xff, 0, 0, 0, 4})
	case 0, 1:
		w.fault(faultServer, b.name+" is terminated")
		pg.terminate(b, "57P01")
	case 2, 3:
		w.fault(faultServer, b.name+" is reset")
		pg.reset(b)
	case 4:
		w.fault(faultServer, b.name+" crashes")
		pg.terminate(b, "57P02")
	case 5:
		w.trace.add(w.now, traceFault, b.name+" freezes", 0, nil)
		b.frozen = true
		w.after(w.between(0, time.Second), func() {
			b.frozen = false
			b.work()
		})
	case 6:
		w.restart(pg.terminateAll)
	case 7:
		w.restart(pg.resetAll)
	}
}

// restart ends every session; for a while nobody can log in.
func (w *World) restart(end func()) {
	pg := w.postgres
	w.fault(faultServer, "restart")
	w.fault(faultConnect, "restart")
	end()
	pg.refuses = w.chance(2)
	pg.starting = true
	recovered := w.between(0, 3*time.Second)
	w.after(recovered/2, func() { pg.refuses = false })
	w.after(recovered, func() { pg.starting = false })
}

func (pg *Postgres) terminateAll() {
	for len(pg.backends) > 0 {
		pg.terminate(pg.backends[0], "57P01")
	}
}

func (pg *Postgres) resetAll() {
	for len(pg.backends) > 0 {
		pg.reset(pg.backends[0])
	}
}

// shutDown tells the proxy to end.
func (w *World) shutDown() {
	if w.shutdown {
		return
	}
	w.shutdown = true
	w.trace.add(w.now, traceFault, "shutdown", 0, nil)
	w.Post(func() { w.proxy.Shutdown(func() { w.drained = true }) })
}
