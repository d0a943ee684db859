//! The two databases behind one set of statements: who writes, how a transaction begins and ends. What differs between them
//! stands here and in `open.rs` and `postgres/`.
//!
//! SQLite: one connection writes, guarded by a lock of this process and `BEGIN IMMEDIATE` against others; at most two more read, and
//! only when something is read. Postgres: each piece of work takes a connection, and a transaction takes the lock of its [`Subject`],
//! so that what belongs together is written by one at a time there too.

use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool};
use sqlx::{Connection, Executor};
use tokio::sync::{Mutex, MutexGuard};

use super::patience::is_lost;
use super::postgres::{Connections, Held, outcome};
use super::statement::{Row, Statement, statement};

/// Where rows and events are.
#[derive(Debug)]
pub(super) enum Database {
    /// A file of the home.
    Sqlite {
        /// The one that writes.
        writer: Mutex<SqliteConnection>,
        /// Opened when first used.
        readers: SqlitePool,
    },
    /// Shared by machines.
    Postgres(Connections),
}

/// What a transaction is about: on Postgres, transactions about the same thing come one after the other. On SQLite all do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A run, by its id.
    Run(&'a str),
    /// A service's own journal, by its stream.
    Stream(&'a str),
    /// Services and releases.
    Services,
    /// Secrets.
    Secrets,
    /// What keys are made of.
    Parts,
}

impl Subject<'_> {
    fn name(self) -> String {
        match self {
            Self::Run(run) => format!("/flowrun/run/{run}"),
            Self::Stream(stream) => format!("/flowrun/stream/{stream}"),
            Self::Services => "/flowrun/services".to_owned(),
            Self::Secrets => "/flowrun/secrets".to_owned(),
            Self::Parts => "/flowrun/parts".to_owned(),
        }
    }
}

/// A way to say one statement after the other.
pub(super) trait Channel: Send {
    /// It.
    fn link(&mut self) -> Link<'_>;
}

/// A connection of either database for one statement.
pub(super) enum Link<'c> {
    /// Of SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// Of Postgres.
    Postgres(&'c mut Held),
}

impl Link<'_> {
    /// Does a statement; says how many rows it touched.
    pub(super) async fn execute(self, statement: Statement<'_>) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                let done = statement.for_sqlite()?.execute(connection).await?;
                Ok(done.rows_affected())
            }
            Self::Postgres(held) => {
                Ok(held.execute(statement.for_postgres()?).await?.rows_affected())
            }
        }
    }

    /// All rows of a statement.
    pub(super) async fn fetch_all(self, statement: Statement<'_>) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                let rows = statement.for_sqlite()?.fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(held) => {
                let rows = held.fetch_all(statement.for_postgres()?).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}

/// The one who writes.
pub(super) enum Writer<'s> {
    /// Until it is dropped nobody else of this process writes.
    Sqlite(MutexGuard<'s, SqliteConnection>),
    /// A connection of its own.
    Postgres(Held),
}

impl Channel for Writer<'_> {
    fn link(&mut self) -> Link<'_> {
        match self {
            Self::Sqlite(connection) => Link::Sqlite(connection),
            Self::Postgres(held) => Link::Postgres(held),
        }
    }
}

impl Writer<'_> {
    /// Begins a transaction about something. What is not committed is rolled back.
    pub(super) async fn begin(
        &mut self,
        subject: Subject<'_>,
    ) -> Result<Transaction<'_>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                Ok(Transaction::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?))
            }
            Self::Postgres(held) => {
                held.begin().await?;
                // A statement of its own, so that what is read next is what the one before has committed.
                let number = statement(
                    "SELECT txid_current(), CAST(pg_advisory_xact_lock(hashtextextended(current_schema() || $1, 0)) AS TEXT)",
                )
                .bind(subject.name())
                .fetch_one(held)
                .await?
                .try_get(0)?;
                Ok(Transaction::Postgres { held, number })
            }
        }
    }

    /// After a transaction that failed: ready for something else.
    pub(super) async fn refresh(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(held) => held.renew().await,
        }
    }

    /// From now on no power failure takes back what is committed. Postgres never does otherwise.
    async fn make_durable(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                connection.execute("PRAGMA synchronous = FULL").await.map(|_| ())
            }
            Self::Postgres(_) => Ok(()),
        }
    }

    /// The end of [`Database::durable`]. Whoever is dropped before leaves a writer that is slower and no less safe.
    pub(super) async fn usual<T>(mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Self::Sqlite(connection) = &mut self {
            let set = connection.execute("PRAGMA synchronous = NORMAL").await;
            let done = done?;
            set?;
            return Ok(done);
        }
        done
    }
}

/// A transaction; dropped, it is rolled back.
pub(super) enum Transaction<'c> {
    /// Of SQLite.
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    /// Of Postgres, with the number under which the server knows how it ended.
    Postgres {
        /// Its connection.
        held: &'c mut Held,
        /// Its number.
        number: i64,
    },
}

impl Channel for Transaction<'_> {
    fn link(&mut self) -> Link<'_> {
        match self {
            Self::Sqlite(transaction) => Link::Sqlite(transaction),
            Self::Postgres { held, .. } => Link::Postgres(held),
        }
    }
}

impl Transaction<'_> {
    /// Makes it last. When the answer of Postgres is lost with the connection, the server is asked again, so that an error means
    /// that nothing was written.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres { held, number } => match held.commit().await {
                Err(error) if is_lost(&error) => outcome(held, number, error).await,
                done => done,
            },
        }
    }

    /// Says something to Postgres alone.
    pub(super) async fn on_postgres(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        if let Self::Postgres { held, .. } = self {
            statement(sql).execute(*held).await?;
        }
        Ok(())
    }

    /// Whether it is one of Postgres.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }
}

impl Channel for Held {
    fn link(&mut self) -> Link<'_> {
        Link::Postgres(self)
    }
}

impl Database {
    /// The one who writes.
    pub(super) async fn writer(&self) -> Result<Writer<'_>, sqlx::Error> {
        match self {
            Self::Sqlite { writer, .. } => Ok(Writer::Sqlite(writer.lock().await)),
            Self::Postgres(connections) => Ok(Writer::Postgres(connections.take().await?)),
        }
    }

    /// The writer, for a transaction that no power failure takes back once it is committed; [`Writer::usual`] ends it.
    pub(super) async fn durable(&self) -> Result<Writer<'_>, sqlx::Error> {
        let mut writer = self.writer().await?;
        writer.make_durable().await?;
        Ok(writer)
    }

    /// All rows of a statement that changes nothing.
    pub(super) async fn read(&self, statement: Statement<'_>) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite { readers, .. } => {
                let rows = statement.for_sqlite()?.fetch_all(readers).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connections) => {
                statement.fetch_all(&mut connections.take().await?).await
            }
        }
    }

    /// Postgres.
    pub(super) fn shared(&self) -> Option<&Connections> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres(connections) => Some(connections),
        }
    }
}
