package reactor

// FD is the descriptor of a connection of the epoll engine.
func FD(c Conn) int { return c.(*conn).socket.(*epollSocket).fd }

// Paused reports whether a listener of the epoll engine waits before it accepts
// again.
func Paused(l *Listener) bool { return l.source.(*epollListener).retry.Armed() }
