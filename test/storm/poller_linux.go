package main

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// The loop does without package net: on a machine that clients, pooler and server share,
// it would cost several times what they do.

// sysEpollPwait2 is the number of a system call that package syscall does not know, the
// same on every architecture. Other than epoll_wait it sleeps for less than 1 ms.
// See https://man7.org/linux/man-pages/man2/epoll_pwait2.2.html
const sysEpollPwait2 = 441

// poller tells which sockets are ready.
type poller struct {
	epoll  int
	events [512]syscall.EpollEvent
}

// readiness is what happened to a socket. It is told once.
type readiness struct {
	fd     int
	hangUp bool // the other side has closed, or the connection is broken
}

func newPoller() (*poller, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{epoll: epoll}, nil
}

func (p *poller) close() { _ = syscall.Close(p.epoll) }

// add watches a socket until it is closed.
func (p *poller) add(fd int) error {
	const edge = 1 << 31 // EPOLLET, which package syscall has as a negative number
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.epoll, syscall.EPOLL_CTL_ADD, fd, &event))
}

// wait appends to ready what happens within the timeout.
func (p *poller) wait(timeout time.Duration, ready []readiness) ([]readiness, error) {
	limit := syscall.NsecToTimespec(int64(max(timeout, 0)))
	n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(p.epoll), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 && errno != syscall.EINTR {
		return nil, os.NewSyscallError("epoll_pwait2", errno)
	}
	if errno == 0 {
		for _, event := range p.events[:n] {
			ready = append(ready, readiness{
				int(event.Fd), event.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0,
			})
		}
	}
	return ready, nil
}

// connect begins a connection to a port of this machine and does not wait for it.
func connect(port int) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		_ = syscall.Close(fd) // the first error counts
		return 0, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// connectError is why a connection could not be made, nil if it was.
func connectError(fd int) error {
	code, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err == nil && code != 0 {
		err = syscall.Errno(code)
	}
	return os.NewSyscallError("connect", err)
}

// threadCPUTime is the CPU time that the calling thread has used.
func threadCPUTime() (time.Duration, error) {
	const rusageThread = 1
	var usage syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &usage); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
