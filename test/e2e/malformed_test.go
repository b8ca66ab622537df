package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// packet is a message with a length of our choosing.
func packet(messageType string, length uint32, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte(messageType), length), body...)
}

// expectRefusal closes the client's side for writing and reads to the end: what is
// said, if anything, must be a protocol violation.
func (w *wireClient) expectRefusal(t testing.TB) {
	t.Helper()
	if tcp, ok := w.conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the proxy may have closed it
	}
	got := w.untilClosed(t)
	if code := errorCode(got); code != "" && code != "FATAL 08P01" && code != "FATAL 0A000" || len(got) > 1 {
		t.Errorf("got %q, want FATAL 08P01 or nothing", got)
	}
}

// TestMalformedStartup sends what is no startup packet. A bystander is served all
// the while, and memory does not grow with the lengths claimed.
func TestMalformedStartup(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxyBinary(t, shared.plainBinary, "proxy", shared.cluster, nil)
	bystander := loginWire(t, p.address, d)
	version := "\x00\x03\x00\x00"
	for _, test := range []struct {
		name string
		sent []byte
	}{
		{"nothing", nil},
		{"http", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"tls", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
		{"ssh", []byte("SSH-2.0-OpenSSH_9.0\r\n")},
		{"length 0", packet("", 0, version)},
		{"length too short", packet("", 7, version)},
		{"length of a gigabyte", packet("", 1<<30, version)},
		{"negative length", packet("", 0xffff_ffff, version)},
		{"over the limit", packet("", 10_001, version+strings.Repeat("x", 9_993))},
		{"no terminator", packet("", 8+9, version+"user\x00me\x00x")},
		{"name without value", packet("", 8+6, version+"user\x00\x00")},
		{"behind the terminator", packet("", 8+10, version+"user\x00me\x00\x00x")},
		{"truncated", packet("", 100, version+"user\x00")},
		{"cancel without key", packet("", 12, "\x04\xd2\x16\x2e\x00\x00\x00\x01")},
		{"cancel with a giant key", packet("", 4096, "\x04\xd2\x16\x2e"+strings.Repeat("k", 4088))},
		{"ssl with a body", packet("", 12, "\x04\xd2\x16\x2f\x00\x00\x00\x00")},
		{"replication", encode(t, &pgproto3.StartupMessage{
			ProtocolVersion: pgproto3.ProtocolVersion30,
			Parameters:      map[string]string{"user": d.role, "database": d.name, "replication": "database"},
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 20 {
				client := dialWire(t, "tcp", p.address)
				client.write(t, test.sent)
				client.expectRefusal(t)
			}
			bystander.usable(t)
		})
	}
	eventually(t, "only the bystander is left", func() bool { return p.stats(t).ClientCount == 1 })
	p.checkMemory(t)
}

// TestMalformedMessages sends, after the login, what is no message, or one that
// PostgreSQL would refuse.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxyBinary(t, shared.plainBinary, "proxy", shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	fillPool(t, p, d, 2)
	pids := d.pids(t, 2)
	bystander := loginWire(t, p.address, d)
	closing := map[string][]byte{
		"unknown type":            packet("?", 4, ""),
		"zero type":               packet("\x00", 4, ""),
		"backend message":         packet("Z", 5, "I"),
		"password":                packet("p", 8, "abc\x00"),
		"length too short":        packet("Q", 3, ""),
		"length 0":                packet("Q", 0, ""),
		"negative length":         packet("Q", 0x8000_0000, ""),
		"length of 4 GB":          packet("B", 0xffff_ffff, ""),
		"long sync":               packet("S", 20_000, strings.Repeat("x", 100)),
		"long describe":           packet("D", 1<<20, "S"),
		"http":                    []byte("HEAD / HTTP/1.0\r\n\r\n"),
		"sync with a body":        packet("S", 8, "abcd"),
		"garbage behind a query":  append(encode(t, &pgproto3.Query{String: "select 1"}), 0xff, 0xff, 0xff, 0xff, 0xff),
		"garbage behind a parse":  append(encode(t, &pgproto3.Parse{Query: "select 1"}), 0xff, 0xff, 0xff, 0xff, 0xff),
		"startup message again":   encode(t, &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30}),
		"garbage in a copy":       append(encode(t, &pgproto3.CopyData{}), "!!!!!!!!"...),
		"truncated query":         packet("Q", 100, "select 1"),
		"truncated long query":    packet("Q", 300_000, "select '"+strings.Repeat("x", 100_000)),
		"truncated header":        []byte("Q\x00\x00"),
		"truncated parse":         packet("P", 100_000, "name\x00select"),
		"truncated header inside": append(encode(t, &pgproto3.Query{String: "select 1"}), "Q\x00\x00"...),
	}
	for name, sent := range closing {
		t.Run(name, func(t *testing.T) {
			for _, before := range []string{"", "begin; select txid_current()"} {
				client := loginWire(t, p.address, d)
				if before != "" {
					client.ask(t, before)
				}
				client.write(t, sent)
				if tcp, ok := client.conn.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
				for _, line := range client.untilClosed(t) {
					if strings.HasPrefix(line, "ErrorResponse FATAL") && !strings.Contains(line, " 08P01 ") {
						t.Errorf("got %s", line)
					}
				}
				bystander.usable(t)
			}
		})
	}
	p.waitPool(t, d, "all is quiet", func(s poolStats) bool { return s.ServersIdle == 2 && s.ClientsActive == 1 })
	d.expectPIDs(t, pids)
	p.checkMemory(t)
}

// TestMalformedBodies sends messages of the right length that make no sense inside.
// PostgreSQL answers those, and the client goes on: so it must be through the proxy.
func TestMalformedBodies(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	sync := encode(t, &pgproto3.Sync{})
	parse := encode(t, &pgproto3.Parse{Query: "select $1::text"})
	raw := func(messageType, body string) []byte { return packet(messageType, uint32(4+len(body)), body) }
	for _, test := range []struct {
		name  string
		sent  []byte
		ready int
	}{
		{"query without terminator", raw("Q", "select 1"), 1},
		{"query with two texts", raw("Q", "select 1\x00select 2\x00"), 1},
		{"empty query", raw("Q", "\x00"), 1},
		{"query without text", raw("Q", ""), 1},
		{"parse without text", slices.Concat(raw("P", "name\x00"), sync), 1},
		{"parse without types", slices.Concat(raw("P", "\x00select 1\x00"), sync), 1},
		{"parse with missing types", slices.Concat(raw("P", "\x00select 1\x00\x00\x05\x00\x00"), sync), 1},
		{"parse with more", slices.Concat(raw("P", "\x00select 1\x00\x00\x00more"), sync), 1},
		{"parse of nothing", slices.Concat(raw("P", ""), sync), 1},
		{"bind without name", slices.Concat(parse, raw("B", ""), sync), 1},
		{"bind without parameters", slices.Concat(parse, raw("B", "\x00\x00"), sync), 1},
		{"bind with missing parameters", slices.Concat(parse, raw("B", "\x00\x00\x00\x00\x00\x01\x00\x00\x00\x09abc"), sync), 1},
		{"bind with negative length", slices.Concat(parse, raw("B", "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xf0\x00\x00"), sync), 1},
		{"bind with many formats", slices.Concat(parse, raw("B", "\x00\x00\x00\x09\x00\x01"), sync), 1},
		{"bind with more", slices.Concat(parse, raw("B", "\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00more"), sync), 1},
		{"bad utf-8 in a parameter", slices.Concat(parse, raw("B", "\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\xff\xfe\x00\x00"), sync), 1},
		{"bad utf-8 in a query", raw("Q", "select '\xff\xfe'\x00"), 1},
		{"describe of nothing", slices.Concat(raw("D", ""), sync), 1},
		{"describe of what", slices.Concat(raw("D", "Xname\x00"), sync), 1},
		{"describe without terminator", slices.Concat(raw("D", "Sname"), sync), 1},
		{"close of what", slices.Concat(raw("C", "Xname\x00"), sync), 1},
		{"close without terminator", slices.Concat(raw("C", "Sname"), sync), 1},
		{"execute without limit", slices.Concat(parse, raw("E", "\x00"), sync), 1},
		{"execute of what", slices.Concat(raw("E", "nothing\x00\x00\x00\x00\x00"), sync), 1},
		{"execute with negative limit", slices.Concat(parse, raw("B", "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00"), raw("E", "\x00\xff\xff\xff\xff"), sync), 1},
		{"flush with more", slices.Concat(raw("H", "more"), sync), 1},
		{"function call of nothing", raw("F", ""), 1},
		{"function call of what", raw("F", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 1},
		{"function call", raw("F", "\x00\x00\x05\x2c\x00\x01\x00\x01\x00\x01\x00\x00\x00\x04\xff\xff\xff\xf0\x00\x01"), 1},
		{"copy data without copy", slices.Concat(encode(t, &pgproto3.CopyData{Data: []byte("stray")}, &pgproto3.CopyDone{}), sync), 1},
		{"two syncs", slices.Concat(sync, sync), 2},
		{"error, then the group goes on", slices.Concat(raw("P", "\x00nonsense\x00\x00\x00"), parse, raw("D", "S\x00"), sync), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			play := func(address string, before ...string) []string {
				client := loginWire(t, address, d)
				for _, sql := range before {
					client.ask(t, sql)
				}
				client.write(t, test.sent)
				var got []string
				for range test.ready {
					got = append(got, client.until(t, "ReadyForQuery")...)
				}
				client.ask(t, "rollback")
				client.usable(t)
				_ = client.conn.Close()
				return got
			}
			for _, before := range [][]string{nil, {"begin", "select txid_current()"}} {
				want, got := play(d.cluster.TCPAddress(), before...), play(p.address, before...)
				if !slices.Equal(got, want) {
					t.Errorf("after %v: through the proxy:\n\t%s\ndirectly:\n\t%s", before, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
				}
			}
		})
	}
}

// TestRandomBytes sends noise, and messages with noise in them, from a seed.
func TestRandomBytes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxyBinary(t, shared.plainBinary, "proxy", shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	bystander := loginWire(t, p.address, d)
	random := rand.New(rand.NewPCG(5, 6))
	valid := encode(t, &pgproto3.Parse{Name: "a", Query: "select $1::text"}, &pgproto3.Bind{PreparedStatement: "a", Parameters: [][]byte{[]byte("x")}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Query{String: "select 1; begin"},
		&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Flush{}, &pgproto3.Query{String: "copy (select 1) to stdout"})
	for i := range 300 {
		noise := slices.Clone(valid)
		for range 1 + random.IntN(4) {
			noise[random.IntN(len(noise))] = byte(random.UintN(256))
		}
		client := dialWire(t, "tcp", p.address)
		if i%4 > 0 {
			client = loginWire(t, p.address, d)
		}
		_, _ = client.conn.Write(noise) // the proxy may close while we write
		if tcp, ok := client.conn.(*net.TCPConn); ok && i%2 == 0 {
			_ = tcp.CloseWrite()
			client.untilClosed(t)
		}
		_ = client.conn.Close()
		if i%10 == 0 {
			bystander.usable(t)
		}
	}
	p.waitPool(t, d, "all is quiet", func(s poolStats) bool {
		return s.ClientsActive == 1 && s.ServersLeased+s.ServersShared+s.ServersResetting+s.ServersCanceling == 0
	})
	p.checkMemory(t)
	bystander.usable(t)
}
