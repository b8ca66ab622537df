package script

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// To make a database takes longer than to play a short script in it. So what the setup
// has made is noted, and if a script has left it as it was, the next one with the same
// setup gets its rows back only.

// note notes which objects there are, and copies the rows of tables. Scripts do not look
// into schema twin_saved.
const note = `
create schema twin_saved;
create view twin_saved.now as
  with space as (select oid, xmin from pg_namespace where nspname !~ '^(pg_|twin_saved)' and nspname <> 'information_schema')
  select 'pg_namespace'::regclass as catalog, oid, xmin::text as version from space
  union all select 'pg_class'::regclass, oid, xmin::text as version from pg_class where relnamespace in (select oid from space)
  union all select 'pg_type'::regclass, oid, xmin::text as version from pg_type where typnamespace in (select oid from space)
  union all select 'pg_proc'::regclass, oid, xmin::text as version from pg_proc where pronamespace in (select oid from space);
create table twin_saved.object as select * from twin_saved.now;
create table twin_saved.relation (name regclass, copy text, value bigint, called boolean);
do $$ declare r record; begin
  for r in select c.oid::regclass as name, c.oid, c.relkind from pg_class c join twin_saved.object using (oid) where relkind in ('r', 'S') loop
    if r.relkind = 'S' then
      execute format('insert into twin_saved.relation select %L, null, last_value, is_called from %s', r.name, r.name);
    else
      execute format('create table twin_saved.rows_%s as table %s', r.oid, r.name);
      insert into twin_saved.relation values (r.name, format('twin_saved.rows_%s', r.oid));
    end if;
  end loop;
end $$;`

// reset undoes what a script has done to rows and sequences, and drops its functions. With
// the SQLSTATE otherObjects it fails if there are others than were noted.
const reset = `
do $$ declare r record; begin
  set local session_replication_role = replica;
  for r in select oid::regprocedure as name from twin_saved.now where catalog = 'pg_proc'::regclass
      and oid not in (select oid from twin_saved.object where catalog = 'pg_proc'::regclass) loop
    execute format('drop routine %s cascade', r.name);
  end loop;
  if exists (table twin_saved.now except table twin_saved.object) or exists (table twin_saved.object except table twin_saved.now) then
    raise exception using errcode = 'TWINS';
  end if;
  for r in table twin_saved.relation loop
    if r.copy is null then
      perform setval(r.name, r.value, r.called);
    else
      execute format('delete from %s', r.name);
      execute format('insert into %s table %s', r.name, r.copy);
    end if;
  end loop;
end $$;`

const otherObjects = "TWINS"

// endOthers waits until the backends have ended that the last script has left: those of a
// proxy that was killed may hold locks for a moment.
const endOthers = `
select pg_terminate_backend(pid, 10000) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`

// reset gives the database back what the setup made, and reports whether it could.
func (p *player) reset(ctx context.Context) (bool, error) {
	if err := p.admin.PgConn().Exec(ctx, endOthers).Close(); err != nil {
		return false, err
	}
	err := p.admin.PgConn().Exec(ctx, reset).Close()
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && refusal.Code == otherObjects {
		return false, nil
	}
	return err == nil, err
}
