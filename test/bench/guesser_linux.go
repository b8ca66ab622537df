package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/billproxy/billproxy/test/rig"
)

const (
	// guessesAtOnce bounds the logins under way: answers to failures are delayed.
	guessesAtOnce = 2000
	// guessBytes is how much is read at a time.
	guessBytes = 1024
	// guessTick is how often it is looked whether the next login is due, in milliseconds.
	guessTick = 1
)

// guesser logs in with a wrong password at a fixed rate. It does without package net: on
// a machine that clients, pooler and server share, it would cost several times what the
// pooler does.
type guesser struct {
	epoll   int
	to      syscall.SockaddrInet4
	guesses map[int32]*guess // under way, by descriptor
	began   int
	in, out []byte
}

// startGuessers begins perSecond logins with a wrong password every second, whatever
// becomes of those before: nobody waits for an answer to guess again. stop ends those under
// way and returns how many began per second, and what went wrong.
func (b *bench) startGuessers(ctx context.Context, t *rig.Target, perSecond int) (stop func() (rate float64, err error)) {
	if perSecond == 0 {
		return func() (float64, error) { return 0, nil }
	}
	g := &guesser{
		to:      syscall.SockaddrInet4{Port: t.Port, Addr: [4]byte{127, 0, 0, 1}},
		guesses: map[int32]*guess{}, in: make([]byte, guessBytes),
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	begin := time.Now()
	go func() { done <- g.run(ctx, begin, perSecond) }()
	return func() (float64, error) {
		elapsed := time.Since(begin)
		cancel()
		err := <-done
		return float64(g.began) / elapsed.Seconds(), err
	}
}

// run guesses until ctx ends.
func (g *guesser) run(ctx context.Context, begin time.Time, perSecond int) (err error) {
	if g.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer func() {
		for fd := range g.guesses {
			syscall.Close(int(fd))
		}
		syscall.Close(g.epoll)
	}()
	events := make([]syscall.EpollEvent, 256)
	for ctx.Err() == nil {
		for due := int(time.Since(begin).Seconds() * float64(perSecond)); g.began < due; g.began++ {
			if len(g.guesses) == guessesAtOnce {
				return fmt.Errorf("%d failing logins are under way: expected fewer", guessesAtOnce)
			}
			if err := g.begin(); err != nil {
				return fmt.Errorf("failing login: %w", err)
			}
		}
		n, err := syscall.EpollWait(g.epoll, events, guessTick)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, event := range events[:max(n, 0)] {
			if err := g.receive(event.Fd); err != nil {
				return fmt.Errorf("failing login: %w", err)
			}
		}
	}
	return nil
}

// begin connects, which on one machine does not block for long.
func (g *guesser) begin() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// Without lingering, no socket stays in TIME_WAIT: they would use up the ports.
	err = errors.Join(
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}),
		syscall.Connect(fd, &g.to), send(fd, guessHello),
		syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
	if err != nil {
		syscall.Close(fd)
		return err
	}
	g.guesses[int32(fd)] = &guess{}
	return nil
}

// receive goes on with a login that was answered.
func (g *guesser) receive(fd int32) error {
	n, err := syscall.Read(int(fd), g.in)
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	done := false
	if err == nil {
		g.out, done, err = g.guesses[fd].take(g.in[:n], g.out[:0])
	}
	if err == nil && len(g.out) > 0 {
		err = send(int(fd), g.out)
	}
	if done || err != nil {
		delete(g.guesses, fd)
		// A program that starts at the moment has a copy of the socket, so that closing
		// it does not end the events.
		err = errors.Join(err, syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil))
		syscall.Close(int(fd))
	}
	return err
}

// send writes what is far shorter than a socket's buffer.
func send(fd int, b []byte) error {
	n, err := syscall.Write(fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
