package shed

import "encoding/json"

// Reason is why work was refused: in the DETAIL of the answer, and the label of a
// counter.
type Reason uint8

// The reasons.
const (
	NotShed     Reason = iota
	Overload           // the queue is as long as the target allows
	QueueDelay         // it has waited for longer than twice the target, in an overload
	WaitTimeout        // it has waited as long as a client may
	Deadline           // it would not be answered before its client's own deadline
	QueueFull          // as many wait as may
	RetryBudget        // a retry, of which its tenant has had too many
	ReasonCount
)

var reasonNames = [ReasonCount]string{
	NotShed:     "not_shed",
	Overload:    "overload",
	QueueDelay:  "queue_delay",
	WaitTimeout: "query_wait_timeout",
	Deadline:    "deadline",
	QueueFull:   "queue_full",
	RetryBudget: "retry_budget",
}

// Counts is how many were refused, by reason.
type Counts [ReasonCount]uint64

// Total is how many were refused.
func (c *Counts) Total() uint64 {
	total := uint64(0)
	for _, count := range c {
		total += count
	}
	return total
}

// ByName returns those that are not zero, by the words for their reasons.
func (c *Counts) ByName() map[string]uint64 {
	named := map[string]uint64{}
	for reason, count := range c {
		if count > 0 {
			named[Reason(reason).String()] = count
		}
	}
	return named
}

// MarshalJSON implements json.Marshaler.
func (c Counts) MarshalJSON() ([]byte, error) { return json.Marshal(c.ByName()) }

// UnmarshalJSON implements json.Unmarshaler.
func (c *Counts) UnmarshalJSON(b []byte) error {
	var named map[string]uint64
	if err := json.Unmarshal(b, &named); err != nil {
		return err
	}
	for reason, name := range reasonNames {
		c[reason] = named[name]
	}
	return nil
}

// String returns the reason as one word.
func (r Reason) String() string { return reasonNames[r] }
