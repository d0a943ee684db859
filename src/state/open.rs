//! Opening a state: of the home, or one that machines share. What is special to making and migrating SQLite stands here.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Mutex;
use ulid::Ulid;

use super::database::Database;
use super::home::{ThisHome, remember, written_id};
use super::postgres::{self, PostgresPlace};
use super::{Inner, State, StateError, StatePlace};

/// What brings a database from version n to n + 1, first from 0. A released one never changes. Both databases take them.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_batch.sql"),
    include_str!("migrations/0002_services.sql"),
    include_str!("migrations/0003_secrets.sql"),
    include_str!("migrations/0004_shared.sql"),
];

/// How long a writer waits for another process.
const BUSY: Duration = Duration::from_secs(10);

impl State {
    /// Opens the state that a home uses, making and migrating it when needed (two processes at once are fine).
    ///
    /// A crash while it is made or migrated leaves the version before.
    pub async fn open_at(home: &Path, place: &StatePlace) -> Result<Self, StateError> {
        match place {
            StatePlace::Home => Self::open(home).await,
            StatePlace::Postgres(place) => Self::open_postgres(home, place).await,
        }
    }

    /// Opens the state in a home.
    pub async fn open(home: &Path) -> Result<Self, StateError> {
        let file = home.join("state.db");
        let place = file.display().to_string();
        let broken = |why: String| StateError::Database { place: place.clone(), why };
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let mut writer = open_writer(home, &file, &options).await.map_err(broken)?;
        let id = installation(&mut writer).await.map_err(|error| broken(text(error)))?;
        // The file is made private before SQLite sees it, and -wal and -shm take its mode.
        let readers = SqlitePoolOptions::new()
            .max_connections(2)
            .min_connections(0)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true));
        let database = Database::Sqlite { writer: Mutex::new(writer), readers };
        let home = ThisHome::new(id, home);
        Ok(Self { inner: std::sync::Arc::new(Inner { place, database, home }) })
    }

    async fn open_postgres(home: &Path, place: &PostgresPlace) -> Result<Self, StateError> {
        let shown = place.to_string();
        let broken = |why: String| StateError::Database { place: shown.clone(), why };
        let connections = postgres::open(place).await.map_err(broken)?;
        let database = Database::Postgres(connections);
        let home = remember(home, &database).await.map_err(broken)?;
        let inner = Inner { place: shown.clone(), database, home };
        Ok(Self { inner: std::sync::Arc::new(inner) })
    }

    /// The id of this home (a ULID made at first open). It is on everything that this home makes outside of itself, and says
    /// which services it keeps up. Homes that share a state have ids of their own.
    pub fn installation(&self) -> &str {
        &self.inner.home.id
    }
}

/// The id in the database of a home.
pub(super) async fn installation(connection: &mut SqliteConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM installation").fetch_one(connection).await
}

/// An id of an installation.
pub(super) fn installation_id(now: u64, random: u128) -> String {
    Ulid::from_parts(now, random).to_string()
}

/// Why a database of a later version is not used.
pub(super) fn newer(version: i64) -> String {
    let known = MIGRATIONS.len();
    format!("it was made by a newer flowrun (version {version}, this one knows {known})")
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
            return Err(newer(version));
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
    migrate(&mut connection, written_id(home)?).await.map_err(text)?;
    drop(guard);
    Ok(connection)
}

/// `id`: what a new state takes as the id of its home; none: one of its own.
async fn migrate(connection: &mut SqliteConnection, id: Option<String>) -> Result<(), sqlx::Error> {
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
        let fresh = || installation_id(super::statement::unsigned(now), random);
        let id = id.unwrap_or_else(fresh);
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
pub(super) fn private(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file)
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
