package wire

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// maxMessageBytes bounds what is believed of the length of a message.
const maxMessageBytes = 64 << 20

// Client is a connection to PostgreSQL or to a proxy. Its methods may be called by
// one goroutine at a time.
type Client struct {
	// Static after Dial.
	conn     net.Conn
	frontend *pgproto3.Frontend
	patience time.Duration

	// What the server has told.
	PID        uint32
	Key        []byte
	Parameters map[string]string
	TxStatus   byte // in the last ReadyForQuery
}

// Dial connects and says nothing yet. No write and no wait for a message takes
// longer than patience.
func Dial(ctx context.Context, network, address string, patience time.Duration) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, frontend: pgproto3.NewFrontend(conn, conn), patience: patience, Parameters: map[string]string{}}
	c.frontend.SetMaxBodyLen(maxMessageBytes)
	return c, nil
}

// Encode encodes messages.
func Encode(messages ...pgproto3.FrontendMessage) ([]byte, error) {
	var b []byte
	for _, message := range messages {
		var err error
		if b, err = message.Encode(b); err != nil {
			return nil, fmt.Errorf("encode %T: %w", message, err)
		}
	}
	return b, nil
}

// Send sends messages in one write.
func (c *Client) Send(messages ...pgproto3.FrontendMessage) error {
	b, err := Encode(messages...)
	if err != nil {
		return err
	}
	return c.Write(b)
}

// Write sends bytes.
func (c *Client) Write(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// Receive reads a message, which is valid until the next call.
func (c *Client) Receive() (pgproto3.BackendMessage, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return nil, err
	}
	message, err := c.frontend.Receive()
	switch m := message.(type) {
	case *pgproto3.BackendKeyData:
		c.PID, c.Key = m.ProcessID, slices.Clone(m.SecretKey)
	case *pgproto3.ParameterStatus:
		c.Parameters[m.Name] = m.Value
	case *pgproto3.ReadyForQuery:
		c.TxStatus = m.TxStatus
	}
	return message, err
}

// Cancel asks, on a connection of its own, to stop what the client runs, and returns
// when the server has closed that connection.
func (c *Client) Cancel(ctx context.Context) error {
	canceler, err := Dial(ctx, c.conn.RemoteAddr().Network(), c.conn.RemoteAddr().String(), c.patience)
	if err != nil {
		return err
	}
	defer canceler.Close()
	if err := canceler.Send(&pgproto3.CancelRequest{ProcessID: c.PID, SecretKey: c.Key}); err != nil {
		return err
	}
	message, err := canceler.Receive()
	if err == nil {
		return fmt.Errorf("a cancel request was answered with %T", message)
	}
	if IsEnd(err) {
		return nil
	}
	return err
}

// Close closes the connection without a word.
func (c *Client) Close() error { return c.conn.Close() }

// Vanish closes the connection as a machine that is switched off: with a reset.
func (c *Client) Vanish() error {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return c.conn.Close()
}
