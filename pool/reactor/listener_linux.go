//go:build !386 && !s390x

package reactor

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// acceptBatch bounds the connections accepted in one batch of events: a burst of
// new clients must not hold up those that are working.
const acceptBatch = 64

// Keepalive as package net sets it on connections it dials.
const (
	keepAliveSeconds = 15
	keepAliveCount   = 9
)

// epollListener accepts without package net: its sockets never meet the poller
// of the Go runtime.
type epollListener struct {
	listener *Listener
	poller   *epoll
	fd       int
	slot     int32
	retry    Timer
}

func (p *epoll) listen(l *Listener, source net.Listener) error {
	defer source.Close()
	fd, err := duplicate(source.(syscall.Conn))
	if err != nil {
		return err
	}
	if _, isTCP := source.(*net.TCPListener); isTCP {
		// Linux hands these on to the accepted sockets: no call for each.
		for _, option := range [...]struct{ level, name, value int }{
			{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
			{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, keepAliveSeconds},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, keepAliveSeconds},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAliveCount},
		} {
			if err := syscall.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
				syscall.Close(fd)
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	a := &epollListener{listener: l, poller: p, fd: fd, slot: int32(wakeSlot - 1 - len(p.listeners))}
	a.retry.Fire = func() { a.watch(epollIn) }
	if err := p.control(syscall.EPOLL_CTL_ADD, fd, epollIn, a.slot, 0); err != nil {
		syscall.Close(fd)
		return err
	}
	p.listeners = append(p.listeners, a)
	l.source = a
	return nil
}

// watch sets the events of the listener, which is level-triggered: what one
// batch leaves is reported to the next.
func (a *epollListener) watch(events uint32) {
	if err := a.poller.control(syscall.EPOLL_CTL_MOD, a.fd, events, a.slot, 0); err != nil {
		panic("BUG: " + err.Error())
	}
}

func (a *epollListener) accept() {
	for range acceptBatch {
		if a.fd < 0 {
			return // closed by a handler
		}
		fd, from, err := syscall.Accept4(a.fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.listener.accepted(transport{fd: fd, remote: addressOfSockaddr(from)})
		case syscall.EAGAIN:
			return
		case syscall.EINTR, syscall.ECONNABORTED, syscall.EPROTO:
		default:
			a.listener.failed(os.NewSyscallError("accept4", err))
			a.watch(0)
			a.poller.engine.SetTimer(&a.retry, a.poller.engine.now+acceptPause)
			return
		}
	}
}

func (a *epollListener) close() {
	a.poller.engine.StopTimer(&a.retry)
	syscall.Close(a.fd)
	a.fd = -1
}

func addressOfSockaddr(from syscall.Sockaddr) netip.AddrPort {
	switch from := from.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(from.Addr).Unmap(), uint16(from.Port))
	default:
		return netip.AddrPort{}
	}
}

// restrictSocketFile gives a socket its mode before it is bound, so that the
// file is never, even for a moment, more open than asked.
func restrictSocketFile(mode fs.FileMode) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if outer := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(mode.Perm())) }); outer != nil {
			return outer
		}
		return os.NewSyscallError("fchmod", err)
	}
}
