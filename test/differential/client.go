package differential

import (
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/test/script"
)

// step makes what the client at hand does next.
func (g *generator) step() []script.Step {
	switch n := g.random.IntN(100); {
	case n < 3 && g.leaves:
		return g.replace()
	case n < 42:
		return g.send(&pgproto3.Query{String: g.statement().inline()})
	case n < 50:
		return g.send(&pgproto3.Query{String: g.several()})
	case n < 70:
		return g.send(append(g.extended(g.statement()), &pgproto3.Sync{})...)
	case n < 77:
		return g.send(g.pipeline()...)
	case n < 84:
		return g.send(g.group()...)
	case n < 87:
		return g.send(g.portal()...)
	}
	return g.send(g.named()...)
}

func (g *generator) send(messages ...pgproto3.FrontendMessage) []script.Step {
	return []script.Step{{Client: g.name(), Action: script.Send, Messages: messages}}
}

// replace has the client leave and another one take its name, who looks around.
func (g *generator) replace() []script.Step {
	leave := script.Step{Client: g.name(), Action: script.Disconnect}
	if g.one(2) {
		leave.Action = script.Vanish
	}
	return append([]script.Step{leave, g.login()}, g.send(&pgproto3.Query{String: everySetting})...)
}

// login connects the client.
func (g *generator) login() script.Step {
	step := script.Step{Client: g.name(), Action: script.Login}
	if g.superuser {
		step.Parameters = append(step.Parameters, [2]string{"user", "boss"})
	}
	if !g.started {
		return step
	}
	for range 1 + g.random.IntN(2) {
		parameter := pick(g, [][2]string{
			{"application_name", "started"},
			{"TimeZone", "Europe/Berlin"},
			{"DateStyle", "SQL"},
			{"search_path", "s2"},
			{"client_encoding", "LATIN1"},
			{"options", "-c search_path=s1"},
			{"options", "-c statement_timeout=99s -c my.tenant=9"},
			{"default_transaction_isolation", "serializable"},
			{"default_transaction_read_only", "on"},
			{"work_mem", "2MB"},
		})
		step.Parameters = append(step.Parameters, parameter)
	}
	return step
}

// several is a simple query of more than one statement.
func (g *generator) several() string {
	var texts []string
	for range 2 + g.random.IntN(2) {
		texts = append(texts, g.companion().inline())
	}
	return joinStatements(texts)
}

// extended is a statement by the extended protocol, without the Sync.
func (g *generator) extended(s statement) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: s.sql}, bind("", s.parameters), &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{},
	}
}

func bind(name string, parameters []string) *pgproto3.Bind {
	b := &pgproto3.Bind{PreparedStatement: name}
	for _, parameter := range parameters {
		b.Parameters = append(b.Parameters, []byte(parameter))
	}
	return b
}

// pipeline is several groups in one write.
func (g *generator) pipeline() []pgproto3.FrontendMessage {
	var messages []pgproto3.FrontendMessage
	for range 2 + g.random.IntN(3) {
		if g.one(4) {
			messages = append(messages, &pgproto3.Query{String: g.statement().inline()})
			continue
		}
		messages = append(append(messages, g.extended(g.statement())...), &pgproto3.Sync{})
	}
	return messages
}

// group is several statements with one Sync: one transaction, unless they say
// otherwise.
func (g *generator) group() []pgproto3.FrontendMessage {
	var messages []pgproto3.FrontendMessage
	for range 2 + g.random.IntN(3) {
		messages = append(messages, g.extended(g.companion())...)
	}
	return append(messages, &pgproto3.Sync{})
}

// companion is a statement that may have others behind it in its query or group. What
// was set at login is given back by RESET at the end of that, so it is none of those.
func (g *generator) companion() statement {
	return g.other(func(text string) bool { return g.started && resets.MatchString(text) })
}

// other is a statement that is none of some.
func (g *generator) other(unwanted func(text string) bool) statement {
	for {
		if s := g.statement(); !unwanted(s.sql) {
			return s
		}
	}
}

// momentary matches statements that do what another has been made for at the time of their
// Parse, of which the proxy keeps nothing.
var momentary = regexp.MustCompile(`^(fetch|execute) `)

var resets = regexp.MustCompile(`^(reset|discard all)|hidden_reset|default$|time zone local`)

// portal uses a portal with a limit, which lives as long as its transaction.
func (g *generator) portal() []pgproto3.FrontendMessage {
	execute := &pgproto3.Execute{Portal: "p", MaxRows: 1}
	if g.one(2) {
		return []pgproto3.FrontendMessage{execute, &pgproto3.Sync{}}
	}
	return []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: "select id, name from s1.item order by id"}, &pgproto3.Bind{DestinationPortal: "p"}, execute, &pgproto3.Sync{},
	}
}

// named uses prepared statements with names.
func (g *generator) named() []pgproto3.FrontendMessage {
	name := pick(g, []string{"p1", "p2", "p3"})
	var messages []pgproto3.FrontendMessage
	switch g.random.IntN(8) {
	case 0, 1:
		text := pick(g, sameTexts)
		for !g.names(text) {
			text = pick(g, sameTexts)
		}
		messages = append(messages, &pgproto3.Close{ObjectType: 'S', Name: name}, &pgproto3.Parse{Name: name, Query: text})
	case 2:
		unwanted := func(text string) bool { return momentary.MatchString(text) || !g.names(text) }
		messages = append(messages, &pgproto3.Parse{Name: name, Query: g.other(unwanted).inline()}, &pgproto3.Describe{ObjectType: 'S', Name: name})
	case 3:
		messages = append(messages, &pgproto3.Close{ObjectType: 'S', Name: name})
	case 4:
		messages = append(messages, &pgproto3.Describe{ObjectType: 'S', Name: name})
		if !g.describes {
			messages = append(messages, bind(name, nil), &pgproto3.Execute{})
		}
	case 5:
		return []pgproto3.FrontendMessage{&pgproto3.Query{String: fmt.Sprintf("deallocate %s", name)}}
	default:
		messages = append(messages, bind(name, nil), &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{})
	}
	return append(messages, &pgproto3.Sync{})
}
