package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/shed"
)

// giveUp has a client ask while no server is free, and cancel, so that the query has
// failed.
func (c *client) giveUp(words ...string) {
	c.send(words...)
	c.cancel()
}

// A query that comes again after it has failed is a retry, whoever sends it and by
// whatever protocol; another is not.
func TestRetriesAreRecognised(t *testing.T) {
	extended := func(text, parameter string) []string {
		return []string{"P||" + text, "B|||" + parameter, "E|", "S"}
	}
	for name, test := range map[string]struct {
		first, second []string
		retry         bool
	}{
		"the same":               {[]string{"Q|insert into t values (1)"}, []string{"Q|insert into t values (1)"}, true},
		"other values":           {[]string{"Q|insert into t values (1)"}, []string{"Q|insert into t values (2)"}, false},
		"same parameters":        {extended("insert into t values ($1)", "1"), extended("insert into t values ($1)", "1"), true},
		"other parameters":       {extended("insert into t values ($1)", "1"), extended("insert into t values ($1)", "2"), false},
		"another attempt":        {[]string{"Q|insert into t values (1) /*attempt='1'*/"}, []string{"Q|insert into t values (1) /*attempt='2'*/"}, true},
		"same idempotency key":   {[]string{"Q|insert into t values (1) /*idempotency_key='k'*/"}, []string{"Q|insert into t values (2) /*idempotency_key='k'*/"}, true},
		"another key":            {[]string{"Q|insert into t values (1) /*idempotency_key='k'*/"}, []string{"Q|insert into t values (1) /*idempotency_key='l'*/"}, false},
		"same trace":             {[]string{"Q|insert into t values (1) /*traceparent='00-a-b-01'*/"}, []string{"Q|insert into t values (1) /*traceparent='00-a-c-01'*/"}, true},
		"another trace":          {[]string{"Q|insert into t values (1) /*traceparent='00-a-b-01'*/"}, []string{"Q|insert into t values (1) /*traceparent='00-b-b-01'*/"}, false},
		"only the tag tells":     {[]string{"Q|select 1"}, []string{"Q|insert into t values (1) /*attempt='3'*/"}, true},
		"in a transaction":       {[]string{"Q|begin", "Q|insert into t values (1)"}, []string{"Q|begin", "Q|insert into t values (1)"}, true},
		"a read in one":          {[]string{"Q|begin", "Q|select 1"}, []string{"Q|begin", "Q|select 1"}, false},
		"the same row in one":    {append([]string{"Q|begin"}, extended("select $1", "1")...), append([]string{"Q|begin"}, extended("select $1", "1")...), true},
		"another row in one":     {append([]string{"Q|begin"}, extended("select $1", "1")...), append([]string{"Q|begin"}, extended("select $1", "2")...), false},
		"another begins with it": {[]string{"Q|begin", "Q|insert into t values (1)"}, []string{"Q|begin", "Q|insert into t values (2)"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, oneServer)
			a, b := f.login(), f.login()
			release := f.block()
			a.giveUp(test.first...)
			if retries := f.stats().Gate.Retries; retries != 0 {
				t.Fatalf("%d retries before there was one", retries)
			}
			b.send(test.second...)
			if got := f.stats().Gate.Retries == 1; got != test.retry {
				t.Errorf("taken for a retry: %v", got)
			}
			release()
		})
	}
}

// What succeeds, however often it comes, is no retry.
func TestPollersAreNoRetries(t *testing.T) {
	f := newFixture(t, oneServer)
	c, other := f.login(), f.login()
	other.giveUp("Q|select 1") // so that there is something to recognise
	for range 100 {
		c.send("Q|insert into t values (1)")
		f.world.Advance(100 * time.Millisecond)
	}
	if retries := f.stats().Gate.Retries; retries != 0 {
		t.Errorf("%d retries", retries)
	}
}

func TestTenantAndPriority(t *testing.T) {
	for name, test := range map[string]struct {
		startup  []string
		query    string
		tenant   string
		critical bool
	}{
		"nobody says": {nil, "insert into t values (1)", "", false},
		"application": {[]string{"application_name", "web"}, "insert into t values (1)", "web", false},
		"tag":         {[]string{"application_name", "web"}, "insert into t values (1) /*tenant='acme'*/", "acme", false},
		"priority":    {nil, "insert into t values (1) /*priority='critical'*/", "", true},
		"list":        {[]string{"application_name", "payments"}, "insert into t values (1)", "payments", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, oneServer, func(c *Config) { c.Critical = []string{"payments"} })
			f.login(test.startup...)
			group := pooltest.Frontend("Q|" + test.query)
			if work := f.proxy.sessions[0].announce(group, groupWork{}); work.Tenant.Name != test.tenant || work.Critical != test.critical {
				t.Errorf("tenant %q, critical %v; want %q, %v", work.Tenant.Name, work.Critical, test.tenant, test.critical)
			}
		})
	}
}

// Of logins in great numbers some wait, until the others are done; nobody is refused.
func TestLoginsAreDelayed(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.LoginDelay, c.MaxClientConn = true, 10_000 })
	f.login()
	var clients []*client
	for range 1000 {
		clients = append(clients, f.dial())
	}
	for _, c := range clients {
		c.startup()
	}
	f.world.Settle()
	welcomed := func() int {
		count := 0
		for _, s := range f.proxy.sessions {
			if s.state == stateReady {
				count++
			}
		}
		return count
	}
	if got := welcomed(); got < 500 || got > 700 {
		t.Errorf("%d of 1000 are let in at once", got)
	}
	clients[len(clients)-1].close(io.EOF) // while it waits
	f.world.Advance(shed.MaxLoginDelay)
	if got := welcomed(); got != 1000 {
		t.Errorf("%d are let in in the end, want 1000", got)
	}
	if delayed := f.proxy.Stats().LoginsDelayed; delayed < 300 {
		t.Errorf("%d logins were delayed", delayed)
	}
}

// A query is answered in the middle of a storm at the time at which it comes, and what
// comes behind it is not held up.
func TestRefusalIsAnsweredAtOnce(t *testing.T) {
	f := newFixture(t, oneServer, func(c *Config) { c.Pool.Shed.MaxWaiters = 1 })
	a, b := f.login(), f.login()
	release := f.block()
	a.send("Q|insert into t values (1)")
	for i := range 3 {
		b.send(fmt.Sprintf("Q|insert into t values (%d)", i))
	}
	if got := strings.Join(pooltest.BackendWords(b.conn.Sent()), "  "); strings.Count(got, "53400") != 3 || strings.Count(got, "Z|I") != 3 {
		t.Errorf("received %s", got)
	}
	release()
}
