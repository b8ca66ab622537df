package e2e

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// secretMarker is part of statements and values in the tests. It must never appear
// in a log.
const secretMarker = "k33p-0ut-0f-l0gs"

// statementText matches SQL that has found its way into a log.
var statementText = regexp.MustCompile(`(?i)\b(select|insert|update|delete|copy|begin|declare)\s+[\w*(]`)

// processLog is the standard error of a billproxy process, taken line by line.
type processLog struct {
	mu      sync.Mutex
	partial []byte
	lines   []string
	records []logRecord
	strays  []string // lines that are no records
}

// logRecord is one line of the log.
type logRecord map[string]any

func (r logRecord) text(key string) string {
	text, _ := r[key].(string)
	return text
}

// Write implements io.Writer.
func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, b...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			return len(b), nil
		}
		l.add(string(line))
		l.partial = append([]byte(nil), rest...)
	}
}

func (l *processLog) add(line string) {
	l.lines = append(l.lines, line)
	var record logRecord
	if json.Unmarshal([]byte(line), &record) != nil || record.text("msg") == "" {
		l.strays = append(l.strays, line)
		return
	}
	l.records = append(l.records, record)
}

// find returns the records with that message.
func (l *processLog) find(message string) []logRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []logRecord
	for _, record := range l.records {
		if record.text("msg") == message {
			found = append(found, record)
		}
	}
	return found
}

// ends counts the sessions that ended for that reason.
func (l *processLog) ends(reason string) int {
	count := 0
	for _, record := range l.find("client closed") {
		if record.text("reason") == reason {
			count++
		}
	}
	return count
}

func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n") + string(l.partial)
}

// checkQuiet complains of errors: the proxy has none, whatever others do.
func (l *processLog) checkQuiet(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, record := range l.records {
		if record.text("level") == "ERROR" {
			t.Errorf("logged an error: %v", record)
		}
	}
}

// check complains of what must never be in a log: a data race, a panic, or any line
// that is no record; SQL or secrets.
func (l *processLog) check(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.strays) > 0 || len(l.partial) > 0 {
		t.Errorf("the log has lines that are no records:\n%s%s", strings.Join(l.strays, "\n"), l.partial)
	}
	for i, record := range l.records {
		line, err := json.Marshal(record)
		if err != nil {
			t.Error(err)
		}
		if text := string(line); strings.Contains(text, secretMarker) || statementText.MatchString(text) {
			t.Errorf("line %d of the log shows SQL: %s", i, text)
			return
		}
	}
}
