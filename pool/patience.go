package pool

import (
	"strconv"
	"strings"
	"time"
)

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
		for _, name := range []string{"statement_timeout", deadlineSetting} {
			text, _ := s.Value(name)
			if value := parseInterval(text); value > 0 && (s.patience == 0 || value < s.patience) {
				s.patience = value
			}
		}
	}
	return s.patience
}

// parseInterval reads a parameter of PostgreSQL's that is a time in milliseconds unless
// it has a unit; 0 if it cannot.
// See https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
func parseInterval(text string) time.Duration {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	value, err := strconv.ParseFloat(digits, 64)
	unit, ok := intervalUnits[strings.TrimSpace(text[len(digits):])]
	if err != nil || !ok || value < 0 || value > float64(maxInterval/unit) {
		return 0
	}
	return time.Duration(value * float64(unit))
}

// maxInterval is about what PostgreSQL takes.
const maxInterval = 25 * 24 * time.Hour

var intervalUnits = map[string]time.Duration{
	"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
	"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}
