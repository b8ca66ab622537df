package reactor

import "time"

// vigilance decides whether the loop waits for its next event awake: to fall asleep and
// to be woken takes longer than the work where clients are few.
type vigilance struct {
	shortWaits int // in a row, less those that were spent awake in vain
}

const (
	// spinTime is how long a wait may be spent awake.
	spinTime = 80 * time.Microsecond

	// shortWait is how long a wait takes, with falling asleep and waking up, that might
	// have been spent awake.
	shortWait = 160 * time.Microsecond

	// contended is how long a look for events takes if others have had the processor
	// meanwhile: they, not sleep, are what costs time.
	contended = 20 * time.Microsecond

	// Waits are spent awake after minShortWaits short ones. One that was in vain counts
	// for as many.
	minShortWaits = 4
	maxShortWaits = 8
)

// awake reports whether the next wait is to begin awake.
func (v *vigilance) awake() bool { return v.shortWaits >= minShortWaits }

// slept learns how long a wait took, asleep or awake.
func (v *vigilance) slept(waited time.Duration) {
	if waited > shortWait {
		v.shortWaits = 0
		return
	}
	v.shortWaits = min(v.shortWaits+1, maxShortWaits)
}

// inVain learns that nothing came while the loop was awake.
func (v *vigilance) inVain() { v.shortWaits -= minShortWaits }

// contended learns that others want the processor.
func (v *vigilance) contended() { v.shortWaits = 0 }
