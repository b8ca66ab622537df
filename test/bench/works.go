package main

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/billproxy/billproxy/test/rig"
)

// protocols are pgbench's query modes, by its names.
var protocols = []string{"simple", "extended", "prepared"}

// selectClients are the client counts of the select-only work.
var selectClients = []int{1, 4, 16, 64, 256}

// Names of work; those with clients or protocols are made by functions.
const (
	workHot      = "hot/prepared/64"
	workConnect  = "connect/simple/16"
	workFast     = "fast/alone"
	workFastSlow = "fast/beside-slow"
	workQuiet    = "logins/none"
	workGuesses  = "logins/failing"
	workIdle     = "idle"
	workSchema   = "schema"
)

func workSelect(protocol string, clients int) string {
	return fmt.Sprintf("select/%s/%d", protocol, clients)
}

// writeWork is a transaction of several statements.
type writeWork struct {
	name   string // in names of work
	title  string
	script string // pgbench's name
}

var (
	simpleUpdate = writeWork{"update", "simple-update (`-N`)", "simple-update"}
	tpcB         = writeWork{"tpcb", "TPC-B", "tpcb-like"}
)

// writers are the protocols and client counts of writes. With the prepared protocol
// and more clients than servers, pgbench hangs on poolers that need a server to answer
// a Parse; the extended one is there to compare with them.
var writers = []struct {
	protocol string
	clients  int
}{{"extended", 32}, {"prepared", 32}, {"prepared", 64}}

func (w writeWork) work(protocol string, clients int) string {
	return fmt.Sprintf("%s/%s/%d", w.name, protocol, clients)
}

// direct names the work of direct connections, as many as a pool has, beside it.
func (w writeWork) direct(protocol string, clients int) string {
	return fmt.Sprintf("%s/direct-%d", w.work(protocol, clients), poolSize)
}

// load is what one run of pgbench does.
type load struct {
	protocol string
	clients  int
	script   []string // arguments that choose the script
	connect  bool     // a new connection for each transaction
	sleepers int      // clients that run pg_sleep beside it
	guesses  int      // logins with a wrong password beside it, per second
	sampling float64  // share of the transactions whose latency is logged
}

// entrant is one load on one target: a cell of the report.
type entrant struct {
	work   string
	target *rig.Target
	load   load
}

// contest is what is compared: its entrants run in turn, a repetition of all before the
// next of any.
type contest struct {
	writes   bool
	entrants []entrant
}

// readSampling keeps the log of fast reads small: writing it takes time from the work.
const readSampling = 0.1

// failingLogins is how many logins per second fail beside normal work.
const failingLogins = 1000

// selectOnly chooses the script of reads.
var selectOnly = []string{"-b", "select-only", "-D", "scale=" + strconv.Itoa(readScale)}

// variantReads is the work by which ways to run billproxy are compared with each other.
var variantReads = load{protocol: "prepared", clients: 64, sampling: readSampling, script: selectOnly}

// contests lists the work of pgbench. The folder holds its scripts; guarded is the
// billproxy that asks for passwords.
func contests(targets []*rig.Target, guarded *rig.Target, dir string, quick bool) []contest {
	clients := selectClients
	if quick {
		clients = []int{4, 64}
	}
	var all []contest
	for _, protocol := range protocols {
		for _, count := range clients {
			all = append(all, readContest(targets, workSelect(protocol, count),
				load{protocol: protocol, clients: count, script: selectOnly}))
		}
	}
	hot := []string{"-f", filepath.Join(dir, hotScriptFile)}
	all = append(all,
		readContest(targets, workHot, load{protocol: "prepared", clients: 64, script: hot}),
		fastContest(targets, load{protocol: "prepared", clients: 64, script: selectOnly}),
		loginContest(guarded, load{protocol: "prepared", clients: 16, script: selectOnly}),
		contestOf(targets, workConnect, load{protocol: "simple", clients: 16, script: selectOnly, connect: true, sampling: 1}))
	for _, script := range []writeWork{simpleUpdate, tpcB} {
		for _, w := range writers {
			if !quick || w.clients == 32 {
				all = append(all, writeContest(targets, script, w.protocol, w.clients))
			}
		}
	}
	return all
}

// contestOf has all targets that can do more than read.
func contestOf(targets []*rig.Target, work string, l load) contest {
	var c contest
	for _, t := range targets {
		if !t.ReadsOnly {
			c.entrants = append(c.entrants, entrant{work, t, l})
		}
	}
	return c
}

func readContest(targets []*rig.Target, work string, l load) contest {
	l.sampling = readSampling
	var c contest
	for _, t := range targets {
		c.entrants = append(c.entrants, entrant{work, t, l})
	}
	return c
}

// fastContest measures fast reads alone and beside one sleeping client for every eight.
func fastContest(targets []*rig.Target, l load) contest {
	l.sampling = readSampling
	alone := contestOf(targets, workFast, l)
	l.sleepers = l.clients / 8
	return contest{entrants: append(alone.entrants, contestOf(targets, workFastSlow, l).entrants...)}
}

// loginContest measures reads alone and beside clients that guess passwords.
func loginContest(guarded *rig.Target, l load) contest {
	l.sampling = readSampling
	beside := l
	beside.guesses = failingLogins
	return contest{entrants: []entrant{{workQuiet, guarded, l}, {workGuesses, guarded, beside}}}
}

// writeContest adds direct connections, as many as a pool has: no pooler can write with
// more.
func writeContest(targets []*rig.Target, w writeWork, protocol string, clients int) contest {
	l := load{protocol: protocol, clients: clients, script: []string{"-b", w.script}, sampling: 1}
	c := contestOf(targets, w.work(protocol, clients), l)
	c.writes = true
	l.clients = poolSize
	for _, t := range targets {
		if !t.IsPooler() {
			c.entrants = append(c.entrants, entrant{w.direct(protocol, clients), t, l})
		}
	}
	return c
}
