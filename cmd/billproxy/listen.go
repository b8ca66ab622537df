package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/billproxy/billproxy/proxy"
)

// listenError turns the failure to listen on the address of a variable into a
// sentence.
func listenError(variable string, address listenAddress, err error) error {
	name := variablePrefix + variable
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s is taken by another program: end that program or set %s to another address", name, address, name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// checkTrust refuses to trust clients of other machines: with AUTH_TYPE trust
// whoever connects is who they say they are.
func checkTrust(ctx context.Context, c *config, authType proxy.AuthType) error {
	if authType != proxy.AuthTrust {
		return nil
	}
	host, _, err := net.SplitHostPort(string(c.Listen))
	if err != nil {
		return err
	}
	refusal := newConfigError("%sLISTEN is %q: expected a loopback address such as 127.0.0.1:6432, "+
		"because %sAUTH_TYPE trust, the default without passwords, lets in whoever connects", variablePrefix, string(c.Listen), variablePrefix)
	if host == "" {
		return refusal
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return newConfigError("%sLISTEN is %q: %v", variablePrefix, string(c.Listen), err)
	}
	for _, address := range addresses {
		if !address.Unmap().IsLoopback() {
			return refusal
		}
	}
	return nil
}
