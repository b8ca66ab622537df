package shed

import (
	"fmt"
	"testing"
	"time"
)

func TestLogins(t *testing.T) {
	for name, c := range map[string]struct {
		storm  bool
		others int
		rate   int // per second
	}{
		"crowd": {false, loginCrowd, 2000},
		"storm": {true, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			var logins Logins
			now := time.Hour
			for i := range loginBurst {
				if delay := logins.Delay("a", now, c.storm, c.others); delay > 0 {
					t.Fatalf("login %d of a burst waits %v", i, delay)
				}
			}
			within := 0
			for range 10 * c.rate {
				if delay := logins.Delay("a", now, c.storm, c.others); delay <= time.Second {
					within++
				} else if delay > MaxLoginDelay {
					t.Fatalf("one waits %v", delay)
				}
			}
			if within != c.rate {
				t.Errorf("%d pass within a second, want %d", within, c.rate)
			}
			if delay := logins.Delay("b", now, c.storm, c.others); delay > 0 {
				t.Errorf("another application waits %v", delay)
			}
			if delay := logins.Delay("a", now+time.Minute, c.storm, c.others); delay > 0 {
				t.Errorf("a minute later one waits %v", delay)
			}
		})
	}
}

// Clients that connect for each transaction are let in as they come.
func TestLoginsInACalm(t *testing.T) {
	var logins Logins
	for i := range 100_000 {
		if delay := logins.Delay("a", time.Hour, false, loginCrowd-1); delay > 0 {
			t.Fatalf("login %d waits %v", i, delay)
		}
	}
}

func TestLoginsAreBounded(t *testing.T) {
	var logins Logins
	for i := range 3 * maxLoginQueues {
		logins.Delay(fmt.Sprint(i), time.Hour, true, 0)
	}
	if len(logins.queues) > maxLoginQueues || logins.order.Len() != len(logins.queues) {
		t.Errorf("%d queues, %d in order", len(logins.queues), logins.order.Len())
	}
}
