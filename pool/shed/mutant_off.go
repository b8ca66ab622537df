//go:build !mutant

package shed

// The planted bugs are off, and compiled away, in every real build.
const (
	mutantFreeRetries     = false
	mutantUnboundedQueue  = false
	mutantUnfairRoom      = false
	mutantStarve          = false
	mutantOldestFirst     = false
	mutantForgetDeadlines = false
)
