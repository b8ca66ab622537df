package script

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Parse reads a script.
func Parse(text string) (*Script, error) {
	p := parser{script: &Script{Proxy: map[string]string{}, Ignored: map[string]string{}}}
	for line := range strings.Lines(text) {
		p.line++
		line = strings.TrimRight(line, "\n")
		indented := strings.HasPrefix(line, "  ")
		content := strings.TrimSpace(line)
		comment := strings.HasPrefix(content, "#") && (!indented || !p.inSetup)
		if content == "" || comment {
			continue
		}
		if err := p.take(expand(content), indented); err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
	}
	return p.script, nil
}

type parser struct {
	script  *Script
	line    int
	inSetup bool
}

func (p *parser) take(content string, indented bool) error {
	if indented {
		return p.indented(content)
	}
	p.inSetup = false
	verb, rest, _ := strings.Cut(content, " ")
	switch verb {
	case "setup":
		p.inSetup = true
		return nil
	case "proxy":
		for l := (words{rest: rest}); l.more(); {
			name, value, err := l.pair()
			if err != nil {
				return err
			}
			p.script.Proxy[name] = value
		}
		return nil
	case "servers":
		l := words{rest: rest}
		p.script.Servers = number[int](&l, l.word())
		return l.end()
	case "ignore":
		message, reason, _ := strings.Cut(rest, " ")
		if reason == "" {
			return fmt.Errorf("ignore %s: expected a reason", message)
		}
		p.script.Ignored[message] = reason
		return nil
	case Await.String():
		p.script.Steps = append(p.script.Steps, Step{Action: Await, SQL: rest, Line: p.line})
		return nil
	}
	return p.step(verb, rest)
}

func (p *parser) step(client, content string) error {
	step := Step{Client: client, Line: p.line}
	verb, rest, _ := strings.Cut(content, " ")
	switch action := slices.Index(actionNames, verb); {
	case action > int(Send):
		step.Action = Action(action)
	case verb == "":
		return fmt.Errorf("client %q does nothing: expected a message", client)
	}
	p.script.Steps = append(p.script.Steps, step)
	switch step.Action {
	case Send:
		return p.message(content)
	case Login:
		return p.login(rest)
	default:
		return nil
	}
}

// indented reads a line that belongs to the one above it.
func (p *parser) indented(content string) error {
	switch {
	case p.inSetup:
		p.script.Setup += content + "\n"
		return nil
	case len(p.script.Steps) == 0 || p.last().Action != Send:
		return fmt.Errorf("%q is indented: expected a client's name", content)
	case p.last().Until.Message != "":
		return fmt.Errorf("%q comes behind until: expected a client's name", content)
	}
	if rest, ok := strings.CutPrefix(content, "until "); ok {
		l := words{rest: rest}
		p.last().Until.Message = l.word()
		if l.more() {
			p.last().Until.Count = number[int](&l, l.word())
		}
		return l.end()
	}
	return p.message(content)
}

func (p *parser) last() *Step { return &p.script.Steps[len(p.script.Steps)-1] }

func (p *parser) message(content string) error {
	message, err := parseMessage(content)
	if err != nil {
		return err
	}
	p.last().Messages = append(p.last().Messages, message)
	return nil
}

func (p *parser) login(rest string) error {
	step := p.last()
	for l := (words{rest: rest}); l.more(); {
		name, value, err := l.pair()
		if err != nil {
			return err
		}
		if name != "version" {
			step.Parameters = append(step.Parameters, [2]string{name, value})
			continue
		}
		major, minor, _ := strings.Cut(value, ".")
		high, err := strconv.ParseUint(major, 10, 16)
		if err != nil {
			return err
		}
		low, err := strconv.ParseUint(minor, 10, 16)
		if err != nil {
			return err
		}
		step.Version = uint32(high)<<16 | uint32(low)
	}
	return nil
}

// parameterName is in front of the = of a pair.
var parameterName = regexp.MustCompile(`^([\w.]+)=`)

// pair takes the next words if they are name=value.
func (l *words) pair() (name, value string, err error) {
	l.more()
	match := parameterName.FindStringSubmatch(l.rest)
	if match == nil {
		return "", "", fmt.Errorf("%q: expected name=value", l.rest)
	}
	value, _ = l.option(match[1])
	return match[1], value, l.err
}
