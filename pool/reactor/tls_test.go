package reactor_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/reactor"
)

// serverTLS and clientTLS are the two sides of the encrypted connections of tests.
var serverTLS, clientTLS = newTLS()

func newTLS() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	server = &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
	}
	return server, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// forEnginesWithTLS runs a test against a running engine of every kind.
func forEnginesWithTLS(t *testing.T, test func(t *testing.T, l *loop)) {
	t.Helper()
	forNetworks(t, []string{"tcp"}, test)
}

// unsecured connects to a loop that awaits a handshake, which the client has not
// begun. ends gets what OnClose is told, secured what the handshake came to.
func (l *loop) unsecured() (client net.Conn, c reactor.Conn, secured events[tls.ConnectionState], ends events[error]) {
	l.tb.Helper()
	secured, ends = newEvents[tls.ConnectionState](1), newEvents[error](2)
	client, c = l.pair(func(c reactor.Conn) reactor.Handler {
		c.StartTLS(reactor.TLSServer, serverTLS, secured.put)
		return &handler{data: func(b []byte) int {
			c.Write(b)
			return len(b)
		}, close: ends.put}
	})
	return client, c, secured, ends
}

// TestBothRoles has two connections of one loop encrypt what they say to each other.
func TestBothRoles(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			address := l.listen(func(c reactor.Conn) reactor.Handler {
				c.StartTLS(reactor.TLSServer, serverTLS, func(tls.ConnectionState) {})
				return echo(c)
			})
			config := clientTLS.Clone()
			config.MaxVersion = version
			states, echoed := newEvents[tls.ConnectionState](1), newEvents[string](1)
			l.do(func() {
				l.Dial(address, patience, func(c reactor.Conn, err error) reactor.Handler {
					if err != nil {
						t.Error(err)
						return nil
					}
					c.StartTLS(reactor.TLSClient, config, states.put)
					c.Write([]byte("written before the end of the handshake"))
					return &handler{data: func(b []byte) int {
						echoed.put(string(b))
						return len(b)
					}}
				})
			})
			if state := states.next(t); state.Version != version || len(state.PeerCertificates) != 1 {
				t.Errorf("version %x with %d certificates", state.Version, len(state.PeerCertificates))
			}
			if got := echoed.next(t); got != "written before the end of the handshake" {
				t.Errorf("got %q", got)
			}
		}
	})
}

// TestStartTLSWithinData encrypts from the middle of what was received on, as a
// protocol does that asks first, and one that does not.
func TestStartTLSWithinData(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		for _, request := range []string{"", "please"} {
			client, _ := l.pair(func(c reactor.Conn) reactor.Handler {
				begun := false
				return &handler{data: func(b []byte) int {
					if begun {
						c.Write(b)
						return len(b)
					}
					begun = true
					if request != "" {
						c.Write([]byte("yes"))
					}
					c.StartTLS(reactor.TLSServer, serverTLS, func(tls.ConnectionState) {})
					return len(request)
				}}
			})
			send(t, client, []byte(request))
			if request != "" {
				expect(t, client, "yes")
			}
			encrypted := tls.Client(client, clientTLS)
			send(t, encrypted, []byte("hello"))
			expect(t, encrypted, "hello")
		}
	})
}

// slow is a connection that writes byte by byte.
type slow struct{ net.Conn }

func (s slow) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := s.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestFragmentedRecords(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		client, _, _, _ := l.unsecured()
		encrypted := tls.Client(slow{client}, clientTLS)
		message := strings.Repeat("0123456789abcdef", 500)
		var sender sync.WaitGroup
		sender.Go(func() {
			if _, err := io.WriteString(encrypted, message); err != nil {
				t.Error(err)
			}
		})
		expect(t, encrypted, message)
		sender.Wait()
	})
}

func TestFailedHandshakes(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		for name, test := range map[string]struct {
			act  func(client net.Conn)
			want string
		}{
			"junk":      {func(c net.Conn) { send(t, c, []byte("GET / HTTP/1.1\r\n\r\n")) }, "does not look like a TLS handshake"},
			"gone":      {func(c net.Conn) { c.Close() }, "EOF"},
			"truncated": {func(c net.Conn) { send(t, c, []byte{22, 3, 1, 1, 0, 1}); closeSending(t, c) }, "EOF"},
			"not trusted": {func(c net.Conn) {
				if err := tls.Client(c, &tls.Config{ServerName: "localhost"}).Handshake(); err == nil {
					t.Error("the server's certificate is trusted")
				}
			}, "bad certificate"},
			"an old version": {func(c net.Conn) {
				if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}).Handshake(); err == nil {
					t.Error("TLS 1.0 is spoken")
				}
			}, "unsupported versions"},
			"a record too long": {func(c net.Conn) { send(t, c, []byte{22, 3, 1, 0xff, 0xff}) }, "oversized record"},
		} {
			t.Run(name, func(t *testing.T) {
				client, c, secured, ends := l.unsecured()
				test.act(client)
				if err := ends.next(t); err == nil || !strings.HasPrefix(err.Error(), "TLS handshake: ") || !strings.Contains(err.Error(), test.want) {
					t.Errorf("OnClose got %v, want %q", err, test.want)
				}
				client.Close()
				l.untilClosed(0)
				l.do(func() {
					if held := reactor.HeldBytes(c); held != 0 || c.BufferedBytes() != 0 {
						t.Errorf("a closed connection holds %d bytes", held)
					}
				})
				if len(secured.c) != 0 || len(ends.c) != 0 {
					t.Error("told more than once")
				}
			})
		}
	})
}

func TestHandshakeTimeout(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		client, _, _, ends := l.unsecured()
		send(t, client, []byte{22, 3, 1, 1, 0, 1})
		l.untilHandshakes(1, 0)
		l.do(func() {
			l.AdvanceTimers(l.Now() + reactor.HandshakeTimeout)
		})
		if err := ends.next(t); err == nil || !strings.Contains(err.Error(), "did not complete within 10s") {
			t.Errorf("OnClose got %v", err)
		}
		l.untilHandshakes(0, 0)
	})
}

// untilHandshakes waits until so many run and so many wait.
func (l *loop) untilHandshakes(running, waiting int) {
	l.tb.Helper()
	var gotRunning, gotWaiting int
	if !eventually(func() bool {
		l.do(func() { gotRunning, gotWaiting = l.Handshakes() })
		return gotRunning == running && gotWaiting == waiting
	}) {
		l.tb.Fatalf("%d handshakes run and %d wait, want %d and %d", gotRunning, gotWaiting, running, waiting)
	}
}

// TestTooManyHandshakes has more clients than get their turn, of which one that waits
// goes, and one gets it when another goes.
func TestTooManyHandshakes(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		address := l.listen(func(c reactor.Conn) reactor.Handler {
			c.StartTLS(reactor.TLSServer, serverTLS, func(tls.ConnectionState) {})
			return &handler{data: func(b []byte) int {
				c.Write(b)
				return len(b)
			}}
		})
		var stalled []net.Conn
		for range reactor.MaxHandshakes {
			c := dial(t, address)
			send(t, c, []byte{22})
			stalled = append(stalled, c)
		}
		l.untilHandshakes(reactor.MaxHandshakes, 0)
		client := tls.Client(dial(t, address), clientTLS)
		result := make(chan error, 1)
		go func() { result <- client.Handshake() }()
		l.untilHandshakes(reactor.MaxHandshakes, 1)
		leaving := dial(t, address)
		send(t, leaving, []byte{22})
		l.untilHandshakes(reactor.MaxHandshakes, 2)

		stalled[0].Close()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		send(t, client, []byte("hello"))
		expect(t, client, "hello")
		for _, c := range append(stalled, leaving) {
			c.Close()
		}
		l.untilHandshakes(0, 0)
		l.untilClosed(1)
	})
}

// TestEndlessHandshake has a client send more certificates than are read.
func TestEndlessHandshake(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		config := serverTLS.Clone()
		config.ClientAuth = tls.RequireAnyClientCert
		ends := newEvents[error](1)
		client, c := l.pair(func(c reactor.Conn) reactor.Handler {
			c.StartTLS(reactor.TLSServer, config, func(tls.ConnectionState) {})
			return &handler{close: ends.put}
		})
		chain := serverTLS.Certificates[0]
		chain.Certificate = append(chain.Certificate[:1:1], make([]byte, reactor.MaxHandshakeBytes+64<<10))
		configured := clientTLS.Clone()
		configured.Certificates = []tls.Certificate{chain}
		var handshake sync.WaitGroup
		handshake.Go(func() {
			_ = tls.Client(client, configured).Handshake() // which may not wait for the server
		})
		if !eventually(func() bool {
			received := 0
			l.do(func() { received = reactor.HandshakeReceived(c) })
			return received == reactor.MaxHandshakeBytes
		}) {
			t.Fatal("it does not read as much as it may")
		}
		l.do(func() { l.AdvanceTimers(l.Now() + reactor.HandshakeTimeout) })
		if err := ends.next(t); err == nil || !strings.Contains(err.Error(), "did not complete") {
			t.Errorf("OnClose got %v", err)
		}
		l.untilHandshakes(0, 0)
		client.Close()
		handshake.Wait()
	})
}

// TestEndDuringHandshake ends connections, and the loop, whose handshakes are under
// way.
func TestEndDuringHandshake(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		for _, end := range []func(reactor.Conn){reactor.Conn.Close, reactor.Conn.Abort} {
			client, c, secured, ends := l.unsecured()
			send(t, client, []byte{22})
			l.untilHandshakes(1, 0)
			l.do(func() {
				c.Write([]byte("dropped"))
				end(c)
				if l.OpenConns() != 0 {
					t.Error("the connection is open")
				}
			})
			l.untilHandshakes(0, 0)
			if len(secured.c) != 0 || len(ends.c) != 0 {
				t.Error("the handler is told of the end that it asked for")
			}
		}
		client, _, _, ends := l.unsecured()
		send(t, client, []byte{22})
		l.untilHandshakes(1, 0)
		l.Stop()
		if err := ends.next(t); !errors.Is(err, reactor.ErrStopped) {
			t.Errorf("OnClose got %v, want ErrStopped", err)
		}
	})
}

// recorded keeps what was read.
type recorded struct {
	net.Conn
	read []byte
}

func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.read = append(r.read, b[:n]...)
	return n, err
}

// TestEndIsSaid has both sides say that nothing more comes, and one that does not.
func TestEndIsSaid(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		config := clientTLS.Clone()
		config.MaxVersion = tls.VersionTLS12 // where an alert can be told from data
		client, c, secured, _ := l.unsecured()
		wire := &recorded{Conn: client}
		encrypted := tls.Client(wire, config)
		send(t, encrypted, []byte("hello"))
		expect(t, encrypted, "hello")
		secured.next(t)
		l.do(func() {
			c.Write([]byte("last words"))
			c.Close()
		})
		if got, err := io.ReadAll(encrypted); err != nil || string(got) != "last words" {
			t.Errorf("got %q, %v", got, err)
		}
		const alertBytes = 5 + 8 + 2 + 16 // header, nonce, alert, tag
		if last := wire.read[len(wire.read)-alertBytes:]; last[0] != 21 {
			t.Errorf("the last record is of type %d, want an alert", last[0])
		}
		client.Close()
		l.untilClosed(0)

		for _, test := range []struct {
			end  func(encrypted *tls.Conn, below net.Conn)
			want error
		}{
			{func(encrypted *tls.Conn, _ net.Conn) { encrypted.CloseWrite() }, io.EOF},
			{func(_ *tls.Conn, below net.Conn) { below.Close() }, io.EOF},
			{func(_ *tls.Conn, below net.Conn) { send(t, below, []byte{23, 3, 3, 1}); below.Close() }, io.ErrUnexpectedEOF},
		} {
			client, _, _, ends := l.unsecured()
			encrypted := tls.Client(client, clientTLS)
			send(t, encrypted, []byte("hello"))
			expect(t, encrypted, "hello")
			test.end(encrypted, client)
			if err := ends.next(t); !errors.Is(err, test.want) {
				t.Errorf("OnClose got %v, want %v", err, test.want)
			}
		}
	})
}

func TestJunkBehindHandshake(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		client, _, _, ends := l.unsecured()
		encrypted := tls.Client(client, clientTLS)
		send(t, encrypted, []byte("hello"))
		expect(t, encrypted, "hello")
		send(t, client, append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
		if err := ends.next(t); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
			t.Errorf("OnClose got %v", err)
		}
	})
}

// keyUpdater is the sending side of a TLS 1.3 connection whose keys it has been told.
type keyUpdater struct {
	secret   []byte
	sequence uint64
}

// record returns one of that type.
func (k *keyUpdater) record(tb testing.TB, plain []byte, recordType byte) []byte {
	tb.Helper()
	block, err := aes.NewCipher(k.expand(tb, "key", 16))
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	nonce := k.expand(tb, "iv", aead.NonceSize())
	for i := range 8 {
		nonce[4+i] ^= byte(k.sequence >> (56 - 8*i))
	}
	k.sequence++
	plain = append(plain, recordType)
	header := []byte{23, 3, 3, 0, byte(len(plain) + aead.Overhead())}
	return aead.Seal(header, nonce, plain, header)
}

// update returns a record with a request for new keys, and makes ours.
func (k *keyUpdater) update(tb testing.TB) []byte {
	tb.Helper()
	record := k.record(tb, []byte{24, 0, 0, 1, 1}, 22)
	k.secret, k.sequence = k.expand(tb, "traffic upd", sha256.Size), 0
	return record
}

// expand is HKDF-Expand-Label of RFC 8446.
func (k *keyUpdater) expand(tb testing.TB, label string, length int) []byte {
	tb.Helper()
	label = "tls13 " + label
	info := append([]byte{0, byte(length), byte(len(label))}, label...)
	key, err := hkdf.Expand(sha256.New, k.secret, string(append(info, 0)), length)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// TestKeyUpdates has a client ask for new keys: once, and then on and on without
// reading the answers.
func TestKeyUpdates(t *testing.T) {
	forEnginesWithTLS(t, func(t *testing.T, l *loop) {
		client, c, _, ends := l.unsecured()
		var keys bytes.Buffer
		config := clientTLS.Clone()
		config.KeyLogWriter = &keys
		encrypted := tls.Client(client, config)
		if err := encrypted.Handshake(); err != nil {
			t.Fatal(err)
		}
		if suite := encrypted.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
			t.Fatalf("cipher suite %s", tls.CipherSuiteName(suite))
		}
		_, line, _ := strings.Cut(keys.String(), "CLIENT_TRAFFIC_SECRET_0 ")
		fields := strings.Fields(line)
		secret, err := hex.DecodeString(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		updater := &keyUpdater{secret: secret}
		send(t, client, updater.update(t))
		l.do(func() { c.Write([]byte("with new keys")) })
		expect(t, encrypted, "with new keys")

		// Between two a byte of data, or crypto/tls finds it too much.
		l.do(func() { c.Hold(true) }) // nothing is sent, as if the client did not read
		var sent error
		for range 2 * reactor.MaxSealedBytes / 30 {
			if _, sent = client.Write(updater.update(t)); sent != nil {
				break
			}
			if _, sent = client.Write(updater.record(t, []byte{'x'}, 23)); sent != nil {
				break
			}
		}
		if err := ends.next(t); err == nil || !strings.Contains(err.Error(), "asks for key updates and does not read") {
			t.Errorf("OnClose got %v", err)
		}
	})
}
