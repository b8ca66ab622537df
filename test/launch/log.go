package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

// Record is one line of the log.
type Record map[string]any

// Text is the value of a key, if it is text.
func (r Record) Text(key string) string {
	text, _ := r[key].(string)
	return text
}

// Log is the standard error of a billproxy process, taken line by line.
type Log struct {
	mu      sync.Mutex
	partial []byte
	lines   []string
	records []Record
	strays  []string      // lines that are no records
	grown   chan struct{} // closed with the next line; nil if nobody waits
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
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

func (l *Log) add(line string) {
	l.lines = append(l.lines, line)
	var record Record
	if json.Unmarshal([]byte(line), &record) != nil || record.Text("msg") == "" {
		l.strays = append(l.strays, line)
	} else {
		l.records = append(l.records, record)
	}
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
}

// Find returns the records with that message.
func (l *Log) Find(message string) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(message)
}

func (l *Log) find(message string) []Record {
	var found []Record
	for _, record := range l.records {
		if record.Text("msg") == message {
			found = append(found, record)
		}
	}
	return found
}

// next returns the records with that message, and a channel that is closed when
// there may be more.
func (l *Log) next(message string) ([]Record, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.find(message), l.grown
}

// Strays complains of lines that are no records, such as a panic or a data race.
func (l *Log) Strays() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.strays) > 0 || len(l.partial) > 0 {
		return fmt.Errorf("the log has lines that are no records:\n%s\n%s", strings.Join(l.strays, "\n"), l.partial)
	}
	return nil
}

// Problem complains of what should not be in the log of a proxy: strays, and errors,
// for the proxy has none, whatever others do.
func (l *Log) Problem() error {
	if err := l.Strays(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, record := range l.records {
		if record.Text("level") == "ERROR" {
			return fmt.Errorf("logged an error: %v", record)
		}
	}
	return nil
}

// String is the whole log.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n") + string(l.partial)
}
