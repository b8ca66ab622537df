package e2e

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/test/wire"
)

// wireClient speaks the protocol message by message, or byte by byte.
type wireClient struct {
	conn     net.Conn
	frontend *pgproto3.Frontend

	// Told by the server at login.
	pid        uint32
	key        []byte
	parameters map[string]string

	asked  string                 // the last simple query, for complaints
	status byte                   // in the last ReadyForQuery
	failed pgproto3.ErrorResponse // the last one
}

// inTransaction reports whether the client is in a transaction, failed or not.
func (w *wireClient) inTransaction() bool { return w.status != 'I' }

// dialWire connects and says nothing yet.
func dialWire(t testing.TB, network, address string) *wireClient {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(patient(t), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w := &wireClient{conn: conn, frontend: pgproto3.NewFrontend(conn, conn), parameters: map[string]string{}}
	// A length that makes no sense must not be believed.
	w.frontend.SetMaxBodyLen(64 << 20)
	return w
}

// loginWire logs in to a database.
func loginWire(t testing.TB, address string, d *database, parameters ...string) *wireClient {
	t.Helper()
	w := dialWire(t, "tcp", address)
	w.startup(t, pgproto3.ProtocolVersion30, append([]string{"user", d.role, "database", d.name}, parameters...)...)
	for _, line := range w.until(t, "ReadyForQuery") {
		if strings.HasPrefix(line, "ErrorResponse") {
			t.Fatalf("login: %s", line)
		}
	}
	return w
}

// startup sends a startup message.
func (w *wireClient) startup(t testing.TB, version uint32, parameters ...string) {
	t.Helper()
	message := &pgproto3.StartupMessage{ProtocolVersion: version, Parameters: map[string]string{}}
	for i := 0; i < len(parameters); i += 2 {
		message.Parameters[parameters[i]] = parameters[i+1]
	}
	w.send(t, message)
}

// send sends messages in one write.
func (w *wireClient) send(t testing.TB, messages ...pgproto3.FrontendMessage) {
	t.Helper()
	w.write(t, encode(t, messages...))
}

func encode(t testing.TB, messages ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	b, err := wire.Encode(messages...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write sends bytes.
func (w *wireClient) write(t testing.TB, b []byte) {
	t.Helper()
	if err := errors.Join(w.conn.SetWriteDeadline(time.Now().Add(patience)), writeAll(w.conn, b)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// query sends a simple query.
func (w *wireClient) query(t testing.TB, sql string) {
	t.Helper()
	w.asked = sql
	w.send(t, &pgproto3.Query{String: sql})
}

// ask sends a simple query and returns what answers it, up to ReadyForQuery.
func (w *wireClient) ask(t testing.TB, sql string) []string {
	t.Helper()
	w.query(t, sql)
	return w.until(t, "ReadyForQuery")
}

// until reads up to a message of that type and returns what came in words.
func (w *wireClient) until(t testing.TB, messageType string) []string {
	t.Helper()
	var transcript []string
	for {
		line, err := w.receive()
		if err != nil {
			t.Fatalf("no %s: %v\nafter:\n%s\nasked: %.200s", messageType, err, strings.Join(transcript, "\n"), w.asked)
		}
		transcript = append(transcript, line)
		if line == messageType || strings.HasPrefix(line, messageType+" ") {
			return transcript
		}
	}
}

// untilClosed reads to the end of the connection.
func (w *wireClient) untilClosed(t testing.TB) []string {
	t.Helper()
	var transcript []string
	for {
		line, err := w.receive()
		switch {
		case err == nil:
			transcript = append(transcript, line)
		case wire.IsEnd(err):
			return transcript
		default:
			t.Fatalf("waiting for the end of the connection: %v\nafter:\n%s", err, strings.Join(transcript, "\n"))
		}
	}
}

// receive reads a message and returns it in words.
func (w *wireClient) receive() (string, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	message, err := w.frontend.Receive()
	if err != nil {
		return "", err
	}
	switch m := message.(type) {
	case *pgproto3.BackendKeyData:
		w.pid, w.key = m.ProcessID, slices.Clone(m.SecretKey)
		return "BackendKeyData", nil
	case *pgproto3.ParameterStatus:
		w.parameters[m.Name] = m.Value
	case *pgproto3.ReadyForQuery:
		w.status = m.TxStatus
	case *pgproto3.ErrorResponse:
		w.failed = *m
	}
	return wire.Words(message), nil
}

// hold begins a transaction and has it take a server: BEGIN alone need not.
func (w *wireClient) hold(t testing.TB) {
	t.Helper()
	w.ask(t, "begin")
	if got := w.ask(t, "select txid_current()"); got[len(got)-1] != "ReadyForQuery T" {
		t.Fatalf("begin a transaction: %q", got)
	}
}

// firstColumn returns the first column of the rows in a transcript.
func firstColumn(transcript []string) []string {
	var values []string
	for _, line := range transcript {
		if row, ok := strings.CutPrefix(line, "DataRow "); ok {
			value, _, _ := strings.Cut(row, ",")
			values = append(values, strings.Trim(value, `"`))
		}
	}
	return values
}

// errorCode returns severity and SQLSTATE of the error in a transcript, or nothing.
func errorCode(transcript []string) string {
	for _, line := range transcript {
		if rest, ok := strings.CutPrefix(line, "ErrorResponse "); ok {
			severity, rest, _ := strings.Cut(rest, " ")
			code, _, _ := strings.Cut(rest, " ")
			return severity + " " + code
		}
	}
	return ""
}

// cancel asks, on a connection of its own, to stop what the client runs, and
// returns when the server has closed that connection.
func (w *wireClient) cancel(t testing.TB) {
	t.Helper()
	cancelWire(t, w.conn.RemoteAddr().String(), w.pid, w.key)
}

func cancelWire(t testing.TB, address string, pid uint32, key []byte) {
	t.Helper()
	c := dialWire(t, "tcp", address)
	c.send(t, &pgproto3.CancelRequest{ProcessID: pid, SecretKey: key})
	if answer := c.untilClosed(t); len(answer) > 0 {
		t.Errorf("a cancel request was answered: %q", answer)
	}
}

// vanish closes the connection as a machine that is switched off: with a reset.
func (w *wireClient) vanish(t testing.TB) {
	t.Helper()
	if tcp, ok := w.conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			t.Error(err)
		}
	}
	_ = w.conn.Close()
}
