package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/test/launch"
)

// sqlOn runs statements as the superuser in a database of the cluster.
func sqlOn(t *testing.T, cluster *devpg.Cluster, database string, statements ...string) {
	t.Helper()
	conn := connect(t, cluster.URL(devpg.Superuser, database))
	for _, statement := range statements {
		if _, err := conn.Exec(patient(t), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
}

// logsIn reports whether a role gets in with a password. What keeps it out must be what
// PostgreSQL says.
func logsIn(t *testing.T, p *proxyProcess, role, password string) bool {
	t.Helper()
	conn, err := pgx.Connect(patient(t), authURL(p.address, role, password))
	if err == nil {
		_ = conn.Close(patient(t))
		return true
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "28P01" {
		t.Fatalf("%s: %v", role, err)
	}
	return false
}

func TestAuthQuery(t *testing.T) {
	t.Parallel()
	cluster := newAuthCluster(t)
	bare := databaseURL(cluster.TCPAddress(), "scram", "postgres")
	asSuperuser := settings{"UPSTREAM_URL": bare, "AUTH_USER": devpg.Superuser}
	exec := func(t *testing.T, statements ...string) { sqlOn(t, cluster, "postgres", statements...) }

	t.Run("pg_authid", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, asSuperuser)
		expectReady(t, p)
		for role, password := range authRoles {
			switch role {
			case "md5", "plain": // as with a file of verifiers
				expectRefusal(t, p, role, password+"x")
			default:
				expectLogin(t, p, role, password)
				expectRefusal(t, p, role, password+"x")
				expectRefusal(t, p, role, "")
			}
		}
		expectRefusal(t, p, "nobody", "")
		expectRefusal(t, p, "n'obody\"; --", "pencil")
		expectRefusal(t, p, "a name that is longer than any role's can be, which is sixty-three bytes", "pencil")
		expectNoSecrets(t, p)
	})

	t.Run("md5", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": bare, "AUTH_USER": devpg.Superuser, "AUTH_TYPE": "md5"})
		expectLogin(t, p, "md5", authRoles["md5"])
		expectLogin(t, p, "scram", authRoles["scram"])
		expectRefusal(t, p, "md5", "wrong")
		expectRefusal(t, p, "nobody", "wrong")
		expectNoSecrets(t, p)
	})

	t.Run("password", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, settings{"UPSTREAM_URL": bare, "AUTH_USER": devpg.Superuser, "AUTH_TYPE": "password"})
		expectLogin(t, p, "scram", authRoles["scram"])
		expectLogin(t, p, "md5", authRoles["md5"])
		expectRefusal(t, p, "scram", "wrong")
		expectRefusal(t, p, "nobody", "wrong")
	})

	// A role that may do nothing but ask, in a database of its own.
	t.Run("a function", func(t *testing.T) {
		t.Parallel()
		exec(t, "create role keeper login password '"+secretMarker+" of the keeper'", "create database vault")
		sqlOn(t, cluster, "vault", `
			create schema keys; grant usage on schema keys to keeper;
			create function keys.of(name) returns table (name name, secret text) language sql security definer set search_path = pg_catalog, pg_temp as $$
				select rolname, case when rolvaliduntil < now() then null else rolpassword end from pg_authid where rolname = $1 and rolcanlogin
			$$;
			revoke all on function keys.of(name) from public; grant execute on function keys.of(name) to keeper`)
		p := startProxy(t, cluster, settings{
			"UPSTREAM_URL": bare, "AUTH_USER": "keeper", "AUTH_DBNAME": "vault", "AUTH_QUERY": "SELECT name, secret FROM keys.of($1)",
			"AUTH_FILE": writeUserlist(t, map[string]string{"keeper": secretMarker + " of the keeper", "listed": "of the file"}),
		})
		expectLogin(t, p, "scram", authRoles["scram"])
		expectRefusal(t, p, "scram", "wrong")
		expectRefusal(t, p, "listed", "wrong")
		expectRefusal(t, p, "nobody", "wrong")
		expectNoSecrets(t, p)
		eventually(t, "the servers of the keeper are in the vault", func() bool {
			for _, pool := range p.stats(t).Pools {
				if pool.User == "keeper" && pool.Database == "vault" && pool.ServersIdle > 0 && pool.ClientsActive == 0 {
					return true
				}
			}
			return false
		})
	})

	t.Run("a password that changes", func(t *testing.T) {
		t.Parallel()
		exec(t, "set password_encryption = 'scram-sha-256'; create role changing login password 'old'")
		p := startProxy(t, cluster, asSuperuser)
		stays := connect(t, authURL(p.address, "changing", "old"))
		exec(t, "set password_encryption = 'scram-sha-256'; alter role changing password 'new'")
		eventually(t, "the new password gets in", func() bool { return logsIn(t, p, "changing", "new") })
		expectRefusal(t, p, "changing", "old")
		if err := stays.Ping(patient(t)); err != nil {
			t.Errorf("a client that was connected: %v", err)
		}
		// Servers are opened with the new one.
		exec(t, "select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = 'changing'")
		expectLogin(t, p, "changing", "new")
	})

	t.Run("a user who is dropped", func(t *testing.T) {
		t.Parallel()
		exec(t, "set password_encryption = 'scram-sha-256'; create role leaving login password 'old'")
		p := startProxy(t, cluster, asSuperuser)
		if !logsIn(t, p, "leaving", "old") {
			t.Fatal("the role does not get in")
		}
		exec(t, "alter role leaving nologin")
		eventually(t, "the user is kept out", func() bool { return !logsIn(t, p, "leaving", "old") })
		exec(t, "alter role leaving login")
		eventually(t, "the user gets in again", func() bool { return logsIn(t, p, "leaving", "old") })
		exec(t, "drop role leaving")
		eventually(t, "the user is kept out", func() bool { return !logsIn(t, p, "leaving", "old") })
	})

	t.Run("a password that has expired", func(t *testing.T) {
		t.Parallel()
		exec(t, "set password_encryption = 'scram-sha-256'; create role late login password 'late' valid until 'yesterday'; "+
			"create role early login password 'early' valid until 'tomorrow'")
		p := startProxy(t, cluster, asSuperuser)
		expectRefusal(t, p, "late", "late")
		if !logsIn(t, p, "early", "early") {
			t.Error("a password that has not expired is refused")
		}
	})

	t.Run("a query that fails", func(t *testing.T) {
		t.Parallel()
		for _, test := range []struct{ query, want string }{
			{"SELECT rolname FROM pg_authid WHERE rolname = $1", "does not return two columns"},
			{"SELECT nonsense($1)", "function nonsense(unknown) does not exist"},
			{"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 OR true", "rows for one user"},
			{"SELECT rolname, 'pencil' FROM pg_authid WHERE rolname = $1", "neither a SCRAM verifier nor an md5 hash"},
			{"NOTIFY auth", "bind message supplies 1 parameters"},
		} {
			p := startProxy(t, cluster, settings{"UPSTREAM_URL": bare, "AUTH_USER": devpg.Superuser, "AUTH_QUERY": test.query})
			_, err := pgx.Connect(patient(t), authURL(p.address, "scram", authRoles["scram"]))
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57P03" || e.Message != "the database system is not accepting connections" {
				t.Errorf("%s: %v", test.query, err)
			}
			var records []launch.Record
			eventually(t, "the failure is in the log", func() bool {
				records = p.Log.Find("auth query failed")
				return len(records) > 0
			})
			if len(records) != 1 || !strings.Contains(records[0].Text("error"), test.want) {
				t.Errorf("%s: logged %v, want %q", test.query, records, test.want)
			}
		}
	})

	t.Run("a server that restarts", func(t *testing.T) {
		t.Parallel()
		p := startProxy(t, cluster, asSuperuser)
		if !logsIn(t, p, "scram_other", authRoles["scram_other"]) {
			t.Fatal("the role does not get in")
		}
		exec(t, fmt.Sprintf("select pg_terminate_backend(pid, 60000) from pg_stat_activity where pid <> pg_backend_pid() and usename = '%s' and query like '%%pg_authid%%'", devpg.Superuser))
		for range 3 {
			if !logsIn(t, p, "scram_other", authRoles["scram_other"]) {
				t.Error("the role does not get in")
			}
		}
	})
}
