//! Opening, making and migrating the database of a home. What is special to SQLite stands here.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Mutex;
use ulid::Ulid;

use super::{Inner, State, StateError};

/// What brings a database from version n to n + 1, first from 0. A released one never changes.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_batch.sql")];

/// How long a writer waits for another process.
const BUSY: Duration = Duration::from_secs(10);

impl State {
    /// Opens the state of a home, making and migrating it when needed (two processes at once are fine).
    ///
    /// A crash while it is made or migrated leaves the version before.
    pub async fn open(home: &Path) -> Result<Self, StateError> {
        let file = home.join("state.db");
        let place = file.display().to_string();
        let broken = |why: String| StateError::Database { place: place.clone(), why };
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let writer = open_writer(home, &file, &options).await.map_err(broken)?;
        // The file is made private before SQLite sees it, and -wal and -shm take its mode.
        let readers = SqlitePoolOptions::new()
            .max_connections(2)
            .min_connections(0)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true));
        Ok(Self {
            inner: std::sync::Arc::new(Inner { place, writer: Mutex::new(writer), readers }),
        })
    }

    /// The installation's id (a ULID made at first open).
    pub async fn installation(&self) -> Result<String, StateError> {
        sqlx::query_scalar("SELECT id FROM installation")
            .fetch_one(&self.inner.readers)
            .await
            .map_err(|error| self.broken(error))
    }
}

async fn open_writer(
    home: &Path,
    file: &Path,
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, String> {
    let current = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    // The usual case: one look at a database that is as it should be.
    if fs_err::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
        let mut connection = options.connect().await.map_err(text)?;
        let version = version(&mut connection).await.map_err(text)?;
        if version == current {
            return Ok(connection);
        }
        if version > current {
            return Err(format!(
                "it was made by a newer flowrun (version {version}, this one knows {current})"
            ));
        }
    }
    // Making and migrating is done by one process at a time; SQLite's own locks do not cover the switch to WAL.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(text)?;
    let guard = private(&home.join("state.lock")).map_err(text)?;
    let guard = tokio::task::spawn_blocking(move || guard.file().lock().map(|()| guard))
        .await
        .map_err(text)?
        .map_err(text)?;
    private(file).map_err(text)?;
    let mut connection = options.connect().await.map_err(text)?;
    connection.execute("PRAGMA journal_mode = WAL").await.map_err(text)?;
    migrate(&mut connection).await.map_err(text)?;
    drop(guard);
    Ok(connection)
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let made = version(&mut transaction).await?;
    let done = usize::try_from(made).unwrap_or(usize::MAX).min(MIGRATIONS.len());
    for migration in &MIGRATIONS[done..] {
        transaction.execute(*migration).await?;
    }
    if made == 0 {
        // Time and chance come from the database: nothing here reads a clock.
        let (now, random): (i64, Vec<u8>) =
            sqlx::query_as("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER), randomblob(16)")
                .fetch_one(&mut *transaction)
                .await?;
        let random = random.iter().fold(0, |sum: u128, byte| sum << 8 | u128::from(*byte));
        let id = Ulid::from_parts(super::statement::unsigned(now), random).to_string();
        sqlx::query("INSERT INTO installation (one, id, made_at) VALUES (1, $1, $2)")
            .bind(id)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
    }
    let sql = format!("PRAGMA user_version = {}", MIGRATIONS.len());
    transaction.execute(sqlx::AssertSqlSafe(sql)).await?;
    transaction.commit().await
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await
}

/// Opens a file of this user alone, making it when missing.
fn private(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
