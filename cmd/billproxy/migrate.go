package main

import (
	"context"
	"fmt"

	"github.com/billproxy/billproxy/migrations"
)

// runMigrate brings the database up to the schema this program knows.
func runMigrate(ctx context.Context, e *environment) error {
	direct := e.config.DirectDatabaseURL
	if direct == "" {
		direct = e.config.UpstreamURL
	}
	if direct == "" {
		return unsetVariable("DIRECT_DATABASE_URL", &direct)
	}
	applied, err := migrations.Run(ctx, string(direct), e.logger)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "migrations applied: %d\n", applied)
	return err
}
