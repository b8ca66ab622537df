package script

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Script is what clients do, one step after the other.
type Script struct {
	// Proxy has the environment variables of the proxy, without their prefix, and
	// Setup the SQL that both databases are prepared with.
	Proxy map[string]string
	Setup string

	// Repeats: others with the same setup follow, and it leaves what that has made as it
	// is, but for rows, sequences and functions of its own.
	Repeats bool

	// Servers is how many the proxy may use, if it matters: then a step is left out by
	// which a client would have to wait for a server, because others are in
	// transactions on all of them.
	Servers int

	// Ignored has the types of messages that are not compared, or "where" for that
	// field of errors, and why.
	Ignored map[string]string

	// Excuse, if there is one, makes a transcript of either side what it has to be.
	Excuse func(transcript []string) []string

	// GiveUp, if there is one, reports whether a difference is known, and the rest of
	// the script means nothing.
	GiveUp func(direct, proxied []string) bool

	Steps []Step
}

// Action is what a step does.
type Action uint8

// The actions.
const (
	Send Action = iota
	Login
	Cancel
	Disconnect
	Vanish
	Await
)

var actionNames = []string{Send: "", Login: "login", Cancel: "cancel", Disconnect: "disconnect", Vanish: "vanish", Await: "await"}

// String is the action's word in a script; Send has none.
func (a Action) String() string { return actionNames[a] }

// Step is what one client does before another may.
type Step struct {
	Client string
	Action Action

	Messages []pgproto3.FrontendMessage // of Send
	Until    Until

	Version    uint32      // of Login; 0 is 3.0
	Parameters [][2]string // of Login
	SQL        string      // of Await

	Line int // in the text, 0 if there is none
}

// Until says how far a client reads. The zero value is: as far as it is owed.
type Until struct {
	Message string // or untilClose or untilNothing
	Count   int    // how many of them; 0 is 1
}

// ignoredWhere is in Script.Ignored for a field.
const ignoredWhere = "where"

const (
	untilClose   = "close"
	untilNothing = "nothing"
)

// String formats the step as Parse reads it.
func (s Step) String() string {
	switch s.Action {
	case Await:
		return line("await", s.SQL)
	case Send:
	default:
		text := line(s.Client, s.Action.String())
		if s.Version != 0 {
			text += fmt.Sprintf(" version=%d.%d", s.Version>>16, s.Version&0xffff)
		}
		for _, p := range s.Parameters {
			text += " " + word(p[0]) + "=" + word(p[1])
		}
		return text
	}
	var lines []string
	for _, message := range s.Messages {
		lines = append(lines, formatMessage(message))
	}
	if s.Until.Message != "" {
		until := "until " + s.Until.Message
		if s.Until.Count > 1 {
			until += fmt.Sprint(" ", s.Until.Count)
		}
		lines = append(lines, until)
	}
	return s.Client + " " + strings.Join(lines, "\n  ")
}

// String formats the script as Parse reads it.
func (s *Script) String() string {
	var b strings.Builder
	if len(s.Proxy) > 0 {
		b.WriteString("proxy")
		for _, name := range slices.Sorted(maps.Keys(s.Proxy)) {
			fmt.Fprintf(&b, " %s=%s", name, word(s.Proxy[name]))
		}
		b.WriteString("\n")
	}
	if s.Servers > 0 {
		fmt.Fprintf(&b, "servers %d\n", s.Servers)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Ignored)) {
		fmt.Fprintf(&b, "ignore %s %s\n", name, s.Ignored[name])
	}
	if s.Setup != "" {
		b.WriteString("setup\n")
		for setup := range strings.Lines(s.Setup) {
			b.WriteString("  " + strings.TrimSuffix(setup, "\n") + "\n")
		}
	}
	for _, step := range s.Steps {
		b.WriteString(step.String() + "\n")
	}
	return b.String()
}
