package main

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/test/launch"
)

// stopPatience bounds the end of a proxy, whose clients have gone by then.
const stopPatience = 30 * time.Second

// place is where a suite runs: a private PostgreSQL of its own, and unless the run is
// direct a proxy in front of it.
type place struct {
	dir     string // of the place alone; the server may read and enter it
	cluster *devpg.Cluster
	proxy   *launch.Proxy // nil: direct
}

// newPlace starts a PostgreSQL, with changes of its settings.
func (r *runner) newPlace(ctx context.Context, settings map[string]string) (*place, error) {
	dir, err := os.MkdirTemp("", "billproxy-conformance-")
	if err != nil {
		return nil, err
	}
	// The server may be another user than we are.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	fast := map[string]string{
		"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200",
	}
	maps.Copy(fast, settings)
	cluster, err := devpg.Start(ctx, devpg.Config{
		DataDir: filepath.Join(dir, "data"), BinDir: r.server.binDir, Settings: fast, Progress: r.say,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &place{dir: dir, cluster: cluster}, nil
}

// addProxy puts a proxy in front of the server: from then on the place is not direct.
func (p *place) addProxy(ctx context.Context, r *runner, environment map[string]string) error {
	patient := map[string]string{"QUERY_WAIT_TIMEOUT": "10s"} // the machine is busy
	maps.Copy(patient, environment)
	proxy, err := launch.StartProxy(ctx, r.options.billproxy, p.cluster, patient)
	p.proxy = proxy
	return err
}

// address is where clients connect.
func (p *place) address() (host, port string) {
	address := p.cluster.TCPAddress()
	if p.proxy != nil {
		address = p.proxy.Address
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return host, port
}

// end stops the proxy and the server. It reports what the proxy should not have logged.
func (p *place) end(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	if p.proxy != nil {
		err = errors.Join(p.proxy.Stop(stopPatience), p.proxy.Log.Problem())
	}
	p.cluster.Stop(ctx)
	return errors.Join(err, os.RemoveAll(p.cluster.DataDir()), os.RemoveAll(p.dir))
}

// sql runs statements on the server, not through the proxy, as its superuser.
func (p *place) sql(ctx context.Context, database string, statements ...string) error {
	var arguments []string
	for _, statement := range statements {
		arguments = append(arguments, "-c", statement)
	}
	return p.psql(ctx, database, p.dir, arguments...)
}

// psql runs psql in a folder, as sql does.
func (p *place) psql(ctx context.Context, database, dir string, arguments ...string) error {
	program := filepath.Join(p.cluster.BinDir(), "psql")
	arguments = append([]string{"-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", p.cluster.URL(devpg.Superuser, database)}, arguments...)
	return run(command(ctx, dir, nil, program, arguments...))
}
