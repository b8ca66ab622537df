// What an application sees of PostgreSQL through node-postgres: a line of JSON per check.

import { readFile } from "node:fs/promises";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copy from "pg-copy-streams";
import Cursor from "pg-cursor";

const { DATABASE_URL, NUMBER } = process.env;
const table = "node_" + NUMBER;

// connect returns a client whose death is seen by the query under way.
async function connect() {
  const client = new pg.Client({ connectionString: DATABASE_URL, application_name: "node" });
  client.on("error", () => {});
  await client.connect();
  return client;
}

// state is the SQLSTATE that a promise ends with.
async function state(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code ?? error.message;
  }
  return "00000";
}

const value = async (client, ...query) => Object.values((await client.query(...query)).rows[0])[0];

const checks = {
  driver: async () => "node-postgres " + JSON.parse(await readFile("node_modules/pg/package.json")).version,

  types: async (client) => {
    const values = [
      [1, "int4"], ["-4611686018427387904", "int8"], ["123456.789012345678901234567890", "numeric"], [0.1, "float8"],
      ["ünï 'quoted' \\ \n", "text"], [Buffer.from([0, 255, 92]), "bytea"], [true, "bool"], [null, "text"],
      [new Date(Date.UTC(2024, 1, 29, 1, 2, 3, 4)), "timestamptz"], ["3 days 00:00:05", "interval"],
      ["00000000-0000-0000-0000-000000000007", "uuid"], [[1, null, 3], "int4[]"], [["a,b", '"'], "text[]"],
      [{ a: [1, null] }, "jsonb"], ["10.0.0.0/8", "cidr"],
    ];
    const seen = [];
    for (const [parameter, type] of values) {
      seen.push(await value(client, `SELECT $1::${type}`, [parameter]));
      seen.push(await value(client, { text: `SELECT $1::${type}`, values: [parameter], binary: type === "int4" || type === "bool" }));
    }
    return seen;
  },

  prepared: async (client) => {
    const seen = [];
    for (let i = 0; i < 12; i++) seen.push(await value(client, { name: "add", text: "SELECT $1::int4 + 1", values: [i] }));
    return seen;
  },

  "prepared-many": async (client) => {
    let sum = 0;
    for (let round = 0; round < 3; round++)
      for (let i = 0; i < 150; i++) sum += await value(client, { name: "many" + i, text: `SELECT $1::int4 + ${i}`, values: [i] });
    return sum;
  },

  "commit-and-rollback": async (client) => {
    await client.query(`CREATE TABLE ${table} (id int PRIMARY KEY, note text)`);
    await client.query("BEGIN");
    await client.query(`INSERT INTO ${table} VALUES ($1, $2)`, [1, "kept"]);
    await client.query("COMMIT");
    await client.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
    await client.query(`INSERT INTO ${table} VALUES (2, 'not kept')`);
    await client.query("ROLLBACK");
    return (await client.query(`SELECT * FROM ${table} ORDER BY id`)).rows;
  },

  savepoints: async (client) => {
    await client.query("BEGIN");
    await client.query("SAVEPOINT a");
    const seen = [await state(client.query(`INSERT INTO ${table} VALUES (1, 'twice')`)), await state(client.query("SELECT 1"))];
    await client.query("ROLLBACK TO a");
    await client.query(`INSERT INTO ${table} VALUES (3, 'behind')`);
    await client.query("COMMIT");
    return [...seen, (await client.query(`SELECT id FROM ${table} ORDER BY id`)).rows];
  },

  "failed-transaction": async (client) => {
    await client.query("BEGIN");
    const seen = [await state(client.query("SELECT 1/0")), await state(client.query("SELECT $1::int", [1]))];
    return [...seen, (await client.query("COMMIT")).command];
  },

  "several-statements": async (client) => {
    const results = await client.query(`INSERT INTO ${table} VALUES (50, 'x'); SELECT 1 AS one; SELECT 2 AS two`);
    const seen = results.map((r) => [r.command, r.rowCount, r.rows]);
    seen.push(await state(client.query(`INSERT INTO ${table} VALUES (51, 'x'); SELECT 1/0`)));
    return [...seen, await value(client, `SELECT count(*) FROM ${table} WHERE id >= 50`)];
  },

  errors: async (client) => {
    const seen = [];
    for (const text of [
      "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", `INSERT INTO ${table} VALUES (1)`,
      `INSERT INTO ${table} VALUES (NULL)`, "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
    ]) {
      try {
        await client.query({ text, values: [], queryMode: "extended" });
      } catch (e) {
        seen.push([e.code, e.severity, e.message.replace(NUMBER, ""), e.position, e.constraint?.replace(NUMBER, "")]);
      }
    }
    return seen;
  },

  notices: async (client) => {
    const seen = [];
    client.once("notice", (notice) => seen.push(notice.message));
    await client.query("DO $$ BEGIN RAISE NOTICE 'hear %', 'me'; END $$");
    return seen;
  },

  // The driver sends queries that are waiting as fast as the answers come.
  queued: async (client) => Promise.all(Array.from({ length: 50 }, (_, i) => value(client, "SELECT $1::int4 * 2", [i]))),

  copy: async (client) => {
    const lines = Array.from({ length: 5000 }, (_, i) => `${1000 + i}\tcopied\n`);
    await pipeline(Readable.from(lines), client.query(copy.from(`COPY ${table} FROM STDIN`)));
    const parts = [];
    const take = new Writable({ write: (part, _, done) => (parts.push(part), done()) });
    await pipeline(client.query(copy.to(`COPY (SELECT id FROM ${table} WHERE id >= 1000 ORDER BY id) TO STDOUT`)), take);
    const rows = Buffer.concat(parts).toString().trim().split("\n").map(Number);
    return [rows.length, rows.reduce((a, b) => a + b)];
  },

  "copy-that-fails": async (client) => {
    const seen = [await state(pipeline(Readable.from(["no number\tx\n"]), client.query(copy.from(`COPY ${table} FROM STDIN`))))];
    return [...seen, await value(client, "SELECT 1")];
  },

  cancel: async (client) => {
    const sleeping = state(client.query("SELECT pg_sleep(60)"));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const canceller = new pg.Client({ connectionString: DATABASE_URL });
    canceller.on("error", () => {});
    canceller.cancel(client, client.activeQuery ?? client._activeQuery);
    return [await sleeping, await value(client, "SELECT 1")];
  },

  listen: async (client) => {
    const next = () => new Promise((resolve) => client.once("notification", (n) => resolve(n.payload)));
    await client.query(`LISTEN ${table}`);
    let heard = next();
    await client.query(`NOTIFY ${table}, 'own'`);
    const seen = [await heard];
    heard = next();
    const other = await connect();
    await other.query("SELECT pg_notify($1, 'from another')", [table]);
    await other.end();
    seen.push(await heard);
    await client.query("UNLISTEN *");
    return seen;
  },

  large: async (client) => {
    const { rows } = await client.query("SELECT i, repeat('x', 200) AS x FROM generate_series(1, 20000) i");
    const back = await value(client, "SELECT $1::text", ["y".repeat(5_000_000)]);
    return [rows.length, rows.reduce((sum, row) => sum + row.x.length, 0), back.length];
  },

  settings: async (client) => {
    const mine = { 1: "Asia/Tokyo", 2: "America/New_York" }[NUMBER];
    await client.query(`CREATE SCHEMA s${NUMBER}; CREATE TABLE s${NUMBER}.mine AS SELECT '${NUMBER}' AS number`);
    await client.query(`SET search_path = s${NUMBER}, public; SET TimeZone = '${mine}'`);
    await client.query("SELECT set_config('app.tenant', $1, false)", [NUMBER]);
    const seen = new Set();
    for (let i = 0; i < 40; i++) {
      const { rows } = await client.query(
        "SELECT (SELECT number FROM mine) AS number, current_setting('TimeZone') AS zone, current_setting('app.tenant') AS tenant",
      );
      seen.add(rows[0].number === NUMBER && rows[0].zone === mine && rows[0].tenant === NUMBER);
    }
    return [...seen, await value(client, "SHOW application_name")];
  },

  "local-settings": async (client) => {
    await client.query("BEGIN; SET LOCAL statement_timeout = '7s'");
    const seen = [await value(client, "SHOW statement_timeout")];
    await client.query("COMMIT");
    await client.query("BEGIN; SET statement_timeout = '8s'; ROLLBACK");
    return [...seen, await value(client, "SHOW statement_timeout")];
  },

  role: async (client) => {
    await client.query("SET ROLE other");
    const seen = [await value(client, "SELECT current_user"), await value(client, "SELECT current_user")];
    await client.query("RESET ROLE");
    return [...seen, await value(client, "SELECT current_user")];
  },

  "temporary-table": async (client) => {
    await client.query("CREATE TEMPORARY TABLE scratch (id int)");
    for (let i = 0; i < 5; i++) await client.query("INSERT INTO scratch VALUES ($1)", [i]);
    const seen = [await value(client, "SELECT sum(id) FROM scratch")];
    await client.query("DROP TABLE scratch");
    return seen;
  },

  "advisory-lock": async (client) => {
    const seen = [];
    for (const call of ["try_advisory_lock", "try_advisory_lock", "advisory_unlock", "advisory_unlock", "advisory_unlock"])
      seen.push(await value(client, `SELECT pg_${call}($1)`, [NUMBER]));
    return seen;
  },

  cursors: async (client) => {
    const cursor = client.query(new Cursor("SELECT * FROM generate_series(1, 100)"));
    const seen = [(await cursor.read(30)).length, (await cursor.read(1000)).length];
    await cursor.close();
    await client.query("DECLARE held CURSOR WITH HOLD FOR SELECT * FROM generate_series(1, 100)");
    for (let i = 0; i < 2; i++) seen.push((await client.query("FETCH 60 FROM held")).rowCount);
    await client.query("CLOSE held");
    return seen;
  },

  "altered-table": async (client) => {
    await client.query(`CREATE TABLE public.${table}_altered (a int); INSERT INTO public.${table}_altered VALUES (1)`);
    const text = `SELECT * FROM public.${table}_altered`;
    const seen = [(await client.query({ name: "altered", text })).rows];
    await client.query(`ALTER TABLE public.${table}_altered ADD b text DEFAULT 'new'`);
    seen.push(await state(client.query({ name: "altered", text })), (await client.query(text, [])).rows);
    const other = await connect();
    seen.push((await other.query({ name: "altered", text })).rows);
    await other.end();
    return seen;
  },

  pool: async () => {
    const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 5 });
    const seen = await Promise.all(Array.from({ length: 40 }, (_, i) => value(pool, "SELECT $1::int4", [i])));
    await pool.end();
    return seen;
  },
};

let client = await connect();
for (const [check, run] of Object.entries(checks)) {
  let saw;
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(reject, 60_000, new Error("timeout"))));
  try {
    saw = await Promise.race([run(client), late]);
  } catch (error) {
    saw = `${error.name} ${error.code ?? ""}: ${error.message}`;
    client.end().catch(() => {});
    client = await connect();
  }
  clearTimeout(timer);
  console.log(JSON.stringify({ check, saw }));
}
process.exit(0);
