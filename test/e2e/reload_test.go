package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestReloadAuthFile changes the file of a proxy that runs.
func TestReloadAuthFile(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	address := cluster.TCPAddress()
	path := writeUserlist(t, map[string]string{"scram": authRoles["scram"], "scram_other": authRoles["scram_other"]})
	p := startProxy(t, cluster, settings{"UPSTREAM_URL": databaseURL(address, "scram", "postgres"), "AUTH_FILE": path})
	reloads, failures := 0, 0
	hangUp := func(t *testing.T, well bool) {
		t.Helper()
		if well {
			reloads++
		} else {
			failures++
		}
		p.signal(t, syscall.SIGHUP)
		eventually(t, "the proxy has reloaded", func() bool {
			return len(p.Log.Find("reloaded")) == reloads && len(p.Log.Find("not reloaded, what was read before stays in use")) == failures
		})
	}
	stays := connect(t, authURL(p.address, "scram", authRoles["scram"]))
	works := func(t *testing.T) {
		t.Helper()
		if err := stays.Ping(patient(t)); err != nil {
			t.Fatalf("a client that was connected: %v", err)
		}
	}

	rewriteUserlist(t, path, map[string]string{"scram": authRoles["scram"], "scram_umlaut": authRoles["scram_umlaut"]})
	expectRefusal(t, p, "scram_umlaut", authRoles["scram_umlaut"]) // not yet
	hangUp(t, true)
	expectLogin(t, p, "scram", authRoles["scram"])
	expectLogin(t, p, "scram_umlaut", authRoles["scram_umlaut"])
	expectRefusal(t, p, "scram_other", authRoles["scram_other"])
	works(t)

	// A file that cannot be used leaves the old one in force.
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"malformed":       func() error { return os.WriteFile(path, []byte("\"scram\" "+secretMarker), 0o600) },
		"missing":         func() error { return os.Remove(path) },
		"others may read": func() error { return os.Chmod(path, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			hangUp(t, false)
			records := p.Log.Find("not reloaded, what was read before stays in use")
			if last := records[len(records)-1]; last.Text("variable") != "BILLPROXY_AUTH_FILE" || !strings.Contains(last.Text("error"), path) {
				t.Errorf("logged %v", last)
			}
			expectLogin(t, p, "scram_umlaut", authRoles["scram_umlaut"])
			works(t)
			_ = os.Remove(path) // and its mode
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	hangUp(t, true)

	// Servers are opened with the new password of a role.
	sqlOn(t, cluster, "postgres", "set password_encryption = 'scram-sha-256'; alter role scram_umlaut password 'new "+secretMarker+"'",
		"select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = 'scram_umlaut'")
	rewriteUserlist(t, path, map[string]string{"scram": authRoles["scram"], "scram_umlaut": "new " + secretMarker})
	hangUp(t, true)
	expectLogin(t, p, "scram_umlaut", "new "+secretMarker)
	works(t)
	expectNoSecrets(t, p)
}

// TestHangUpWithoutFiles has nothing to reload, and goes on.
func TestHangUpWithoutFiles(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, nil)
	for range 3 {
		p.signal(t, syscall.SIGHUP)
		loginWire(t, p.address, d).usable(t)
	}
}
