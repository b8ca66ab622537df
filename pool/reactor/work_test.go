package reactor_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/billproxy/billproxy/pool/reactor"
)

func TestWork(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		const works = 50
		var running atomic.Int32
		count := 0 // owned by the loop
		done := newEvents[struct{}](1)
		l.do(func() {
			for range works {
				result := 0
				l.Work(func() {
					if running.Add(1) != 1 {
						t.Error("two works run at the same time")
					}
					result = 7
					running.Add(-1)
				}, func() {
					if result != 7 {
						t.Error("done was called before the work was")
					}
					if count++; count == works {
						done.put(struct{}{})
					}
				})
			}
		})
		done.next(t)
	})
}

func TestWorkDoesNotHoldUpTheLoop(t *testing.T) {
	forEngines(t, func(t *testing.T, l *loop) {
		release := make(chan struct{})
		done := newEvents[struct{}](1)
		l.do(func() {
			l.Work(func() { <-release }, func() { done.put(struct{}{}) })
		})
		l.do(func() {}) // the loop goes on
		close(release)
		done.next(t)
	})
}

// What was asked for before Run is done once it runs; after it, nothing is.
func TestWorkBeforeAndAfterRun(t *testing.T) {
	e, err := reactor.New(reactor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	worked := false
	e.Work(func() { worked = true }, e.Stop)
	if err := e.Run(context.WithoutCancel(t.Context())); err != nil || !worked {
		t.Errorf("worked %v, %v", worked, err)
	}
	e.Work(func() { t.Error("work after the end") }, nil)
}
