package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/billproxy/billproxy/test/rig"
)

// The few messages an idle client needs, so that thousands of them cost the benchmark a
// socket each and little more.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html

// protocolVersion is 3.0.
const protocolVersion = 3 << 16

// maxMessageBytes bounds what a server may send an idle client.
const maxMessageBytes = 64 << 10

func appendStartup(b []byte, user, database string) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, protocolVersion)
	for _, text := range []string{"user", user, "database", database, ""} {
		b = append(append(b, text...), 0)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

func appendQuery(b []byte, text string) []byte {
	b = append(b, 'Q')
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(text)+1))
	return append(append(b, text...), 0)
}

// readUntilReady discards messages to the next ReadyForQuery; an ErrorResponse is an
// error.
func readUntilReady(r *bufio.Reader) error {
	for {
		header := make([]byte, 5)
		if _, err := io.ReadFull(r, header); err != nil {
			return err
		}
		length := int(binary.BigEndian.Uint32(header[1:])) - 4
		if length < 0 || length > maxMessageBytes {
			return fmt.Errorf("message %q of %d bytes: expected at most %d", header[0], length, maxMessageBytes)
		}
		if _, err := r.Discard(length); err != nil {
			return err
		}
		switch header[0] {
		case 'Z':
			return nil
		case 'E':
			return errors.New("the server answered with an error")
		}
	}
}

// logInTimeout bounds a login and its query.
const logInTimeout = 30 * time.Second

// logIn opens a connection on which one query has been answered.
func logIn(address, query string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, logInTimeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(logInTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	reader := bufio.NewReaderSize(conn, 1<<10)
	for _, message := range [][]byte{appendStartup(nil, rig.User, rig.Database), appendQuery(nil, query)} {
		_, err = conn.Write(message)
		if err == nil {
			err = readUntilReady(reader)
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}
