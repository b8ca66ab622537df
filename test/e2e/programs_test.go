package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// program prepares one of PostgreSQL's own clients, with nothing of our environment
// but PATH.
func program(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(shared.cluster.BinDir(), name), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PGCONNECT_TIMEOUT=60", "HOME=" + t.TempDir()}
	return cmd
}

// psqlScript is what a user may do by hand; %DIR% is a folder for files, %LONG% a
// long text.
const psqlScript = `
create table item (id int primary key, name text, price numeric(12, 2) default 1.50);
create index on item (name);
\d item
\dt
\d missing
insert into item values (1, 'one'), (2, 'two'); select count(*) from item; select 'last';
select 1 \; select 2 \; select 3;
insert into item values (3, 'three') \; select 1/0 \; insert into item values (4, 'four');
select * from item order by id;
select * from missing;
select 'the session is usable' as after_an_error;
begin; select 1/0; select 1; rollback;
begin; insert into item values (5, 'five'); savepoint a; insert into item values (5, 'again'); rollback to a;
insert into item values (6, 'six'); release a; commit;
select id from item order by id;
\copy item from '%DIR%/good.csv' csv
\copy item from '%DIR%/bad.csv' csv
\copy (select * from item order by id) to '%DIR%/out.csv' csv
copy item (id, name) from stdin;
20	zwanzig
21	\N
\.
copy (select id, name from item order by id) to stdout;
select count(*) as items, sum(price) as total from item \gset
\echo :items :total
select format('select %L as generated', id) from item order by id limit 3 \gexec
do $$ begin raise notice 'a notice %', 1; raise warning 'a warning'; end $$;
\set FETCH_COUNT 2
select * from item order by id;
\unset FETCH_COUNT
\x
select * from item where id = 1;
\x
begin; prepare lookup as select name from item where id = $1; execute lookup(2); execute lookup(3); deallocate lookup; commit;
begin; declare c cursor for select id from item order by id; fetch 2 from c; move 1 from c; fetch all from c; close c; commit;
\encoding LATIN1
select 'caf' || chr(233) as latin;
\encoding UTF8
select repeat('x', 100000) = :'total' as long_message_out, length('%LONG%') as long_message_in;
truncate item;
select count(*) from item;
drop table item;
`

// TestPSQL has psql print the same through the proxy as directly.
func TestPSQL(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	type outcome struct{ printed, file string }
	play := func(url string) outcome {
		dir := t.TempDir()
		for name, content := range map[string]string{
			"good.csv": "10,ten,10.00\n11,eleven,\n",
			"bad.csv":  "12,twelve,12.00\nthirteen,13,13.00\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := program(t, "psql", "-X", "-v", "VERBOSITY=verbose", "-d", url)
		script := strings.NewReplacer("%DIR%", dir, "%LONG%", strings.Repeat("long ", 40_000))
		cmd.Stdin = strings.NewReader(script.Replace(psqlScript))
		printed, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("psql: %v\n%s", err, printed)
		}
		file, err := os.ReadFile(filepath.Join(dir, "out.csv"))
		if err != nil {
			t.Error(err)
		}
		return outcome{string(printed), string(file)}
	}
	want, got := play(d.directURL()), play(p.url(d))
	if got.printed != want.printed {
		t.Errorf("through the proxy psql printed:\n%s\ndirectly:\n%s", got.printed, want.printed)
	}
	if got.file != want.file || !strings.Contains(got.file, "11,eleven") {
		t.Errorf("through the proxy \\copy wrote:\n%s\ndirectly:\n%s", got.file, want.file)
	}
}

// TestPSQLExitCodes compares what scripts rely on.
func TestPSQLExitCodes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, nil)
	for _, args := range [][]string{
		{"-c", "select 1", "-c", "select 2"},
		{"-c", "select 1/0"},
		{"-v", "ON_ERROR_STOP=1", "-c", "select 1/0", "-c", "select 2"},
		{"-1", "-c", "create table kept (i int)", "-c", "select * from missing", "-c", "select 1"},
		{"-1", "-c", "select 1", "-c", "select 2"},
		{"-l", "-At", "-F", " "},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			play := func(url string) (string, int) {
				cmd := program(t, "psql", append([]string{"-X", "-d", url}, args...)...)
				printed, _ := cmd.CombinedOutput() // the exit code tells
				return string(printed), cmd.ProcessState.ExitCode()
			}
			if args[0] == "-l" { // other tests create databases meanwhile
				if printed, code := play(p.url(d)); code != 0 || !strings.Contains(printed, d.name) {
					t.Errorf("psql -l: exit code %d, printed:\n%s", code, printed)
				}
				return
			}
			want, wantCode := play(d.directURL())
			if got, code := play(p.url(d)); got != want || code != wantCode {
				t.Errorf("through the proxy: exit code %d, printed:\n%s\ndirectly: %d:\n%s", code, got, wantCode, want)
			}
		})
	}
}

// TestPSQLInterrupt cancels a query as a user does, with Ctrl-C.
func TestPSQLInterrupt(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "1"})
	g := newGate(t, d)
	cmd := program(t, "psql", "-X", "-d", p.url(d))
	var printed bytes.Buffer
	cmd.Stdin = strings.NewReader("select 'before';\nselect " + g.call() + ";\nselect 'after';\n")
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.await(t, 1)
	// Of a script, Ctrl-C ends psql: it cancels the query first.
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	g.await(t, 0)
	if !strings.Contains(printed.String(), "before") || strings.Contains(printed.String(), "after") {
		t.Errorf("psql printed:\n%s", &printed)
	}
	pids := d.pids(t, 1)
	conn := p.connect(t, d)
	if _, err := conn.Exec(patient(t), "select 1"); err != nil {
		t.Error(err)
	}
	d.expectPIDs(t, pids)
}

var pgbenchProcessed = regexp.MustCompile(`number of transactions actually processed: (\d+)/(\d+)`)

// pgbench runs pgbench and returns how many transactions it processed, all of those
// that it was asked for.
func pgbench(t testing.TB, args ...string) int {
	t.Helper()
	cmd := program(t, "pgbench", args...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench: %v\n%s", err, output)
	}
	processed := pgbenchProcessed.FindSubmatch(output)
	if processed == nil || !bytes.Equal(processed[1], processed[2]) {
		t.Fatalf("pgbench did not process all transactions:\n%s", output)
	}
	if failed := []byte("number of failed transactions: "); bytes.Contains(output, failed) &&
		!bytes.Contains(output, append(failed, "0 (0.000%)"...)) {
		t.Fatalf("pgbench had failures:\n%s", output)
	}
	count, err := strconv.Atoi(string(processed[1]))
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// TestPGBench runs pgbench's reads in each protocol and its standard transaction.
func TestPGBench(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	if output, err := program(t, "pgbench", "-i", "-s", "4", "-q", d.directURL()).CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, output)
	}
	p := startProxy(t, shared.cluster, settings{"DEFAULT_POOL_SIZE": "8"})
	stopWatching := d.watchBackends(t)
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		t.Run("reads "+protocol, func(t *testing.T) {
			if got := pgbench(t, "-n", "-S", "-M", protocol, "-c", "32", "-j", "2", "-t", "100", p.url(d)); got != 3200 {
				t.Errorf("%d transactions, want 3200", got)
			}
		})
	}
	t.Run("pipeline", func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "pipeline.sql")
		content := "\\set id random(1, 400000)\n\\startpipeline\nselect abalance from pgbench_accounts where aid = :id;\n" +
			"begin;\nupdate pgbench_accounts set filler = 'x' where aid = :id;\nselect 1;\ncommit;\n\\endpipeline\n"
		if err := os.WriteFile(script, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		pgbench(t, "-n", "-M", "extended", "-f", script, "-c", "16", "-j", "2", "-t", "50", p.url(d))
	})
	t.Run("standard", func(t *testing.T) {
		processed := 0
		// pgbench does not look at its other clients while it prepares a statement, so
		// there a client must never have to wait for a server that another holds.
		for _, protocol := range []string{"simple", "extended", "prepared"} {
			processed += pgbench(t, "-n", "-b", "tpcb-like", "-M", protocol, "-c", "32", "-j", "2", "-t", "20", p.url(d))
		}
		type totals struct{ accounts, branches, tellers, history, count int }
		d.mu.Lock()
		defer d.mu.Unlock()
		var got totals
		err := d.admin.QueryRow(patient(t), `select (select sum(abalance) from pgbench_accounts),
			(select sum(bbalance) from pgbench_branches), (select sum(tbalance) from pgbench_tellers),
			(select sum(delta) from pgbench_history), (select count(*) from pgbench_history)`).
			Scan(&got.accounts, &got.branches, &got.tellers, &got.history, &got.count)
		if err != nil {
			t.Fatal(err)
		}
		if got.accounts != got.history || got.branches != got.history || got.tellers != got.history || got.count != processed {
			t.Errorf("totals %+v, want equal sums and %d transactions", got, processed)
		}
	})
	if most := stopWatching(); most > 8 {
		t.Errorf("PostgreSQL had up to %d backends of the pool, want at most 8", most)
	}
}
