package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

const pgxModule = "github.com/jackc/pgx/v5"

// pgxUsers are the users of pgx's tests, besides the one of the operating system.
var pgxUsers = []string{"pgx_md5", "pgx_pw", "pgx_scram", "pgx_ssl"}

// runPgx runs the tests of pgx, of the version that the API uses. A test that differs
// is run once more, directly and through: a quick run has no other direct one.
func (r *runner) runPgx(ctx context.Context) (_ *result, err error) {
	dir, version, err := r.copyPgx(ctx)
	if err != nil {
		return nil, err
	}
	result := &result{Suite: "pgx", Subject: "pgx " + version}
	p, err := r.newPgxPlace(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.end(ctx)) }()
	direct := outcomes{}
	if !r.options.quick {
		r.say("pgx directly")
		if direct, err = r.goTest(ctx, dir, "pgx directly.json", p.pgxEnvironment(), "./..."); err != nil {
			return nil, err
		}
	}
	if err := p.addPgxProxy(ctx, r); err != nil {
		return nil, err
	}
	r.say("pgx through")
	through, err := r.goTest(ctx, dir, "pgx through.json", p.pgxEnvironment(), "./...")
	if err != nil {
		return nil, err
	}
	if r.options.quick {
		result.Rows = []row{count("pgx", through)}
		if direct, err = r.rerunPgx(ctx, dir, p, through.failures()); err != nil {
			return nil, err
		}
	}
	rows, differing := compare(direct, through)
	if !r.options.quick {
		result.Rows = rows
	}
	again, err := r.rerunPgx(ctx, dir, p, differing)
	if err != nil {
		return nil, err
	}
	for _, t := range differing {
		if again[t] == passed {
			result.Differences = append(result.Differences, difference{Test: t.String(), Note: "passes directly twice"})
		}
	}
	return result, nil
}

// copyPgx copies the module to where its tests may write.
func (r *runner) copyPgx(ctx context.Context) (dir, version string, err error) {
	output, err := command(ctx, "", nil, "go", "list", "-m", "-json", pgxModule).Output()
	if err != nil {
		return "", "", fmt.Errorf("go list %s: %w", pgxModule, err)
	}
	var module struct{ Dir, Version string }
	if err := json.Unmarshal(output, &module); err != nil {
		return "", "", err
	}
	dir = filepath.Join(r.options.cache, "pgx-"+module.Version)
	if _, err := os.Stat(dir); err == nil {
		return dir, module.Version, nil
	}
	// The files of the module cache are read-only; CopyFS makes writable ones.
	if err := os.CopyFS(dir, os.DirFS(module.Dir)); err != nil {
		return "", "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, module.Version, nil
}

// newPgxPlace sets PostgreSQL up as pgx's own scripts do.
func (r *runner) newPgxPlace(ctx context.Context, dir string) (*place, error) {
	p, err := r.newPlace(ctx, nil)
	if err != nil {
		return nil, err
	}
	return p, p.preparePgx(ctx, dir)
}

func (p *place) preparePgx(ctx context.Context, dir string) error {
	if err := p.sql(ctx, "postgres", "CREATE DATABASE pgx_test"); err != nil {
		return err
	}
	setup := filepath.Join(dir, "testsetup")
	if err := p.psql(ctx, "pgx_test", setup, "-f", "postgresql_setup.sql"); err != nil {
		return err
	}
	name, err := systemUser()
	if err != nil {
		return err
	}
	rules, err := os.ReadFile(filepath.Join(setup, "pg_hba.conf"))
	if err != nil {
		return err
	}
	// pgx has no rule for the superuser over TCP, and trusts the user of the operating
	// system over the Unix-domain socket, which a proxy that asks for passwords does not.
	hba := fmt.Sprintf("host all %s 127.0.0.1/32 trust\n%s\nhost all \"%s\" 127.0.0.1/32 scram-sha-256\n", devpg.Superuser, rules, name)
	if err := os.WriteFile(filepath.Join(p.cluster.DataDir(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return err
	}
	if err := p.encryptPgx(setup); err != nil {
		return err
	}
	return p.sql(ctx, "pgx_test", fmt.Sprintf(`ALTER USER "%s" PASSWORD 'secret'`, name),
		"ALTER SYSTEM SET ssl_cert_file = 'localhost.crt'", "ALTER SYSTEM SET ssl_key_file = 'localhost.key'",
		"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
}

// encryptPgx lays pgx's certificates and keys into the place, and those of the server
// into its data.
func (p *place) encryptPgx(setup string) error {
	owner, err := os.Stat(p.cluster.DataDir())
	if err != nil {
		return err
	}
	user, ok := owner.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of files is not known on this system")
	}
	for _, name := range []string{"ca.pem", "localhost.crt", "localhost.key"} {
		encoded, err := os.ReadFile(filepath.Join(setup, "certs", name+".b64"))
		if err != nil {
			return err
		}
		content, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(encoded)))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		servers := filepath.Join(p.cluster.DataDir(), name)
		if err := errors.Join(os.WriteFile(filepath.Join(p.dir, name), content, 0o600), os.WriteFile(servers, content, 0o600),
			os.Chown(servers, int(user.Uid), int(user.Gid))); err != nil {
			return err
		}
	}
	return nil
}

func systemUser() (string, error) {
	current, err := user.Current()
	if err != nil {
		return "", err
	}
	return current.Username, nil
}

func (p *place) addPgxProxy(ctx context.Context, r *runner) error {
	name, err := systemUser()
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, user := range append(slices.Clone(pgxUsers), name) {
		fmt.Fprintf(&list, "%q \"secret\"\n", user)
	}
	authFile := filepath.Join(p.dir, "userlist.txt")
	if err := os.WriteFile(authFile, []byte(list.String()), 0o600); err != nil {
		return err
	}
	return p.addProxy(ctx, r, map[string]string{
		"UPSTREAM_URL":    strings.Replace(p.cluster.URL("pgx_md5", "pgx_test"), "pgx_md5@", "pgx_md5:secret@", 1),
		"AUTH_FILE":       authFile,
		"UNIX_SOCKET_DIR": p.dir,

		"CLIENT_TLS_SSLMODE": "allow", "SERVER_TLS_SSLMODE": "prefer",
		"CLIENT_TLS_CERT_FILE": filepath.Join(p.dir, "localhost.crt"), "CLIENT_TLS_KEY_FILE": filepath.Join(p.dir, "localhost.key"),
	})
}

// pgxEnvironment leads the tests to the place.
func (p *place) pgxEnvironment() []string {
	host, port := p.address()
	socketDir := p.cluster.SocketDir()
	if p.proxy != nil {
		socketDir = p.dir
	}
	tcp := func(user string) string {
		return fmt.Sprintf("host=%s port=%s user=%s password=secret dbname=pgx_test", host, port, user)
	}
	encrypted := fmt.Sprintf("host=localhost port=%s user=pgx_ssl password=secret sslmode=verify-full sslrootcert=%s dbname=pgx_test",
		port, filepath.Join(p.dir, "ca.pem"))
	return []string{
		"PGX_TEST_TLS_CONN_STRING=" + encrypted + " channel_binding=disable",
		"PGX_TEST_SCRAM_PLUS_CONN_STRING=" + encrypted + " channel_binding=require",
		"PGX_TEST_DATABASE=" + tcp("pgx_md5"),
		"PGX_TEST_TCP_CONN_STRING=" + tcp("pgx_md5"),
		"PGX_TEST_MD5_PASSWORD_CONN_STRING=" + tcp("pgx_md5"),
		"PGX_TEST_PLAIN_PASSWORD_CONN_STRING=" + tcp("pgx_pw"),
		"PGX_TEST_SCRAM_PASSWORD_CONN_STRING=" + tcp("pgx_scram") + " channel_binding=disable",
		"PGX_TEST_PGBOUNCER_CONN_STRING=" + tcp("pgx_md5"),
		fmt.Sprintf("PGX_TEST_UNIX_SOCKET_CONN_STRING=host=%s port=%s password=secret dbname=pgx_test", socketDir, port),
	}
}

// rerunPgx runs tests directly once more.
func (r *runner) rerunPgx(ctx context.Context, dir string, p *place, tests []test) (outcomes, error) {
	if len(tests) == 0 {
		return outcomes{}, nil
	}
	var names []string
	for _, t := range tests {
		names = append(names, t.name)
	}
	direct := &place{dir: p.dir, cluster: p.cluster}
	return r.goTest(ctx, dir, "pgx again.json", direct.pgxEnvironment(), "-run", "^("+strings.Join(names, "|")+")$", "./...")
}
