package main

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// listen runs a server that lets everybody in. For each request, serve says what it
// answers; nothing closes the connection.
func listen(t testing.TB, serve func(request int) string) (port int) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var requests atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 4096)
				if _, err := conn.Read(b); err != nil {
					return
				}
				answer := message('R', "\x00\x00\x00\x00") + message('K', "\x00\x00\x00\x07key!") + message('Z', "I")
				for answer != "" {
					if _, err := conn.Write([]byte(answer)); err != nil {
						return
					}
					if _, err := conn.Read(b); err != nil {
						return
					}
					answer = serve(int(requests.Add(1)))
				}
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

var (
	answerRow     = message('1', "") + message('2', "") + message('D', "\x00\x01\x00\x00\x00\x0217") + message('C', "SELECT 1\x00") + message('Z', "I")
	answerNo      = message('E', "SERROR\x00C53400\x00Mno\x00\x00") + message('Z', "I")
	answerGoodbye = message('E', "SFATAL\x00C08P01\x00Mtoo long\x00\x00")
)

// play has a service with two connections begin three operations, one every millisecond.
func play(t *testing.T, retries int, serve func(int) string) *runLog {
	t.Helper()
	s := &scenario{
		phases: []phase{{phaseLoad, 10 * time.Millisecond}}, services: oneService(2), retries: retries,
		streams: []stream{{group: groupAll}},
	}
	g, err := newGenerator(listen(t, serve), s, []arrival{{at: 0}, {at: time.Millisecond}, {at: 2 * time.Millisecond}}, plainStatement)
	if err != nil {
		t.Fatal(err)
	}
	log, err := g.run(t.Context(), make(chan time.Time, 1))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func outcomes(log *runLog) []outcome {
	var all []outcome
	for i := range log.operations {
		all = append(all, log.operations[i].outcome)
	}
	return all
}

func TestGeneratorAnswered(t *testing.T) {
	t.Parallel()
	log := play(t, 3, func(int) string { return answerRow })
	if got := outcomes(log); !slices.Equal(got, []outcome{answered, answered, answered}) {
		t.Errorf("outcomes %v", got)
	}
	if len(log.refusals)+len(log.abandoned)+len(log.errors)+log.logins != 0 || len(log.lags) != 3 {
		t.Errorf("wrote down %+v", log)
	}
}

func TestGeneratorRefused(t *testing.T) {
	t.Parallel()
	log := play(t, 3, func(int) string { return answerNo })
	if got := outcomes(log); !slices.Equal(got, []outcome{refused, refused, refused}) {
		t.Errorf("outcomes %v", got)
	}
	// Every operation is tried four times, on the connections that were there.
	if len(log.refusals) != 12 || log.errors["53400"] != 12 || log.logins != 0 || len(log.abandoned) != 0 {
		t.Errorf("%d refusals, %v, %d logins, %d abandoned", len(log.refusals), log.errors, log.logins, len(log.abandoned))
	}
}

func TestGeneratorTriesAgain(t *testing.T) {
	t.Parallel()
	log := play(t, 3, func(request int) string {
		if request%2 == 1 {
			return answerNo
		}
		return answerRow
	})
	if got := outcomes(log); !slices.Equal(got, []outcome{answered, answered, answered}) || len(log.refusals) != 3 {
		t.Errorf("outcomes %v, %d refusals", got, len(log.refusals))
	}
}

// A connection that is lost, with or without a word, is replaced, and what was on it may
// be executed for nobody.
func TestGeneratorReconnects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goodbye, reason string
		refusals        int
	}{{"", errorLost, 0}, {answerGoodbye, "08P01", 2}} {
		log := play(t, 3, func(request int) string {
			if request <= 2 {
				return c.goodbye
			}
			return answerRow
		})
		if got := outcomes(log); !slices.Equal(got, []outcome{answered, answered, answered}) {
			t.Errorf("%s: outcomes %v", c.reason, got)
		}
		if log.errors[c.reason] != 2 || log.logins == 0 || len(log.abandoned) != 2 || len(log.refusals) != c.refusals {
			t.Errorf("%s: %v, %d logins, %d abandoned, %d refusals", c.reason, log.errors, log.logins, len(log.abandoned), len(log.refusals))
		}
	}
}

// A client that loses patience has a cancel request sent, hangs up, and keeps its slot
// until the other side has closed.
func TestGeneratorLosesPatience(t *testing.T) {
	t.Parallel()
	silence := make(chan struct{})
	t.Cleanup(func() { close(silence) })
	log := play(t, 0, func(request int) string {
		if request == 1 {
			<-silence
		}
		return answerRow
	})
	got := outcomes(log)
	slices.Sort(got)
	if !slices.Equal(got, []outcome{answered, answered, failed}) || log.errors[errorTimeout] != 1 || len(log.abandoned) != 1 {
		t.Errorf("outcomes %v, errors %v, %d abandoned", got, log.errors, len(log.abandoned))
	}
}

// BenchmarkGenerator measures what a request that is refused at once costs the loop. The
// server shares the machine.
func BenchmarkGenerator(b *testing.B) {
	port := listen(b, func(int) string { return answerNo })
	s := &scenario{
		phases: []phase{{phaseLoad, time.Second}}, services: oneService(100), streams: []stream{{group: groupAll}},
	}
	g, err := newGenerator(port, s, make([]arrival, b.N), plainStatement)
	if err != nil {
		b.Fatal(err)
	}
	log, err := g.run(b.Context(), make(chan time.Time, 1))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(log.cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
}
