//go:build !linux

package main

import (
	"errors"
	"time"
)

// On other systems nothing is measured: measureAll refuses them.

var errNotLinux = errors.New("only Linux has epoll")

type poller struct{}

type readiness struct {
	fd     int
	hangUp bool
}

func newPoller() (*poller, error) { return nil, errNotLinux }

func (p *poller) close() {}

func (p *poller) add(int) error { return errNotLinux }

func (p *poller) wait(time.Duration, []readiness) ([]readiness, error) { return nil, errNotLinux }

func connect(int) (int, error) { return 0, errNotLinux }

func connectError(int) error { return errNotLinux }

func threadCPUTime() (time.Duration, error) { return 0, errNotLinux }
