package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/proxy"
)

func TestConsoleUsers(t *testing.T) {
	for _, test := range []struct {
		name          string
		environ       []string
		authType      proxy.AuthType
		admins, stats []string
	}{
		{"with passwords", nil, proxy.AuthSCRAM, []string{"owner"}, nil},
		{"with trust", nil, proxy.AuthTrust, nil, []string{"owner"}},
		{"named", []string{"BILLPROXY_ADMIN_USERS=ada, bob", "BILLPROXY_STATS_USERS=eve"}, proxy.AuthTrust, []string{"ada", "bob"}, []string{"eve"}},
		{"nobody", []string{"BILLPROXY_ADMIN_USERS=,"}, proxy.AuthSCRAM, []string{}, nil},
		{"nobody with trust", []string{"BILLPROXY_STATS_USERS=,"}, proxy.AuthTrust, nil, []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := loadConfig(test.environ)
			if err != nil {
				t.Fatal(err)
			}
			admins, stats := consoleUsers(c, test.authType, "owner")
			if !slices.Equal(admins, test.admins) || !slices.Equal(stats, test.stats) {
				t.Errorf("admins %q, stats %q, want %q and %q", admins, stats, test.admins, test.stats)
			}
		})
	}
}

func TestConsoleSettings(t *testing.T) {
	c, err := loadConfig([]string{"BILLPROXY_UPSTREAM_URL=postgres://app:hidden@db/app", "BILLPROXY_API_KEYS=hidden", "BILLPROXY_MAX_CLIENT_CONN=77"})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, setting := range consoleSettings(c) {
		values[setting.Key] = setting.Value
		if strings.Contains(setting.Value, "hidden") {
			t.Errorf("%s is %s", setting.Key, setting.Value)
		}
	}
	if values["max_client_conn"] != "77" || values["max_user_connections"] != "0" || values["pool_mode"] != "transaction" {
		t.Errorf("settings %v", values)
	}
}
