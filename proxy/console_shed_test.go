package proxy

import (
	"fmt"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/shed"
)

func TestShowShed(t *testing.T) {
	f := newFixture(t, withConsole, oneServer, func(c *Config) { c.Pool.QueryWaitTimeout = time.Second })
	console := f.enter("viewer")
	if lines := console.show("SHED"); len(lines) != 0 {
		t.Errorf("before anybody has come: %v", lines)
	}
	var clients []*client
	for range 5 {
		clients = append(clients, f.login("application_name", "web"))
	}
	release := f.block()
	ask := func(number int) { clients[number].send(fmt.Sprintf("Q|insert into t values (%d)", number)) }
	ask(0)
	f.world.Advance(600 * time.Millisecond)
	for number := range 3 {
		ask(1 + number)
	}
	wantLine(t, find(t, console.show("STORMS"), "database", "shop"), "user", "app", "storm", "no", "overloaded", "no", "usable_servers", "1", "waiting", "4",
		"oldest_wait_us", "600000", "storms", "0", "began", "~", "ended", "~")
	ask(4)
	wantLine(t, find(t, console.show("SHED"), "tenant", "web"), "database", "shop", "user", "app", "waiting", "4", "open", "0", "admitted", "1",
		"shed", "1", "overload", "1", "queue_delay", "0", "query_wait_timeout", "0", "deadline", "0", "queue_full", "0", "retry_budget", "0")
	l := find(t, console.show("STORMS"), "database", "shop")
	wantLine(t, l, "storm", "yes", "overloaded", "yes", "storms", "1", "ended", "~", "arrivals", "1", "admitted", "0", "shed", "1", "retries", "0",
		"abandoned", "0", "most_waiting", "0")
	if began := f.proxy.consoles.timeOfDay(f.proxy.pools.Stats()[0].Gate.Storm.BeganAt); l["began"] != began {
		t.Errorf("began %q, want %q", l["began"], began)
	}
	release()
	f.world.Advance(5 * time.Second)
	l = find(t, console.show("STORMS"), "database", "shop")
	wantLine(t, l, "storm", "no", "overloaded", "no", "storms", "1", "shed", "1", "waiting", "0")
	if l["ended"] == "~" {
		t.Error("it has not ended")
	}
}

// Every reason has a column.
func TestShowShedHasEveryReason(t *testing.T) {
	columns := map[string]bool{}
	for _, column := range showShed.columns {
		columns[column.name] = true
	}
	for reason := shed.NotShed + 1; reason < shed.ReasonCount; reason++ {
		if !columns[reason.String()] {
			t.Errorf("no column for %v", reason)
		}
	}
}
