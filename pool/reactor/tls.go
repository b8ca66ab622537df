package reactor

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// TLSRole is the side of a TLS handshake that we are on.
type TLSRole uint8

// The roles.
const (
	TLSServer TLSRole = iota
	TLSClient
)

const (
	// sealBytes is how much is encrypted for one write to the socket below: four
	// records.
	sealBytes = 64 << 10

	// maxSealedBytes bounds what waits encrypted. Beyond sealBytes these are only
	// answers to key updates, which a peer asks for and does not read.
	maxSealedBytes = 2 * sealBytes
)

// tlsSocket is the socket of an encrypted connection: it makes records of what is
// written to the socket below and plain text of what is read. The handshake runs on
// a goroutine, all else on the loop. Plain text is encrypted when it is about to be
// sent, so what is queued can still be retracted.
type tlsSocket struct {
	conn      *conn
	below     socket
	tls       *tls.Conn
	handshake *handshake // nil when it is over
	input     buffer     // received and not yet taken by tls
	sealed    buffer     // to be sent before anything else
	dry       bool       // below has nothing more for the read at hand
	ended     bool       // the peer has said that nothing more comes
	endSealed bool       // we have
}

// StartTLS implements Conn.
func (c *conn) StartTLS(role TLSRole, config *tls.Config, done func(tls.ConnectionState)) {
	if c.flags&(closing|closed) != 0 {
		return
	}
	if c.flags&encrypted != 0 {
		panic("BUG: StartTLS of an encrypted connection")
	}
	s := &tlsSocket{conn: c, below: c.socket, sealed: c.out}
	s.handshake = newHandshake(s, role, done)
	if role == TLSClient {
		s.tls = tls.Client(tlsWire{s}, config)
	} else {
		s.tls = tls.Server(tlsWire{s}, config)
	}
	c.socket, c.out = s, buffer{}
	c.flags |= encrypted | awaitsTLS
	c.unread()
	if role == TLSClient {
		c.engine.handshakes.start(s.handshake)
	}
	if c.flags&readReady != 0 {
		c.engine.readable.add(c)
	}
}

// secure is the socket of an encrypted connection.
func (c *conn) secure() *tlsSocket { return c.socket.(*tlsSocket) }

// unread gives the bytes that the handler has left to a handshake that has begun:
// they are the first that the peer has encrypted.
func (c *conn) unread() {
	if c.flags&(awaitsTLS|inHandler) != awaitsTLS || c.in.len() == 0 {
		return
	}
	s := c.secure()
	s.handshake.feed(c.in.view())
	c.in.release(&c.engine.buffers)
	c.engine.handshakes.start(s.handshake)
}

// receive reads what the handshake needs. What comes behind it may wait.
func (s *tlsSocket) receive() {
	c := s.conn
	if !c.engine.handshakes.start(s.handshake) {
		return
	}
	for c.flags&readReady != 0 {
		buffer := c.engine.scratch[headroomBytes:]
		buffer = buffer[:min(len(buffer), s.handshake.room())]
		if len(buffer) == 0 {
			return
		}
		n, err := s.below.read(buffer)
		switch {
		case err == nil:
			s.handshake.feed(buffer[:n])
			if n < len(buffer) && c.flags&hungUp == 0 {
				c.flags &^= readReady
			}
			continue
		case c.broken != nil:
			err = c.broken
		case errors.Is(err, errWouldBlock):
			c.flags &^= readReady | hungUp
			return
		}
		c.flags &^= readReady
		s.handshake.end(err)
	}
}

// established goes on when the handshake has ended, one way or the other.
func (s *tlsSocket) established(h *handshake, state tls.ConnectionState, err error) {
	c := s.conn
	s.handshake = nil
	if c.flags&closed != 0 {
		return
	}
	c.flags &^= awaitsTLS
	s.input.append(&c.engine.buffers, h.input)
	// Records, or the end, may have come with the last of the handshake.
	c.flags |= readReady
	c.engine.readable.add(c)
	if err != nil {
		c.out.release(&c.engine.buffers) // it cannot be sent any more
		handler := c.handler
		c.Close()
		handler.OnClose(fmt.Errorf("TLS handshake: %w", err))
		return
	}
	c.markDirty()
	h.done(state)
}

// read implements socket.
func (s *tlsSocket) read(b []byte) (n int, err error) {
	c := s.conn
	switch {
	case s.ended:
		return 0, io.EOF
	case c.flags&closing != 0:
		return s.below.read(b) // to be discarded
	}
	s.dry = false
	for n < len(b) && err == nil {
		var m int
		m, err = s.tls.Read(b[n:])
		n += m
	}
	if s.sealed.len() > maxSealedBytes {
		return 0, errors.New("TLS: the peer asks for key updates and does not read")
	}
	if s.sealed.len() > 0 {
		c.markDirty()
	}
	if errors.Is(err, errNoRecord) {
		err = errWouldBlock
	}
	s.ended = errors.Is(err, io.EOF)
	if n == 0 {
		return 0, err
	}
	if err != nil && !errors.Is(err, errWouldBlock) {
		c.flags |= hungUp // the next read reports it
	}
	return n, nil
}

// write implements socket.
func (s *tlsSocket) write(b []byte) (n int, err error) {
	for {
		if err := s.push(); err != nil {
			if errors.Is(err, errWouldBlock) && n > 0 {
				err = nil
			}
			return n, err
		}
		if n == len(b) || s.handshake != nil {
			return n, nil
		}
		m, err := s.tls.Write(b[n:min(len(b), n+sealBytes)])
		n += m
		if err != nil {
			return n, err
		}
	}
}

// push sends what is sealed.
func (s *tlsSocket) push() error {
	for s.sealed.len() > 0 {
		n, err := s.below.write(s.sealed.view())
		if err != nil {
			return err
		}
		s.sealed.consume(&s.conn.engine.buffers, n)
	}
	return nil
}

// sealEnd tells the peer, once, that nothing more comes, and reports whether that
// remains to be sent.
func (s *tlsSocket) sealEnd() bool {
	if s.endSealed || s.handshake != nil || s.conn.broken != nil {
		return false
	}
	s.endSealed = true
	_ = s.tls.CloseWrite() // it can only fail for want of a handshake
	return s.sealed.len() > 0
}

// sayEnd does so at once, and reports whether the socket below has taken it.
func (s *tlsSocket) sayEnd() bool { return !s.sealEnd() || s.push() == nil }

func (s *tlsSocket) awaitWrite(waits bool) { s.below.awaitWrite(waits) }

func (s *tlsSocket) closeWrite() { s.below.closeWrite() }

func (s *tlsSocket) failure() error { return s.below.failure() }

func (s *tlsSocket) local() netip.AddrPort { return s.below.local() }

func (s *tlsSocket) close(drop bool) {
	if s.handshake != nil {
		s.conn.engine.handshakes.cancel(s.handshake)
	}
	s.input.release(&s.conn.engine.buffers)
	s.below.close(drop)
}

// errNoRecord is what crypto/tls gets when no bytes are at hand. It is temporary, so
// that the next read goes on where this one stopped.
var errNoRecord error = noRecordError{}

type noRecordError struct{}

func (noRecordError) Error() string   { return "no whole TLS record at hand" }
func (noRecordError) Timeout() bool   { return true }
func (noRecordError) Temporary() bool { return true }

// tlsWire is a tlsSocket as crypto/tls sees it: during the handshake it blocks, after
// that it is used on the loop and never does.
type tlsWire struct{ socket *tlsSocket }

// Read implements net.Conn.
func (w tlsWire) Read(b []byte) (int, error) {
	s := w.socket
	if s.handshake != nil {
		return s.handshake.read(b)
	}
	if s.input.len() > 0 {
		n := copy(b, s.input.view())
		s.input.consume(&s.conn.engine.buffers, n)
		return n, nil
	}
	if s.dry {
		return 0, errNoRecord
	}
	n, err := s.below.read(b)
	switch {
	case errors.Is(err, errWouldBlock):
		s.dry = true
		return 0, errNoRecord
	case err != nil:
		return 0, err
	}
	// As in conn.receive, a short count says that nothing is left.
	s.dry = n < len(b) && s.conn.flags&hungUp == 0
	return n, nil
}

// Write implements net.Conn.
func (w tlsWire) Write(b []byte) (int, error) {
	s := w.socket
	if s.handshake != nil {
		return s.handshake.write(b)
	}
	s.sealed.append(&s.conn.engine.buffers, b)
	return len(b), nil
}

// Close implements net.Conn.
func (tlsWire) Close() error { return nil }

// LocalAddr implements net.Conn.
func (tlsWire) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (w tlsWire) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(w.socket.conn.remote) }

// SetDeadline implements net.Conn.
func (tlsWire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (tlsWire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (tlsWire) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = tlsWire{}
