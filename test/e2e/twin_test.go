package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// step is one exchange of a script: a client sends messages and reads up to the
// message named.
type step struct {
	send  []pgproto3.FrontendMessage
	until string // "ReadyForQuery" if empty; "close": to the end; "nothing": not at all
	times int    // how many of them; 0 is 1
}

// extended is a step that ends with Sync.
func extended(messages ...pgproto3.FrontendMessage) step {
	return step{send: append(messages, &pgproto3.Sync{})}
}

// simple is a step with one simple query.
func simple(sql string) step {
	return step{send: []pgproto3.FrontendMessage{&pgproto3.Query{String: sql}}}
}

// runPrepared is a step that executes a prepared statement.
func runPrepared(name string, parameters ...string) step {
	return extended(bind(name, parameters...), describePortal(), execute())
}

// expecting makes the step read up to another message.
func (s step) expecting(until string) step {
	s.until = until
	return s
}

// runTwins runs the script on a direct connection and then through the proxy, and
// compares what the client is told. The setup, if any, is run before each.
func runTwins(t *testing.T, p *proxyProcess, d *database, setup string, script []step) {
	t.Helper()
	play := func(address string) [][]string {
		if setup != "" {
			d.execAsRole(t, setup)
		}
		client := loginWire(t, address, d)
		defer client.conn.Close()
		var transcripts [][]string
		for _, s := range script {
			transcripts = append(transcripts, client.play(t, s))
		}
		return transcripts
	}
	want, got := play(d.cluster.TCPAddress()), play(p.address)
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("step %d: through the proxy:\n\t%s\ndirectly:\n\t%s",
				i, strings.Join(got[i], "\n\t"), strings.Join(want[i], "\n\t"))
		}
	}
}

// play sends a step's messages and reads what answers them.
func (w *wireClient) play(t testing.TB, s step) []string {
	t.Helper()
	w.send(t, s.send...)
	switch s.until {
	case "":
		s.until = "ReadyForQuery"
	case "close":
		return w.untilClosed(t)
	case "nothing":
		return nil
	}
	var transcript []string
	for range max(1, s.times) {
		transcript = append(transcript, w.until(t, s.until)...)
	}
	return transcript
}
