package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// The database of a benchmark and the user of every connection.
const (
	Database = "bench"
	User     = devpg.Superuser
)

// Config says which PostgreSQL to run.
type Config struct {
	PGBin    string            // folder of its programs; empty searches
	Settings map[string]string // besides the defaults
	Progress func(format string, args ...any)
}

// Rig is a private PostgreSQL and a folder for what runs before it. It belongs to the
// goroutine of main.
type Rig struct {
	// Static.
	Dir     string // of files; every user may read it
	Cluster *devpg.Cluster
	Admin   *pgx.Conn // a direct connection to Database

	say func(format string, args ...any)
}

// New starts PostgreSQL and makes the database.
func New(ctx context.Context, c Config) (*Rig, error) {
	// First, so that every child inherits it.
	if err := raiseFileLimit(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "billproxy-bench-")
	if err != nil {
		return nil, err
	}
	r := &Rig{Dir: dir, say: c.Progress}
	// PostgreSQL and PgBouncer may be another user than we are.
	err = os.Chmod(dir, 0o755)
	if err == nil {
		err = r.start(ctx, c)
	}
	if err != nil {
		r.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context, c Config) error {
	var err error
	r.Cluster, err = devpg.Start(ctx, devpg.Config{
		DataDir:  filepath.Join(r.Dir, "data"),
		BinDir:   cmp.Or(c.PGBin, os.Getenv("BILLPROXY_PG_BIN")),
		Settings: c.Settings,
		Progress: func(message string) { r.say("%s", message) },
	})
	if err != nil {
		return err
	}
	admin, err := pgx.Connect(ctx, r.Cluster.URL(User, "postgres"))
	if err != nil {
		return err
	}
	_, err = admin.Exec(ctx, "CREATE DATABASE "+Database)
	if err = errors.Join(err, admin.Close(ctx)); err != nil {
		return err
	}
	r.Admin, err = pgx.Connect(ctx, r.Cluster.URL(User, Database))
	return err
}

// Close ends PostgreSQL and removes every file. The poolers have been stopped before.
func (r *Rig) Close(ctx context.Context) {
	if r.Admin != nil {
		_ = r.Admin.Close(ctx) // the server ends next
	}
	if r.Cluster != nil {
		r.Cluster.Stop(ctx)
		if err := os.RemoveAll(r.Cluster.DataDir()); err != nil {
			r.say("%v", err)
		}
	}
	if err := os.RemoveAll(r.Dir); err != nil {
		r.say("%v", err)
	}
}

// ServerCPUTime is the CPU time that PostgreSQL has used, all its processes together.
func (r *Rig) ServerCPUTime() (time.Duration, error) { return familyCPUTime(r.Cluster.PID()) }

// ServerCredential is the user that PostgreSQL's processes run as, nil if that is ours.
func (r *Rig) ServerCredential() (*syscall.Credential, error) {
	owner, err := os.Stat(r.Cluster.DataDir())
	if err != nil {
		return nil, err
	}
	if stat, ok := owner.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
	}
	return nil, nil
}

// raiseFileLimit makes room for the sockets of thousands of clients, here and in our
// children.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	// Set even if nothing changes: otherwise children get back the lower limit that we
	// were started with.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", limit.Max, err)
	}
	return nil
}
