package pool

import (
	"strconv"
	"strings"
	"time"
)

// StatementTimeout is the statement_timeout of these settings, 0 if they do not say.
// See https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-STATEMENT-TIMEOUT
func (s *Settings) StatementTimeout() time.Duration {
	text, _ := s.Value("statement_timeout")
	return parseInterval(text)
}

// parseInterval reads a parameter of PostgreSQL's that is a time in milliseconds unless
// it has a unit; 0 if it cannot.
// See https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
func parseInterval(text string) time.Duration {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	value, err := strconv.ParseFloat(digits, 64)
	unit, ok := intervalUnits[strings.TrimSpace(text[len(digits):])]
	if err != nil || !ok || !(value >= 0 && value <= float64(maxInterval/unit)) {
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
