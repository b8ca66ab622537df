package reactor

import (
	"net"
	"net/netip"
)

// transport is an established connection that is not part of the loop yet. It
// comes as a net.Conn; the epoll engine makes a descriptor of it.
type transport struct {
	net    net.Conn
	fd     int // of epoll; net is nil then
	remote netip.AddrPort
}

// addressOf is the zero AddrPort for anything but TCP.
func addressOf(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	port := tcp.AddrPort()
	return netip.AddrPortFrom(port.Addr().Unmap(), port.Port())
}
