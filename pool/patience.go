package pool

import "time"

// deadlineSetting is a setting of our own, by which a client tells how long it waits for
// the answer to a query.
const deadlineSetting = "billproxy.deadline"

// Patience is how long a client with these settings waits for the answer to a query, as
// far as they tell; 0 if they do not.
func (s *Settings) Patience() time.Duration {
	if s == nil {
		return 0
	}
	if !s.patienceKnown {
		s.patienceKnown = true
		text, _ := s.Value(deadlineSetting)
		for _, value := range []time.Duration{s.StatementTimeout(), parseInterval(text)} {
			if value > 0 && (s.patience == 0 || value < s.patience) {
				s.patience = value
			}
		}
	}
	return s.patience
}
