//go:build mutant

package shed

import "os"

// Bugs planted on purpose, one at a time, chosen by BILLPROXY_MUTANT. The simulation
// of this package has to find each of them; that is the test of the simulation.
var (
	mutantFreeRetries     = mutant("free_retries")     // a budget is never empty
	mutantUnboundedQueue  = mutant("unbounded_queue")  // any number may wait
	mutantUnfairRoom      = mutant("unfair_room")      // one tenant may fill the queue
	mutantStarve          = mutant("starve")           // all but one tenant wait in vain
	mutantOldestFirst     = mutant("oldest_first")     // those who have given up go first
	mutantForgetDeadlines = mutant("forget_deadlines") // nobody is told that it has waited too long
)

func mutant(name string) bool { return os.Getenv("BILLPROXY_MUTANT") == name }
