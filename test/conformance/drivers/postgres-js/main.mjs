// What an application sees of PostgreSQL through postgres.js: a line of JSON per check.

import { readFile } from "node:fs/promises";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";

const { DATABASE_URL, NUMBER } = process.env;
const table = "postgresjs_" + NUMBER;
let heard = () => {};

// connect returns a client of one connection.
const connect = (options = {}) => postgres(DATABASE_URL, { max: 1, onnotice: (n) => heard(n.message), ...options });

// state is the SQLSTATE that a promise ends with.
async function state(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code ?? error.message;
  }
  return "00000";
}

const checks = {
  driver: async () => "postgres.js " + JSON.parse(await readFile("node_modules/postgres/package.json")).version,

  types: async (sql) => {
    const values = [
      [1, "int4"], ["-4611686018427387904", "int8"], ["123456.789012345678901234567890", "numeric"], [0.1, "float8"],
      ["ünï 'quoted' \\ \n", "text"], [Buffer.from([0, 255, 92]), "bytea"], [true, "bool"], [null, "text"],
      [new Date(Date.UTC(2024, 1, 29, 1, 2, 3, 4)), "timestamptz"], ["3 days 00:00:05", "interval"],
      ["00000000-0000-0000-0000-000000000007", "uuid"], [[1, 2, 3], "int4[]"], [["a,b", '"'], "text[]"],
      [{ a: [1, null] }, "jsonb"], ["10.0.0.0/8", "cidr"],
    ];
    const seen = [];
    for (const [parameter, type] of values) seen.push((await sql.unsafe(`SELECT $1::${type} AS v`, [parameter]))[0].v);
    return seen;
  },

  prepared: async (sql) => {
    const seen = [];
    for (let i = 0; i < 12; i++) seen.push((await sql`SELECT ${i}::int4 + 1 AS v`)[0].v);
    return seen;
  },

  "prepared-many": async (sql) => {
    let sum = 0;
    for (let round = 0; round < 3; round++)
      for (let i = 0; i < 150; i++) sum += (await sql.unsafe(`SELECT $1::int4 + ${i} AS v`, [i], { prepare: true }))[0].v;
    return sum;
  },

  "commit-and-rollback": async (sql) => {
    await sql`CREATE TABLE ${sql(table)} (id int PRIMARY KEY, note text)`;
    await sql.begin((sql) => sql`INSERT INTO ${sql(table)} VALUES (1, 'kept')`);
    const seen = [
      await state(
        sql.begin("isolation level serializable", async (sql) => {
          await sql`INSERT INTO ${sql(table)} VALUES (2, 'not kept')`;
          throw new Error("rolled back");
        }),
      ),
    ];
    return [...seen, await sql`SELECT * FROM ${sql(table)} ORDER BY id`];
  },

  savepoints: async (sql) => {
    let seen;
    await sql.begin(async (sql) => {
      seen = await state(sql.savepoint((sql) => sql`INSERT INTO ${sql(table)} VALUES (1, 'twice')`));
      await sql.savepoint((sql) => sql`INSERT INTO ${sql(table)} VALUES (3, 'behind')`);
    });
    return [seen, await sql`SELECT id FROM ${sql(table)} ORDER BY id`];
  },

  // Queries in a transaction are sent without waiting for each other.
  "pipelined-transaction": async (sql) =>
    sql.begin((sql) => [sql`INSERT INTO ${sql(table)} VALUES (4, 'piped')`, sql`SELECT count(*) FROM ${sql(table)}`, sql`SELECT 7 AS seven`]),

  "pipelined-failure": async (sql) => {
    const queries = [];
    const seen = [
      await state(
        sql.begin((sql) => {
          queries.push(state(sql`SELECT 1`), state(sql`SELECT 1/0`), state(sql`SELECT 2`));
          return Promise.all(queries).then(() => sql`SELECT 3`);
        }),
      ),
    ];
    return [...seen, ...(await Promise.all(queries)), (await sql`SELECT 4 AS v`)[0].v];
  },

  pipelined: async (sql) =>
    (await Promise.all(Array.from({ length: 50 }, (_, i) => sql`SELECT ${i}::int4 * 2 AS v`))).map((rows) => rows[0].v),

  "several-statements": async (sql) => {
    const results = await sql.unsafe(`INSERT INTO ${table} VALUES (50, 'x'); SELECT 1 AS one; SELECT 2 AS two`).simple();
    return results.map((r) => [r.command, r.count, [...r]]);
  },

  errors: async (sql) => {
    const seen = [];
    for (const text of [
      "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", `INSERT INTO ${table} VALUES (1)`,
      `INSERT INTO ${table} VALUES (NULL)`, "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
    ]) {
      try {
        await sql.unsafe(text, []);
      } catch (e) {
        seen.push([e.code, e.severity, e.message.replace(NUMBER, ""), e.position, e.constraint_name?.replace(NUMBER, "")]);
      }
    }
    return seen;
  },

  notices: async (sql) => {
    const seen = [];
    heard = (message) => seen.push(message);
    await sql`DO $$ BEGIN RAISE NOTICE 'hear %', 'me'; END $$`;
    heard = () => {};
    return seen;
  },

  // The driver may leave a connection busy behind a COPY: it is not used again.
  copy: async () => {
    const sql = connect();
    const lines = Array.from({ length: 5000 }, (_, i) => `${1000 + i}\tcopied\n`);
    await pipeline(Readable.from(lines), await sql`COPY ${sql(table)} FROM STDIN`.writable());
    const parts = [];
    const take = new Writable({ write: (part, _, done) => (parts.push(part), done()) });
    await pipeline(await sql`COPY (SELECT id FROM ${sql(table)} WHERE id >= 1000 ORDER BY id) TO STDOUT`.readable(), take);
    await sql.end({ timeout: 0 });
    const rows = Buffer.concat(parts).toString().trim().split("\n").map(Number);
    return [rows.length, rows.reduce((a, b) => a + b)];
  },

  cancel: async () => {
    const sql = connect();
    await sql`SELECT 1`;
    const query = sql`SELECT pg_sleep(60)`;
    const sleeping = state(query);
    await new Promise((resolve) => setTimeout(resolve, 300));
    query.cancel();
    const seen = [await sleeping, (await sql`SELECT 1 AS v`)[0].v];
    await sql.end();
    return seen;
  },

  listen: async (sql) => {
    const seen = [];
    let next;
    const payload = () => new Promise((resolve) => (next = resolve));
    let waiting = payload();
    const { unlisten } = await sql.listen(table, (payload) => next(payload));
    await sql.notify(table, "own");
    seen.push(await waiting);
    waiting = payload();
    await sql`SELECT pg_notify(${table}, 'again')`;
    seen.push(await waiting);
    await unlisten();
    return seen;
  },

  large: async (sql) => {
    const rows = await sql`SELECT i, repeat('x', 200) AS x FROM generate_series(1, 20000) i`;
    const [{ back }] = await sql`SELECT ${"y".repeat(5_000_000)}::text AS back`;
    return [rows.length, rows.reduce((sum, row) => sum + row.x.length, 0), back.length];
  },

  settings: async (sql) => {
    const mine = { 1: "Asia/Tokyo", 2: "America/New_York" }[NUMBER];
    await sql.unsafe(`CREATE SCHEMA s${NUMBER}; CREATE TABLE s${NUMBER}.mine AS SELECT '${NUMBER}' AS number`);
    await sql.unsafe(`SET search_path = s${NUMBER}, public; SET TimeZone = '${mine}'`);
    await sql`SELECT set_config('app.tenant', ${NUMBER}, false)`;
    const seen = new Set();
    for (let i = 0; i < 40; i++) {
      const [row] = await sql`SELECT (SELECT number FROM mine), current_setting('TimeZone') AS zone, current_setting('app.tenant') AS tenant`;
      seen.add(row.number === NUMBER && row.zone === mine && row.tenant === NUMBER);
    }
    return [...seen];
  },

  "startup-settings": async () => {
    const sql = connect({ connection: { application_name: "named", statement_timeout: 7000, search_path: "pg_catalog" } });
    const seen = [];
    for (let i = 0; i < 3; i++)
      seen.push(await sql`SELECT current_setting('application_name') AS a, current_setting('statement_timeout') AS b, current_setting('search_path') AS c`);
    await sql.unsafe("SET statement_timeout = 0; RESET statement_timeout");
    seen.push(await sql`SHOW statement_timeout`);
    await sql.end();
    return seen;
  },

  "temporary-table": async (sql) => {
    await sql`CREATE TEMPORARY TABLE scratch (id int)`;
    for (let i = 0; i < 5; i++) await sql`INSERT INTO scratch VALUES (${i})`;
    const seen = [await sql`SELECT sum(id) FROM scratch`];
    await sql`DROP TABLE scratch`;
    return seen;
  },

  "advisory-lock": async (sql) => {
    const seen = [];
    for (const call of ["try_advisory_lock", "try_advisory_lock", "advisory_unlock", "advisory_unlock", "advisory_unlock"])
      seen.push((await sql.unsafe(`SELECT pg_${call}($1) AS v`, [NUMBER]))[0].v);
    return seen;
  },

  cursors: async (sql) => {
    const seen = [];
    await sql`SELECT * FROM generate_series(1, 100)`.cursor(30, (rows) => {
      seen.push(rows.length);
    });
    let sum = 0;
    await sql`SELECT i FROM generate_series(1, 1000) i`.forEach((row) => (sum += row.i));
    return [...seen, sum];
  },

  "altered-table": async (sql) => {
    await sql.unsafe(`CREATE TABLE public.${table}_altered (a int); INSERT INTO public.${table}_altered VALUES (1)`);
    const read = (sql) => sql.unsafe(`SELECT * FROM public.${table}_altered`, [], { prepare: true });
    const seen = [await read(sql)];
    await sql.unsafe(`ALTER TABLE public.${table}_altered ADD b text DEFAULT 'new'`);
    seen.push(await state(read(sql)), await state(read(sql)));
    const other = connect();
    seen.push(await read(other));
    await other.end();
    return seen;
  },

  pool: async () => {
    const sql = connect({ max: 5 });
    const seen = await Promise.all(Array.from({ length: 40 }, (_, i) => sql`SELECT ${i}::int4 AS v`));
    await sql.end();
    return seen.map((rows) => rows[0].v);
  },
};

const sql = connect();
for (const [check, run] of Object.entries(checks)) {
  let saw;
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(reject, 60_000, new Error("timeout"))));
  try {
    saw = await Promise.race([run(sql), late]);
  } catch (error) {
    saw = `${error.name} ${error.code ?? ""}: ${error.message}`;
  }
  clearTimeout(timer);
  console.log(JSON.stringify({ check, saw }));
}
process.exit(0);
