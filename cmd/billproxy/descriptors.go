package main

import (
	"fmt"
	"log/slog"
	"syscall"
)

// spareDescriptors is what the process opens besides clients and servers.
const spareDescriptors = 256

// raiseDescriptorLimit lets the process open as many connections as it is
// configured for. Go has raised the soft limit to the hard one; only root can
// raise that.
func raiseDescriptorLimit(c *config, logger *slog.Logger) error {
	needed := uint64(c.MaxClientConn) + uint64(c.MaxDBConnections) + spareDescriptors
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= needed {
		return nil
	}
	raised := limit
	raised.Cur, raised.Max = needed, max(limit.Max, needed)
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return nil
	}
	logger.Warn("the limit of open files is too low for all clients",
		"limit", limit.Cur, "needed", needed, "max_client_conn", int(c.MaxClientConn))
	return nil
}
