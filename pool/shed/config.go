package shed

import "time"

// Config is what the gates of all pools have in common.
type Config struct {
	// Target is the wait to which an overload keeps the queue; Interval is for how
	// long waits have to be longer before there is one. A Target of 0 switches
	// overloads, and with them storms and budgets, off: everybody waits in turn.
	Target, Interval time.Duration

	// Patience is how long a client waits at most whose own deadline is not known; 0
	// is forever.
	Patience time.Duration

	// MaxWaiters bounds the queue; 0 is no bound.
	MaxWaiters int

	// RetryBudget is how many retries there may be per success while there is a storm;
	// 0 is no bound.
	RetryBudget float64

	// Fair has tenants take turns. Otherwise they share one queue.
	Fair bool

	// AdaptiveLimit lets Limit use fewer servers than there may be.
	AdaptiveLimit bool
}

// patience is how long a client puts up with waiting, for rules that need a number.
func (c *Config) patience() time.Duration {
	if c.Patience == 0 {
		return usualPatience
	}
	return c.Patience
}

// usualPatience is what clients put up with if nobody says.
const usualPatience = time.Second
