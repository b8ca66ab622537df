package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/launch"
)

// secretMarker is part of statements and values in the tests. It must never appear
// in a log.
const secretMarker = "k33p-0ut-0f-l0gs"

// statementText matches SQL that has found its way into a log.
var statementText = regexp.MustCompile(`(?i)\b(select|insert|update|delete|copy|begin|declare)\s+[\w*(]`)

// processLog is the standard error of a billproxy process.
type processLog struct{ *launch.Log }

// logRecord is one line of the log.
type logRecord launch.Record

func (r logRecord) text(key string) string { return launch.Record(r).Text(key) }

// find returns the records with that message.
func (l processLog) find(message string) []logRecord {
	var found []logRecord
	for _, record := range l.Find(message) {
		found = append(found, logRecord(record))
	}
	return found
}

// ends counts the sessions that ended for that reason.
func (l processLog) ends(reason string) int {
	count := 0
	for _, record := range l.find("client closed") {
		if record.text("reason") == reason {
			count++
		}
	}
	return count
}

// check complains of what must never be in a log: a data race, a panic, or any line
// that is no record; SQL or secrets.
func (l processLog) check(t testing.TB) {
	t.Helper()
	if err := l.Strays(); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, secretMarker) || statementText.MatchString(line) {
			t.Errorf("the log shows SQL: %s", line)
			return
		}
	}
}
