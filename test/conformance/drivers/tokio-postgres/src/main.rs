//! What an application sees of PostgreSQL through tokio-postgres: a line of JSON per check.

use std::{env, error::Error, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, channel::mpsc, future, pin_mut, stream};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage, binary_copy::BinaryCopyInWriter, error::SqlState, types::{Kind, Type}};

type Seen = Result<Value, Box<dyn Error>>;

/// What the driver is pinned to in Cargo.toml.
const VERSION: &str = "0.7.18";

struct Context {
    url: String,
    number: String,
    table: String,
    client: Client,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
}

async fn connect(url: &str) -> Result<(Client, mpsc::UnboundedReceiver<AsyncMessage>), tokio_postgres::Error> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (sender, receiver) = mpsc::unbounded();
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    tokio::task::spawn_local(async move {
        while let Some(Ok(message)) = messages.next().await {
            let _ = sender.unbounded_send(message); // nobody listens at the end
        }
    });
    Ok((client, receiver))
}

/// The SQLSTATE that something has ended with.
fn state<T>(result: &Result<T, tokio_postgres::Error>) -> String {
    match result {
        Ok(_) => "00000".into(),
        Err(e) => e.code().map_or_else(|| e.to_string(), |code| code.code().into()),
    }
}

/// The text in the first column of the first row.
async fn one(client: &Client, query: &str) -> String {
    match client.simple_query(query).await {
        Ok(messages) => messages
            .iter()
            .find_map(|m| match m {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
                _ => None,
            })
            .unwrap_or_default(),
        Err(e) => state::<()>(&Err(e)),
    }
}

async fn types(c: &mut Context) -> Seen {
    let sql = "SELECT $1::int4, $2::int8, $3::float8, $4::text, $5::bytea, $6::bool, $7::text, $8::int4[], $9::text[], $10::jsonb, $11::timestamptz::text";
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_micros(1_709_168_523_000_004);
    let row = c
        .client
        .query_one(
            &sql.replace("$11::timestamptz::text", "extract(epoch FROM $11::timestamptz)::text"),
            &[
                &1i32, &(-1i64 << 62), &0.1f64, &"ünï 'quoted' \\ \n", &&[0u8, 255, 92][..], &true, &None::<&str>,
                &vec![Some(1i32), None, Some(3)], &vec!["a,b", "\""], &json!({"a": [1, null]}), &at,
            ],
        )
        .await?;
    Ok(json!([
        row.get::<_, i32>(0), row.get::<_, i64>(1), row.get::<_, f64>(2), row.get::<_, &str>(3), row.get::<_, &[u8]>(4), row.get::<_, bool>(5),
        row.get::<_, Option<&str>>(6), row.get::<_, Vec<Option<i32>>>(7), row.get::<_, Vec<&str>>(8), row.get::<_, Value>(9), row.get::<_, &str>(10),
    ]))
}

/// The driver asks the catalog about types that it does not know.
async fn own_types(c: &mut Context) -> Seen {
    c.client.batch_execute(&format!("CREATE TYPE {}_mood AS ENUM ('sad', 'glad')", c.table)).await?;
    let statement = c.client.prepare(&format!("SELECT 'glad'::{}_mood, array['sad']::{}_mood[]", c.table, c.table)).await?;
    let array = match statement.columns()[1].type_().kind() {
        Kind::Array(member) => format!("{:?}", member.kind()),
        other => format!("{other:?}"),
    };
    Ok(json!([format!("{:?}", statement.columns()[0].type_().kind()), array]))
}

async fn prepared(c: &mut Context) -> Seen {
    let statement = c.client.prepare_typed("SELECT $1 + 1", &[Type::INT4]).await?;
    let mut seen = vec![];
    for i in 0..12i32 {
        seen.push(c.client.query_one(&statement, &[&i]).await?.get::<_, i32>(0));
    }
    Ok(json!(seen))
}

async fn prepared_many(c: &mut Context) -> Seen {
    let mut statements = vec![];
    for i in 0..150i32 {
        statements.push(c.client.prepare(&format!("SELECT $1::int4 + {i}")).await?);
    }
    let mut sum = 0;
    for _ in 0..3 {
        for (i, statement) in statements.iter().enumerate() {
            sum += c.client.query_one(statement, &[&(i as i32)]).await?.get::<_, i32>(0);
        }
    }
    Ok(json!(sum))
}

async fn commit_and_rollback(c: &mut Context) -> Seen {
    let table = c.table.clone();
    c.client.batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, note text)")).await?;
    let transaction = c.client.transaction().await?;
    transaction.execute(&format!("INSERT INTO {table} VALUES ($1, $2)"), &[&1i32, &"kept"]).await?;
    transaction.commit().await?;
    let transaction = c.client.transaction().await?;
    transaction.execute(&format!("INSERT INTO {table} VALUES (2, 'not kept')"), &[]).await?;
    drop(transaction); // rolls back
    Ok(json!(one(&c.client, &format!("SELECT string_agg(id || note, ',') FROM {table}")).await))
}

async fn savepoints(c: &mut Context) -> Seen {
    let table = c.table.clone();
    let mut transaction = c.client.transaction().await?;
    let savepoint = transaction.savepoint("a").await?;
    let seen = [
        state(&savepoint.execute(&format!("INSERT INTO {table} VALUES (1, 'twice')"), &[]).await),
        state(&savepoint.execute("SELECT 1", &[]).await),
    ];
    savepoint.rollback().await?;
    transaction.execute(&format!("INSERT INTO {table} VALUES (3, 'behind')"), &[]).await?;
    transaction.commit().await?;
    Ok(json!([seen, one(&c.client, &format!("SELECT string_agg(id::text, ',') FROM {table}")).await]))
}

async fn errors(c: &mut Context) -> Seen {
    let table = &c.table;
    let mut seen = vec![];
    for query in [
        "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT 'x'::int", &format!("INSERT INTO {table} VALUES (1)"),
        &format!("INSERT INTO {table} VALUES (NULL)"), "SELECT nothing()", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ABCDE'; END $$",
    ] {
        let result = c.client.query(query, &[]).await;
        let error = result.as_ref().err().and_then(|e| e.as_db_error());
        seen.push(json!([
            state(&result),
            error.map(|e| e.message().replace(&c.number, "")),
            error.map(|e| format!("{:?}", e.position())),
            error.and_then(|e| e.constraint()).map(|name| name.replace(&c.number, "")),
        ]));
    }
    Ok(json!(seen))
}

/// The driver pipelines what is awaited together.
async fn pipelined(c: &mut Context) -> Seen {
    let client = &c.client;
    let statement = client.prepare("SELECT $1::int4 * 2").await?;
    let parameters: Vec<i32> = (0..50).collect();
    let rows = future::try_join_all(parameters.iter().map(|i| {
        let statement = &statement;
        async move { client.query_one(statement, &[i]).await.map(|row| row.get::<_, i32>(0)) }
    }))
    .await?;
    Ok(json!(rows))
}

async fn pipelined_failure(c: &mut Context) -> Seen {
    let client = &c.client;
    let results = future::join_all(["SELECT 1", "SELECT 1/0", "SELECT 2"].map(|query| client.execute(query, &[]))).await;
    Ok(json!(results.iter().map(state).collect::<Vec<_>>()))
}

async fn copy(c: &mut Context) -> Seen {
    let sink = c.client.copy_in(&format!("COPY {} FROM STDIN BINARY", c.table)).await?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]);
    pin_mut!(writer);
    for i in 0..5000i32 {
        writer.as_mut().write(&[&(1000 + i), &"copied"]).await?;
    }
    let written = writer.finish().await?;
    let parts: Vec<Bytes> = c
        .client
        .copy_out(&format!("COPY (SELECT id FROM {} WHERE id >= 1000) TO STDOUT", c.table))
        .await?
        .try_collect()
        .await?;
    let text = String::from_utf8(parts.concat())?;
    Ok(json!([written, text.lines().map(|line| line.parse::<i64>().unwrap_or(0)).sum::<i64>()]))
}

async fn copy_that_fails(c: &mut Context) -> Seen {
    let sink = c.client.copy_in::<_, Bytes>(&format!("COPY {} FROM STDIN", c.table)).await?;
    pin_mut!(sink);
    sink.send(Bytes::from("no number\tx\n")).await?;
    let refused = state(&sink.finish().await);
    let sink = c.client.copy_in::<_, Bytes>(&format!("COPY {} FROM STDIN", c.table)).await?;
    drop(sink); // gives up
    Ok(json!([refused, one(&c.client, "SELECT 1").await]))
}

async fn cancel(c: &mut Context) -> Seen {
    let token = c.client.cancel_token();
    let sleeping = c.client.execute("SELECT pg_sleep(60)", &[]);
    let canceling = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, canceled) = future::join(sleeping, canceling).await;
    canceled?;
    let canceled = slept.as_ref().err().and_then(|e| e.code()) == Some(&SqlState::QUERY_CANCELED);
    Ok(json!([canceled, one(&c.client, "SELECT 1").await]))
}

async fn listen(c: &mut Context) -> Seen {
    c.client.batch_execute(&format!("LISTEN {0}; NOTIFY {0}, 'own'", c.table)).await?;
    let (other, _messages) = connect(&c.url).await?;
    other.execute("SELECT pg_notify($1, 'from another')", &[&c.table]).await?;
    let mut seen = vec![];
    while seen.len() < 2 {
        if let Some(AsyncMessage::Notification(n)) = timeout(Duration::from_secs(10), c.messages.next()).await? {
            seen.push(n.payload().to_string());
        }
    }
    c.client.batch_execute("UNLISTEN *").await?;
    Ok(json!(seen))
}

async fn large(c: &mut Context) -> Seen {
    let rows = c.client.query("SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i", &[]).await?;
    let back = c.client.query_one("SELECT $1::text", &[&"y".repeat(5_000_000)]).await?;
    Ok(json!([rows.len(), rows.iter().map(|row| row.get::<_, &str>(1).len()).sum::<usize>(), back.get::<_, &str>(0).len()]))
}

async fn settings(c: &mut Context) -> Seen {
    let (number, zone) = (&c.number, if c.number == "1" { "Asia/Tokyo" } else { "America/New_York" });
    c.client
        .batch_execute(&format!(
            "CREATE SCHEMA s{number}; CREATE TABLE s{number}.mine AS SELECT {number} AS number; \
             SET search_path = s{number}, public; SET TimeZone = '{zone}'"
        ))
        .await?;
    c.client.execute("SELECT set_config('app.tenant', $1, false)", &[number]).await?;
    let statement = c.client.prepare("SELECT (SELECT number FROM mine) || current_setting('TimeZone') || current_setting('app.tenant')").await?;
    let mut same = 0;
    for _ in 0..40 {
        let row = c.client.query_one(&statement, &[]).await?;
        same += i32::from(row.get::<_, &str>(0) == format!("{number}{zone}{number}"));
    }
    Ok(json!(same))
}

async fn local_settings(c: &mut Context) -> Seen {
    let mut seen = vec![];
    for (set, end) in [("SET LOCAL statement_timeout = '7s'", "COMMIT"), ("SET statement_timeout = '8s'", "ROLLBACK")] {
        c.client.batch_execute("BEGIN").await?;
        c.client.batch_execute(set).await?;
        seen.push(one(&c.client, "SHOW statement_timeout").await);
        c.client.batch_execute(end).await?;
        seen.push(one(&c.client, "SHOW statement_timeout").await);
    }
    Ok(json!(seen))
}

async fn temporary_table(c: &mut Context) -> Seen {
    c.client.batch_execute("CREATE TEMPORARY TABLE scratch (id int)").await?;
    for i in 0..5i32 {
        c.client.execute("INSERT INTO scratch VALUES ($1)", &[&i]).await?;
    }
    let sum = one(&c.client, "SELECT sum(id) FROM scratch").await;
    c.client.batch_execute("DROP TABLE scratch").await?;
    Ok(json!(sum))
}

async fn portals(c: &mut Context) -> Seen {
    let transaction = c.client.transaction().await?;
    let portal = transaction.bind("SELECT * FROM generate_series(1, 100)", &[]).await?;
    let mut seen = vec![];
    for _ in 0..3 {
        seen.push(transaction.query_portal(&portal, 40).await?.len());
    }
    Ok(json!(seen))
}

async fn altered_table(c: &mut Context) -> Seen {
    let name = format!("public.{}_altered", c.table);
    c.client.batch_execute(&format!("CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1)")).await?;
    let query = format!("SELECT * FROM {name}");
    let statement = c.client.prepare(&query).await?;
    let mut seen = vec![state(&c.client.query(&statement, &[]).await)];
    c.client.batch_execute(&format!("ALTER TABLE {name} ADD b text DEFAULT 'new'")).await?;
    seen.push(state(&c.client.query(&statement, &[]).await));
    seen.push(c.client.query_one(&query, &[]).await?.columns().len().to_string());
    let (other, _messages) = connect(&c.url).await?;
    seen.push(other.query_one(&query, &[]).await?.columns().len().to_string());
    Ok(json!(seen))
}

macro_rules! checks {
    ($context:ident, $($name:literal => $run:expr,)*) => {
        $(
            let saw = match timeout(Duration::from_secs(60), $run(&mut $context)).await {
                Ok(Ok(saw)) => saw,
                Ok(Err(error)) => json!(error.to_string()),
                Err(_) => json!("timeout"),
            };
            println!("{}", json!({"check": $name, "saw": saw}));
        )*
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::task::LocalSet::new().run_until(run()).await
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (url, number) = (env::var("DATABASE_URL")?, env::var("NUMBER")?);
    let (client, messages) = connect(&url).await?;
    let mut context = Context { table: format!("tokio_{number}"), url, number, client, messages };
    println!("{}", json!({"check": "driver", "saw": format!("tokio-postgres {VERSION}")}));
    checks! { context,
        "types" => types,
        "own-types" => own_types,
        "prepared" => prepared,
        "prepared-many" => prepared_many,
        "commit-and-rollback" => commit_and_rollback,
        "savepoints" => savepoints,
        "errors" => errors,
        "pipelined" => pipelined,
        "pipelined-failure" => pipelined_failure,
        "copy" => copy,
        "copy-that-fails" => copy_that_fails,
        "cancel" => cancel,
        "listen" => listen,
        "large" => large,
        "settings" => settings,
        "local-settings" => local_settings,
        "temporary-table" => temporary_table,
        "portals" => portals,
        "altered-table" => altered_table,
    }
    Ok(())
}
