package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const healthcheckTimeout = 5 * time.Second

// runHealthcheck asks a running billproxy whether it is ready, for containers
// without any other program.
func runHealthcheck(ctx context.Context, e *environment) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	target := "http://" + reachable(string(e.config.AdminListen)) + "/readyz"
	if len(e.args) > 0 {
		target = e.args[0]
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", target, response.Status, strings.TrimSpace(string(answer)))
	}
	_, err = e.stdout.Write(answer)
	return err
}

// reachable is a listen address as a client on this machine uses it: all
// addresses include the loopback one.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch address, err := netip.ParseAddr(host); {
	case host == "", err == nil && address.IsUnspecified() && address.Is4():
		host = "127.0.0.1"
	case err == nil && address.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
