//! Who owns a run. On this machine a lock file says it, which the kernel frees with its process. A state that machines share has a
//! lease in the run's row besides, on the clock of the database: whoever does not renew it loses it.

use std::path::Path;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

use super::database::{Database, Transaction};
use super::lock::{FileLock, is_locked};
use super::postgres::NOW;
use super::statement::{Row, statement};
use super::{State, StateError};
use crate::names::RunId;

/// So long a lease lasts, in milliseconds.
const LEASE_MS: u64 = 30_000;

/// In the folder of a run that a shared state has: the id of that state.
const OF_STATE: &str = "state";

/// So often it is renewed.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A renewal that failed is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// A lease that is over is looked at again after this long: longer than its owner takes to be heard once the database is back.
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// So long a lease that is dropped takes to be given back at most; else it is over by itself.
const LAST_WORD: Duration = Duration::from_secs(3);

/// The right to own a run; held until dropped, and no longer than the process lives.
///
/// Over a state that machines share it can be lost all the same, when the database hears nothing for 30 s: then every append is
/// [`StateError::Fenced`].
#[derive(Debug)]
pub struct RunLock {
    /// Freed last.
    lease: Option<Lease>,
    _file: FileLock,
}

impl RunLock {
    /// Gives it back, so that another machine need not wait until the lease is over. Dropping does so too, and holds up its thread.
    pub async fn release(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.end().await;
        }
    }

    /// Renews the lease no more, as a process that was stopped.
    #[cfg(test)]
    pub(super) async fn fall_asleep(&mut self) {
        if let Some(heart) = self.lease.as_mut().and_then(|lease| lease.heart.as_mut()) {
            heart.abort();
            heart.await.unwrap_err();
        }
    }

    /// As a process that is killed: the kernel frees the file, and nobody gives the lease back.
    #[cfg(test)]
    pub(super) fn die(mut self) {
        if let Some(mut lease) = self.lease.take()
            && let Some(heart) = lease.heart.take()
        {
            heart.abort();
        }
    }
}

#[derive(Debug)]
struct Lease {
    state: State,
    run: RunId,
    /// None once it is given back.
    heart: Option<JoinHandle<()>>,
}

impl Lease {
    async fn end(mut self) {
        let Some(heart) = self.heart.take() else { return };
        heart.abort();
        // It ends as what was given up; nothing else can come of it.
        drop(heart.await);
        // Whoever is not heard now is not believed any more in 30 s.
        drop(self.state.give_up(self.run).await);
    }
}

impl Drop for Lease {
    /// After an error nobody says that the run is free, and the process may be gone in a moment: so this is the moment to say it. A
    /// renewal that is under way finds no lease of ours any more.
    fn drop(&mut self) {
        let Some(heart) = self.heart.take() else { return };
        heart.abort();
        let Ok(runtime) = Handle::try_current() else { return };
        let (state, run) = (self.state.clone(), self.run);
        let give_up = async move { tokio::time::timeout(LAST_WORD, state.give_up(run)).await };
        if runtime.runtime_flavor() == RuntimeFlavor::MultiThread {
            drop(tokio::task::block_in_place(|| runtime.block_on(give_up)));
        } else {
            drop(runtime.spawn(give_up));
        }
    }
}

impl State {
    /// Takes the right to own a run with this folder (made when missing, 0700), or says `None` when a living process has it.
    /// The run need not have a row yet.
    pub async fn try_own(&self, run: RunId, folder: &Path) -> Result<Option<RunLock>, StateError> {
        // Before a folder is made for a run of another machine.
        if self.is_leased_elsewhere(run).await? {
            return Ok(None);
        }
        let Some(file) = FileLock::try_acquire(folder)? else { return Ok(None) };
        let Some(state) = &self.inner.home.shares else {
            return Ok(Some(RunLock { lease: None, _file: file }));
        };
        fs_err::write(folder.join(OF_STATE), state).map_err(|error| self.broken(error))?;
        if !self.lease(run).await? {
            return Ok(None);
        }
        let state = self.clone();
        let heart = Some(tokio::spawn(beat(state.clone(), run)));
        Ok(Some(RunLock { lease: Some(Lease { state, run, heart }), _file: file }))
    }

    /// Whether what lies in the folder of a run is for this state to keep or remove: a home may have used several. One in the home itself
    /// has every folder that no shared one has.
    pub fn has_folder(&self, folder: &Path) -> bool {
        let of = fs_err::read_to_string(folder.join(OF_STATE)).ok();
        of == self.inner.home.shares
    }

    /// Whether a living process has the right to own a run. Changes nothing.
    pub async fn is_owned(&self, run: RunId, folder: &Path) -> Result<bool, StateError> {
        Ok(is_locked(folder) || self.is_leased_elsewhere(run).await?)
    }

    /// Before something is started that another owner would not know of: an error when this process does not own the run any more.
    pub async fn confirm(&self, run: RunId, epoch: u64) -> Result<(), StateError> {
        if self.inner.database.shared().is_none() {
            return Ok(());
        }
        let rows =
            statement("SELECT epoch, lease_holder FROM run WHERE id = $1").bind(run.to_string());
        let holder = &self.inner.home.holder;
        let is_ours = self.values(rows, |row| {
            let of_another = row.try_get::<Option<&str>, _>(1)?.is_some_and(|by| by != holder);
            Ok(super::statement::unsigned(row.try_get(0)?) == epoch && !of_another)
        });
        match is_ours.await?.pop() {
            Some(false) => Err(StateError::Fenced { run }),
            Some(true) | None => Ok(()),
        }
    }

    /// Whether a process that the lock files of this home know nothing of has a lease.
    async fn is_leased_elsewhere(&self, run: RunId) -> Result<bool, StateError> {
        if self.inner.database.shared().is_none() {
            return Ok(false);
        }
        let sql = format!("SELECT lease_holder FROM run WHERE id = $1 AND lease_until > {NOW}");
        let rows = statement(AssertSqlSafe(sql)).bind(run.to_string());
        let place = &self.inner.home.place;
        let elsewhere = self.values(rows, |row| {
            let by: Option<&str> = row.try_get(0)?;
            Ok(by.is_some_and(|by| !by.starts_with(place)))
        });
        Ok(elsewhere.await?.contains(&true))
    }

    /// Takes the lease of a run, when nobody has it who may be alive. A process of this home that had it is dead: we hold its
    /// lock file. `true` also when there is no row yet.
    ///
    /// After an absence of the database every lease is over, so whoever has one is given the time to say that it lives.
    async fn lease(&self, run: RunId) -> Result<bool, StateError> {
        let take = format!(
            "UPDATE run SET lease_holder = $2, lease_until = {NOW} + {LEASE_MS} WHERE id = $1 \
             AND (lease_holder IS NULL OR starts_with(lease_holder, $3) OR lease_until = $4)"
        );
        let look = format!("SELECT lease_until, lease_until <= {NOW} FROM run WHERE id = $1");
        let home = &self.inner.home;
        // No lease ends then.
        let mut seen = -1;
        loop {
            let take = statement(AssertSqlSafe(take.as_str()))
                .bind(run.to_string())
                .bind(&home.holder)
                .bind(&home.place)
                .bind(seen);
            if self.write(take).await? > 0 {
                return Ok(true);
            }
            let rows = statement(AssertSqlSafe(look.as_str())).bind(run.to_string());
            let lease = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
            let lease: Option<(Option<i64>, Option<bool>)> = self.values(rows, lease).await?.pop();
            match lease {
                None => return Ok(true),
                Some((Some(_), Some(false))) => return Ok(false),
                Some((Some(until), _)) => {
                    seen = until;
                    tokio::time::sleep(SECOND_LOOK).await;
                }
                // Given back at this moment.
                Some((None, _)) => {}
            }
        }
    }

    async fn give_up(&self, run: RunId) -> Result<(), sqlx::Error> {
        let mut writer = self.inner.database.writer().await?;
        statement("UPDATE run SET lease_holder = NULL, lease_until = NULL WHERE id = $1 AND lease_holder = $2")
            .bind(run.to_string())
            .bind(&self.inner.home.holder)
            .execute(&mut writer)
            .await
            .map(|_| ())
    }
}

/// Of a run that is being made: its maker has the lease.
pub(super) async fn hold(
    transaction: &mut Transaction<'_>,
    run: &str,
    holder: &str,
) -> Result<(), sqlx::Error> {
    if transaction.is_shared() {
        renewal(run, holder, "lease_holder IS NULL").execute(transaction).await?;
    }
    Ok(())
}

/// Renews a lease again and again. One that another process has got meanwhile is not taken back.
async fn beat(state: State, run: RunId) {
    let run = run.to_string();
    let mut pause = HEARTBEAT;
    loop {
        tokio::time::sleep(pause).await;
        pause = match renew(&state.inner.database, &run, &state.inner.home.holder).await {
            Ok(()) => HEARTBEAT,
            Err(_) => AGAIN,
        };
    }
}

async fn renew(database: &Database, run: &str, holder: &str) -> Result<(), sqlx::Error> {
    let Some(connections) = database.shared() else { return Ok(()) };
    // A lease must not be lost because a thousand tasks have questions.
    let mut held = connections.take_urgent().await?;
    renewal(run, holder, "lease_holder = $2").execute(&mut held).await.map(|_| ())
}

fn renewal<'q>(run: &'q str, holder: &'q str, of: &str) -> super::statement::Statement<'q> {
    let sql = format!(
        "UPDATE run SET lease_holder = $2, lease_until = {NOW} + {LEASE_MS} WHERE id = $1 AND {of}"
    );
    statement(AssertSqlSafe(sql)).bind(run).bind(holder)
}
