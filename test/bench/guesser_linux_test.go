package main

import (
	"io"
	"net"
	"testing"

	"github.com/billproxy/billproxy/test/rig"
)

// Guesses keep coming though none is answered.
func TestGuessersDoNotWait(t *testing.T) {
	t.Parallel()
	accept, to := listenForGuesses(t)
	stop := new(bench).startGuessers(t.Context(), to, 1000)
	for range 50 {
		accept()
	}
	if rate, err := stop(); err != nil || rate <= 0 {
		t.Errorf("%v per second, error %v", rate, err)
	}
	if rate, err := new(bench).startGuessers(t.Context(), to, 0)(); rate != 0 || err != nil {
		t.Errorf("%v, %v without guesses", rate, err)
	}
}

func TestGuessersListen(t *testing.T) {
	t.Parallel()
	accept, to := listenForGuesses(t)
	stop := new(bench).startGuessers(t.Context(), to, 1000)
	conn := accept()
	io.WriteString(conn, "R\x00\x00\x00\x08\x00\x00\x00\x00") // lets the guess in
	io.Copy(io.Discard, conn)                                 // until it ends
	if _, err := stop(); err == nil {
		t.Error("a guess that was let in is no error")
	}
}

func listenForGuesses(t *testing.T) (accept func() net.Conn, to *rig.Target) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return func() net.Conn {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}, &rig.Target{Port: listener.Addr().(*net.TCPAddr).Port}
}
