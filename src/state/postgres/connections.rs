//! Connections that are kept between two pieces of work. sqlx's own pool would say "timed out" for every reason why none can be had;
//! here the reason is told.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgQueryResult, PgRow};
use sqlx::{ConnectOptions, SqlSafeStr, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::within;
use crate::state::patience::{is_busy, is_lost};
use crate::state::statement::PostgresQuery;
use crate::weather::Weather;

/// So many a process has at most, beside the one for what cannot wait for its turn.
const MOST: usize = 5;

/// So many are kept when nobody needs them.
const KEPT: usize = 2;

/// So long a server has to let us in.
const LONGEST_GREETING: Duration = Duration::from_secs(15);

/// The way to a database. Cheap to clone.
#[derive(Clone)]
pub(in crate::state) struct Connections {
    inner: Arc<Inner>,
}

struct Inner {
    options: PgConnectOptions,
    idle: Mutex<Vec<PgConnection>>,
    places: Arc<Semaphore>,
    /// For what must be said in time, however much else is to be said.
    urgent: Arc<Semaphore>,
    patience: Duration,
    weather: Weather,
}

impl fmt::Debug for Connections {
    /// Without the options, which hold the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    /// Connects to nothing yet. `patience`: how long a database that went away is waited for.
    pub(super) fn new(options: PgConnectOptions, patience: Duration) -> Self {
        let (places, urgent) = (Arc::new(Semaphore::new(MOST)), Arc::new(Semaphore::new(1)));
        let (idle, weather) = (Mutex::default(), Weather::default());
        Self { inner: Arc::new(Inner { options, idle, places, urgent, patience, weather }) }
    }

    /// How long a database that went away is waited for.
    pub(in crate::state) fn patience(&self) -> Duration {
        self.inner.patience
    }

    /// Whether the database is waited for.
    pub(in crate::state) fn weather(&self) -> &Weather {
        &self.inner.weather
    }

    /// A connection; given back when it is dropped, unless something was under way.
    pub(in crate::state) async fn take(&self) -> Result<Held, sqlx::Error> {
        self.take_of(&self.inner.places).await
    }

    /// The same for what would come too late behind everything else.
    pub(in crate::state) async fn take_urgent(&self) -> Result<Held, sqlx::Error> {
        self.take_of(&self.inner.urgent).await
    }

    async fn take_of(&self, places: &Arc<Semaphore>) -> Result<Held, sqlx::Error> {
        let place = Arc::clone(places).acquire_owned().await;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let connections = self.clone();
        Ok(Held { connection: Some(connection), is_clean: true, connections, _place: place })
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        tokio::time::timeout(LONGEST_GREETING, self.inner.options.connect()).await.unwrap_or_else(
            |_| {
                let why = "the database does not answer";
                Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why)))
            },
        )
    }

    /// What is kept is not used any more: the server went away.
    pub(in crate::state) fn forget(&self) {
        let gone = std::mem::take(&mut *self.idle());
        drop(gone);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for one piece of work. One that is dropped while something was under way is closed, and the server rolls back.
pub(in crate::state) struct Held {
    /// There until it is dropped.
    connection: Option<PgConnection>,
    /// No statement and no transaction is under way.
    is_clean: bool,
    connections: Connections,
    _place: OwnedSemaphorePermit,
}

impl Held {
    /// Where it is from.
    pub(in crate::state) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Does a statement.
    pub(in crate::state) async fn execute(
        &mut self,
        query: PostgresQuery,
    ) -> Result<PgQueryResult, sqlx::Error> {
        let before = self.enter();
        let done = within(query.execute(self.link()?)).await;
        self.leave(before, done)
    }

    /// All rows of a statement.
    pub(in crate::state) async fn fetch_all(
        &mut self,
        query: PostgresQuery,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let before = self.enter();
        let done = within(query.fetch_all(self.link()?)).await;
        self.leave(before, done)
    }

    /// Several statements without parameters.
    pub(super) async fn script(&mut self, sql: SqlStr) -> Result<(), sqlx::Error> {
        let before = self.enter();
        let done = within(sqlx::raw_sql(sql).execute(self.link()?)).await;
        self.leave(before, done).map(|_| ())
    }

    /// Begins a transaction; until [`Held::commit`] the connection is not clean.
    pub(in crate::state) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.script("BEGIN".into_sql_str()).await?;
        self.is_clean = false;
        Ok(())
    }

    /// Commits the transaction.
    pub(in crate::state) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.script("COMMIT".into_sql_str()).await?;
        self.is_clean = true;
        Ok(())
    }

    /// Another connection in the place of one on which something failed halfway.
    pub(in crate::state) async fn renew(&mut self) -> Result<(), sqlx::Error> {
        if !self.is_clean {
            self.connection = None;
            self.connection = Some(self.connections.connect().await?);
            self.is_clean = true;
        }
        Ok(())
    }

    fn link(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// From here to [`Held::leave`] a dropped future leaves a connection that nobody gets again.
    fn enter(&mut self) -> bool {
        std::mem::replace(&mut self.is_clean, false)
    }

    fn leave<T>(&mut self, before: bool, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let still_there = done.as_ref().err().is_none_or(|error| {
            matches!(error, sqlx::Error::Database(_)) && !is_lost(error) && !is_busy(error)
        });
        self.is_clean = before && still_there;
        done
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take().filter(|_| self.is_clean) else { return };
        let mut idle = self.connections.idle();
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }
}
