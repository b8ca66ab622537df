package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// consoleStatement is a statement that the console understands: it returns a table or
// does something. With neither it is an empty one.
type consoleStatement struct {
	tag             string
	adminOnly       bool
	endsTransaction bool
	table           *table

	// run does what the statement says and calls done, at once or later.
	run func(c *console, done func(*pgwire.Error))
}

func (s *consoleStatement) empty() bool { return s.table == nil && s.run == nil }

func (s *consoleStatement) columns() []columnHead {
	if s.table == nil {
		return nil
	}
	return s.table.columns
}

// consoleCommand is a command that may have an argument.
type consoleCommand struct {
	argument argument
	what     string // the argument, for the help
	run      func(c *console, argument string, done func(*pgwire.Error))
}

// argument is whether a command has one.
type argument uint8

const (
	argumentNone argument = iota
	argumentOptional
	argumentRequired
)

// consoleCommands are those that change something. They are for administrators.
var consoleCommands = map[string]consoleCommand{
	"DISABLE":     {argumentRequired, "database", disableDatabase},
	"ENABLE":      {argumentRequired, "database", enableDatabase},
	"KILL":        {argumentOptional, "database", killDatabase},
	"KILL_CLIENT": {argumentRequired, "id", killClient},
	"PAUSE":       {argumentOptional, "database", pauseDatabase},
	"RECONNECT":   {argumentOptional, "database", reconnectDatabase},
	"RELOAD":      {argumentNone, "", reloadFiles},
	"RESUME":      {argumentOptional, "database", resumeDatabase},
	"SHUTDOWN":    {argumentOptional, "WAIT_FOR_SERVERS", shutDown},
	"WAIT_CLOSE":  {argumentOptional, "database", waitClose},
}

// pgbouncerOnly are commands of PgBouncer that the console does not have, and why.
var pgbouncerOnly = map[string]string{
	"SUSPEND":             "connections are not handed over to another process: use SHUTDOWN WAIT_FOR_SERVERS",
	"SHOW FDS":            "connections are not handed over to another process",
	"SHOW SOCKETS":        "use SHOW CLIENTS and SHOW SERVERS",
	"SHOW ACTIVE_SOCKETS": "use SHOW CLIENTS and SHOW SERVERS",
	"SHOW DNS_HOSTS":      "names are not cached",
	"SHOW DNS_ZONES":      "names are not cached",
	"SHOW PEERS":          "there are no peers",
	"SHOW PEER_POOLS":     "there are no peers",
}

// consoleUsage is the answer to SHOW HELP.
func consoleUsage() string {
	lines := []string{"\n\tSHOW HELP|" + strings.Join(slices.Sorted(maps.Keys(shows)), "|")}
	for _, name := range slices.Sorted(maps.Keys(consoleCommands)) {
		switch command := consoleCommands[name]; command.argument {
		case argumentOptional:
			name += " [" + command.what + "]"
		case argumentRequired:
			name += " " + command.what
		default:
		}
		lines = append(lines, name)
	}
	return strings.Join(lines, "\n\t")
}

// parse returns the statements of a text, nil for an empty one.
func (c *console) parse(text []byte) ([]*consoleStatement, *pgwire.Error) {
	var statements []*consoleStatement
	var words []string
	l := lexer{text: text, standardStrings: true}
	for {
		t := l.next()
		switch {
		case t&(tokenName|tokenQuoted|tokenOther|tokenOperator|tokenComma) != 0:
			words = append(words, string(text[l.start:l.at]))
			continue
		case t&(tokenSemicolon|tokenEnd) == 0:
			return nil, errorf(pgwire.SyntaxError, `syntax error in a command to the admin console: expected one of SHOW HELP`)
		}
		if len(words) > 0 {
			statement, e := c.understand(words)
			if e != nil {
				return nil, e
			}
			statements, words = append(statements, statement), nil
		}
		if t&tokenEnd != 0 {
			return statements, nil
		}
	}
}

// understand returns the statement that the words are.
func (c *console) understand(words []string) (*consoleStatement, *pgwire.Error) {
	name, rest := strings.ToUpper(words[0]), words[1:]
	switch name {
	case "SHOW", "SELECT":
		if len(rest) == 1 {
			return c.show(name, unquote(rest[0]))
		}
	case "SET":
		return c.set(rest)
	case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT":
		return transactionStatement(name), nil
	case "DEALLOCATE":
		if len(rest) > 0 {
			return deallocateStatement(rest[len(rest)-1]), nil
		}
	case "DISCARD":
		discard := deallocateStatement("ALL")
		discard.tag = "DISCARD ALL"
		return discard, nil
	}
	if why, ok := pgbouncerOnly[name]; ok {
		return nil, unsupported(name, why)
	}
	command, ok := consoleCommands[name]
	switch {
	case !ok:
		return nil, errorf(pgwire.SyntaxError, `unknown command "%.64s": expected one of SHOW HELP`, words[0])
	case len(rest) > 1, len(rest) == 1 && command.argument == argumentNone:
		return nil, errorf(pgwire.SyntaxError, `unexpected "%.64s" behind %s`, rest[len(rest)-1], name)
	case len(rest) == 0 && command.argument == argumentRequired:
		return nil, errorf(pgwire.SyntaxError, "%s takes an argument: expected %s", name, command.what)
	}
	argument := ""
	if len(rest) == 1 {
		argument = unquote(rest[0])
	}
	return &consoleStatement{tag: name, adminOnly: true, run: func(c *console, done func(*pgwire.Error)) {
		p := c.session.proxy
		p.logger.Info("console command", "client", c.session.conn.RemoteAddr(), "user", c.user, "command", name,
			"argument", fmt.Sprintf("%.64s", argument))
		command.run(c, argument, done)
	}}, nil
}

func unsupported(name, why string) *pgwire.Error {
	return errorf(pgwire.FeatureNotSupported, "%s is not supported: %s", name, why)
}

// unquote returns a name or string without its quotes.
func unquote(word string) string {
	for _, quote := range []string{`"`, `'`} {
		if len(word) >= 2 && strings.HasPrefix(word, quote) && strings.HasSuffix(word, quote) {
			return strings.ReplaceAll(word[1:len(word)-1], quote+quote, quote)
		}
	}
	return word
}

// show returns the statement that shows something.
func (c *console) show(command, what string) (*consoleStatement, *pgwire.Error) {
	name := strings.ToUpper(what)
	if name == "HELP" {
		return &consoleStatement{tag: "SHOW", run: func(c *console, done func(*pgwire.Error)) {
			c.notice(&pgwire.Error{Message: "Console usage", Detail: consoleUsage()})
			done(nil)
		}}, nil
	}
	if t := shows[name]; t != nil {
		return &consoleStatement{tag: "SHOW", table: t}, nil
	}
	if setting, ok := fakedSettings[strings.ToLower(what)]; ok {
		return &consoleStatement{tag: "SHOW", table: settingTable(strings.ToLower(what), setting)}, nil
	}
	if why, ok := pgbouncerOnly["SHOW "+name]; ok {
		return nil, unsupported("SHOW "+name, why)
	}
	return nil, errorf(pgwire.SyntaxError, `unknown command "%s %.64s": expected one of SHOW HELP`, command, what)
}

// fakedSettings are what drivers ask for that take the console for a PostgreSQL, and the
// answers of PgBouncer.
var fakedSettings = map[string]string{
	"client_encoding":               "UTF8",
	"default_transaction_isolation": "read committed",
	"standard_conforming_strings":   "on",
	"datestyle":                     "ISO",
	"timezone":                      "GMT",
}

func settingTable(name, value string) *table {
	return listTable(func(*Proxy) []string { return []string{value} }, textColumn(name, func(value *string) string { return *value }))
}

// set takes what a driver sets in any session, without effect but for its name. What
// PgBouncer would change while it runs is read at the start.
func (c *console) set(words []string) (*consoleStatement, *pgwire.Error) {
	if len(words) < 3 {
		return nil, errorf(pgwire.SyntaxError, "syntax error in SET: expected SET name = value")
	}
	name, value := strings.ToLower(unquote(words[0])), unquote(words[2])
	for _, setting := range c.session.proxy.consoles.config.Settings {
		if setting.Key == name {
			return nil, unsupported("SET "+name, fmt.Sprintf("set BILLPROXY_%s and start again", strings.ToUpper(name)))
		}
	}
	return &consoleStatement{tag: "SET", run: func(c *console, done func(*pgwire.Error)) {
		if name == "application_name" {
			c.applicationName = value
		} else {
			c.notice(&pgwire.Error{Message: "SET ignored"})
		}
		done(nil)
	}}, nil
}

// transactionStatement begins or ends a transaction, in which nothing can be undone.
func transactionStatement(name string) *consoleStatement {
	begins := name == "BEGIN" || name == "START"
	s := &consoleStatement{tag: name, endsTransaction: !begins}
	switch name {
	case "START":
		s.tag = "START TRANSACTION"
	case "END":
		s.tag = "COMMIT"
	case "ABORT":
		s.tag = "ROLLBACK"
	}
	s.run = func(c *console, done func(*pgwire.Error)) {
		if begins {
			c.transaction.begin = name
		} else {
			c.transaction = transaction{}
		}
		done(nil)
	}
	return s
}

// deallocateStatement forgets a prepared statement, or all.
func deallocateStatement(name string) *consoleStatement {
	tag := "DEALLOCATE"
	all := strings.EqualFold(name, "ALL")
	if all {
		tag = "DEALLOCATE ALL"
	}
	return &consoleStatement{tag: tag, run: func(c *console, done func(*pgwire.Error)) {
		if all {
			clear(c.statements)
		} else {
			delete(c.statements, unquote(name))
		}
		done(nil)
	}}
}

func (c *console) notice(e *pgwire.Error) { c.write(pgwire.AppendNotice(nil, e)) }
