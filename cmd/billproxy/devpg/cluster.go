package devpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Superuser is the database superuser of every cluster.
const Superuser = "postgres"

// maxSocketDirBytes keeps the path of the socket, "/.s.PGSQL.12345" appended,
// within the 103 bytes that every Unix allows.
const maxSocketDirBytes = 103 - len("/.s.PGSQL.12345")

// Cluster is a running PostgreSQL. Its methods may be called by one goroutine
// at a time.
type Cluster struct {
	// Static after Start.
	dataDir       string
	programs      programs
	account       account
	settings      map[string]string
	socketDir     string
	ownsSocketDir bool
	port          int

	// The run at hand, replaced by Restart.
	server *server
}

// prepareSocketDir takes the data directory, which is private already, or where
// its path is too long for a socket a private folder for temporary files.
func (c *Cluster) prepareSocketDir() error {
	if len(c.dataDir) <= maxSocketDirBytes {
		c.socketDir = c.dataDir
		return nil
	}
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, "billproxy-")
		if err != nil {
			return err
		}
		c.socketDir, c.ownsSocketDir = dir, true
		if err := c.account.own(dir); err != nil {
			c.removeSocketDir()
			return err
		}
		if len(dir) <= maxSocketDirBytes {
			return nil
		}
		c.removeSocketDir()
	}
	return fmt.Errorf("no folder short enough for a Unix-domain socket: set TMPDIR to one of at most %d bytes",
		maxSocketDirBytes-len("/billproxy-1234567890"))
}

func (c *Cluster) removeSocketDir() {
	if c.ownsSocketDir {
		_ = os.RemoveAll(c.socketDir)
	}
}

func (c *Cluster) startOnFreePort(ctx context.Context) error {
	err := errPortTaken
	for attempt := 0; attempt < 5 && errors.Is(err, errPortTaken); attempt++ {
		if c.port, err = freePort(ctx); err != nil {
			return err
		}
		err = c.start(ctx)
	}
	return err
}

// freePort finds a port below those that systems give to outgoing connections,
// so that a restart finds it free again. Somebody may take it at any time.
func freePort(ctx context.Context) (int, error) {
	var err error
	for range 50 {
		port := 15432 + rand.IntN(16000)
		var listener net.Listener
		listener, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port for PostgreSQL: %w", err)
}

func (c *Cluster) start(ctx context.Context) error {
	if err := clearLockFile(ctx, c.dataDir); err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": `"` + strings.ReplaceAll(c.socketDir, `"`, `""`) + `"`,
		"log_line_prefix":         "%m [%p] ", // lastWords reads it
		"logging_collector":       "off",
	}
	maps.Copy(settings, c.settings)
	args := []string{"-D", c.dataDir}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(c.programs.binDir, "postgres"), args...)
	c.account.apply(cmd, c.dataDir)
	cmd.Env = serverEnvironment()
	server, err := startServer(ctx, cmd, c.dataDir)
	if err != nil {
		return err
	}
	c.server = server
	return nil
}

// URL is a connection URL over TCP. The user and the database need not exist
// yet; Superuser and the database "postgres" always do.
func (c *Cluster) URL(user, database string) string {
	return c.url(user, c.TCPAddress(), database, url.Values{"sslmode": {"disable"}})
}

// SocketURL is URL over the Unix-domain socket.
func (c *Cluster) SocketURL(user, database string) string {
	return c.url(user, "", database, url.Values{
		"host": {c.socketDir}, "port": {strconv.Itoa(c.port)}, "sslmode": {"disable"},
	})
}

func (c *Cluster) url(user, host, database string, parameters url.Values) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: host, Path: "/" + database, RawQuery: parameters.Encode()}
	return u.String()
}

// TCPAddress is the "host:port" the server listens on.
func (c *Cluster) TCPAddress() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// SocketPath is the path of the Unix-domain socket, SocketDir its folder, which
// libpq takes as a host.
func (c *Cluster) SocketPath() string {
	return filepath.Join(c.socketDir, ".s.PGSQL."+strconv.Itoa(c.port))
}

// SocketDir is the folder of SocketPath.
func (c *Cluster) SocketDir() string { return c.socketDir }

// Port is the port of TCPAddress and the number in SocketPath. It outlives
// Restart.
func (c *Cluster) Port() int { return c.port }

// DataDir is where the data is, which is not Config.DataDir if that had to
// become a symbolic link.
func (c *Cluster) DataDir() string { return c.dataDir }

// BinDir is the folder of the programs in use: psql and pgbench among them.
func (c *Cluster) BinDir() string { return c.programs.binDir }

// MajorVersion is the version of the server, for instance "15".
func (c *Cluster) MajorVersion() string { return c.programs.major }

// PID is the process id of the postmaster.
func (c *Cluster) PID() int { return c.server.process.Pid }

// Done is closed when the server has ended, asked to or not. Restart replaces
// it.
func (c *Cluster) Done() <-chan struct{} { return c.server.done }

// Err says in a sentence why the server ended. It may be called once Done is
// closed.
func (c *Cluster) Err() error { return c.server.failure() }

// Stop ends the server by a fast shutdown: sessions are cut, data is written.
// When ctx ends first, the shutdown becomes an immediate one. The cluster can be
// restarted.
func (c *Cluster) Stop(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.server.signal(syscall.SIGQUIT) })
	defer stop()
	c.end(syscall.SIGINT)
}

// Kill ends the server as a crash does, by an immediate shutdown: sessions are
// cut and the next start recovers.
func (c *Cluster) Kill() { c.end(syscall.SIGQUIT) }

func (c *Cluster) end(signal syscall.Signal) {
	c.server.stop(signal)
	c.removeSocketDir()
}

// Restart stops the server if it runs and starts it on the same port and socket.
func (c *Cluster) Restart(ctx context.Context) error {
	c.Stop(ctx)
	if c.ownsSocketDir {
		if err := os.Mkdir(c.socketDir, 0o700); err != nil {
			return err
		}
		if err := c.account.own(c.socketDir); err != nil {
			return err
		}
	}
	return c.start(ctx)
}
