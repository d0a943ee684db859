//! Makes and migrates the tables, by one process at a time.

use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::connections::{Connections, Held};
use super::{NOW, PostgresPlace};
use crate::state::open::{MIGRATIONS, installation_id, newer};
use crate::state::patience::told;
use crate::state::statement::{statement, unsigned};

/// One process at a time makes or migrates the tables of a schema.
const LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(hashtextextended(current_schema() || '/flowrun/migrate', 0)) AS TEXT)";

/// The way to a database with the tables of this version. The error is why there is none.
///
/// A crash while it is made or migrated leaves the version before.
pub(in crate::state) async fn open(place: &PostgresPlace) -> Result<Connections, String> {
    if let Some(why) = place.unreadable() {
        return Err(why);
    }
    let connections = Connections::new(place.options(), place.patience());
    prepare(&connections, place.schema()).await?;
    Ok(connections)
}

async fn prepare(connections: &Connections, schema: Option<&str>) -> Result<(), String> {
    let why = |error: sqlx::Error| told(&error);
    let mut held = connections.take().await.map_err(why)?;
    if version(&mut held).await.map_err(why)? == current() {
        return Ok(());
    }
    if let Some(schema) = schema {
        let sql = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        // Two at once: the one that loses is told that it is there.
        if let Err(error) = statement(AssertSqlSafe(sql)).execute(&mut held).await
            && !is_there(&mut held, schema).await.map_err(why)?
        {
            return Err(why(error));
        }
    }
    let present: Option<String> = statement("SELECT CAST(current_schema() AS TEXT)")
        .fetch_one(&mut held)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(why)?;
    if present.is_none() {
        return Err("the schema that its `search_path` names is not there".to_owned());
    }
    held.begin().await.map_err(why)?;
    statement(LOCK).execute(&mut held).await.map_err(why)?;
    let made = version(&mut held).await.map_err(why)?;
    if made > current() {
        return Err(newer(made));
    }
    migrate(&mut held, made).await.map_err(why)?;
    held.commit().await.map_err(why)
}

async fn is_there(held: &mut Held, schema: &str) -> Result<bool, sqlx::Error> {
    let rows = statement("SELECT 1 FROM pg_namespace WHERE nspname = $1").bind(schema);
    Ok(rows.fetch_optional(held).await?.is_some())
}

fn current() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

async fn version(held: &mut Held) -> Result<i64, sqlx::Error> {
    // Not `to_regclass`: within a transaction it remembers what was not there before another process made it.
    let there: bool = statement(
        "SELECT EXISTS (SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
         WHERE relname = 'flowrun_version' AND nspname = current_schema())",
    )
    .fetch_one(held)
    .await?
    .try_get(0)?;
    if !there {
        return Ok(0);
    }
    statement("SELECT version FROM flowrun_version").fetch_one(held).await?.try_get(0)
}

async fn migrate(held: &mut Held, made: i64) -> Result<(), sqlx::Error> {
    let done = usize::try_from(made).unwrap_or(usize::MAX).min(MIGRATIONS.len());
    for migration in &MIGRATIONS[done..] {
        held.script(AssertSqlSafe(for_postgres(migration)).into_sql_str()).await?;
    }
    if made == 0 {
        held.script(
            "CREATE TABLE flowrun_version (one BIGINT PRIMARY KEY CHECK (one = 1), version BIGINT NOT NULL); \
             INSERT INTO flowrun_version (one, version) VALUES (1, 0)"
                .into_sql_str(),
        )
        .await?;
        let sql =
            format!("SELECT {NOW}, md5(CAST(random() AS TEXT) || CAST(clock_timestamp() AS TEXT))");
        let row = statement(AssertSqlSafe(sql)).fetch_one(held).await?;
        let (now, random): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let random = u128::from_str_radix(&random, 16).unwrap_or_default();
        statement("INSERT INTO installation (one, id, made_at) VALUES (1, $1, $2)")
            .bind(installation_id(unsigned(now), random))
            .bind(now)
            .execute(held)
            .await?;
    }
    statement("UPDATE flowrun_version SET version = $1").bind(current()).execute(held).await?;
    Ok(())
}

/// Texts are compared and ordered by their bytes, as SQLite does it, whatever the language of the database.
fn for_postgres(sql: &str) -> String {
    sql.replace(" TEXT", " TEXT COLLATE \"C\"")
}
