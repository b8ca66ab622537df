package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// environment is what a subcommand works with.
type environment struct {
	args   []string // after the subcommand
	stdout io.Writer
	stderr io.Writer
	config *config
	logger *slog.Logger
	logs   *logQueue
}

// command is a subcommand.
type command struct {
	name    string
	args    string // what may follow the name
	maxArgs int
	summary string
	help    string
	run     func(context.Context, *environment) error
}

func commands() []command {
	return []command{
		{
			name: "dev", summary: "run everything with a private PostgreSQL and sample data", run: runDev,
			help: "Finds PostgreSQL's server programs or installs them, runs a private cluster in .billproxy/ of the\n" +
				"working directory, migrates it, starts the proxy, the API and the admin page, and loads sample data.\n" +
				"Ctrl-C stops all of it; the data is kept. Without " + variablePrefix + "API_KEYS the key is " + devAPIKey + ".",
		},
		{
			name: "serve", summary: "run the proxy and the billing API", run: runServe,
			help: "Needs " + variablePrefix + "UPSTREAM_URL (or " + databaseURLVariable + ") and " + variablePrefix + "API_KEYS. Migrate first.",
		},
		{
			name: "proxy", summary: "run the proxy alone", run: runProxy,
			help: "Needs " + variablePrefix + "UPSTREAM_URL (or " + databaseURLVariable + ").",
		},
		{
			name: "api", summary: "run the billing API alone", run: runAPI,
			help: "Needs " + variablePrefix + "API_KEYS and " + variablePrefix + "API_DATABASE_URL, which should lead to a proxy. Without the\n" +
				"latter it takes user and database of " + variablePrefix + "UPSTREAM_URL and the address of " + variablePrefix + "LISTEN.",
		},
		{
			name: "migrate", summary: "bring the database up to date", run: runMigrate,
			help: "Works on " + variablePrefix + "DIRECT_DATABASE_URL, by default " + variablePrefix + "UPSTREAM_URL. Several may run at once.",
		},
		{
			name: "config", summary: "print every variable, its value, default, type and meaning", run: runConfig,
			help: "Secrets are masked.",
		},
		{
			name: "healthcheck", args: "[url]", maxArgs: 1, summary: "ask a running billproxy whether it is ready", run: runHealthcheck,
			help: "Asks /readyz of " + variablePrefix + "ADMIN_LISTEN, or the URL given. Exit code 0 is ready.",
		},
		{
			name: "version", summary: "print the version", run: runVersion,
			help: "Prints the version of billproxy and of Go.",
		},
	}
}

func findCommand(name string) (command, bool) {
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

// usage is the help without a subcommand.
func usage() string {
	var text strings.Builder
	text.WriteString("billproxy is a PostgreSQL pooler beside a billing service, and a billing API behind it.\n\n" +
		"usage: billproxy <command>\n\ncommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(&text, "  %-12s %s\n", c.name, c.summary)
	}
	text.WriteString("\n`billproxy help <command>` says more, `billproxy config` lists the environment variables.\n")
	return text.String()
}

// usage is the help of a subcommand.
func (c command) usage() string {
	synopsis := strings.TrimSpace(c.name + " " + c.args)
	return fmt.Sprintf("usage: billproxy %s\n\n%s.\n\n%s\n", synopsis, strings.ToUpper(c.summary[:1])+c.summary[1:], c.help)
}

// usageError is a mistake in the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

// parseCommandLine finds the subcommand and its arguments. help is the text to
// print instead of running anything.
func parseCommandLine(args []string) (c command, rest []string, help string, err error) {
	if len(args) == 0 {
		return c, nil, "", &usageError{strings.TrimSuffix(usage(), "\n")}
	}
	name, rest := args[0], args[1:]
	asksHelp := isHelp(name)
	if asksHelp && len(rest) == 0 {
		return c, nil, usage(), nil
	}
	if asksHelp {
		name, rest = rest[0], rest[1:]
	}
	c, ok := findCommand(name)
	if !ok {
		names := []string{}
		for _, c := range commands() {
			names = append(names, c.name)
		}
		message := fmt.Sprintf("unknown command %q", name)
		if near := nearest(name, names); near != "" {
			message += ": did you mean " + near + "?"
		} else {
			message += ": expected " + strings.Join(names, ", ")
		}
		return c, nil, "", &usageError{message}
	}
	if asksHelp || len(rest) > 0 && isHelp(rest[0]) {
		return c, nil, c.usage(), nil
	}
	if len(rest) > c.maxArgs {
		return c, nil, "", &usageError{fmt.Sprintf("%s: unexpected argument %q: billproxy is configured by environment variables",
			name, rest[c.maxArgs])}
	}
	return c, rest, "", nil
}

func isHelp(argument string) bool {
	switch argument {
	case "help", "-h", "-help", "--help":
		return true
	default:
		return false
	}
}
