package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
	"github.com/billproxy/billproxy/migrations"
	"github.com/billproxy/billproxy/proxy"
)

const (
	devFolder   = ".billproxy"
	devDatabase = "billing" // and the role that owns it
	devAPIKey   = "bp_test_dev"

	// devStopTimeout bounds the orderly shutdown of the private PostgreSQL.
	devStopTimeout = 10 * time.Second
)

// runDev runs everything on a private PostgreSQL, with sample data.
func runDev(ctx context.Context, e *environment) error {
	if err := checkDevConfig(e.config); err != nil {
		return err
	}
	if len(e.config.APIKeys) == 0 {
		e.config.APIKeys = keyList{devAPIKey}
	}
	if e.config.AuthFile == "" && !e.config.AuthType.set {
		e.config.AuthType = authType{true, proxy.AuthTrust} // whatever DATABASE_URL says
	}
	s, err := openSidecar(ctx, e.config, e.logger, e.logs, parts{proxy: true, api: true})
	if err != nil {
		return err
	}
	cluster, err := devpg.Start(ctx, devpg.Config{
		DataDir:  filepath.Join(devFolder, "postgres"),
		BinDir:   string(e.config.PGBin),
		Progress: func(message string) { fmt.Fprintln(e.stderr, message) },
	})
	if err != nil {
		s.close()
		return interrupted(ctx, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), devStopTimeout)
		defer cancel()
		cluster.Stop(ctx)
	}()
	url := databaseURL(cluster.SocketURL(devDatabase, devDatabase))
	if err := prepareDevDatabase(ctx, e, cluster, string(url)); err != nil {
		s.close()
		return interrupted(ctx, err)
	}
	if err := s.start(ctx, url); err != nil {
		s.close()
		return err
	}
	defer s.stop(ctx)
	sample, err := s.api.LoadSampleData(ctx)
	if err != nil {
		return interrupted(ctx, fmt.Errorf("load sample data: %w", err))
	}
	if err := printBanner(e, s, cluster, sample.InvoiceID); err != nil {
		return err
	}
	go func() {
		<-cluster.Done()
		// After an orderly end nobody reads it: failed has room.
		s.failed <- cluster.Err()
	}()
	return s.wait(ctx)
}

// interrupted hides the error of work that Ctrl-C cut short.
func interrupted(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		if errors.Is(err, context.Canceled) {
			return nil
		}
	default:
	}
	return err
}

// checkDevConfig refuses variables that name a database: dev has its own.
func checkDevConfig(c *config) error {
	given := c.DirectDatabaseURL != "" || c.APIDatabaseURL != "" || c.UpstreamURL != "" && !c.upstreamBorrowed
	if given {
		return newConfigError("dev runs a PostgreSQL of its own: unset %[1]sUPSTREAM_URL, %[1]sAPI_DATABASE_URL and "+
			"%[1]sDIRECT_DATABASE_URL, or use `billproxy serve`", variablePrefix)
	}
	return nil
}

// prepareDevDatabase makes the role and the database if they do not exist, and
// migrates. The role is an ordinary one, as in production.
func prepareDevDatabase(ctx context.Context, e *environment, cluster *devpg.Cluster, url string) error {
	conn, err := pgx.Connect(ctx, cluster.SocketURL(devpg.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to the private PostgreSQL: %w", err)
	}
	for _, step := range []struct{ statement, existsCode string }{
		{"CREATE ROLE " + devDatabase + " LOGIN", "42710"},
		{"CREATE DATABASE " + devDatabase + " OWNER " + devDatabase, "42P04"},
	} {
		_, err = conn.Exec(ctx, step.statement)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == step.existsCode {
			err = nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("prepare the private PostgreSQL: %w", err), conn.Close(ctx))
		}
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	_, err = migrations.Run(ctx, url, e.logger)
	return err
}

// printBanner says what to try. The commands work as they stand.
func printBanner(e *environment, s *sidecar, cluster *devpg.Cluster, invoiceID string) error {
	psql := "psql"
	if _, err := exec.LookPath(psql); err != nil {
		psql = filepath.Join(cluster.BinDir(), psql)
	}
	_, err := fmt.Fprintf(e.stdout, `
billproxy is ready. PostgreSQL %s keeps the data in %s. Ctrl-C stops everything. Try:

  %s 'postgres://%s@%s/%s' -c 'SELECT id, status, total FROM invoices'
  curl -u %s: http://%s/v1/invoices/%s
  curl http://%s/readyz        # or open http://%s/ in a browser: pools, clients, servers, live

`, cluster.MajorVersion(), cluster.DataDir(),
		psql, devDatabase, s.proxy.address, devDatabase,
		e.config.APIKeys[0], s.http.address(), invoiceID,
		s.admin.address(), s.admin.address())
	return err
}
