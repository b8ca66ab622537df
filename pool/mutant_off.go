//go:build !mutant

package pool

// The planted bugs are off, and compiled away, in every real build.
const (
	mutantReleaseEarly    = false
	mutantForwardInjected = false
	mutantKeepSkipped     = false
	mutantReuseOpen       = false
	mutantWritableLane    = false
	mutantPassAgain       = false
	mutantForgetBegin     = false
	mutantIgnoreDrift     = false
	mutantForwardBind     = false
	mutantLeakSet         = false
	mutantLeakTemporary   = false
	mutantLeakLock        = false
	mutantLeakChannel     = false
	mutantLeakPrepared    = false
	mutantFollowAnybody   = false
)
