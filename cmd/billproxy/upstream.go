package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/reactor"
)

// upstream is the PostgreSQL server behind the proxy, and the role and database
// of its URL, which the API uses by default.
type upstream struct {
	address  reactor.Address
	user     string
	database string
	login    *pgconn.Config
	url      databaseURL
}

// parseUpstream reads UPSTREAM_URL as libpq does and refuses what the proxy does
// not do: to connect to one of several servers.
func parseUpstream(u databaseURL) (upstream, error) {
	const name = variablePrefix + "UPSTREAM_URL"
	if u == "" {
		return upstream{}, unsetVariable("UPSTREAM_URL", &u)
	}
	config, err := pgconn.ParseConfig(string(u))
	if problem := fileProblem(err); problem != nil {
		return upstream{}, newConfigError("%s is %q: %v", name, u.String(), problem)
	}
	if err != nil {
		return upstream{}, newConfigError("%s is %q: expected %s", name, mask, u.expected())
	}
	for _, fallback := range config.Fallbacks {
		if fallback.Host != config.Host || fallback.Port != config.Port {
			return upstream{}, newConfigError("%s is %q: expected a single host", name, u.String())
		}
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	database := config.Database
	if database == "" {
		database = config.User
	}
	return upstream{reactor.Address{Network: network, Address: address}, config.User, database, config, u}, nil
}

// withPassword is the upstream with a password for its URL, if that has none.
func (u upstream) withPassword(password string) upstream {
	if u.login.Password == "" {
		u.login = u.login.Copy()
		u.login.Password = password
	}
	return u
}

// check logs in to the server directly, as its URL says. Where only the clients know
// passwords, it is enough that the server asks for one.
func (u upstream) check(ctx context.Context) error {
	conn, err := pgconn.ConnectConfig(ctx, u.login)
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok && failure.Code == "28P01" && u.login.Password == "" {
		return nil
	}
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// proxyURL leads to the upstream's database through a proxy at address, encrypted only
// if the proxy insists.
func (u upstream) proxyURL(address, password string, encrypted bool) string {
	mode := pool.SSLDisable
	if encrypted {
		mode = pool.SSLRequire
	}
	through := url.URL{
		Scheme: "postgres", User: url.User(u.user), Host: address, Path: "/" + u.database, RawQuery: "sslmode=" + mode.String(),
	}
	if password != "" {
		through.User = url.UserPassword(u.user, password)
	}
	return through.String()
}

// hostPort is the address as libpq names it: the host of a Unix-domain socket is
// its folder.
func (u upstream) hostPort() (host, port string) {
	return u.login.Host, strconv.Itoa(int(u.login.Port))
}

// socketPath is where PostgreSQL's clients look for the socket of a port.
func socketPath(dir folder, address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if _, err := strconv.Atoi(port); err != nil {
		return "", err
	}
	return string(dir) + "/.s.PGSQL." + port, nil
}
