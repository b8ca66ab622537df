package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// shedReason returns why a query was not begun, "" if it was.
func shedReason(err error) string {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return ""
	}
	match := regexp.MustCompile(`^billproxy shed reason=(\w+) waited_ms=\d+ retry_after_ms=[1-9]\d*$`).FindStringSubmatch(failure.Detail)
	if match == nil {
		return ""
	}
	return match[1]
}

// TestStallIsShed has the servers hang at a lock while clients come and ask: those who
// come late are told no at once and keep their connection, and when the lock is gone
// all is as before, on the same servers.
func TestStallIsShed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create table item (id int)")
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2", "QUERY_WAIT_TIMEOUT": "2s"})
	fillPool(t, p, d, 2)
	pids := d.pids(t, 2)
	lock := lockTable(t, d, "item")
	stalled := []*wireClient{loginWire(t, p.address, d), loginWire(t, p.address, d)}
	for i, client := range stalled {
		client.query(t, fmt.Sprintf("insert into item values (%d)", i))
	}
	lock.await(t, 2)
	late := p.connect(t, d)
	impatient, calmDown := context.WithCancel(patient(t))
	defer calmDown()
	var others sync.WaitGroup
	for range 8 {
		conn := p.connect(t, d)
		others.Go(func() {
			for impatient.Err() == nil {
				_, _ = conn.Exec(impatient, "insert into item values (10)")
			}
		})
	}
	next := 100
	eventually(t, "a query is refused at once", func() bool {
		next++
		_, err := late.Exec(patient(t), fmt.Sprintf("insert into item values (%d)", next))
		return shedReason(err) == "overload"
	})
	if late.IsClosed() {
		t.Error("a client that was refused has lost its connection")
	}
	// The same query again is a retry, of which there may not be many.
	query := fmt.Sprintf("insert into item values (%d)", next)
	eventually(t, "there are too many retries", func() bool {
		_, err := late.Exec(patient(t), query)
		return shedReason(err) == "retry_budget"
	})
	eventually(t, "the storm is in the log", func() bool { return len(p.log.find("storm begins")) > 0 })
	if status, body := p.adminGet(t, "/metrics"); status != http.StatusOK ||
		!regexp.MustCompile(`billproxy_shed_total\{database="`+d.name+`",reason="overload",user="`+d.role+`"\} [1-9]`).MatchString(body) ||
		!strings.Contains(body, `billproxy_storm{database="`+d.name+`",user="`+d.role+`"} 1`) {
		t.Errorf("metrics: status %d, no storm in:\n%s", status, body)
	}
	calmDown()
	others.Wait()
	lock.release(t)
	for _, client := range stalled {
		if got := client.until(t, "ReadyForQuery"); errorCode(got) != "" {
			t.Errorf("a client that was served got %q", got)
		}
	}
	eventually(t, "queries are served", func() bool {
		_, err := late.Exec(patient(t), "insert into item values (1000)")
		return err == nil
	})
	eventually(t, "the end of the storm is in the log", func() bool { return len(p.log.find("storm ends")) > 0 })
	d.expectPIDs(t, pids)
	if count := value[int](t, d, "select count(*) from item where id > 100 and id < 1000"); count != 0 {
		t.Errorf("%d rows of queries that were refused", count)
	}
}

// TestTenantsTakeTurns has one tenant fill the queue before another comes, whose turn
// is among the next all the same. Critical work goes before both.
func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		settings settings
		last     []string // parameters of the client that comes last
		query    string
		best     int // place that it may have at worst
	}{
		{"by application name", nil, []string{"application_name", "other"}, "insert into turn (who) values ('last')", 2},
		{"by tag", nil, []string{"application_name", "flood"}, "insert into turn (who) values ('last') /*tenant='other'*/", 2},
		{"off", settings{"TENANT_FAIRNESS": "off"}, []string{"application_name", "other"}, "insert into turn (who) values ('last')", 11},
		{"critical by tag", settings{"TENANT_FAIRNESS": "off"}, nil, "insert into turn (who) values ('last') /*priority='critical'*/", 1},
		{"critical by name", settings{"TENANT_FAIRNESS": "on", "CRITICAL": "nobody, other"}, []string{"application_name", "other"}, "insert into turn (who) values ('last')", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.execAsRole(t, "create table turn (place serial, who text)")
			changes := settings{"DEFAULT_POOL_SIZE": "1"}
			for name, setting := range test.settings {
				changes[name] = setting
			}
			p := startProxy(t, shared.cluster, changes)
			var clients []*wireClient
			for range 10 {
				clients = append(clients, loginWire(t, p.address, d, "application_name", "flood"))
			}
			last := loginWire(t, p.address, d, test.last...)
			holder := loginWire(t, p.address, d)
			holder.hold(t)
			for i, client := range clients {
				client.query(t, "insert into turn (who) values ('flood')")
				p.waitPool(t, d, "one more client waits", func(s poolStats) bool { return s.ClientsWaiting == i+1 })
			}
			last.query(t, test.query)
			p.waitPool(t, d, "the last client waits", func(s poolStats) bool { return s.ClientsWaiting == 11 })
			holder.ask(t, "commit")
			for _, client := range append(clients, last) {
				if got := client.until(t, "ReadyForQuery"); errorCode(got) != "" {
					t.Fatalf("got %q", got)
				}
			}
			place := value[int](t, d, "select place from turn where who = 'last'")
			if place > test.best || test.best == 11 && place != 11 {
				t.Errorf("the client that came last had the %d. turn, want %d", place, test.best)
			}
		})
	}
}

// TestDeadlineIsKept refuses work as soon as its client's own time is over.
func TestDeadlineIsKept(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1", "SHED_SQLSTATE": "57014"})
	holder := loginWire(t, p.address, d)
	for _, setting := range []string{"statement_timeout", "billproxy.deadline"} {
		conn := p.connect(t, d, setting, "300ms")
		if _, err := conn.Exec(patient(t), "select 1", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		holder.hold(t)
		_, err := conn.Exec(patient(t), "select 2", pgx.QueryExecModeSimpleProtocol)
		var failure *pgconn.PgError
		if shedReason(err) != "deadline" || !errors.As(err, &failure) || failure.Code != "57014" || failure.Severity != "ERROR" {
			t.Errorf("%s: %v", setting, err)
		}
		holder.ask(t, "commit")
		if _, err := conn.Exec(patient(t), "select 3"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}
