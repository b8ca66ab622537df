"""What an application sees of PostgreSQL through asyncpg: a line of JSON per check."""

import asyncio
import datetime
import decimal
import ipaddress
import json
import os
import uuid

import asyncpg

URL, NUMBER = os.environ["DATABASE_URL"], os.environ["NUMBER"]
TABLE = "asyncpg_" + NUMBER
checks = []


def check(function):
    checks.append(function)
    return function


async def state(call):
    """The SQLSTATE that a call ends with."""
    try:
        await call
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return "00000"


@check
async def driver(connection):
    return "asyncpg " + asyncpg.__version__


@check
async def types(connection):
    values = [
        (1, "int4"), (-(2**62), "int8"), (decimal.Decimal("123456.789012345678901234567890"), "numeric"), (0.1, "float8"),
        ("ünï 'quoted' \\ \n", "text"), (b"\x00\xff\\", "bytea"), (True, "bool"), (None, "text"),
        (datetime.date(2024, 2, 29), "date"), (datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone.utc), "timestamptz"),
        (datetime.timedelta(days=3, microseconds=5), "interval"), (uuid.UUID(int=7), "uuid"), ([1, None, 3], "int4[]"),
        (["a,b", '"'], "text[]"), ('{"a": [1, null]}', "jsonb"), (ipaddress.ip_network("10.0.0.0/8"), "cidr"),
        (asyncpg.Range(1, 5), "int4range"),
    ]
    return [repr(await connection.fetchval(f"SELECT $1::{name}", parameter)) for parameter, name in values]


@check
async def own_types(connection):
    # The driver asks the catalog about types that it does not know.
    await connection.execute(f"CREATE TYPE {TABLE}_mood AS ENUM ('sad', 'glad'); CREATE TYPE {TABLE}_pair AS (a int, b {TABLE}_mood)")
    row = await connection.fetchval(f"SELECT ROW(1, 'glad')::{TABLE}_pair")
    return [row["a"], row["b"], await connection.fetchval(f"SELECT array['sad', $1]::{TABLE}_mood[]", "glad")]


@check
async def prepared(connection):
    statement = await connection.prepare("SELECT $1::int4 + 1")
    return [await statement.fetchval(i) for i in range(12)] + [await connection.fetchval("SELECT $1::int4 + 2", i) for i in range(12)]


@check
async def prepared_many(connection):
    # More than the driver's own cache of 100 holds.
    return sum([await connection.fetchval(f"SELECT $1::int4 + {i}", i) for _ in range(3) for i in range(150)])


@check
async def commit_and_rollback(connection):
    await connection.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, note text)")
    async with connection.transaction():
        await connection.execute(f"INSERT INTO {TABLE} VALUES (1, 'kept')")
    transaction = connection.transaction(isolation="serializable")
    await transaction.start()
    await connection.execute(f"INSERT INTO {TABLE} VALUES (2, 'not kept')")
    await transaction.rollback()
    return [tuple(row) for row in await connection.fetch(f"SELECT * FROM {TABLE} ORDER BY id")]


@check
async def savepoints(connection):
    async with connection.transaction():
        await connection.execute(f"INSERT INTO {TABLE} VALUES (3, 'outer')")
        seen = [await state(duplicate(connection)), connection.is_in_transaction()]
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {TABLE} VALUES (4, 'inner')")
    return seen + [row["id"] for row in await connection.fetch(f"SELECT id FROM {TABLE} ORDER BY id")]


async def duplicate(connection):
    async with connection.transaction():
        await connection.execute(f"INSERT INTO {TABLE} VALUES (1, 'twice')")


@check
async def failed_transaction(connection):
    await connection.execute("BEGIN")
    seen = [await state(connection.execute("SELECT 1/0")), await state(connection.fetch("SELECT 1"))]
    return seen + [await connection.execute("COMMIT"), connection.is_in_transaction()]


@check
async def errors(connection):
    seen = []
    for query in (
        "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", f"INSERT INTO {TABLE} VALUES (1)",
        f"INSERT INTO {TABLE} VALUES (NULL)", "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
    ):
        try:
            await connection.fetch(query)
        except asyncpg.PostgresError as error:
            seen.append([error.sqlstate, error.severity, error.message.replace(NUMBER, ""), error.position])
    return seen


@check
async def notices(connection):
    seen = []
    listener = lambda _, message: seen.append(message.message)  # noqa: E731
    connection.add_log_listener(listener)
    await connection.execute("DO $$ BEGIN RAISE NOTICE 'hear %', 'me'; END $$")
    await asyncio.sleep(0)
    connection.remove_log_listener(listener)
    return seen


@check
async def batch(connection):
    await connection.executemany(f"INSERT INTO {TABLE} VALUES ($1, $2)", [(100 + i, "many") for i in range(200)])
    seen = [await state(connection.executemany(f"INSERT INTO {TABLE} VALUES ($1, $2)", [(400, "new"), (100, "twice")]))]
    rows = await connection.fetchmany(f"UPDATE {TABLE} SET note = $1 WHERE id = $2 RETURNING id", [("more", 100), ("more", 101)])
    return seen + [row["id"] for row in rows] + [await connection.fetchval(f"SELECT count(*) FROM {TABLE}")]


@check
async def copy(connection):
    seen = [await connection.copy_records_to_table(TABLE, records=[(1000 + i, "copied") for i in range(5000)])]
    parts = []

    async def take(data):
        parts.append(data)

    seen.append(await connection.copy_from_query(f"SELECT id FROM {TABLE} WHERE id >= 1000 ORDER BY id", output=take))
    return seen + [sum(int(line) for line in b"".join(parts).split())]


@check
async def copy_that_fails(connection):
    seen = [await state(connection.copy_records_to_table(TABLE, records=[(9999, "new"), (1000, "twice")]))]
    return seen + [await connection.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = 9999")]


@check
async def cancel(connection):
    seen = []
    try:
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        seen.append("timeout")
    task = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        seen.append("cancelled")
    return seen + [await connection.fetchval("SELECT 1")]


@check
async def listen(connection):
    queue = asyncio.Queue()
    listener = lambda _, pid, channel, payload: queue.put_nowait(payload)  # noqa: E731
    await connection.add_listener(TABLE, listener)
    await connection.execute(f"NOTIFY {TABLE}, 'own'")
    seen = [await asyncio.wait_for(queue.get(), 10)]
    other = await asyncpg.connect(URL)
    await other.execute("SELECT pg_notify($1, 'from another')", TABLE)
    await other.close()
    seen.append(await asyncio.wait_for(queue.get(), 10))
    await connection.remove_listener(TABLE, listener)
    return seen


@check
async def large(connection):
    rows = await connection.fetch("SELECT i, repeat('x', 200) AS x FROM generate_series(1, 20000) i")
    back = await connection.fetchval("SELECT $1::text", "y" * 5_000_000)
    return [len(rows), sum(len(row["x"]) for row in rows), len(back)]


@check
async def settings(connection):
    mine = {"1": "Asia/Tokyo", "2": "America/New_York"}[NUMBER]
    await connection.execute(f"CREATE SCHEMA s{NUMBER}; CREATE TABLE s{NUMBER}.mine AS SELECT {NUMBER} AS number")
    await connection.execute(f"SET search_path = s{NUMBER}, public; SET TimeZone = '{mine}'")
    await connection.execute("SELECT set_config('app.tenant', $1, false)", NUMBER)
    seen = set()
    for _ in range(40):
        row = await connection.fetchrow("SELECT (SELECT number FROM mine), current_setting('TimeZone'), current_setting('app.tenant')")
        seen.add(tuple(row) == (int(NUMBER), mine, NUMBER))
    return [list(seen), connection.get_settings().TimeZone == mine]


@check
async def local_settings(connection):
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '7s'")
        seen = [await connection.fetchval("SHOW statement_timeout")]
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SET statement_timeout = '8s'")
    await transaction.rollback()
    return seen + [await connection.fetchval("SHOW statement_timeout")]


@check
async def reset(connection):
    # What asyncpg's pool does with a connection that is given back.
    await connection.execute("SET statement_timeout = '9s'; SET ROLE other")
    await connection.reset()
    return [await connection.fetchval("SHOW statement_timeout"), await connection.fetchval("SELECT current_user")]


@check
async def temporary_table(connection):
    await connection.execute("CREATE TEMPORARY TABLE scratch (id int)")
    for i in range(5):
        await connection.execute("INSERT INTO scratch VALUES ($1)", i)
    seen = [await connection.fetchval("SELECT sum(id) FROM scratch")]
    await connection.execute("DROP TABLE scratch")
    return seen


@check
async def advisory_lock(connection):
    number = int(NUMBER)
    seen = [await connection.fetchval("SELECT pg_try_advisory_lock($1)", number) for _ in range(2)]
    return seen + [await connection.fetchval("SELECT pg_advisory_unlock($1)", number) for _ in range(3)]


@check
async def cursors(connection):
    async with connection.transaction():
        cursor = await connection.cursor("SELECT * FROM generate_series(1, 100)")
        seen = [len(await cursor.fetch(30)), await cursor.forward(10), len(await cursor.fetch(1000))]
        return seen + [sum([row[0] async for row in connection.cursor("SELECT * FROM generate_series(1, 120)", prefetch=50)])]


@check
async def altered_table(connection):
    await connection.execute(f"CREATE TABLE public.{TABLE}_altered (a int); INSERT INTO public.{TABLE}_altered VALUES (1)")
    query = f"SELECT * FROM public.{TABLE}_altered"
    seen = [tuple(await connection.fetchrow(query))]
    await connection.execute(f"ALTER TABLE public.{TABLE}_altered ADD b text DEFAULT 'new'")
    seen.append(tuple(await connection.fetchrow(query)))  # the driver prepares it anew
    other = await asyncpg.connect(URL)
    seen.append(tuple(await other.fetchrow(query)))
    await other.close()
    return seen


@check
async def pool(connection):
    async with asyncpg.create_pool(URL, min_size=1, max_size=5) as pool:
        return await asyncio.gather(*(pool.fetchval("SELECT $1::int4", i) for i in range(40)))


async def main():
    connection = await asyncpg.connect(URL)
    for function in checks:
        try:
            saw = await asyncio.wait_for(function(connection), 60)
        except Exception as error:  # whatever it is, it has been seen
            saw = f"{type(error).__name__} {getattr(error, 'sqlstate', '')}: {error}"
            if connection.is_closed():
                connection = await asyncpg.connect(URL)
        print(json.dumps({"check": function.__name__.replace("_", "-"), "saw": saw}, default=repr), flush=True)


asyncio.run(main())
