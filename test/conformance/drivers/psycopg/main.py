"""What an application sees of PostgreSQL through psycopg 3: a line of JSON per check."""

import datetime
import decimal
import ipaddress
import json
import os
import threading
import uuid

import psycopg
from psycopg.types.json import Jsonb

URL, NUMBER = os.environ["DATABASE_URL"], os.environ["NUMBER"]
TABLE = "psycopg_" + NUMBER
checks = []


def check(function):
    checks.append(function)
    return function


def state(call):
    """The SQLSTATE that a call ends with."""
    try:
        call()
    except psycopg.Error as error:
        return error.sqlstate or type(error).__name__
    return "00000"


def value(connection, query, parameters=None, **options):
    return connection.execute(query, parameters, **options).fetchone()[0]


def driver(connection):
    return "psycopg " + psycopg.__version__


check(driver)


@check
def types(connection):
    values = [
        (1, "int4"), (-(2**62), "int8"), (decimal.Decimal("123456.789012345678901234567890"), "numeric"), (0.1, "float8"),
        ("ünï 'quoted' \\ \n", "text"), (b"\x00\xff\\", "bytea"), (True, "bool"), (None, "text"),
        (datetime.date(2024, 2, 29), "date"), (datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone.utc), "timestamptz"),
        (datetime.timedelta(days=3, microseconds=5), "interval"), (uuid.UUID(int=7), "uuid"), ([1, None, 3], "int4[]"),
        (["a,b", '"'], "text[]"), (Jsonb({"a": [1, None]}), "jsonb"), (ipaddress.ip_network("10.0.0.0/8"), "cidr"),
    ]
    seen = []
    for parameter, name in values:
        for binary in False, True:
            seen.append(repr(value(connection, f"SELECT %s::{name}", [parameter], binary=binary)))
    return seen


@check
def prepared(connection):
    # The driver prepares a statement on the server when it has seen it five times.
    return [value(connection, "SELECT %s::int4 + 1", [i]) for i in range(12)]


@check
def prepared_many(connection):
    return sum(value(connection, f"SELECT %s::int4 + {i}", [i], prepare=True) for _ in range(3) for i in range(150))


@check
def commit_and_rollback(connection):
    connection.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, note text)")
    with connection.transaction():
        connection.execute(f"INSERT INTO {TABLE} VALUES (1, 'kept')")
    with connection.transaction(force_rollback=True):
        connection.execute(f"INSERT INTO {TABLE} VALUES (2, 'not kept')")
    return connection.execute(f"SELECT * FROM {TABLE} ORDER BY id").fetchall()


@check
def savepoints(connection):
    with connection.transaction():
        connection.execute(f"INSERT INTO {TABLE} VALUES (3, 'outer')")
        seen = [state(lambda: duplicate(connection)), connection.info.transaction_status.name]
        with connection.transaction():
            connection.execute(f"INSERT INTO {TABLE} VALUES (4, 'inner')")
    return seen + connection.execute(f"SELECT id FROM {TABLE} ORDER BY id").fetchall()


def duplicate(connection):
    with connection.transaction():
        connection.execute(f"INSERT INTO {TABLE} VALUES (1, 'twice')")


@check
def failed_transaction(connection):
    connection.execute("BEGIN")
    seen = [state(lambda: connection.execute("SELECT 1/0")), connection.info.transaction_status.name]
    seen += [state(lambda: connection.execute("SELECT 1"))]
    connection.execute("COMMIT")
    return seen + [connection.info.transaction_status.name]


@check
def errors(connection):
    seen = []
    for query in (
        "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", f"INSERT INTO {TABLE} VALUES (1)",
        f"INSERT INTO {TABLE} VALUES (NULL)", "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
    ):
        try:
            connection.execute(query, prepare=True)
        except psycopg.Error as error:
            d = error.diag
            seen.append([d.sqlstate, d.severity, d.message_primary.replace(NUMBER, ""), d.statement_position])
    return seen


@check
def notices(connection):
    seen = []
    connection.add_notice_handler(lambda diagnostic: seen.append(diagnostic.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'hear %', 'me'; END $$")
    return seen


@check
def batch(connection):
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {TABLE} VALUES (%s, %s)", [(100 + i, "many") for i in range(200)])
        seen = [cursor.rowcount]
        cursor.executemany(f"UPDATE {TABLE} SET note = %s WHERE id = %s RETURNING id", [("more", 100), ("more", 101)], returning=True)
        while True:
            seen.append(cursor.fetchone())
            if not cursor.nextset():
                return seen


@check
def pipeline(connection):
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int4 * 2", [i]) for i in range(30)]
        pipeline.sync()
        connection.execute("SELECT 1")
        return [cursor.fetchone()[0] for cursor in cursors]


@check
def pipeline_with_an_error(connection):
    def failing():
        with connection.pipeline() as pipeline:
            for query in "SELECT 1", "SELECT 1/0", "SELECT 2":
                connection.execute(query)
            pipeline.sync()

    seen = [state(failing), connection.info.transaction_status.name]
    with connection.pipeline():
        return seen + [connection.execute("SELECT 3").fetchone()[0]]


@check
def copy(connection):
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
            for i in range(5000):
                copy.write_row((1000 + i, "copied"))
        seen = [cursor.rowcount]
        with cursor.copy(f"COPY (SELECT id FROM {TABLE} WHERE id >= 1000 ORDER BY id) TO STDOUT") as copy:
            rows = [int(row[0]) for row in copy.rows()]
        return seen + [len(rows), sum(rows)]


@check
def copy_that_fails(connection):
    def refused():
        with connection.cursor() as cursor, cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
            copy.write("no number\tx\n")

    def given_up():
        with connection.cursor() as cursor, cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
            copy.write_row((9999, "x"))
            raise KeyError

    seen = [state(refused)]
    try:
        given_up()
    except KeyError:
        seen.append("KeyError")
    return seen + [value(connection, f"SELECT count(*) FROM {TABLE} WHERE id = 9999")]


@check
def cancel(connection):
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    seen = [state(lambda: connection.execute("SELECT pg_sleep(60)"))]
    timer.join()
    return seen + [value(connection, "SELECT 1")]


@check
def listen(connection):
    connection.execute(f"LISTEN {TABLE}")
    connection.execute(f"NOTIFY {TABLE}, 'own'")
    seen = [n.payload for n in connection.notifies(timeout=10, stop_after=1)]
    with psycopg.connect(URL, autocommit=True) as other:
        other.execute("SELECT pg_notify(%s, 'from another')", [TABLE])
    seen += [n.payload for n in connection.notifies(timeout=10, stop_after=1)]
    connection.execute("UNLISTEN *")
    return seen


@check
def large(connection):
    rows = connection.execute("SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i").fetchall()
    back = value(connection, "SELECT %s::text", ["y" * 5_000_000])
    return [len(rows), sum(len(row[1]) for row in rows), len(back)]


@check
def settings(connection):
    mine = {"1": "Asia/Tokyo", "2": "America/New_York"}[NUMBER]
    connection.execute(f"CREATE SCHEMA s{NUMBER}; CREATE TABLE s{NUMBER}.mine AS SELECT {NUMBER} AS number")
    connection.execute(f"SET search_path = s{NUMBER}, public; SET TimeZone = '{mine}'")
    connection.execute("SELECT set_config('app.tenant', %s, false)", [NUMBER])
    seen = set()
    for _ in range(40):
        row = connection.execute("SELECT (SELECT number FROM mine), current_setting('TimeZone'), current_setting('app.tenant')").fetchone()
        seen.add(row == (int(NUMBER), mine, NUMBER))
    return [list(seen), connection.info.parameter_status("TimeZone") == mine]


@check
def local_settings(connection):
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = '7s'")
        seen = [value(connection, "SHOW statement_timeout")]
    with connection.transaction(force_rollback=True):
        connection.execute("SET statement_timeout = '8s'")
    return seen + [value(connection, "SHOW statement_timeout")]


@check
def role(connection):
    connection.execute("SET ROLE other")
    seen = [value(connection, "SELECT current_user") for _ in range(3)]
    connection.execute("RESET ROLE")
    return seen + [value(connection, "SELECT current_user")]


@check
def temporary_table(connection):
    connection.execute("CREATE TEMPORARY TABLE scratch (id int)")
    for i in range(5):
        connection.execute("INSERT INTO scratch VALUES (%s)", [i])
    seen = [value(connection, "SELECT sum(id) FROM scratch")]
    connection.execute("DROP TABLE scratch")
    return seen


@check
def advisory_lock(connection):
    seen = [value(connection, "SELECT pg_try_advisory_lock(%s)", [int(NUMBER)]) for _ in range(2)]
    return seen + [value(connection, "SELECT pg_advisory_unlock(%s)", [int(NUMBER)]) for _ in range(3)]


@check
def cursors(connection):
    seen = []
    with connection.transaction(), connection.cursor("c") as cursor:
        cursor.execute("SELECT * FROM generate_series(1, 100)")
        seen += [len(cursor.fetchmany(30)), len(cursor.fetchall())]
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT * FROM generate_series(1, 100)")
        return seen + [len(cursor.fetchmany(60)), len(cursor.fetchmany(60))]


@check
def altered_table(connection):
    connection.execute(f"CREATE TABLE public.{TABLE}_altered (a int); INSERT INTO public.{TABLE}_altered VALUES (1)")
    query = f"SELECT * FROM public.{TABLE}_altered"
    seen = [connection.execute(query, prepare=True).fetchone()]
    connection.execute(f"ALTER TABLE public.{TABLE}_altered ADD b text DEFAULT 'new'")
    seen.append(state(lambda: connection.execute(query, prepare=True)))
    with psycopg.connect(URL, autocommit=True) as other:
        return seen + [other.execute(query, prepare=True).fetchone()]


def main():
    connection = psycopg.connect(URL, autocommit=True)
    for function in checks:
        try:
            saw = function(connection)
        except Exception as error:  # whatever it is, it has been seen
            saw = f"{type(error).__name__} {getattr(error, 'sqlstate', '')}: {error}"
            if connection.closed:
                connection = psycopg.connect(URL, autocommit=True)
        print(json.dumps({"check": function.__name__.replace("_", "-"), "saw": saw}, default=repr), flush=True)


main()
