package shed

import "time"

// Budget is a bucket of retries: successes fill it, and so does time, so that a
// tenant with little to do may always try again. What does not fit is lost, so after
// a long calm a storm begins with no more than a few seconds' worth of retries.
// After Finagle's retry budgets, https://finagle.github.io/blog/2016/02/08/retry-budgets.
type Budget struct {
	tokens   float64
	filledAt time.Duration
	started  bool
}

const (
	// budgetFloor is how many retries per second there may be without any success.
	budgetFloor = 2.0

	// maxBudget bounds the bucket.
	maxBudget = 10 * budgetFloor
)

// Succeed fills the bucket for a success with that many retries.
func (b *Budget) Succeed(retries float64, now time.Duration) {
	b.fill(now)
	b.tokens = min(maxBudget, b.tokens+retries)
}

// Take takes a retry out of the bucket and reports whether there was one.
func (b *Budget) Take(now time.Duration) bool {
	b.fill(now)
	if mutantFreeRetries {
		return true
	}
	const rounding = 1e-9
	if b.tokens < 1-rounding {
		return false
	}
	b.tokens = max(0, b.tokens-1)
	return true
}

func (b *Budget) fill(now time.Duration) {
	if !b.started {
		b.started, b.tokens = true, maxBudget
	}
	b.tokens = min(maxBudget, b.tokens+budgetFloor*(now-b.filledAt).Seconds())
	b.filledAt = now
}
