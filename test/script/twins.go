package script

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/billproxy/billproxy/cmd/billproxy/devpg"
)

// User is the role that the clients of a script log in as unless it says otherwise.
// It may become reader and writer; boss, who may log in too, is a superuser.
const User = "app"

const roles = `
do $$ begin
  if to_regrole('app') is null then
    create role app login;
    create role boss login superuser;
    create role reader;
    create role writer;
    grant reader, writer to app;
  end if;
end $$`

// emptyDatabase drops everything that a script may have made.
const emptyDatabase = `
do $$ declare name text; begin
  for name in select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' loop
    execute format('drop schema %I cascade', name);
  end loop;
end $$;
create schema public authorization app;
grant usage on schema public to public;`

// Twins are two databases alike. One is reached directly, the other through a proxy.
// Their methods may be called by one goroutine at a time.
type Twins struct {
	direct, proxied *player
	cluster         *devpg.Cluster
}

// NewTwins makes the databases, whose names begin with name, and the roles, unless the
// cluster has them. Whatever takes longer than patience has failed.
func NewTwins(ctx context.Context, cluster *devpg.Cluster, name string, patience time.Duration) (*Twins, error) {
	admin, err := pgx.Connect(ctx, cluster.URL(devpg.Superuser, "postgres"))
	if err != nil {
		return nil, err
	}
	defer admin.Close(ctx)
	t := &Twins{cluster: cluster}
	direct, proxied := name+"_direct", name+"_proxied"
	for _, sql := range []string{roles, "create database " + direct + " owner app", "create database " + proxied + " owner app"} {
		if err := admin.PgConn().Exec(ctx, sql).Close(); err != nil {
			return nil, err
		}
	}
	for _, side := range []struct {
		player   **player
		database string
	}{{&t.direct, direct}, {&t.proxied, proxied}} {
		admin, err := pgx.Connect(ctx, cluster.URL(devpg.Superuser, side.database))
		if err != nil {
			return nil, errors.Join(err, t.Close(ctx))
		}
		*side.player = &player{
			address: cluster.TCPAddress(), user: User, database: side.database,
			patience: patience, admin: admin, clients: map[string]*client{},
		}
	}
	return t, nil
}

// SetPatience changes how long anything may take.
func (t *Twins) SetPatience(patience time.Duration) {
	for _, p := range t.players() {
		p.patience = patience
	}
}

// Close drops the databases.
func (t *Twins) Close(ctx context.Context) error {
	t.leave()
	var databases []string
	for _, p := range t.players() {
		if p != nil {
			_ = p.admin.Close(ctx) // it is cut otherwise
			databases = append(databases, p.database)
		}
	}
	admin, err := pgx.Connect(ctx, t.cluster.URL(devpg.Superuser, "postgres"))
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	for _, database := range databases {
		if err := admin.PgConn().Exec(ctx, "drop database "+database+" with (force)").Close(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Twins) players() []*player { return []*player{t.direct, t.proxied} }

// both calls a function for both sides at once.
func (t *Twins) both(call func(*player) error) error {
	var directly, proxied error
	var sides sync.WaitGroup
	sides.Go(func() { directly = call(t.direct) })
	sides.Go(func() { proxied = call(t.proxied) })
	sides.Wait()
	return errors.Join(directly, proxied)
}

// prepare makes both databases what the script's setup makes of empty ones.
func (t *Twins) prepare(ctx context.Context, s *Script) error {
	return t.both(func(p *player) error {
		if s.Repeats && p.setup == s.Setup {
			if done, err := p.reset(ctx); done || err != nil {
				return err
			}
		}
		p.setup = ""
		setup := s.Setup
		if err := p.admin.PgConn().Exec(ctx, emptyDatabase).Close(); err != nil {
			return fmt.Errorf("empty the database: %w", err)
		}
		if setup == "" {
			return nil
		}
		owner, err := pgx.Connect(ctx, t.cluster.URL(User, p.database))
		if err != nil {
			return err
		}
		defer owner.Close(ctx)
		if err := owner.PgConn().Exec(ctx, setup).Close(); err != nil {
			return fmt.Errorf("setup: %w", err)
		}
		if s.Repeats {
			p.setup = setup
			return p.admin.PgConn().Exec(ctx, note).Close()
		}
		return nil
	})
}

// Result is how playing a script has gone.
type Result struct {
	Steps    int // played
	Messages int // compared
	Mismatch *Mismatch

	// Waits: on either side nothing has come, because clients wait for each other, and the
	// rest has not been played.
	Waits bool
}

// Mismatch is where the twins differ.
type Mismatch struct {
	Index           int // of the step
	Step            Step
	Direct, Proxied []string
}

// String shows the step and both answers.
func (m *Mismatch) String() string {
	where := fmt.Sprintf("step %d", m.Index)
	if m.Step.Line > 0 {
		where = fmt.Sprintf("line %d", m.Step.Line)
	}
	return fmt.Sprintf("%s: %s\nthrough the proxy:\n\t%s\ndirectly:\n\t%s",
		where, m.Step, shorten(m.Proxied), shorten(m.Direct))
}

// shorten makes a transcript fit for the screen.
func shorten(transcript []string) string {
	const longest, most = 600, 40
	var lines []string
	for _, line := range transcript {
		if len(line) > longest {
			line = fmt.Sprintf("%s… (%d bytes)", line[:longest], len(line))
		}
		lines = append(lines, line)
	}
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… (%d messages)", len(transcript)))
	}
	return strings.Join(lines, "\n\t")
}

// Play plays a script, on one side through the proxy that listens at the address,
// up to the first step that the sides do not agree on. An error is one of the test.
func (t *Twins) Play(ctx context.Context, proxy string, s *Script) (Result, error) {
	var result Result
	if err := t.prepare(ctx, s); err != nil {
		return result, err
	}
	t.proxied.address = proxy
	defer t.leave()
	for i := range s.Steps {
		step := &s.Steps[i]
		if s.Servers > 0 && t.wouldWait(step, s.Servers) {
			continue
		}
		var m Mismatch
		_ = t.both(func(p *player) error { // play has nothing to complain of
			transcript := s.compared(p.play(ctx, step))
			if p == t.direct {
				m.Direct = transcript
			} else {
				m.Proxied = transcript
			}
			return nil
		})
		if step.Action == Disconnect || step.Action == Vanish {
			if err := t.settle(ctx, &m); err != nil {
				return result, err
			}
		}
		switch {
		case !endsInVain(m.Direct):
		case endsInVain(m.Proxied):
			result.Waits = true
			return result, nil
		default:
			return result, fmt.Errorf("%s: directly, nothing came within %v", step, t.direct.patience)
		}
		result.Steps++
		result.Messages += len(m.Direct)
		if !slices.Equal(m.Direct, m.Proxied) {
			if s.GiveUp != nil && s.GiveUp(m.Direct, m.Proxied) {
				break
			}
			m.Index, m.Step = i, *step
			result.Mismatch = &m
			break
		}
	}
	return result, nil
}

func endsInVain(transcript []string) bool {
	n := len(transcript)
	return n > 0 && transcript[n-1] == inVain
}

// leave has all clients of both sides leave.
func (t *Twins) leave() {
	for _, p := range t.players() {
		if p != nil {
			p.leave()
		}
	}
}

// wouldWait reports whether others are in transactions on all servers.
func (t *Twins) wouldWait(step *Step, servers int) bool {
	if step.Action != Send && step.Action != Login {
		return false
	}
	busy := 0
	for name, c := range t.direct.clients {
		switch inTransaction := c.TxStatus != 'I'; {
		case inTransaction && name == step.Client && step.Action == Send:
			return false
		case inTransaction:
			busy++
		}
	}
	return busy >= servers
}

// where matches the field of an error that says where it happened.
var where = regexp.MustCompile(` where="(?:[^"\\]|\\.)*"`)

// compared is what of a transcript is not ignored.
func (s *Script) compared(transcript []string) []string {
	var compared []string
	for _, line := range transcript {
		name, _, _ := strings.Cut(line, " ")
		if _, ignored := s.Ignored[name]; ignored {
			continue
		}
		if _, ignored := s.Ignored[ignoredWhere]; ignored {
			line = where.ReplaceAllString(line, "")
		}
		compared = append(compared, line)
	}
	if s.Excuse != nil {
		compared = s.Excuse(compared)
	}
	return compared
}

// held lists what clients hold that other clients can see: advisory locks and open
// transactions that have written.
const held = `
select coalesce(string_agg(lock, e'\n' order by lock), '') from (
  select case locktype when 'transactionid' then locktype else format('%s %s %s %s %s', locktype, mode, classid, objid, objsubid) end as lock
  from pg_locks join pg_stat_activity using (pid)
  where datname = current_database() and locktype in ('advisory', 'transactionid') and granted
) as locks`

// settle waits until a client that has left has left nothing behind: directly, its
// backend has to end; through the proxy, the same locks have to be held.
func (t *Twins) settle(ctx context.Context, m *Mismatch) error {
	const backends = `select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
	for deadline := time.Now().Add(t.direct.patience); ; time.Sleep(time.Millisecond) {
		count := 0
		if err := t.direct.admin.QueryRow(ctx, backends).Scan(&count); err != nil {
			return err
		}
		var directly, proxied string
		if err := errors.Join(t.direct.admin.QueryRow(ctx, held).Scan(&directly), t.proxied.admin.QueryRow(ctx, held).Scan(&proxied)); err != nil {
			return err
		}
		if count <= len(t.direct.clients) && directly == proxied {
			return nil
		}
		if time.Now().After(deadline) {
			m.Direct = append(m.Direct, "held: "+directly)
			m.Proxied = append(m.Proxied, "held: "+proxied)
			return nil
		}
	}
}
