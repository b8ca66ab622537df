package differential

import (
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/test/script"
)

// shrink makes a failing case small: it leaves out what it fails without, first in
// big parts, then step by step and message by message. fails plays a case; once it
// has no time left it says no.
func shrink(s *script.Script, fails func(*script.Script) bool) *script.Script {
	try := func(steps []script.Step) bool {
		candidate := *s
		candidate.Steps = steps
		if len(steps) == len(s.Steps) && slices.EqualFunc(steps, s.Steps, sameStep) || !fails(&candidate) {
			return false
		}
		s = &candidate
		return true
	}
	for changed := true; changed; {
		changed = false
		for size := max(1, len(s.Steps)/2); size > 0; size /= 2 {
			for i := len(s.Steps) - size; i >= 0; {
				if try(slices.Delete(slices.Clone(s.Steps), i, i+size)) {
					changed = true
				}
				i = min(i, len(s.Steps)) - size
			}
		}
		for i := len(s.Steps) - 1; i >= 0; i-- {
			for _, smaller := range smallerSteps(s.Steps[i]) {
				steps := slices.Clone(s.Steps)
				steps[i] = smaller
				if try(steps) {
					changed = true
					break
				}
			}
		}
	}
	return s
}

func sameStep(a, b script.Step) bool { return a.String() == b.String() }

// smallerSteps are attempts to say the same with less: without a group of messages,
// one statement of several, by the simple protocol, without parameters at login.
func smallerSteps(step script.Step) []script.Step {
	var smaller []script.Step
	with := func(messages []pgproto3.FrontendMessage) {
		s := step
		s.Messages = messages
		smaller = append(smaller, s)
	}
	for i := range step.Parameters {
		if step.Parameters[i][0] == "user" {
			continue
		}
		s := step
		s.Parameters = slices.Delete(slices.Clone(step.Parameters), i, i+1)
		smaller = append(smaller, s)
	}
	if query, ok := simply(step.Messages); ok {
		with([]pgproto3.FrontendMessage{query})
	}
	for i, message := range step.Messages {
		if query, ok := message.(*pgproto3.Query); ok {
			for _, part := range fewerStatements(query.String) {
				with(slices.Concat(step.Messages[:i], []pgproto3.FrontendMessage{&pgproto3.Query{String: part}}, step.Messages[i+1:]))
			}
		}
	}
	for _, part := range parts(step.Messages) {
		if without := slices.Concat(step.Messages[:part[0]], step.Messages[part[1]:]); len(without) > 0 {
			with(without)
		}
	}
	return smaller
}

// simply is a group of one statement without parameters as a simple query.
func simply(messages []pgproto3.FrontendMessage) (*pgproto3.Query, bool) {
	text := ""
	for _, message := range messages {
		switch m := message.(type) {
		case *pgproto3.Parse:
			if text != "" || m.Name != "" {
				return nil, false
			}
			text = m.Query
		case *pgproto3.Bind:
			if len(m.Parameters) > 0 || m.PreparedStatement != "" || m.DestinationPortal != "" {
				return nil, false
			}
		case *pgproto3.Query:
			return nil, false
		}
	}
	return &pgproto3.Query{String: text}, text != ""
}

// fewerStatements are a text of several statements without one of them.
func fewerStatements(text string) []string {
	statements := splitStatements(text)
	if len(statements) < 2 {
		return nil
	}
	var fewer []string
	for i := range statements {
		fewer = append(fewer, joinStatements(slices.Delete(slices.Clone(statements), i, i+1)))
	}
	return fewer
}

// parts are what messages may be left out together: those that use the same
// statement or portal, up to the next Parse, Bind, Query or Sync, and every Sync but
// the last.
func parts(messages []pgproto3.FrontendMessage) [][2]int {
	var list [][2]int
	begin := 0
	for i, message := range messages {
		switch message.(type) {
		case *pgproto3.Parse, *pgproto3.Query, *pgproto3.Close:
			if i > begin {
				list = append(list, [2]int{begin, i})
			}
			begin = i
		case *pgproto3.Sync:
			if i > begin {
				list = append(list, [2]int{begin, i})
			}
			if i < len(messages)-1 {
				list = append(list, [2]int{i, i + 1}, [2]int{begin, i + 1})
			}
			begin = i + 1
		case *pgproto3.Describe:
			list = append(list, [2]int{i, i + 1})
		}
	}
	if begin > 0 && begin < len(messages) {
		list = append(list, [2]int{begin, len(messages)})
	}
	return list
}
