package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"sync"

	"github.com/billproxy/billproxy/pool/auth"
	"github.com/billproxy/billproxy/proxy"
)

// authentication is how clients prove to the proxy, and the proxy to PostgreSQL,
// who they are.
type authentication struct {
	authType proxy.AuthType
	users    map[string]auth.Secret // of AUTH_FILE
	query    proxy.AuthQuery
}

// standardAuthQuery is PgBouncer's, in words that mean the same whatever the search_path
// of the role or the database is.
const standardAuthQuery = "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE rolpassword END " +
	"FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"

// readAuthentication decides what AUTH_TYPE leaves open, and reads AUTH_FILE.
func readAuthentication(c *config) (authentication, error) {
	users, err := c.AuthFile.read()
	if err != nil {
		return authentication{}, err
	}
	a := authentication{authType: c.AuthType.value, users: users}
	switch {
	case c.AuthType.set:
	case c.AuthFile != "" || c.AuthUser != "":
		a.authType = proxy.AuthSCRAM
	case c.UpstreamURL != "":
		to, err := parseUpstream(c.UpstreamURL)
		if err != nil {
			return authentication{}, err
		}
		if to.login.Password != "" {
			// Whoever knows the password of the server gets in, nobody else.
			a.authType = proxy.AuthSCRAM
		}
	}
	a.query, err = a.readQuery(c)
	return a, err
}

// readQuery refuses what would silently be without effect.
func (a authentication) readQuery(c *config) (proxy.AuthQuery, error) {
	switch {
	case c.AuthUser == "" && (c.AuthQuery != "" || c.AuthDBName != ""):
		return proxy.AuthQuery{}, unsetVariable("AUTH_USER", &c.AuthUser)
	case c.AuthUser != "" && (a.authType == proxy.AuthTrust || a.authType == proxy.AuthCert):
		return proxy.AuthQuery{}, newConfigError("%sAUTH_TYPE is %q: expected another, because nobody is asked for the secret that %sAUTH_USER asks PostgreSQL for",
			variablePrefix, a.authType, variablePrefix)
	}
	return proxy.AuthQuery{
		Text: cmp.Or(string(c.AuthQuery), standardAuthQuery), User: string(c.AuthUser), Database: string(c.AuthDBName),
	}, nil
}

// authQuery is how PostgreSQL is asked for secrets. It is not asked in the database of
// the client, as PgBouncer does: whoever can connect could have servers opened in any.
func (a authentication) authQuery(to upstream) proxy.AuthQuery {
	query := a.query
	query.Database = cmp.Or(query.Database, to.database)
	return query
}

// servers is with what the proxy logs in: the password of the URL goes before that
// of the file.
func (a authentication) servers(to upstream) map[string]auth.Secret {
	secrets := map[string]auth.Secret{}
	maps.Copy(secrets, a.users)
	if password := to.login.Password; password != "" {
		secrets[to.user] = auth.PasswordSecret(password)
	}
	return secrets
}

// clients is with what clients log in: the file goes before the URL. Verifiers that
// were made before, for the secrets that clients had then, are used again.
func (a authentication) clients(ctx context.Context, to upstream, before map[string]auth.Secret) (map[string]auth.Secret, error) {
	if a.authType == proxy.AuthTrust || a.authType == proxy.AuthCert {
		return nil, nil
	}
	secrets := a.servers(to)
	maps.Copy(secrets, a.users)
	if a.authType == proxy.AuthMD5 {
		return secrets, nil
	}
	for user, secret := range secrets {
		if old, ok := before[user]; ok && old.Same(secret) {
			secrets[user] = old
		}
	}
	// While clients are served, the loop needs its processor.
	atOnce := 1
	if before == nil {
		atOnce = runtime.GOMAXPROCS(0)
	}
	return secrets, addVerifiers(ctx, secrets, atOnce)
}

// apiPassword is with what the API logs in to the proxy as the user of the URL.
func (a authentication) apiPassword(to upstream) string {
	if password := a.users[to.user].Password(); password != "" {
		return password
	}
	return to.login.Password
}

// addVerifiers makes a verifier of every password that has none. It takes milliseconds
// for each, which is why no client may cause it.
func addVerifiers(ctx context.Context, secrets map[string]auth.Secret, atOnce int) error {
	var mu sync.Mutex
	var hashing sync.WaitGroup
	defer hashing.Wait()
	slots := make(chan struct{}, atOnce)
	for user, secret := range maps.Clone(secrets) {
		if secret.Password() == "" || secret.Verifier() != nil {
			continue
		}
		salt := make([]byte, auth.SaltBytes)
		if _, err := io.ReadFull(rand.Reader, salt); err != nil {
			return fmt.Errorf("no random numbers: %w", err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		hashing.Go(func() {
			secret = secret.WithVerifier(salt, auth.DefaultIterations)
			mu.Lock()
			secrets[user] = secret
			mu.Unlock()
			<-slots
		})
	}
	return nil
}

// othersMayReadOrWrite are the bits of a file's mode that a file of passwords must
// not have.
const othersMayReadOrWrite = 0o006

// read returns the users of the file; none if the path is empty.
func (f *authFile) read() (map[string]auth.Secret, error) {
	if *f == "" {
		return nil, nil
	}
	name := variablePrefix + "AUTH_FILE"
	file, err := os.Open(string(*f))
	if err != nil {
		return nil, newConfigError("%s: %v: expected %s", name, err, f.expected())
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, newConfigError("%s: %v", name, err)
	}
	if mode := info.Mode(); mode.Perm()&othersMayReadOrWrite != 0 {
		return nil, newConfigError("%s: %s has mode %04o: expected a file that not everybody may read, such as one of mode 0600",
			name, string(*f), mode.Perm())
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, newConfigError("%s: %v: expected %s", name, err, f.expected())
	}
	users, err := auth.ParseUserlist(string(text))
	if err != nil {
		return nil, newConfigError("%s: %s: %v", name, string(*f), err)
	}
	return users, nil
}
