package differential

// schema is what both databases have: tables of the same name in several schemas,
// sequences, and functions that change the session behind the statement's back.
const schema = `
create schema s1; create schema s2; create schema lib;
create table public.item (id int primary key, name text);
create table s1.item (id int primary key, name text);
create table s2.item (id int primary key, name text, more int default 7);
insert into public.item values (1, 'public one'), (2, 'public two');
insert into s1.item values (1, 's1 one'), (2, 's1 two');
insert into s2.item values (1, 's2 one'), (2, 's2 two');
create table lib.ticket (id serial, owner text);
create sequence lib.counter;
create sequence lib.other start 1000;
create function s1.here() returns text language sql as $$ select 's1'::text $$;
create function s2.here() returns text language sql as $$ select 's2'::text $$;

create function lib.hidden_set(name text, value text) returns void language plpgsql as
  $$ begin execute format('set %s = %L', name, value); end $$;
create function lib.hidden_set_local(name text, value text) returns void language plpgsql as
  $$ begin execute format('set local %s = %L', name, value); end $$;
create function lib.hidden_config(name text, value text, is_local boolean) returns text language plpgsql as
  $$ begin return set_config(name, value, is_local); end $$;
create function lib.hidden_reset(name text) returns void language plpgsql as
  $$ begin execute format('reset %s', name); end $$;
create function lib.hidden_role(name text) returns void language plpgsql as
  $$ begin execute format('set role %I', name); end $$;
create function lib.undone_set(name text, value text) returns text language plpgsql as
  $$ begin
    begin perform set_config(name, value, false); raise exception 'undone'; exception when others then null; end;
    return current_setting(name);
  end $$;
create function lib.scoped() returns text language plpgsql set search_path = s2 set "DateStyle" = 'German' as
  $$ begin return current_setting('search_path') || ' ' || (select name from item where id = 1) || ' ' || date '2026-02-03'; end $$;
create function lib.scoped_set(value text) returns text language plpgsql set search_path = s2 as
  $$ begin perform set_config('application_name', value, false); perform set_config('search_path', 's1', true); return current_setting('search_path'); end $$;
create function lib.hidden_temp(name text) returns void language plpgsql as
  $$ begin execute format('create temp table %I (id int)', name); end $$;
create function lib.hidden_drop(name text) returns void language plpgsql as
  $$ begin if to_regclass('pg_temp.' || name) is not null then execute format('drop table pg_temp.%I', name); end if; end $$;
create function lib.hidden_lock(key int) returns boolean language plpgsql as
  $$ begin return pg_try_advisory_lock(key); end $$;
create function lib.hidden_listen(channel text) returns void language plpgsql as
  $$ begin execute format('listen %I', channel); end $$;
create function lib.hidden_next() returns bigint language plpgsql as
  $$ begin return nextval('lib.counter'); end $$;
create function lib.hidden_prepare(name text) returns void language plpgsql as
  $$ begin execute format('prepare %I as select 42', name); end $$;
create function lib.hidden_cursor(name refcursor) returns refcursor language plpgsql as
  $$ begin open name for select item.id, item.name from s1.item order by id; return name; end $$;
create function lib.fails(name text, value text) returns void language plpgsql as
  $$ begin perform set_config(name, value, false); raise exception 'failed after %', name using errcode = 'U0001'; end $$;
create procedure lib.commits(value text) language plpgsql as
  $$ begin
    perform set_config('application_name', value, false); commit;
    perform set_config('application_name', value || ' local', true); perform set_config('my.last', value, false); rollback;
  end $$;

-- The same without SQL that is put together: what these can do is in their sources.
create function lib.echo(value text) returns text language plpgsql as $$ begin return value; end $$;
create function lib.plain_set(name text, value text) returns void language plpgsql as
  $$ begin perform set_config(name, value, false); end $$;
create function lib.plain_set_local(name text, value text) returns void language plpgsql as
  $$ begin perform lib.echo(set_config(name, value, true)); end $$;
create function lib.plain_reset(name text) returns void language plpgsql as
  $$ begin
    if name = 'search_path' then reset search_path; elsif name = 'TimeZone' then reset time zone;
    elsif name = 'DateStyle' then reset "DateStyle"; elsif name = 'work_mem' then reset work_mem; end if;
  end $$;
create function lib.plain_role(name text) returns text language sql as $$ select set_config('role', name, false) $$;
create function lib.plain_temp(name text) returns void language plpgsql as
  $$ begin
    if name = 't1' then create temp table t1 (id int); elsif name = 't2' then create temp table t2 (id int); else create temp table item (id int); end if;
  end $$;
create function lib.plain_drop(name text) returns void language plpgsql as
  $$ begin if to_regclass('pg_temp.t1') is not null then drop table pg_temp.t1; end if; end $$;
create function lib.plain_lock(key int) returns boolean language sql as $$ select pg_try_advisory_lock(key) $$;
create function lib.plain_listen(channel text) returns void language plpgsql as
  $$ begin if channel = 'ch1' then listen ch1; else listen ch2; end if; end $$;
create function lib.plain_next() returns bigint language plpgsql as $$ begin return lib.hidden_next(); end $$;
create function lib.plain_prepare(name text) returns void language plpgsql as $$ begin prepare q1 as select 42; end $$;
create function lib.plain_tenant(value text) returns text language sql as $$ select set_config('my.tenant', value, false) $$;
create function lib.indirectly(value text) returns text language plpgsql as $$ begin return lib.plain_tenant(value); end $$;

create schema made;
grant all on schema made to public;
grant usage on schema public, s1, s2, lib to reader, writer;
grant select on all tables in schema public, s1, s2, lib to reader;
grant select, insert, update, delete on all tables in schema public, s1, s2, lib to writer;
grant usage on all sequences in schema lib to writer;
`
