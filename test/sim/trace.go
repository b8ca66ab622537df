package sim

import (
	"fmt"
	"hash/crc32"
	"time"
)

// traceKind is what a trace entry is about.
type traceKind uint8

const (
	traceReceive traceKind = iota // the proxy reads n bytes
	traceConsume                  // of n bytes offered, the handler consumed some
	traceWrite                    // the proxy writes n bytes
	traceArrive                   // n bytes reach the other end
	traceEnd                      // a connection ends
	traceDial                     // the proxy dials
	traceDialed                   // a dial is answered
	traceTimers                   // timers fire
	traceBackend                  // a backend handles a message
	traceExecute                  // a backend executes a statement
	traceClient                   // a client handles a message
	traceSend                     // a client sends a message
	traceFault                    // a fault is injected
	traceState                    // anything else worth telling
)

var traceNames = [...]string{
	traceReceive: "proxy reads", traceConsume: "proxy consumes", traceWrite: "proxy writes", traceArrive: "arrives at",
	traceEnd: "end", traceDial: "dial", traceDialed: "dialed", traceTimers: "timers", traceBackend: "backend gets",
	traceExecute: "backend executes", traceClient: "client gets", traceSend: "client sends", traceFault: "FAULT", traceState: "note",
}

// trace is what happened in a world: always as a hash, in words if wanted.
type trace struct {
	hash  uint64
	words bool
	lines []string
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxShownBytes is how much of an entry's data is put into words.
const maxShownBytes = 400

// add notes an event.
func (t *trace) add(now time.Duration, kind traceKind, subject string, n int, data []byte) {
	h := t.hash
	h = (h ^ uint64(now)) * fnvPrime
	h = (h ^ uint64(kind)) * fnvPrime
	h = (h ^ uint64(len(subject))<<32 ^ uint64(n)) * fnvPrime
	h = (h ^ uint64(crc32.Update(uint32(h), castagnoli, data))) * fnvPrime
	t.hash = h
	if !t.words {
		return
	}
	line := fmt.Sprintf("%12.3fms %-16s %-12s %6d", float64(now)/float64(time.Millisecond), traceNames[kind], subject, n)
	if len(data) > 0 {
		line += fmt.Sprintf(" %q", data[:min(len(data), maxShownBytes)])
	}
	t.lines = append(t.lines, line)
}
