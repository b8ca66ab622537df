//go:build !386 && !s390x

package reactor

import (
	"io"
	"math"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

const (
	eventBatch = 512

	// wakeSlot and the slots below it mark events that are of no connection.
	wakeSlot = -1

	epollIn    = uint32(syscall.EPOLLIN)
	epollOut   = uint32(syscall.EPOLLOUT)
	epollEnded = uint32(syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR)
	epollEdge  = uint32(1 << 31) // EPOLLET
)

// epoll waits for descriptors, edge-triggered: each is registered once, pausing
// and resuming cost no system call, and the kernel does not look again at every
// descriptor it reported before.
//
// Calls that cannot block go to the kernel without telling the Go scheduler,
// which is only told when there is nothing to do.
type epoll struct {
	engine *Engine
	fd     int
	wakeFD int
	spare  bool // there are processors for other goroutines
	events [eventBatch]syscall.EpollEvent
	ready  int

	vigilance vigilance

	listeners []*epollListener // by wakeSlot-1-slot; nil when closed
}

func newEpoll(e *Engine) (poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	const flags = syscall.O_NONBLOCK | syscall.O_CLOEXEC // EFD_NONBLOCK | EFD_CLOEXEC
	wakeFD, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, flags, 0)
	if errno != 0 {
		syscall.Close(fd)
		return nil, os.NewSyscallError("eventfd2", errno)
	}
	p := &epoll{engine: e, fd: fd, wakeFD: int(wakeFD), spare: runtime.GOMAXPROCS(0) > 1}
	// Edge-triggered, the counter need never be read.
	if err := p.control(syscall.EPOLL_CTL_ADD, p.wakeFD, epollIn|epollEdge, wakeSlot, 0); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *epoll) locksThread() bool { return true }

func (p *epoll) close() {
	syscall.Close(p.fd)
	syscall.Close(p.wakeFD)
}

func (p *epoll) wake() {
	one := [8]byte{1}
	// It can only fail if the counter is full, and then the loop is awake.
	_, _ = rawCall(syscall.SYS_WRITE, p.wakeFD, one[:], 0)
}

func (p *epoll) control(operation, fd int, events uint32, slot int32, generation uint32) error {
	event := syscall.EpollEvent{Events: events, Fd: slot, Pad: int32(generation)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(operation),
		uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// look asks for events and waits for so many milliseconds at most. The scheduler is not
// told.
func (p *epoll) look(timeout uintptr) (n uintptr, errno syscall.Errno) {
	n, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.fd),
		uintptr(unsafe.Pointer(&p.events)), eventBatch, timeout, 0, 0)
	return n, errno
}

func (p *epoll) wait() error {
	n, errno := p.look(0)
	if n == 0 || errno == syscall.EINTR {
		if timeout := p.engine.timeout(); timeout != 0 && p.engine.mailbox.sleep() {
			n, errno = p.sleep(timeout)
			p.engine.mailbox.awake()
		}
	}
	p.ready = 0
	switch errno {
	case 0:
		p.ready = int(n)
	case syscall.EINTR:
	default:
		return os.NewSyscallError("epoll_pwait", errno)
	}
	return nil
}

// sleep waits for events. While there is traffic the next is seldom far: for its first
// millisecond the scheduler is not told. If it were, its monitor would take the
// processor away after 20 µs, and poll every 20 µs for as long as it finds that to do,
// which at a few clients costs more than the work. A processor is left for other
// goroutines, and the signal with which the collector stops the world ends the wait.
func (p *epoll) sleep(timeout time.Duration) (n uintptr, errno syscall.Errno) {
	if p.spare {
		begin := time.Now()
		if n, errno = p.spin(begin, timeout); n != 0 || errno != 0 {
			return n, errno
		}
		n, errno = p.look(1)
		p.vigilance.slept(time.Since(begin))
		if n != 0 || errno != 0 {
			return n, errno
		}
		if timeout = p.engine.timeout(); timeout == 0 {
			return 0, 0
		}
	}
	n, _, errno = syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.fd),
		uintptr(unsafe.Pointer(&p.events)), eventBatch, milliseconds(timeout), 0, 0)
	return n, errno
}

// spin looks for events again and again while the vigilance lasts. Whoever else wants the
// processor gets it.
func (p *epoll) spin(begin time.Time, timeout time.Duration) (n uintptr, errno syscall.Errno) {
	if !p.vigilance.awake() || timeout > 0 && timeout < spinTime {
		return 0, 0
	}
	for waited := time.Duration(0); waited < spinTime; {
		_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
		n, errno = p.look(0)
		before := waited
		waited = time.Since(begin)
		switch {
		case waited-before > contended:
			p.vigilance.contended()
			return n, errno
		case n != 0 || errno != 0:
			p.vigilance.slept(waited)
			return n, errno
		}
	}
	p.vigilance.inVain()
	return 0, 0
}

// milliseconds rounds up, so that a timer is due when the wait for it is over.
// Negative stays so: no timeout.
func milliseconds(timeout time.Duration) uintptr {
	if timeout < 0 {
		return ^uintptr(0)
	}
	return uintptr(min((timeout+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
}

// lookup returns nil for a connection that has been closed, whoever has its
// slot now.
func (p *epoll) lookup(slot int32, generation uint32) *conn {
	if c := p.engine.conns[slot]; c != nil && c.generation == generation {
		return c
	}
	return nil
}

func (p *epoll) dispatch() {
	for i := range p.events[:p.ready] {
		event := &p.events[i]
		if event.Fd < 0 {
			if event.Fd < wakeSlot {
				p.listeners[wakeSlot-1-event.Fd].accept()
			}
			continue
		}
		// An event may be stale: its connection may have been closed by the
		// handler of one before it, and a process being forked may hold the
		// descriptor open a little longer than we do.
		if c := p.lookup(event.Fd, uint32(event.Pad)); c != nil {
			c.ready(event.Events&epollIn != 0, event.Events&epollOut != 0, event.Events&epollEnded != 0)
		}
	}
}

// prepare takes the descriptor out of a connection of package net.
func (p *epoll) prepare(t transport) (transport, error) {
	defer t.net.Close()
	fd, err := duplicate(t.net.(syscall.Conn))
	return transport{fd: fd, remote: t.remote}, err
}

func (p *epoll) discard(t transport) { syscall.Close(t.fd) }

func (p *epoll) attach(t transport) (*conn, error) {
	s := &epollSocket{poller: p, fd: t.fd, events: epollIn | epollEdge | uint32(syscall.EPOLLRDHUP)}
	s.conn.socket = s
	s.conn.remote = t.remote
	s.conn.flags = writeReady
	if t.remote.IsValid() {
		s.events |= epollOut
	}
	p.engine.register(&s.conn)
	if err := p.control(syscall.EPOLL_CTL_ADD, s.fd, s.events, s.conn.slot, s.conn.generation); err != nil {
		s.conn.Abort()
		return nil, err
	}
	return &s.conn, nil
}

// epollSocket is a connection together with its descriptor, in one piece of
// memory.
type epollSocket struct {
	conn   conn
	poller *epoll
	fd     int
	events uint32
}

func (s *epollSocket) read(b []byte) (int, error) {
	n, errno := rawCall(syscall.SYS_RECVFROM, s.fd, b, syscall.MSG_DONTWAIT)
	switch {
	case errno == syscall.EAGAIN:
		return 0, errWouldBlock
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *epollSocket) write(b []byte) (int, error) {
	n, errno := rawCall(syscall.SYS_SENDTO, s.fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	switch errno {
	case 0:
		return n, nil
	case syscall.EAGAIN:
		return 0, errWouldBlock
	default:
		return 0, os.NewSyscallError("write", errno)
	}
}

// awaitWrite has something to do for Unix-domain sockets only. TCP reports room
// only after a write found none, so EPOLLOUT can stay registered; a Unix-domain
// socket reports it whenever the peer reads, a wake-up for every reply.
func (s *epollSocket) awaitWrite(waits bool) {
	if s.conn.remote.IsValid() {
		return
	}
	events := s.events
	if waits {
		events |= epollOut
	}
	if err := s.poller.control(syscall.EPOLL_CTL_MOD, s.fd, events, s.conn.slot, s.conn.generation); err != nil {
		panic("BUG: " + err.Error())
	}
}

// closeWrite fails only for a connection that has broken, which a read reports.
func (s *epollSocket) closeWrite() { _ = syscall.Shutdown(s.fd, syscall.SHUT_WR) }

func (s *epollSocket) failure() error {
	code, err := syscall.GetsockoptInt(s.fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil || code == 0 {
		return io.EOF
	}
	return os.NewSyscallError("read", syscall.Errno(code))
}

func (s *epollSocket) close(drop bool) {
	if drop {
		// A reset, so that the kernel does not go on sending either, and the
		// peer does not take a cut message for the end of the stream.
		_ = syscall.SetsockoptLinger(s.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}
	syscall.Close(s.fd)
}

func (s *epollSocket) local() netip.AddrPort {
	address, err := syscall.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addressOfSockaddr(address)
}

// rawCall is a read or write of a non-blocking descriptor.
func rawCall(number uintptr, fd int, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b[0])),
			uintptr(len(b)), flags, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// duplicate returns a descriptor of the same socket that package net does not
// know.
func duplicate(from syscall.Conn) (fd int, err error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return -1, err
	}
	var errno syscall.Errno
	err = raw.Control(func(original uintptr) {
		var duplicated uintptr
		duplicated, _, errno = syscall.Syscall(syscall.SYS_FCNTL, original, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(duplicated)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}
