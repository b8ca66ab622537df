//go:build mutant

package pool

import "os"

// Bugs planted on purpose, one at a time, chosen by MUTANT. The
// simulation has to find each of them; that is the test of the simulation.
var (
	mutantReleaseEarly    = mutant("release_early")    // a lease ends one ReadyForQuery too early
	mutantForwardInjected = mutant("forward_injected") // the reply of an injected Parse reaches the client
	mutantKeepSkipped     = mutant("keep_skipped")     // an error does not skip to Sync
	mutantReuseOpen       = mutant("reuse_open")       // a server is reused with its transaction open
	mutantWritableLane    = mutant("writable_lane")    // a shared server may write
	mutantPassAgain       = mutant("pass_again")       // replies of a group that is run again are passed on
	mutantForgetBegin     = mutant("forget_begin")     // the BEGIN that the client was answered is not sent
	mutantIgnoreDrift     = mutant("ignore_drift")     // a statement returns something else, unnoticed
	mutantForwardBind     = mutant("forward_bind")     // a simple query is answered with what its Bind is answered with
	mutantLeakSet         = mutant("leak_set")         // a SET is not seen
	mutantLeakTemporary   = mutant("leak_temporary")   // a temporary table does not pin
	mutantLeakLock        = mutant("leak_lock")        // an advisory lock does not pin
	mutantLeakChannel     = mutant("leak_channel")     // LISTEN does not pin
	mutantLeakPrepared    = mutant("leak_prepared")    // PREPARE does not pin
	mutantFollowAnybody   = mutant("follow_anybody")   // a client gets the answer to another question
)

func mutant(name string) bool { return os.Getenv("MUTANT") == name }
