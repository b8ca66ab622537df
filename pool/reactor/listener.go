package reactor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// acceptPause is how long a listener that cannot accept, usually for want of
	// descriptors, leaves clients waiting before it tries again.
	acceptPause = 100 * time.Millisecond

	// staleProbeTimeout bounds the question whether anyone answers on a socket
	// file left behind.
	staleProbeTimeout = time.Second
)

// Listener accepts connections for an Engine. Its methods follow the rules of
// Loop.
type Listener struct {
	engine  *Engine
	accept  func(Conn) Handler
	address Address
	file    fs.FileInfo // of the socket file, nil without one
	source  interface{ close() }
	failing bool // accepting failed, which has been logged
}

// Listen accepts connections until the Listener or the engine is closed. accept
// returns the handler of each; with a nil handler the connection is closed once
// what accept wrote to it has been sent. ctx bounds the look-up of the address.
//
// A socket file on which nothing answers is replaced, and the file is removed
// when the Listener is closed. TCP connections have TCP_NODELAY and SO_KEEPALIVE.
func (e *Engine) Listen(ctx context.Context, address Address, accept func(Conn) Handler) (*Listener, error) {
	if e.ending {
		return nil, ErrStopped
	}
	l := &Listener{engine: e, accept: accept, address: address}
	source, err := l.open(ctx)
	if err == nil {
		err = e.poller.listen(l, source)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	e.listeners[l] = struct{}{}
	return l, nil
}

// Addr is the address bound, with the port that was given for port 0.
func (l *Listener) Addr() Address { return l.address }

// Close stops accepting. Connections accepted before stay open. Closing twice
// is allowed.
func (l *Listener) Close() {
	if _, open := l.engine.listeners[l]; !open {
		return
	}
	delete(l.engine.listeners, l)
	// The file first: a client that finds it gone knows better than one that is
	// refused. It may have been replaced by another process's.
	if l.file != nil {
		if now, err := os.Lstat(l.address.Address); err == nil && os.SameFile(l.file, now) {
			os.Remove(l.address.Address)
		}
	}
	l.source.close()
}

// open binds the address.
func (l *Listener) open(ctx context.Context) (net.Listener, error) {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // plain sockets: clients are near
	isFile := l.address.Network == "unix" && l.address.Address != "" && l.address.Address[0] != '@'
	if isFile {
		if err := removeStale(ctx, l.address.Address); err != nil {
			return nil, err
		}
		config.Control = restrictSocketFile(l.engine.options.UnixSocketMode)
	}
	source, err := config.Listen(ctx, l.address.Network, l.address.Address)
	if err != nil {
		return nil, err
	}
	l.address.Address = source.Addr().String()
	if isFile {
		source.(*net.UnixListener).SetUnlinkOnClose(false) // see Close
		err = os.Chmod(l.address.Address, l.engine.options.UnixSocketMode)
		if err == nil {
			l.file, err = os.Lstat(l.address.Address)
		}
		if err != nil {
			source.Close()
			os.Remove(l.address.Address)
			return nil, err
		}
	}
	return source, nil
}

// removeStale removes a socket file on which nothing answers.
func removeStale(ctx context.Context, path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if file.Mode().Type() != fs.ModeSocket {
		return errors.New("the file exists and is not a socket")
	}
	dialer := net.Dialer{Timeout: staleProbeTimeout}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return errors.New("another process answers there")
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return os.Remove(path)
	}
	return fmt.Errorf("look who answers there: %w", err)
}

// accepted makes a connection part of the loop and gives it a handler.
func (l *Listener) accepted(t transport) {
	c, err := l.engine.poller.attach(t)
	if err != nil {
		l.engine.options.Logger.Error("cannot take accepted connection", "listen", l.address.Address, "error", err)
		return
	}
	l.failing = false
	c.begin(l.accept(c))
}

// failed logs the first of a series of failures to accept.
func (l *Listener) failed(err error) {
	if !l.failing {
		l.failing = true
		l.engine.options.Logger.Error("cannot accept connections", "listen", l.address.Address, "error", err,
			"retry_after", acceptPause)
	}
}
