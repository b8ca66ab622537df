package main

import (
	"context"
	"strings"

	"github.com/billproxy/billproxy/proxy"
)

// consoleNames are the databases under which clients find the admin console. The one of
// UPSTREAM_URL stays what it is.
var consoleNames = []string{"pgbouncer", "billproxy"}

// consoleConfig is who may use the console, and what it tells of the process.
func (s *sidecar) consoleConfig(ctx context.Context, to upstream) proxy.ConsoleConfig {
	c, service := s.config, s.proxy
	host, _ := to.hostPort()
	console := proxy.ConsoleConfig{
		Version: proxy.ConsoleVersion(versionText()), Settings: consoleSettings(c),
		Host: host, Port: int(to.login.Port), Database: to.database,
		BeganAt: service.beganAt,
		Reload: func(done func(error)) {
			service.background.Go(func() {
				err := s.reloads.all(context.WithoutCancel(ctx))
				service.engine.Post(func() { done(err) })
			})
		},
		Shutdown: func(orderly bool) {
			select {
			case s.shutdown <- orderly:
			default: // it ends already
			}
		},
	}
	for _, name := range consoleNames {
		if name != to.database {
			console.Databases = append(console.Databases, name)
		}
	}
	console.AdminUsers, console.StatsUsers = consoleUsers(c, service.authentication.authType, to.user)
	return console
}

// consoleUsers decides what ADMIN_USERS and STATS_USERS leave open. Where everybody is
// believed to be who they say, nobody may do more than look, as on the admin page, unless
// the operator says so.
func consoleUsers(c *config, authType proxy.AuthType, owner string) (admins, stats []string) {
	admins, stats = c.AdminUsers, c.StatsUsers
	switch {
	case admins != nil:
	case authType != proxy.AuthTrust:
		admins = []string{owner}
	case stats == nil:
		stats = []string{owner}
	}
	return admins, stats
}

// consoleSettings is the configuration under PgBouncer's names, secrets masked.
func consoleSettings(c *config) []proxy.ConsoleSetting {
	var settings []proxy.ConsoleSetting
	for _, field := range c.fields() {
		settings = append(settings, proxy.ConsoleSetting{
			Key:   strings.ToLower(strings.TrimPrefix(field.name, variablePrefix)),
			Value: field.value.String(), Default: field.standard,
		})
	}
	// Monitoring wants it; there is no such limit.
	return append(settings, proxy.ConsoleSetting{Key: "max_user_connections", Value: "0", Default: "0"})
}
